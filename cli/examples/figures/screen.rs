//! The figures as short tables.

use crate::outage::{Killed, Without};
use crate::routed::{Numbers, Spread};
use crate::ways;
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

/// The table of `ways`.
pub fn ways(numbers: &ways::Numbers, style: Style) -> String {
    let mut table = Table::new(vec![
        left("way", 9),
        right("bulk Gbit/s"),
        right("64 B p50"),
        right("p99"),
        right("beside bulk p50"),
        right("p99"),
        right("connect p50"),
        right("p99"),
    ]);
    for way in &numbers.ways {
        let times = [way.round_trip, way.beside_bulk, way.connect];
        let times = times.into_iter().flat_map(|spread| [fine(spread.p50_ms), fine(spread.p99_ms)]);
        let first = [way.way.clone(), format!("{:.2}", way.bulk_gbit_per_s)];
        table.row(first.into_iter().chain(times).map(Into::into).collect());
    }
    let mut goals = Table::new(vec![left("goal", 9), right("bound"), right("measured"), left("", 1)]);
    for goal in numbers.goals() {
        let bound = format!("{} {}", if goal.at_least { "≥" } else { "≤" }, goal.bound);
        let held = if goal.held() { "held" } else { "missed" };
        let row = [goal.what.to_owned(), bound, format!("{:.2}", goal.measured), held.to_owned()];
        goals.row(row.map(Into::into).to_vec());
    }
    format!(
        "one connection at a time, in turn on each way; medians of the rounds; {} idle connections\n\n{}\n\n{}",
        words::count(numbers.idle.into()),
        table.text(style),
        goals.text(style)
    )
}

/// Times below a millisecond count here.
fn fine(value_ms: f64) -> String {
    if value_ms < 1.0 { format!("{:.0} µs", value_ms * 1000.0) } else { ms(value_ms) }
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
