//! A report as one page that needs nothing else: the verdict, the timeline, the peers, the decisions.
//!
//! Everything that comes from a file or from a site is escaped. Colours follow the reader's light or dark mode.

mod timeline;

use crate::report::{Report, Row};
use std::fmt::Write;

/// The page.
pub fn page(report: &Report) -> String {
    let mut body = String::new();
    let verdict = if report.held { "held" } else { "broken" };
    let _ = write!(
        body,
        "<header><h1>{} <span class=\"{verdict}\">{verdict}</span></h1><p>{}</p><p class=\"dim\">{}</p></header>",
        text(&report.name),
        text(&report.about),
        text(&facts(report)),
    );
    expectations(&mut body, report);
    let _ = write!(body, "<h2>Over time</h2>{}", timeline::draw(report));
    failures(&mut body, report);
    decisions(&mut body, report);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head>\
         <body>{body}</body></html>\n",
        text(&report.name)
    )
}

const STYLE: &str = "\
:root{--ink:#1b1f24;--dim:#667080;--page:#fff;--line:#d9dee5;--good:#1a7f37;--bad:#c62828;--band:#c628281f;\
--a:#3b6fd4;--b:#d98a1f;--c:#3f9e6b;--d:#8b5cc4;--e:#2aa1b3;--f:#b8577e;--warn:#d98a1f}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--dim:#98a2b0;--page:#14171c;--line:#343b46;--good:#4cc46a;\
--bad:#ff6b6b;--band:#ff6b6b2e;--a:#7ea6f4;--b:#e6ab55;--c:#6cc596;--d:#b493e6;--e:#5cc6d6;--f:#dc8aad;--warn:#e6ab55}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1000px;margin:2rem auto;\
padding:0 1rem}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0}\
.dim,.dim td{color:var(--dim)}.held{color:var(--good)}.broken{color:var(--bad)}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}\
th{color:var(--dim);font-weight:normal}svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);\
font:12px system-ui,sans-serif}.n{text-align:right;white-space:nowrap}";

fn facts(report: &Report) -> String {
    let mut facts = format!(
        "{} sites, {} gateways, {} requests/s, {:.0} s · {} · topology {}",
        report.sites.len(),
        report.gateways,
        report.rate,
        report.length_s,
        report.mode,
        report.topology
    );
    if report.slack != 1.0 {
        let _ = write!(facts, " · bounds of time × {}", report.slack);
    }
    facts
}

fn expectations(body: &mut String, report: &Report) {
    if report.rows.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Expected and measured</h2><table><tr><th>expected</th><th>measured</th><th></th></tr>",
    );
    for Row { expected, measured, held } in &report.rows {
        let (class, mark) = if *held { ("held", "✔") } else { ("broken", "✘") };
        let _ = write!(
            body,
            "<tr><td>{}</td><td>{}</td><td class=\"{class}\">{mark}</td></tr>",
            text(expected),
            text(measured)
        );
    }
    body.push_str("</table>");
}

fn failures(body: &mut String, report: &Report) {
    let numbers = &report.numbers;
    let _ = write!(
        body,
        "<h2>Requests</h2><table><tr><td>requests</td><td class=\"n\">{}</td></tr><tr><td>failed</td>\
         <td class=\"n\">{}</td></tr><tr><td>of these in flight when something was hit</td><td class=\"n\">{}</td>\
         </tr><tr><td>longest gap</td><td class=\"n\">{} ms</td></tr><tr><td>latency p50, p99, slowest</td>\
         <td class=\"n\">{:.1}, {:.1}, {:.1} ms</td></tr>",
        numbers.requests,
        numbers.failed,
        numbers.in_flight,
        numbers.longest_gap_ms,
        numbers.latency.p50_ms,
        numbers.latency.p99_ms,
        numbers.latency.max_ms
    );
    for (what, count) in &numbers.failures {
        let _ = write!(
            body,
            "<tr class=\"dim\"><td>failed: {}</td><td class=\"n\">{count}</td></tr>",
            text(what)
        );
    }
    for lost in &numbers.withdrawn {
        let _ = write!(body, "<tr><td colspan=\"2\">withdrawn at {}</td></tr>", text(lost));
    }
    body.push_str("</table>");
}

fn decisions(body: &mut String, report: &Report) {
    if report.decisions.is_empty() {
        return;
    }
    body.push_str("<h2>How the decision changed</h2><table><tr><th>since</th><th>a request goes to</th><th>why</th></tr>");
    for decision in &report.decisions {
        let _ = write!(
            body,
            "<tr><td class=\"n\">{:.1} s</td><td>{}</td><td>{}</td></tr>",
            decision.at_s,
            text(&decision.verdict),
            text(&decision.why)
        );
    }
    body.push_str("</table>");
}

/// A text within a page.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Band, Bucket, Decision, Line, Point};
    use std::collections::BTreeMap;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let evil = "<script>alert('x')</script>\u{1b}[2J".to_owned();
        let report = Report {
            name: evil.clone(),
            about: evil.clone(),
            topology: evil.clone(),
            mode: evil.clone(),
            length_s: 1.0,
            bucket_ms: 250,
            rows: vec![Row { expected: evil.clone(), measured: evil.clone(), held: true }],
            faults: vec![Band { words: evil.clone(), from_s: 0.1, until_s: None }],
            buckets: vec![Bucket { by_site: BTreeMap::from([(evil.clone(), 3)]), failed: 1 }],
            peers: vec![Line {
                site: evil.clone(),
                peer: evil.clone(),
                points: vec![Point { state: evil.clone(), ..Point::default() }],
            }],
            decisions: vec![Decision { at_s: 0.0, verdict: evil.clone(), why: evil }],
            ..Report::default()
        };
        let page = page(&report);
        assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
    }

    #[test]
    fn a_report_of_nothing_is_still_a_page() {
        let page = page(&Report::default());
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
