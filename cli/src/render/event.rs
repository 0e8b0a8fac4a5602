//! The screen of `events`.

use super::style::Style;
use super::words;
use api::rest::event::EventView;

/// One event: time, what, why, since when.
pub fn line(event: &EventView, now_ms: u64, style: Style) -> String {
    let time = words::clock(event.time_at_ms, now_ms);
    let mut text = format!("{}  {}: {}", style.dim(&time), style.bold(&event.subject), event.what);
    if !event.why.is_empty() {
        text.push_str(&format!(" ({})", event.why));
    }
    if let Some(since) = event.since_at_ms {
        text.push_str(&format!(", since {}", words::clock(since, now_ms)));
    }
    if !event.seen_by.is_empty() && event.seen_by != "federation" {
        text.push_str(&style.dim(&format!("  seen by {}", event.seen_by)));
    }
    text
}
