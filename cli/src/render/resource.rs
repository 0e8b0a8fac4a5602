//! Screens of `get` for links and for resources.

use super::style::Style;
use super::table::{Table, left, right};
use api::resource::Resource;
use api::resource::workload::check_text;
use api::rest::link::LinkView;
use model::locality::Locality;

/// The table of `get links`.
pub fn links(links: &[LinkView], style: Style) -> String {
    if links.is_empty() {
        return "no links\n\nnext: meshfed link SITE SITE".to_owned();
    }
    let mut table = Table::new(vec![
        left("SITE", 9),
        left("STATE", 8),
        right("PATHS"),
        right("RTT ms"),
        right("OFFERS"),
        right("TAKES"),
        left("TRUST DOMAIN", 2),
    ]);
    for link in links {
        table.row(vec![
            link.site.as_str().into(),
            super::service::state(&link.state),
            format!("{}/{}", link.paths_live, link.paths_total).into(),
            link.rtt_ms.map_or_else(|| "–".to_owned(), |rtt| format!("{rtt:.1}")).into(),
            link.offers.len().to_string().into(),
            link.takes.len().to_string().into(),
            link.trust_domain.as_str().into(),
        ]);
    }
    table.text(style)
}

/// Everything of one link.
pub fn link(link: &LinkView, style: Style) -> String {
    let list =
        |services: &[String]| if services.is_empty() { "nothing".to_owned() } else { services.join(", ") };
    let rtt = link.rtt_ms.map_or_else(String::new, |rtt| format!(", RTT {rtt:.1} ms"));
    let synced = if link.synced { "complete" } else { "not complete yet" };
    [
        format!("{} · {} · trust domain {}", style.bold(&link.site), link.state, link.trust_domain),
        format!("  paths     {} of {} live{rtt}", link.paths_live, link.paths_total),
        format!("  gateways  {}", list(&link.gateways)),
        format!("  catalog   {synced}"),
        format!("  offers    {}", list(&link.offers)),
        format!("  takes     {}", list(&link.takes)),
        format!("  uid       {}", link.uid),
    ]
    .join("\n")
}

/// A table of resources that people wrote.
pub fn table(resources: &[Resource], style: Style) -> String {
    if resources.is_empty() {
        return "none".to_owned();
    }
    let mut table = Table::new(vec![left("KIND", 5), left("NAME", 9), left("SAYS", 1)]);
    for resource in resources {
        let key = resource.key();
        let name = match &key.namespace {
            Some(namespace) => format!("{namespace}/{}", key.name),
            None => key.name.to_string(),
        };
        table.row(vec![key.kind.to_string().into(), name.into(), says(resource).into()]);
    }
    table.text(style)
}

/// The gist in a few words; `-o yaml` has everything.
fn says(resource: &Resource) -> String {
    match resource {
        Resource::Workload(workload) => {
            let host =
                workload.spec.host.as_ref().map_or_else(|| "any host".to_owned(), |host| host.to_string());
            let Ok(anywhere) = host.parse() else { return host };
            let spec = workload.workload(&anywhere, &Locality::default());
            spec.map_or(host, |spec| format!("on {}, {}", spec.host, check_text(&spec.check)))
        }
        Resource::FailoverPolicy(policy) => {
            let services: Vec<String> = policy.spec.services.iter().map(ToString::to_string).collect();
            if services.is_empty() { "all services of the namespace".to_owned() } else { services.join(", ") }
        }
        Resource::Service(service) => format!("{} endpoints", service.spec.endpoints.len()),
        Resource::Site(_) | Resource::Link(_) | Resource::AccessPolicy(_) | Resource::ServiceExport(_) => {
            String::new()
        }
    }
}
