//! The screens of `chaos`.

use super::style::Style;
use super::table::{Table, WIDTH, left, painted, wrap};
use super::words;
use crate::output::Ui;
use experiment::record::Happened;
use experiment::report::Report;
use experiment::schedule::occurrences;
use experiment::schema::Experiment;
use std::time::Duration;
use topologies::schema::Topology;

/// Cells of a line of time.
const CELLS: usize = 60;

/// `chaos list`: name, length and what it rehearses.
pub fn list(all: &[(&str, &str, u64)], style: Style) -> String {
    let mut lines = Vec::new();
    for (name, about, seconds) in all {
        lines.push(format!("{}  {}", style.bold(name), style.dim(&format!("{seconds} s"))));
        lines.extend(wrap(about, WIDTH - 2).into_iter().map(|line| format!("  {line}")));
    }
    lines.push(String::new());
    lines.push("run one: meshfed chaos run NAME; all of them: meshfed chaos run --all".to_owned());
    lines.join("\n")
}

/// The first line of a run.
pub fn headline(experiment: &Experiment, topology: &Topology) -> String {
    let gateways: u64 = topology.sites.values().map(|site| site.gateways.count() as u64).sum();
    let rate = topology.clients.first().map_or(0, |client| client.rate);
    format!(
        "{}: {}, {}, {rate} requests/s, {} s",
        experiment.name,
        words::plural(topology.sites.len() as u64, "site", "sites"),
        words::plural(gateways, "gateway", "gateways"),
        experiment.length.0.as_secs()
    )
}

/// `chaos show`: the faults on a line of time, and the expectations.
pub fn plan(experiment: &Experiment, topology: &Topology, style: Style) -> String {
    let mut lines = vec![style.bold(&headline(experiment, topology))];
    lines.extend(wrap(&experiment.about, WIDTH));
    lines.push(String::new());
    let length = experiment.length.0;
    let all = occurrences(experiment);
    let mut named: Vec<String> = Vec::new();
    for occurrence in &all {
        let words = occurrence.fault.words();
        if named.contains(&words) {
            continue;
        }
        let mut cells = vec!['░'; CELLS];
        for same in all.iter().filter(|other| other.fault == occurrence.fault) {
            let (from, until) = (cell(same.from, length), cell(same.until.unwrap_or(length), length));
            cells[from..until.max(from + 1).min(CELLS)].fill('█');
        }
        let line: String = cells.into_iter().collect();
        lines.push(format!("  {line}  {words}"));
        named.push(words);
    }
    lines.push(format!("  0 s{:>width$}", format!("{} s", length.as_secs()), width = CELLS - 3));
    lines.push(String::new());
    lines.push(style.bold("EXPECTED"));
    // What a run in which nothing happened would be judged by has the words.
    let expected = experiment::judge::judge(experiment, &experiment::record::Record::default(), 1.0).rows;
    if expected.is_empty() {
        lines.push("  nothing: it is measured and not judged".to_owned());
    }
    lines.extend(expected.into_iter().map(|row| format!("  {}", row.expected)));
    lines.join("\n")
}

fn cell(at: Duration, length: Duration) -> usize {
    let share = at.as_secs_f64() / length.as_secs_f64().max(0.001);
    // `as`: between 0 and CELLS.
    ((share * CELLS as f64) as usize).min(CELLS - 1)
}

/// `chaos report`, and the end of `chaos run`.
pub fn report(report: &Report, style: Style) -> String {
    let mut lines = Vec::new();
    let head = format!(
        "{}: {}, {}, {} requests/s, {:.0} s",
        report.name,
        words::plural(report.sites.len() as u64, "site", "sites"),
        words::plural(report.gateways as u64, "gateway", "gateways"),
        report.rate,
        report.length_s
    );
    let room = WIDTH.saturating_sub(report.mode.chars().count() + 2);
    lines.push(format!("{}  {}", style.bold(&format!("{head:<room$}")), style.dim(&report.mode)));
    lines.extend(report.faults.iter().take(FAULTS_SHOWN).map(|fault| {
        let until = fault.until_s.map_or_else(|| "the end".to_owned(), |until| format!("{until:.1} s"));
        format!("  {} from {:.1} s to {until}", fault.words, fault.from_s)
    }));
    if report.faults.len() > FAULTS_SHOWN {
        lines.push(format!("  and {} more", report.faults.len() - FAULTS_SHOWN));
    }
    lines.push(String::new());
    let mut table = Table::new(vec![left("EXPECTED", 9), left("MEASURED", 5), left("", 9)]);
    for row in &report.rows {
        let mark = if row.held { painted("✔", Style::good) } else { painted("✘", Style::bad) };
        table.row(vec![row.expected.as_str().into(), row.measured.as_str().into(), mark]);
    }
    if !report.rows.is_empty() {
        lines.push(table.text(style));
        lines.push(String::new());
    }
    let numbers = &report.numbers;
    lines.push(format!(
        "{} requests, {} failed ({} in flight), longest gap {} ms, p99 {:.1} ms",
        words::count(numbers.requests),
        words::count(numbers.failed),
        words::count(numbers.in_flight),
        numbers.longest_gap_ms,
        numbers.latency.p99_ms
    ));
    lines.extend(numbers.failures.iter().map(|(what, count)| format!("  {} {what}", words::count(*count))));
    lines.extend(numbers.withdrawn.iter().map(|what| format!("  withdrawn at {what}")));
    lines.push(if report.held { style.good("held.") } else { style.bad("broken.") });
    lines.join("\n")
}

/// Most faults that are listed one by one.
const FAULTS_SHOWN: usize = 6;

/// All results as a table of Markdown.
pub fn markdown(reports: &[(String, Report)]) -> String {
    let mut text = String::from(
        "| experiment | failed | of them in flight | last failure after a change | longest gap | full return | \
         imports lost | catalogs equal | held |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, report) in reports {
        let numbers = &report.numbers;
        let share = numbers.failed as f64 * 100.0 / numbers.requests.max(1) as f64;
        let ms = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{} ms", words::count(ms)));
        text.push_str(&format!(
            "| {name} | {} of {} ({share:.2} %) | {} | {} | {} ms | {} | {} | {} of {} | {} |\n",
            words::count(numbers.failed),
            words::count(numbers.requests),
            words::count(numbers.in_flight),
            ms(numbers.last_failure_ms),
            words::count(numbers.longest_gap_ms),
            ms(numbers.full_return_ms),
            numbers.withdrawn.len(),
            numbers.catalogs_equal,
            numbers.catalogs,
            if report.held { "yes" } else { "**no**" }
        ));
    }
    text
}

/// The progress of a run: a line of time for each change.
#[derive(Debug)]
pub struct Bar<'u> {
    length: Duration,
    ui: &'u Ui,
}

impl<'u> Bar<'u> {
    /// A bar for a run of this length.
    pub fn new(length: Duration, ui: &'u Ui) -> Self {
        Self { length, ui }
    }

    /// Says what has just been done.
    pub fn tell(&mut self, happened: &[Happened], now: Duration, (complete, failed): (u64, u64)) {
        let at = cell(now, self.length);
        let line: String = (0..CELLS).map(|n| if n <= at { '█' } else { '░' }).collect();
        let last =
            happened.iter().filter_map(|fault| Some((fault.ended?, fault))).max_by_key(|(ended, _)| *ended);
        let begun = happened.last();
        let what = match (begun, last) {
            (Some(begun), Some((ended, fault))) if ended >= begun.after => format!("healed: {}", fault.words),
            (Some(begun), _) => begun.words.clone(),
            (None, _) => String::new(),
        };
        self.ui.progress(format!(
            "  {line}  {:>3.0} s   {what}  ok {}  failed {}",
            now.as_secs_f64(),
            words::count(complete),
            words::count(failed)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use experiment::shipped::{experiment, topology};

    #[test]
    fn the_plan_shows_each_fault_at_its_time() {
        let of = experiment("partition").expect("is shipped");
        let read = experiment::read(of.file, of.text).expect("is right");
        let of = topology(&read.topology).expect("is shipped");
        let topology = topologies::read(of.file, of.text).expect("is right");
        let text = plan(&read, &topology, Style::PLAIN);
        assert!(text.starts_with("partition: 3 sites, 6 gateways, 200 requests/s, 80 s\n"), "{text}");
        let line = text.lines().find(|line| line.contains("cut home↔near")).expect("a line for the fault");
        // From 5 to 15 s of 80, in 60 cells.
        assert!(line.trim_start().starts_with("░░░████████░"), "{line}");
        assert!(text.contains("no import withdrawn"), "{text}");
    }
}
