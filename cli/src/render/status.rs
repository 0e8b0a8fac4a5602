//! The screen of `status`.

use super::service::state;
use super::style::Style;
use super::table::{Table, WIDTH, left, painted, right};
use super::words;
use api::rest::status::{CatalogStatus, Finding, NodeStatus, PeerStatus, StatusView};
use std::time::Duration;

/// The whole screen.
pub fn status(status: &StatusView, now_ms: u64, style: Style) -> String {
    let mut blocks = vec![site(status, now_ms, style)];
    if status.peers.is_empty() {
        blocks.push("no peers; next: meshfed link SITE SITE".to_owned());
    } else {
        blocks.push(peers(&status.peers, style));
    }
    if let Some(nodes) = nodes(&status.nodes, style) {
        blocks.push(nodes);
    }
    if !status.findings.is_empty() {
        let lines: Vec<String> = status.findings.iter().map(|f| finding(f, style)).collect();
        blocks.push(lines.join("\n"));
    }
    blocks.join("\n\n")
}

/// The first line: is all well, and what is this.
fn site(status: &StatusView, now_ms: u64, style: Style) -> String {
    let site = &status.site;
    let word = if status.healthy { style.good("healthy") } else { style.bad("not healthy") };
    let count = |n: u32, one: &str, many: &str| words::plural(n.into(), one, many);
    let gateways = u32::try_from(site.gateways.len()).unwrap_or(u32::MAX);
    let mut parts = vec![format!("site {} · {word}", style.bold(&site.name))];
    if !site.locality.is_empty() {
        parts.push(site.locality.clone());
    }
    parts.push(count(gateways, "gateway", "gateways"));
    parts.push(format!(
        "{}, {}, {} healthy",
        count(site.services, "service", "services"),
        count(site.endpoints, "endpoint", "endpoints"),
        words::count(site.healthy.into())
    ));
    parts.push(format!("store {} {}", site.store.kind, words::bytes(site.store.bytes)));
    let certificates = &site.certificates;
    parts.push(if certificates.ok {
        format!(
            "certificates ok, next renewal in {}",
            words::age(Duration::from_secs(certificates.next_renewal_s))
        )
    } else {
        let until = words::clock(certificates.expires_at_ms, now_ms);
        style.bad(&format!("certificates: {}; good until {until}", certificates.problem))
    });
    if site.recovering {
        parts.push("recovering: it has not heard from all its sources".to_owned());
    }
    if site.draining {
        parts.push(style.warn("draining"));
    }
    join(&parts, " · ", WIDTH)
}

/// Joins parts, and breaks the line where it would be wider than `width`.
fn join(parts: &[String], between: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if visible(line) + between.chars().count() + visible(part) <= width => {
                line.push_str(between);
                line.push_str(part);
            }
            Some(_) => lines.push(format!("  {part}")),
            None => lines.push(part.clone()),
        }
    }
    lines.join("\n")
}

/// Characters of a text without its colours.
fn visible(text: &str) -> usize {
    let mut inside = false;
    text.chars()
        .filter(|c| {
            let was_inside = inside;
            inside = (inside && *c != 'm') || *c == '\x1b';
            !was_inside && !inside
        })
        .count()
}

fn peers(peers: &[PeerStatus], style: Style) -> String {
    let mut table = Table::new(vec![
        left("PEER", 9),
        left("STATE", 8),
        right("PATHS"),
        right("RTT ms"),
        right("LOSS %"),
        left("CATALOG", 2),
        right("OFFERS"),
        right("TAKES"),
        right("STREAMS"),
        right("SINCE"),
    ]);
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    for peer in peers {
        let note = match (peer.note.is_empty(), peer.next.is_empty()) {
            (true, true) => String::new(),
            (true, false) => format!("try: {}", peer.next),
            (false, true) => peer.note.clone(),
            (false, false) => format!("{}; try: {}", peer.note, peer.next),
        };
        table.row_with_note(
            vec![
                peer.site.as_str().into(),
                state(&peer.state),
                format!("{}/{}", peer.paths_live, peer.paths_total).into(),
                number(peer.rtt_ms).into(),
                number(peer.loss_pct).into(),
                catalog(&peer.catalog).into(),
                peer.offers.to_string().into(),
                peer.takes.to_string().into(),
                peer.streams.to_string().into(),
                words::age(Duration::from_secs(peer.since_s)).into(),
            ],
            note,
        );
    }
    table.text(style)
}

fn catalog(catalog: &CatalogStatus) -> String {
    if !catalog.complete {
        return "none yet".to_owned();
    }
    let age = words::age(Duration::from_secs(catalog.age_s));
    let old = if catalog.live { "" } else { " old" };
    format!("rev {}, {age}{old}", catalog.revision)
}

/// Nodes are listed when one of them needs a word.
fn nodes(nodes: &[NodeStatus], style: Style) -> Option<String> {
    let quiet = |node: &NodeStatus| node.connected && !node.draining && node.problems.is_empty();
    if nodes.iter().all(quiet) {
        return None;
    }
    let mut table = Table::new(vec![
        left("NODE", 9),
        left("STATE", 8),
        right("STREAMS"),
        right("WORKLOADS"),
        right("SINCE"),
    ]);
    for node in nodes {
        let word = match (node.connected, node.draining) {
            (false, _) => painted("gone", Style::bad),
            (true, true) => painted("draining", Style::warn),
            (true, false) => painted("connected", Style::good),
        };
        let workloads = if node.kind == "agent" { node.workloads.to_string() } else { "–".to_owned() };
        table.row_with_note(
            vec![
                format!("{} {}", node.kind, node.name).into(),
                word,
                node.streams.to_string().into(),
                workloads.into(),
                words::age(Duration::from_secs(node.since_s)).into(),
            ],
            node.problems.join("; "),
        );
    }
    Some(table.text(style))
}

fn finding(finding: &Finding, style: Style) -> String {
    let word = match finding.severity.as_str() {
        "error" => style.bad("error"),
        "warning" => style.warn("warning"),
        other => style.dim(other),
    };
    let why = if finding.why.is_empty() { String::new() } else { format!(" ({})", finding.why) };
    let next = if finding.next.is_empty() { String::new() } else { format!("\n  do  {}", finding.next) };
    format!("{word}: {}: {}{why}{next}", finding.subject, finding.what)
}
