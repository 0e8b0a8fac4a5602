//! The screen of `explain`.

use super::style::Style;
use super::table::{Table, WIDTH, left, right, wrap};
use super::words;
use api::rest::explain::{ExplanationView, GroupView, TierView};

/// The whole screen.
pub fn explanation(view: &ExplanationView, style: Style) -> String {
    let port = view.port.as_ref().map_or_else(String::new, |port| format!(":{}", port.port));
    let locality = if view.locality.is_empty() { String::new() } else { format!(" ({})", view.locality) };
    let identity = if view.identity.is_empty() {
        format!("as an unproven caller ({})", view.proof)
    } else {
        format!("as {} ({})", view.identity, view.proof)
    };
    let mut lines =
        vec![format!("{}{port} from {}{locality} {identity}", style.bold(&view.service), view.site)];
    let serves = if view.node.starts_with("federation") { "" } else { ", which would serve it" };
    lines.push(style.dim(&format!("answered by {} of {}{serves}", view.node, view.site)));
    if !view.without.is_empty() {
        lines.push(style.warn(&format!("as if {} were gone", words::list(&view.without))));
    }
    lines.push(String::new());
    lines.push(permit(view, style));
    lines.extend(tiers(&view.tiers, style));
    if view.panic {
        lines.push(field("panic", "no endpoint that can be reached is healthy: last known ones are used"));
    }
    if view.isolated {
        lines.push(field("cut off", "all peers are gone, so this site is probably the one that is cut off"));
    }
    lines.push(field("now", &now(view)));
    lines.push(then(view));
    lines.join("\n")
}

fn field(label: &str, text: &str) -> String {
    format!("{label:<9} {text}")
}

fn permit(view: &ExplanationView, style: Style) -> String {
    let denied = view.verdict.code.as_deref() == Some("denied");
    let rule = if view.permit.is_empty() {
        "no policy speaks of it".to_owned()
    } else {
        format!("by {}", view.permit)
    };
    if denied {
        let detail = if view.verdict.detail.is_empty() { &rule } else { &view.verdict.detail };
        style.bad(&field("denied", detail))
    } else {
        field("allowed", &rule)
    }
}

fn tiers(tiers: &[TierView], style: Style) -> Vec<String> {
    if tiers.is_empty() {
        return vec![field("tiers", "none: nobody serves it")];
    }
    let mut table = Table::new(vec![right(""), left("", 9), left("", 9), right(""), left("", 1)]);
    for tier in tiers {
        let groups: Vec<String> = tier.groups.iter().map(group).collect();
        let mut why: Vec<String> = Vec::new();
        if !tier.note.is_empty() {
            why.push(tier.note.clone());
        }
        why.extend(tier.groups.iter().filter_map(reach));
        if tier.note.is_empty() && tier.chosen && tier.healthy > 0 {
            why.push(tier.distance.clone());
        }
        table.row(vec![
            tier.rank.to_string().into(),
            groups.join(", ").into(),
            format!("{} of {} healthy", tier.healthy, tier.total).into(),
            format!("takes {:>3} %", percent(tier.share_pct)).into(),
            why.join(", ").into(),
        ]);
    }
    table
        .text(style)
        .lines()
        // The first line is that of the titles, which are empty.
        .skip(1)
        .enumerate()
        .map(|(at, line)| field(if at == 0 { "tiers" } else { "" }, line))
        .collect()
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 1.0 { "<1".to_owned() } else { format!("{share:.0}") }
}

fn group(group: &GroupView) -> String {
    let subset = if group.subset.is_empty() { String::new() } else { format!(" [{}]", group.subset) };
    if group.locality.is_empty() {
        format!("{}{subset}", group.site)
    } else {
        format!("{} {}{subset}", group.site, group.locality)
    }
}

fn reach(group: &GroupView) -> Option<String> {
    let outliers = (group.outliers > 0)
        .then(|| format!("{} set aside", words::plural(group.outliers.into(), "endpoint", "endpoints")));
    let peer = match (group.state.as_deref(), group.rtt_ms) {
        (Some(state @ ("unreachable" | "expired" | "removed" | "pending")), _) => Some(state.to_owned()),
        (Some("degraded"), Some(rtt)) => Some(format!("degraded, RTT {rtt:.0} ms")),
        (_, Some(rtt)) => Some(format!("RTT {rtt:.0} ms")),
        (_, None) => None,
    };
    let parts: Vec<String> = [peer, outliers].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn now(view: &ExplanationView) -> String {
    match view.verdict.kind.as_str() {
        "refused" => {
            let code = view.verdict.code.as_deref().unwrap_or("no endpoint");
            if view.verdict.detail.is_empty() {
                format!("refused: {code}")
            } else {
                format!("refused: {code} ({})", view.verdict.detail)
            }
        }
        "site" => format!("{}, whose gateway picks the endpoint", view.verdict.site),
        _ => {
            let names: Vec<&str> = view.now.iter().map(|now| now.endpoint.as_str()).collect();
            let open: Vec<String> = view.now.iter().map(|now| now.open_streams.to_string()).collect();
            match (names.is_empty(), view.verdict.endpoint.as_deref()) {
                (true, endpoint) => endpoint.unwrap_or("an endpoint of this site").to_owned(),
                (false, _) => format!("{}, by least open streams ({})", words::list(&names), open.join(", ")),
            }
        }
    }
}

fn then(view: &ExplanationView) -> String {
    let chosen = view.tiers.iter().find(|tier| tier.chosen);
    let Some(chosen) = chosen else { return "nobody could serve it".to_owned() };
    let who = chosen.groups.first().map_or(view.verdict.site.as_str(), |group| group.site.as_str());
    let Some(then) = &view.then else {
        return format!("if {who}'s endpoints fail: nobody else could serve; callers are refused at once");
    };
    let next: Vec<&str> = then.tier.groups.iter().map(|group| group.site.as_str()).collect();
    let text = format!(
        "if {who}'s endpoints fail: {} takes {} % within {} ms; load returns {} s after they are back, over {} s",
        words::list(&next),
        percent(then.tier.share_pct),
        then.within_ms,
        then.return_delay_s,
        then.return_ramp_s
    );
    wrap(&text, WIDTH).join("\n")
}
