//! The figures as short tables.

use crate::outage::{Killed, Without};
use crate::routed::{Numbers, Spread};
use bench::report::PhaseReport;
use meshfed::render::style::Style;
use meshfed::render::table::{Table, left, right};
use meshfed::render::words;

fn ms(value: f64) -> String {
    if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

/// The table of `routed`.
pub fn routed(numbers: &Numbers, style: Style) -> String {
    let mut table =
        Table::new(vec![left("change to", 9), right("changes"), right("p50"), right("p99"), right("max")]);
    let mut row = |name: &str, count: String, spread: Spread| {
        let times = [spread.p50_ms, spread.p99_ms, spread.max_ms].map(ms);
        table.row([name.to_owned(), count].into_iter().chain(times).map(Into::into).collect());
    };
    for kind in &numbers.rows {
        row(kind.to, words::count(kind.changes as u64), kind.took);
    }
    row("(the call itself)", String::new(), numbers.call);
    let mut text = format!(
        "from a change in east to its outcome in west, with {} services present\n\n{}",
        numbers.services,
        table.text(style)
    );
    for held in &numbers.held_up {
        text.push_str(&format!(
            "\none request of a change to {}: {} after {} ms",
            held.to, held.how, held.ms
        ));
    }
    if numbers.flapped > 0 {
        text.push_str(&format!("\n\nthe outcome went back and forth {} times", numbers.flapped));
    }
    text
}

/// The table of `endpoint` and `gateway`.
pub fn rounds(numbers: &Killed, style: Style) -> String {
    let mut table = Table::new(columns("round"));
    for round in &numbers.rounds {
        table.row(row(round));
    }
    let mut text = format!(
        "{} killed (kill -9) {} times: {} requests, {} failed, {} of them in flight on it\n\n{}\n\nlongest gap: median \
         {:.0} ms, worst {:.0} ms",
        numbers.part,
        numbers.rounds.len(),
        words::count(numbers.requests),
        words::count(numbers.failed),
        words::count(numbers.in_flight),
        table.text(style),
        numbers.gap.p50_ms,
        numbers.gap.max_ms
    );
    if let Some(icmp) = numbers.icmp {
        let control = if icmp.directly { "refused (ICMP works)" } else { "not refused" };
        text.push_str(&format!(
            "\nICMP: {} of {} sockets of the links refuse a datagram after the kill; sent to the dead gateway itself it is \
             {control}",
            icmp.refused, icmp.sockets
        ));
    }
    text
}

/// The table of `federation`.
pub fn dead(numbers: &Without, style: Style) -> String {
    let mut table = Table::new(columns("load"));
    for load in &numbers.loads {
        table.row(row(load));
    }
    format!(
        "{} s of load without west's federation\n  {}\n\n{}",
        numbers.seconds,
        numbers.steps.join("\n  "),
        table.text(style)
    )
}

fn columns(first: &'static str) -> Vec<meshfed::render::table::Column> {
    vec![
        left(first, 9),
        right("requests"),
        right("failed"),
        right("in flight"),
        right("longest gap"),
        right("p50"),
        right("p99"),
        left("answered by", 5),
    ]
}

fn row(phase: &PhaseReport) -> Vec<meshfed::render::table::Cell> {
    let by: Vec<String> =
        phase.by_site.iter().map(|(site, count)| format!("{site} {}", words::count(*count))).collect();
    [
        phase.name.clone(),
        words::count(phase.requests),
        words::count(phase.failed),
        words::count(phase.in_flight),
        format!("{} ms", phase.longest_gap_ms),
        ms(phase.latency.p50_ms),
        ms(phase.latency.p99_ms),
        by.join(", "),
    ]
    .into_iter()
    .map(Into::into)
    .collect()
}
