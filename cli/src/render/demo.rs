//! The screen of `demo`.

use super::style::Style;
use super::table::{Table, left, painted, right};
use super::words;
use bench::report::{PhaseReport, Report};
use std::time::Duration;

/// Longest gap that the demo allows.
pub const GAP_MAX_MS: u64 = 1000;

/// What a phase says of who answered: a share by site, or where the load went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// Shares of each site.
    Shares,
    /// Load moved from one site to another, over this time.
    Moved {
        /// From.
        from: String,
        /// To.
        to: String,
        /// Over what time.
        over: Duration,
    },
}

/// Whether a run kept the promises.
pub fn held(report: &Report) -> bool {
    report.requests > 0 && report.failed == report.in_flight && report.longest_gap_ms <= GAP_MAX_MS
}

/// The table and the sentence below it.
pub fn summary(report: &Report, answers: &[Answers], notes: &[(&str, &str)], style: Style) -> String {
    let mut table = Table::new(vec![
        left("phase", 9),
        right("requests"),
        right("failed"),
        right("in flight"),
        right("longest gap"),
        left("answered by", 5),
    ]);
    for (phase, answered) in report.phases.iter().zip(answers) {
        let bad = phase.failed > phase.in_flight;
        let slow = phase.longest_gap_ms > GAP_MAX_MS;
        let (by, also) = answered_by(phase, answered, notes);
        let cells = vec![
            phase.name.as_str().into(),
            words::count(phase.requests).into(),
            painted(words::count(phase.failed), if bad { Style::bad } else { plain }),
            words::count(phase.in_flight).into(),
            painted(format!("{} ms", phase.longest_gap_ms), if slow { Style::bad } else { plain }),
            by.into(),
        ];
        table.row_with_note(cells, also);
    }
    let sentence = sentence(report);
    let paint = if held(report) { Style::good } else { Style::bad };
    let sentence: Vec<String> = sentence.lines().map(|line| paint(style, line)).collect();
    format!("{}\n\n{}", table.text(style), sentence.join("\n"))
}

fn plain(_: Style, text: &str) -> String {
    text.to_owned()
}

/// Who answered most, and who else.
fn answered_by(phase: &PhaseReport, answers: &Answers, notes: &[(&str, &str)]) -> (String, String) {
    let total: u64 = phase.by_site.values().sum();
    if total == 0 {
        return ("nobody".to_owned(), String::new());
    }
    if let Answers::Moved { from, to, over } = answers
        && phase.by_site.contains_key(from)
        && phase.by_site.contains_key(to)
    {
        let others: Vec<String> = phase
            .by_site
            .iter()
            .filter(|(site, _)| *site != from && *site != to)
            .map(|(site, count)| format!("{site} {}", words::count(*count)))
            .collect();
        let also = if others.is_empty() { String::new() } else { format!("also {}", others.join(", ")) };
        return (format!("{from} → {to} over {} s", over.as_secs()), also);
    }
    let mut sites: Vec<(&String, &u64)> = phase.by_site.iter().collect();
    sites.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let share = |count: u64| {
        let percent = count as f64 * 100.0 / total as f64;
        // 99.9 % is not 100 %, and 0.1 % is not 0 %.
        let fine = percent < 1.0 || (percent > 99.0 && count < total);
        if fine { format!("{percent:.1}") } else { format!("{percent:.0}") }
    };
    let parts: Vec<String> = sites
        .iter()
        .map(|(site, count)| {
            let note = notes.iter().find(|(name, _)| name == site).map_or("", |(_, note)| note);
            let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
            format!("{site} {} %{note}", share(**count))
        })
        .collect();
    let also = if parts.len() < 2 { String::new() } else { format!("also {}", parts[1..].join(", ")) };
    (parts[0].clone(), also)
}

fn sentence(report: &Report) -> String {
    let failed = match (report.failed, report.in_flight) {
        (0, _) => "none failed".to_owned(),
        (1, 1) => "1 failed, in flight on the part that was killed".to_owned(),
        (2, 2) => "2 failed, both in flight on a part that was killed".to_owned(),
        (f, i) if f == i => format!("{} failed, all in flight on a part that was killed", words::count(f)),
        (f, i) => format!(
            "{} failed, only {} of them in flight on a part that was killed",
            words::count(f),
            words::count(i)
        ),
    };
    let verdict = if held(report) {
        "Every promise of the README held."
    } else if report.failed != report.in_flight {
        "Requests failed that should not have."
    } else {
        "Callers waited longer than a second."
    };
    format!(
        "{} requests, {failed}; longest gap {} ms.\n{verdict}",
        words::count(report.requests),
        report.longest_gap_ms
    )
}
