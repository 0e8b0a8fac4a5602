//! Screens of services: `get services`, `describe service`, `export`, `expose`.

use super::style::Style;
use super::table::{Table, left, optional, painted, right};
use super::words;
use api::rest::change::ChangeReply;
use api::rest::service::{ServiceSiteView, ServiceView};
use api::rest::workload::{WorkloadReply, WorkloadView};
use std::fmt::Write as _;

/// The table of `get services`, and a line that calls the first one that can be called.
pub fn table(services: &[ServiceView], style: Style) -> String {
    if services.is_empty() {
        return "no services\n\nnext: meshfed expose shop/cart --on HOST --port 8080, or list some in site.yaml".to_owned();
    }
    let mut table = Table::new(vec![
        left("SERVICE", 9),
        left("PORTS", 6),
        optional("TYPE"),
        left("SITES", 4),
        right("HEALTHY"),
        left("VIP", 9),
        optional("NAME"),
    ]);
    for service in services {
        let ports: Vec<String> = service.ports.iter().map(api::rest::service::PortView::text).collect();
        let sites: Vec<String> = service.sites.iter().map(site).collect();
        let healthy = format!("{}/{}", service.healthy, service.total);
        let paint = match service.healthy {
            0 => Style::bad,
            n if n < service.total => Style::warn,
            _ => Style::good,
        };
        table.row_with_note(
            vec![
                service.service.as_str().into(),
                ports.join(" ").into(),
                service.kind.as_str().into(),
                sites.join(", ").into(),
                painted(healthy, paint),
                service.vip.as_deref().unwrap_or("–").into(),
                service.dns_name.as_str().into(),
            ],
            service.notes.join("; "),
        );
    }
    let mut text = table.text(style);
    if !text.contains(" NAME") {
        text.push_str("\n\nnames: NAME.NAMESPACE.svc.clusterset.local");
    }
    if let Some(curl) = services.iter().find_map(|service| service.curl.as_ref()) {
        let _ = write!(text, "{}try:   {curl}", if text.contains("\nnames: ") { "\n" } else { "\n\n" });
    }
    text
}

/// `east 3/3`; with its state where it cannot be used.
fn site(site: &ServiceSiteView) -> String {
    let count = format!("{} {}/{}", site.site, site.healthy, site.total);
    match site.state.as_str() {
        "own" | "connected" | "degraded" => count,
        state => format!("{count} ({state})"),
    }
}

/// Everything of one service.
pub fn describe(service: &ServiceView, style: Style) -> String {
    let ports: Vec<String> = service.ports.iter().map(api::rest::service::PortView::text).collect();
    let mut lines = vec![format!(
        "{} · {} · {} · {} of {} healthy",
        style.bold(&service.service),
        ports.join(" "),
        service.kind,
        service.healthy,
        service.total
    )];
    let mut field = |label: &str, values: &[String]| {
        for (at, value) in values.iter().enumerate() {
            lines.push(format!("  {:<10} {value}", if at == 0 { label } else { "" }));
        }
    };
    let vip = service.vip.as_ref().map_or_else(String::new, |vip| format!(" → {vip}"));
    field("name", &[format!("{}{vip}", service.dns_name)]);
    let offered = if !service.exported {
        "no".to_owned()
    } else if service.offered_to.is_empty() {
        "yes, and no site is linked".to_owned()
    } else {
        format!("to {}", words::list(&service.offered_to))
    };
    field("offered", &[offered]);
    field("callers", &service.access);
    field("failover", &service.failover);
    field("notes", &service.notes);
    field("try", &service.curl.iter().cloned().collect::<Vec<_>>());
    if !service.sites.is_empty() {
        let mut table = Table::new(vec![
            left("SITE", 9),
            left("STATE", 8),
            right("HEALTHY"),
            right("RTT ms"),
            left("LOCALITIES", 1),
        ]);
        for site in &service.sites {
            table.row(vec![
                site.site.as_str().into(),
                state(&site.state),
                format!("{}/{}", site.healthy, site.total).into(),
                site.rtt_ms.map_or_else(|| "–".to_owned(), |rtt| format!("{rtt:.1}")).into(),
                site.localities.join(", ").into(),
            ]);
        }
        lines.push(String::new());
        lines.push(table.text(style));
    }
    if !service.endpoints.is_empty() {
        let mut table = Table::new(vec![
            left("ENDPOINT", 9),
            left("HEALTH", 8),
            left("REACHED BY", 5),
            left("PORTS", 4),
            right("WEIGHT"),
            left("LOCALITY", 1),
        ]);
        for endpoint in &service.endpoints {
            table.row_with_note(
                vec![
                    endpoint.id.as_str().into(),
                    state(&endpoint.health),
                    endpoint.reach.as_str().into(),
                    endpoint.ports.join(" ").into(),
                    endpoint.weight.to_string().into(),
                    endpoint.locality.as_str().into(),
                ],
                endpoint.why.as_str(),
            );
        }
        lines.push(String::new());
        lines.push(table.text(style));
    }
    lines.join("\n")
}

/// A state word in its colour.
pub fn state(word: &str) -> super::table::Cell {
    match word {
        "own" | "connected" | "healthy" | "live" => painted(word, Style::good),
        "unreachable" | "expired" | "unhealthy" | "dead" => painted(word, Style::bad),
        _ => painted(word, Style::warn),
    }
}

/// The result of `export`.
pub fn exported(service: &str, site: &str, reply: &ChangeReply, style: Style) -> String {
    let verb = if reply.dry_run { "would offer" } else { "offers" };
    let to = if reply.sites.is_empty() {
        "nobody yet: no site is linked".to_owned()
    } else {
        words::list(&reply.sites)
    };
    let mut lines = vec![format!("{site} {verb} {} to {to}", style.bold(service))];
    reached_at(&mut lines, &reply.dns_name, reply.vip.as_deref(), &reply.access);
    lines.join("\n")
}

fn reached_at(lines: &mut Vec<String>, dns_name: &str, vip: Option<&str>, access: &[String]) {
    if !dns_name.is_empty() {
        let vip = vip.map_or_else(String::new, |vip| format!(" → {vip} here"));
        lines.push(format!("  name      {dns_name}{vip}"));
    }
    for (at, rule) in access.iter().enumerate() {
        lines.push(format!("  {:<9} {rule}", if at == 0 { "callers" } else { "" }));
    }
}

/// The result of `unexport`.
pub fn unexported(service: &str, site: &str, reply: &ChangeReply) -> String {
    let who = if reply.sites.is_empty() {
        "nobody had it".to_owned()
    } else {
        format!("{} lose it", words::list(&reply.sites))
    };
    if reply.dry_run {
        return format!("{site} would no longer offer {service}; {who}; nothing was changed");
    }
    format!("{site} no longer offers {service}; {who}")
}

/// The result of `expose`.
pub fn exposed(site: &str, reply: &WorkloadReply, style: Style) -> String {
    let WorkloadReply { workload, service, dry_run } = reply;
    let verb = if *dry_run { "would be" } else { "is" };
    let mut lines = vec![format!(
        "{} on {} {verb} an endpoint of {} in {site}",
        target(workload),
        workload.host,
        style.bold(&workload.service)
    )];
    lines.push(format!("  check     {}", workload.check));
    reached_at(&mut lines, &service.dns_name, service.vip.as_deref(), &service.access);
    let offered = match (service.exported, service.offered_to.is_empty()) {
        (false, _) => "to nobody: it is not exported".to_owned(),
        (true, true) => "to nobody yet: no site is linked".to_owned(),
        (true, false) => format!("to {}", words::list(&service.offered_to)),
    };
    lines.push(format!("  offered   {offered}"));
    if *dry_run {
        lines.push("nothing was changed (dry run)".to_owned());
    } else {
        lines.push(format!("\nnext: meshfed describe service {} --context {site}", workload.service));
    }
    lines.join("\n")
}

fn target(workload: &WorkloadView) -> String {
    let ports: Vec<String> =
        workload.target_ports.iter().map(|port| format!("{}:{port}", workload.address)).collect();
    if ports.is_empty() { workload.address.clone() } else { ports.join(" ") }
}

/// The result of `unexpose`.
pub fn unexposed(service: &str, host: &str, reply: &ChangeReply) -> String {
    let note = if reply.change.note.is_empty() { String::new() } else { format!("; {}", reply.change.note) };
    if reply.dry_run {
        return format!("{host} would no longer be an endpoint of {service}{note}; nothing was changed");
    }
    format!("{host} is no longer an endpoint of {service}{note}")
}
