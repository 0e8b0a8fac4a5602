//! Screens of `trust`.

use super::style::Style;
use super::table::{Table, left, painted, right};
use super::words;
use api::rest::trust::{HolderView, TrustReply, TrustView};
use std::time::Duration;

/// Characters of a fingerprint that tell roots apart.
const FINGERPRINT: usize = 16;

/// How far it is, in words.
fn step_words(step: &str) -> &str {
    match step {
        "settled" => "one root, no rotation under way",
        "published" => "step 1 of 3: the next root is published, and does not sign yet",
        "switched" => "step 2 of 3: the new root signs, the old one still counts",
        other => other,
    }
}

/// The whole screen.
pub fn trust(view: &TrustView, now_ms: u64, style: Style) -> String {
    let head = format!(
        "site {} · trust domain {} · bundle {}",
        style.bold(&view.site),
        view.trust_domain,
        view.sequence
    );
    let mut blocks = vec![format!("{head}\n{}", step_words(&view.step)), roots(view, now_ms, style)];
    if !view.holders.is_empty() {
        blocks.push(holders(&view.holders, view.step != "settled", style));
    }
    let mut last = Vec::new();
    if !view.waits_for.is_empty() {
        last.push(waiting(view));
    }
    if view.step != "settled" && view.open_tokens > 0 {
        let tokens = words::plural(view.open_tokens.into(), "join token is", "join tokens are");
        last.push(format!("{tokens} open: what was made before the last step is made anew after it"));
    }
    last.push(format!("next: {}", view.next));
    blocks.push(last.join("\n"));
    blocks.join("\n\n")
}

fn roots(view: &TrustView, now_ms: u64, style: Style) -> String {
    let mut table = Table::new(vec![left("ROOT", 9), left("IS", 8), right("GOOD FOR")]);
    for root in &view.roots {
        let role = match root.role.as_str() {
            "signs" => painted("the one that signs", Style::good),
            "next" => painted("the next one", Style::warn),
            _ => painted("the old one", Style::dim),
        };
        let left_ms = root.expires_at_ms.saturating_sub(now_ms);
        let fingerprint: String = root.fingerprint.chars().take(FINGERPRINT).collect();
        table.row(vec![fingerprint.into(), role, words::age(Duration::from_millis(left_ms)).into()]);
    }
    table.text(style)
}

fn holders(holders: &[HolderView], rotates: bool, style: Style) -> String {
    let mut table = Table::new(vec![left("WHO", 9), left("READY", 8), left("WHY", 2)]);
    for holder in holders {
        let word = match (rotates, holder.ready) {
            (false, _) => "–".into(),
            (true, true) => painted("yes", Style::good),
            (true, false) => painted("not yet", Style::warn),
        };
        table.row(vec![format!("{} {}", holder.kind, holder.name).into(), word, holder.note.as_str().into()]);
    }
    table.text(style)
}

/// Who holds it up.
pub fn waiting(view: &TrustView) -> String {
    format!("waits for {}", words::list(&view.waits_for))
}

/// What a dangerous step asks.
pub fn question(site: &str, finishes: bool, is_held_up: bool) -> String {
    match (finishes, is_held_up) {
        (true, false) => format!("Retire the old root of {site}?"),
        (true, true) => format!("Retire the old root of {site}, and pass over these?"),
        (false, _) => format!("Sign with the new root of {site}, and pass over these?"),
    }
}

/// The result of a step.
pub fn step(reply: &TrustReply, now_ms: u64, style: Style) -> String {
    if reply.dry_run {
        let late = reply.passed_over.iter().map(|line| format!("\n  not ready  {line}")).collect::<String>();
        let does = match reply.done.as_str() {
            "the next root is published" => "would publish the next root",
            "the new root signs" => "would sign with the new root",
            _ => "would retire the old root",
        };
        return format!("{does}; nothing was changed{late}");
    }
    format!("{}\n\n{}", style.good(&reply.done), trust(&reply.trust, now_ms, style))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::rest::trust::RootView;

    #[test]
    fn the_screen_says_who_is_not_ready_and_what_comes_next_and_fits() {
        let holder = |kind: &str, name: &str, ready, note: &str| HolderView {
            kind: kind.to_owned(),
            name: name.to_owned(),
            ready,
            note: note.to_owned(),
        };
        let root = |role: &str| RootView {
            fingerprint: "3f9a12c4".repeat(8),
            role: role.to_owned(),
            expires_at_ms: 86_400_000 * 3_650,
        };
        let view = TrustView {
            site: "east".to_owned(),
            trust_domain: "east.mesh".to_owned(),
            step: "switched".to_owned(),
            sequence: 2,
            roots: vec![root("old"), root("signs")],
            holders: vec![
                holder("peer", "west", true, "holds bundle 2"),
                holder(
                    "agent",
                    "vm-1",
                    false,
                    "its certificate is of an older root, and good for 167 h more, and it is not connected",
                ),
            ],
            waits_for: vec!["agent vm-1".to_owned()],
            open_tokens: 1,
            next: "meshfed trust status --context east".to_owned(),
        };
        let text = trust(&view, 0, Style::PLAIN);
        for line in [
            "step 2 of 3: the new root signs, the old one still counts",
            "3f9a12c43f9a12c4  the old one           3650 d",
            "peer west   yes      holds bundle 2",
            "waits for agent vm-1",
            "1 join token is open: what was made before the last step is made anew after it",
            "next: meshfed trust status --context east",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= super::super::table::WIDTH, "{line}");
        }
    }
}
