//! From what was seen to numbers, and from numbers to a verdict.

use crate::expect::{Expectations, Failures};
use crate::record::{Happened, Record};
use crate::report::{Band, Bucket, Decision, Line, Numbers, Point, Report, Row};
use crate::schema::Experiment;
use api::text::Span;
use bench::report::{Kill, Phase};
use bench::sample::{Outcome, Sample};
use std::collections::BTreeMap;
use std::time::Duration;

/// Width of a bucket of the timeline.
const BUCKET: Duration = Duration::from_millis(250);
/// Stretches in which it is asked who answers most, and how the load is divided.
const STRETCH: Duration = Duration::from_secs(1);
/// The load counts as divided as before when at most this share of it is answered by another site than then.
const RETURNED: f64 = 0.1;

/// Judges a run.
pub fn judge(experiment: &Experiment, record: &Record, slack: f64) -> Report {
    let numbers = numbers(record);
    let rows = rows(&experiment.expect.with_slack(slack), &numbers);
    Report {
        name: experiment.name.clone(),
        about: experiment.about.clone(),
        topology: experiment.topology.clone(),
        mode: record.mode.clone(),
        sites: record.sites.clone(),
        gateways: record.gateways,
        rate: record.rate,
        length_s: record.length.as_secs_f64(),
        slack,
        held: rows.iter().all(|row| row.held),
        rows,
        numbers,
        faults: record.faults.iter().map(band).collect(),
        buckets: buckets(record),
        bucket_ms: ms(BUCKET),
        peers: peers(record),
        decisions: record.decisions.iter().map(decision).collect(),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn band(fault: &Happened) -> Band {
    Band {
        words: fault.words.clone(),
        from_s: fault.before.as_secs_f64(),
        until_s: fault.ended.map(|end| end.as_secs_f64()),
    }
}

fn decision(decided: &crate::record::Decided) -> Decision {
    Decision { at_s: decided.at.as_secs_f64(), verdict: decided.verdict.clone(), why: decided.why.clone() }
}

/// The numbers of a run.
pub fn numbers(record: &Record) -> Numbers {
    let hits: Vec<Kill> =
        record.faults.iter().map(|fault| Kill { before: fault.before, after: fault.after }).collect();
    let end = record.samples.last().map_or(0, |sample| sample.index + 1);
    let whole = Phase { name: String::new(), requests: 0..end };
    let counted = bench::report::report(&record.samples, &[whole], &hits);
    let (equal, catalogs) = record.equal_catalogs();
    let withdrawn = record
        .withdrawn()
        .into_iter()
        .map(|(site, service, of)| format!("{site}: {service} of {of}"))
        .collect();
    let phase = counted.phases.into_iter().next();
    Numbers {
        requests: counted.requests,
        failed: counted.failed,
        in_flight: counted.in_flight,
        longest_gap_ms: counted.longest_gap_ms,
        failures: phase.as_ref().map(|phase| phase.failures.clone()).unwrap_or_default(),
        latency: phase.map(|phase| phase.latency).unwrap_or_default(),
        last_failure_ms: last_failure(record).map(ms),
        full_return_ms: full_return(record).map(ms),
        grace_ms: ms(record.grace),
        withdrawn,
        catalogs_equal: equal,
        catalogs,
        swings: swings(record),
    }
}

/// The longest time from a change (the start of the load, the beginning or the end of a fault) to the end of a request
/// that failed before the next change.
fn last_failure(record: &Record) -> Option<Duration> {
    let mut changes = vec![Duration::ZERO];
    changes.extend(record.faults.iter().flat_map(|fault| [Some(fault.before), fault.ended]).flatten());
    changes.sort_unstable();
    record
        .samples
        .iter()
        .filter(|sample| !sample.is_complete())
        .map(|sample| {
            let since = changes.iter().rev().find(|change| **change <= sample.ended);
            sample.ended.saturating_sub(since.copied().unwrap_or_default())
        })
        .max()
}

/// Share of each site in the answers that were complete between two moments; none when there was no answer.
fn shares(samples: &[Sample], from: Duration, until: Duration) -> Option<BTreeMap<&str, f64>> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| (from..until).contains(&sample.ended)) {
        if let Outcome::Complete { site } = &sample.outcome {
            *counts.entry(site).or_default() += 1;
        }
    }
    let all: u64 = counts.values().sum();
    (all > 0).then(|| counts.into_iter().map(|(site, count)| (site, count as f64 / all as f64)).collect())
}

/// Half the sum of differences: the share of requests that another site answers.
fn moved(one: &BTreeMap<&str, f64>, other: &BTreeMap<&str, f64>) -> f64 {
    let sites: std::collections::BTreeSet<&str> = one.keys().chain(other.keys()).copied().collect();
    let of = |shares: &BTreeMap<&str, f64>, site: &str| shares.get(site).copied().unwrap_or(0.0);
    sites.into_iter().map(|site| (of(one, site) - of(other, site)).abs()).sum::<f64>() / 2.0
}

/// From the end of the last fault to the moment since which every stretch is divided as before the first fault.
fn full_return(record: &Record) -> Option<Duration> {
    let first = record.faults.iter().map(|fault| fault.before).min()?;
    let healed =
        record.faults.iter().map(|fault| fault.ended).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    let before = shares(&record.samples, Duration::ZERO, first)?;
    let mut returned = healed;
    let mut from = healed;
    while from + STRETCH <= record.length {
        let now = shares(&record.samples, from, from + STRETCH);
        if now.is_none_or(|now| moved(&before, &now) > RETURNED) {
            returned = from + STRETCH;
        }
        // Half a stretch further, so that the answer is not rounded up to whole ones.
        from += STRETCH / 2;
    }
    // It must be seen for a stretch at least, or it has not returned.
    (returned + STRETCH <= record.length).then(|| returned - healed)
}

/// How often the site that answers most changes, stretch by stretch.
fn swings(record: &Record) -> u32 {
    let mut swings = 0;
    let mut last: Option<String> = None;
    let mut from = Duration::ZERO;
    while from + STRETCH <= record.length {
        let most = shares(&record.samples, from, from + STRETCH)
            .and_then(|shares| {
                shares.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, share)| *share > 0.6)
            })
            .map(|(site, _)| site.to_owned());
        if let Some(most) = most {
            swings += u32::from(last.as_ref().is_some_and(|last| *last != most));
            last = Some(most);
        }
        from += STRETCH;
    }
    swings
}

fn buckets(record: &Record) -> Vec<Bucket> {
    let width = BUCKET.as_millis();
    let count = usize::try_from(record.length.as_millis().div_ceil(width)).unwrap_or(0);
    let mut buckets = vec![Bucket::default(); count];
    for sample in &record.samples {
        let at = usize::try_from(sample.ended.as_millis() / width).unwrap_or(usize::MAX);
        let Some(bucket) = buckets.get_mut(at) else { continue };
        match &sample.outcome {
            Outcome::Complete { site } => *bucket.by_site.entry(site.to_string()).or_default() += 1,
            Outcome::Failed(_) => bucket.failed += 1,
        }
    }
    buckets
}

fn peers(record: &Record) -> Vec<Line> {
    let mut lines: BTreeMap<(&str, &str), Vec<Point>> = BTreeMap::new();
    for look in &record.looks {
        for peer in &look.peers {
            lines.entry((&look.site, &peer.site)).or_default().push(Point {
                at_s: look.at.as_secs_f64(),
                state: peer.state.clone(),
                rtt_ms: peer.rtt_ms,
                paths_live: peer.paths.0,
                paths: peer.paths.1,
                age_s: peer.age_s,
            });
        }
    }
    lines
        .into_iter()
        .map(|((site, peer), points)| Line { site: site.to_owned(), peer: peer.to_owned(), points })
        .collect()
}

fn rows(expect: &Expectations, numbers: &Numbers) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row =
        |expected: String, measured: String, held: bool| rows.push(Row { expected, measured, held });
    let seconds = |ms: u64| format!("{:.2} s", ms as f64 / 1000.0);
    let within = |ms: u64, Span(bound): Span| u128::from(ms) <= bound.as_millis();
    if let Some(bound) = expect.failed {
        let share = numbers.failed as f64 * 100.0 / numbers.requests.max(1) as f64;
        let of = format!("{} of {}", numbers.failed, numbers.requests);
        match bound.0 {
            Failures::Count(count) => row(format!("failed ≤ {count}"), of, numbers.failed <= count),
            Failures::Percent(percent) => {
                row(format!("failed ≤ {percent} %"), format!("{share:.2} % ({of})"), share <= percent);
            }
            Failures::InFlight => row(
                "failed only what was in flight".to_owned(),
                format!("{of}, {} in flight", numbers.in_flight),
                numbers.failed == numbers.in_flight,
            ),
        }
    }
    if let Some(bound) = expect.last_failure {
        let measured = numbers.last_failure_ms.map_or_else(|| "none failed".to_owned(), seconds);
        row(
            format!("no failure later than {bound} after a change"),
            measured,
            numbers.last_failure_ms.is_none_or(|ms| within(ms, bound)),
        );
    }
    if let Some(bound) = expect.longest_gap {
        row(
            format!("longest gap ≤ {bound}"),
            seconds(numbers.longest_gap_ms),
            within(numbers.longest_gap_ms, bound),
        );
    }
    if let Some(bound) = expect.full_return {
        let beside = numbers.full_return_ms.map(|ms| ms.saturating_sub(numbers.grace_ms));
        let measured = match (numbers.full_return_ms, beside) {
            (Some(ms), _) if ms <= numbers.grace_ms => format!("{}, within delay and ramp", seconds(ms)),
            (Some(_), Some(beside)) => format!("{} + delay and ramp", seconds(beside)),
            _ => "not seen".to_owned(),
        };
        row(
            format!("full return ≤ {bound} after the heal"),
            measured,
            beside.is_some_and(|ms| within(ms, bound)),
        );
    }
    if let Some(bound) = expect.withdrawn {
        let expected = if bound == 0 {
            "no import withdrawn".to_owned()
        } else {
            format!("imports withdrawn ≤ {bound}")
        };
        let count = numbers.withdrawn.len();
        row(expected, count.to_string(), count <= usize::try_from(bound).unwrap_or(usize::MAX));
    }
    if let Some(wanted) = expect.catalogs_equal {
        let equal = numbers.catalogs > 0 && numbers.catalogs_equal == numbers.catalogs;
        let expected = if wanted { "catalogs equal at the end" } else { "catalogs apart at the end" };
        row(
            expected.to_owned(),
            format!("{} of {}", numbers.catalogs_equal, numbers.catalogs),
            equal == wanted,
        );
    }
    if let Some(bound) = expect.swings {
        row(
            format!("the load changes sides ≤ {bound} times"),
            numbers.swings.to_string(),
            numbers.swings <= bound,
        );
    }
    rows
}

#[cfg(test)]
mod tests;
