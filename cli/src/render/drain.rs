//! Screens of `drain` and `undrain`.

use super::words;
use api::rest::drain::DrainReply;

/// What moves, and what stops.
pub fn plan(reply: &DrainReply) -> Vec<String> {
    let moves = reply.moves.iter().map(|line| format!("  moves  {line}"));
    let stops = reply.stops.iter().map(|line| format!("  stops  {line}"));
    moves.chain(stops).collect()
}

/// The result.
pub fn done(reply: &DrainReply) -> String {
    let open = words::plural(reply.open_streams.into(), "open stream", "open streams");
    match (reply.dry_run, reply.draining, reply.done) {
        (true, true, _) => format!("{} would take nothing new; nothing was changed", reply.target),
        (true, false, _) => format!("{} would take load again; nothing was changed", reply.target),
        (false, true, true) => {
            format!("{} takes nothing new and nothing is open: it can be stopped", reply.target)
        }
        (false, true, false) => format!("{} takes nothing new; {open} left", reply.target),
        (false, false, _) => format!("{} takes load again", reply.target),
    }
}

/// A bar of what is still open, `width` characters.
pub fn bar(open: u32, at_first: u32, width: usize) -> String {
    let share = if at_first == 0 { 1.0 } else { 1.0 - f64::from(open.min(at_first)) / f64::from(at_first) };
    // `as`: 0 to width.
    let full = (share * width as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(width.saturating_sub(full)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_as_streams_end() {
        assert_eq!(bar(10, 10, 4), "░░░░");
        assert_eq!(bar(5, 10, 4), "██░░");
        assert_eq!(bar(0, 10, 4), "████");
        assert_eq!(bar(0, 0, 4), "████");
        assert_eq!(bar(20, 10, 4), "░░░░");
    }
}
