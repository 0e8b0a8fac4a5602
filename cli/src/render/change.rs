//! What came of resources.

use super::style::Style;
use api::rest::change::{ApplyReply, Change};

/// `FailoverPolicy shop/cart`.
pub fn name(change: &Change) -> String {
    if change.namespace.is_empty() {
        format!("{} {}", change.kind, change.name)
    } else {
        format!("{} {}/{}", change.kind, change.namespace, change.name)
    }
}

/// One line for each.
pub fn changes(reply: &ApplyReply, style: Style) -> String {
    let mut lines: Vec<String> = reply
        .changes
        .iter()
        .map(|change| {
            let word = match change.change.as_str() {
                "created" | "changed" => style.good(&change.change),
                "deleted" => style.warn(&change.change),
                other => style.dim(other),
            };
            let note = if change.note.is_empty() { String::new() } else { format!("  ← {}", change.note) };
            format!("{} {word}{note}", name(change))
        })
        .collect();
    if reply.changes.is_empty() {
        lines.push("there is nothing to change".to_owned());
    }
    if reply.dry_run {
        lines.push("nothing was changed (dry run)".to_owned());
    }
    lines.join("\n")
}
