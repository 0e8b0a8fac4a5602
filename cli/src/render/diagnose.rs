//! The screen of `diagnose`.

use super::style::Style;
use super::words;
use crate::commands::diagnose::{Check, Report, Verdict};

/// A line for each check, and what to do below those that need it; then the sum of it.
pub fn report(report: &Report, style: Style) -> String {
    let mut lines: Vec<String> = report.checks.iter().flat_map(|check| self::check(check, style)).collect();
    let count = |verdict| report.checks.iter().filter(|check| check.verdict == verdict).count() as u64;
    let wrong = count(Verdict::Wrong);
    let sum = if wrong == 0 {
        style.good(&format!("{}: nothing is wrong ({} checks)", report.site, report.checks.len()))
    } else {
        style.bad(&format!("{}: {} wrong", report.site, words::plural(wrong, "thing is", "things are")))
    };
    lines.push(String::new());
    lines.push(sum);
    lines.join("\n")
}

fn check(check: &Check, style: Style) -> Vec<String> {
    let word = match check.verdict {
        Verdict::Ok => style.good("ok   "),
        Verdict::Note => style.warn("note "),
        Verdict::Wrong => style.bad("wrong"),
    };
    let mut lines = vec![format!("{word}  {}: {}", check.what, check.seen)];
    if !check.next.is_empty() {
        lines.push(format!("       do  {}", check.next));
    }
    lines
}
