//! The figures as short tables.

use crate::outage::{Struck, Without};
use crate::routed::{Numbers, Spread};
use crate::{churn, size, slow, ways};
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

/// The table of `endpoint`, `gateway`, `frozen` and `silent`.
pub fn rounds(numbers: &Struck, style: Style) -> String {
    let mut table = Table::new(columns("round"));
    for round in &numbers.rounds {
        table.row(row(round));
    }
    let mut text = format!(
        "{} {} times: {} requests, {} failed, {} of them in flight then\n\n{}\n\nlongest gap: median \
         {:.0} ms, worst {:.0} ms",
        numbers.blow,
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

/// The table of `size`.
pub fn size(numbers: &size::Numbers, style: Style) -> String {
    let mut memory = Table::new(vec![left("process", 9), right("before"), right("after"), right("more")]);
    for of in &numbers.memory {
        memory.row(memory_row(&of.process, of.before, of.after));
    }
    let mut added = Table::new(vec![
        left("one more endpoint", 9),
        right("said"),
        right("datagrams, 2 s"),
        right("2 s of quiet"),
    ]);
    for (number, one) in numbers.added.iter().enumerate() {
        let bytes = [one.said, one.wire, one.wire_quiet].map(|bytes| format!("{} B", words::count(bytes)));
        added.row([(number + 1).to_string()].into_iter().chain(bytes).map(Into::into).collect());
    }
    let sync = &numbers.sync;
    format!(
        "{} services with {} endpoints each, east's; the first exchange of all of them took {} ms, {} bytes in datagrams \
         both ways, all included; east's federation said {} bytes before compression\n\n{}\n\n{}",
        words::count(numbers.services.into()),
        numbers.endpoints,
        sync.ms,
        words::count(sync.wire),
        words::count(sync.said),
        memory.text(style),
        added.text(style)
    )
}

/// The table of `churn`.
pub fn churn(numbers: &churn::Numbers, style: Style) -> String {
    let columns = [left("process", 9), right("before"), right("after"), right("more"), right("ratio")];
    let mut table = Table::new(columns.into());
    for of in &numbers.memory {
        let mut row = memory_row(&of.process, of.before, of.after);
        row.push(format!("{:.2}", of.ratio()).into());
        table.row(row);
    }
    format!(
        "{} connections came and went, {} at a time; before: after a first batch of as many\n\n{}",
        words::count(numbers.connections.into()),
        numbers.batch,
        table.text(style)
    )
}

fn memory_row(process: &str, before: u64, after: u64) -> Vec<meshfed::render::table::Cell> {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let more = format!("{:+.1} MiB", (after as f64 - before as f64) / f64::from(1 << 20));
    [process.to_owned(), mib(before), mib(after), more].map(Into::into).to_vec()
}

/// The table of `slow`.
pub fn slow(numbers: &slow::Numbers, style: Style) -> String {
    let mut table = Table::new(vec![
        left("round", 5),
        left("beside", 9),
        right("requests"),
        right("failed"),
        right("p50"),
        right("p99"),
        right("max"),
    ]);
    let mut others = Vec::new();
    for (number, round) in numbers.rounds.iter().enumerate() {
        for (beside, seen) in [("nothing", round.quiet), ("slow readers", round.beside)] {
            let counts = [u64::from(seen.requests), u64::from(seen.failed)].map(words::count);
            let times = [seen.took.p50_ms, seen.took.p99_ms, seen.took.max_ms].map(fine);
            let first = [(number + 1).to_string(), beside.to_owned()];
            table.row(first.into_iter().chain(counts).chain(times).map(Into::into).collect());
        }
        let memory: Vec<String> = round.memory.iter().map(|bytes| format!("{} MiB", bytes >> 20)).collect();
        others.push(format!(
            "round {}: slow readers took {} bytes, {} of them nothing; the sites had {}",
            number + 1,
            words::count(round.sipped),
            round.starved,
            memory.join(" and ")
        ));
    }
    let files = numbers.open_files.map_or_else(|| "no limit".to_owned(), words::count);
    format!(
        "{} open connections, {} of them slow readers of bulk; open files: {files}\n\n{}\n\n{}\n\np99 beside slow \
         readers against without, median of the rounds: {:.2}",
        words::count(numbers.streams.into()),
        numbers.slow,
        table.text(style),
        others.join("\n"),
        numbers.ratio()
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
