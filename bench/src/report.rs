//! From samples to numbers.

use crate::sample::{Cause, Outcome, Sample, Stage};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Longest latency that is told apart: one hour. What took longer counts as this.
const LATENCY_MAX_MICROS: u64 = 3_600_000_000;

/// A stretch of a run: the requests with these indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Name, for people.
    pub name: String,
    /// Indices of its requests.
    pub requests: Range<u64>,
}

/// A part of the system was killed, some time between these two moments on the clock of the samples.
///
/// The generator cannot see which part holds a connection, but it can see when a request was open: what the killed
/// part had accepted was begun before the part was dead, and had no answer when it died. A request that was begun
/// later cannot have been accepted by it, and counts against the survivors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// Taken just before the kill.
    pub before: Duration,
    /// Taken when the part was known to be dead.
    pub after: Duration,
}

impl Kill {
    /// Whether this failed request was open on the killed part: it was connected, begun before the part was dead,
    /// not over before the kill, and then reset, closed or left without an answer.
    pub fn hit(&self, sample: &Sample) -> bool {
        let Outcome::Failed(failure) = &sample.outcome else { return false };
        let cut = matches!(failure.cause, Cause::Reset | Cause::Closed | Cause::TimedOut);
        let connected = failure.stage > Stage::Connect;
        connected && cut && sample.started <= self.after && sample.ended >= self.before
    }
}

/// Numbers of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests that were due in the phases.
    pub requests: u64,
    /// Those without a complete answer.
    pub failed: u64,
    /// Those of `failed` that were open on a part when it was killed.
    pub in_flight: u64,
    /// Longest time without a completed answer.
    pub longest_gap_ms: u64,
    /// The same for each phase, in their order.
    pub phases: Vec<PhaseReport>,
}

/// Numbers of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Name.
    pub name: String,
    /// Requests that were due in it.
    pub requests: u64,
    /// Those without a complete answer.
    pub failed: u64,
    /// Those of `failed` that were open on a part when it was killed.
    pub in_flight: u64,
    /// Longest time without a completed answer that overlaps the phase.
    pub longest_gap_ms: u64,
    /// Completed answers by the site that gave them; `unknown` where the answer does not say.
    pub by_site: BTreeMap<String, u64>,
    /// Of completed answers, from the moment each request was due.
    pub latency: Latency,
    /// Failed requests by what became of them, in words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
}

/// Quantiles of the latency, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 99 of 100 are faster.
    pub p99_ms: f64,
    /// 999 of 1000 are faster.
    pub p999_ms: f64,
    /// Slowest.
    pub max_ms: f64,
}

/// Counts the samples of a run, phase by phase. Samples outside every phase count only for the gaps.
///
/// `samples` are ordered by index, as the loops return them; `kills` are all that happened in the run.
pub fn report(samples: &[Sample], phases: &[Phase], kills: &[Kill]) -> Report {
    let mut completions: Vec<Duration> =
        samples.iter().filter(|s| s.is_complete()).map(|s| s.ended).collect();
    completions.sort_unstable();
    let phases: Vec<PhaseReport> =
        phases.iter().map(|phase| phase_report(samples, &completions, phase, kills)).collect();
    Report {
        requests: phases.iter().map(|p| p.requests).sum(),
        failed: phases.iter().map(|p| p.failed).sum(),
        in_flight: phases.iter().map(|p| p.in_flight).sum(),
        longest_gap_ms: phases.iter().map(|p| p.longest_gap_ms).max().unwrap_or(0),
        phases,
    }
}

fn phase_report(samples: &[Sample], completions: &[Duration], phase: &Phase, kills: &[Kill]) -> PhaseReport {
    let first = samples.partition_point(|s| s.index < phase.requests.start);
    let end = samples.partition_point(|s| s.index < phase.requests.end);
    let own = &samples[first..end];
    let mut report = PhaseReport {
        name: phase.name.clone(),
        requests: own.len() as u64,
        failed: 0,
        in_flight: 0,
        longest_gap_ms: 0,
        by_site: BTreeMap::new(),
        latency: Latency::default(),
        failures: BTreeMap::new(),
    };
    let mut latency =
        Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_MICROS, 3).expect("constant, valid bounds");
    for sample in own {
        match &sample.outcome {
            Outcome::Complete { site } => {
                let site = if site.is_empty() { "unknown" } else { site };
                *report.by_site.entry(site.to_owned()).or_default() += 1;
                latency.saturating_record(u64::try_from(sample.latency().as_micros()).unwrap_or(u64::MAX));
            }
            Outcome::Failed(failure) => {
                report.failed += 1;
                report.in_flight += u64::from(kills.iter().any(|kill| kill.hit(sample)));
                *report.failures.entry(failure.to_string()).or_default() += 1;
            }
        }
    }
    if let (Some(from), Some(to)) = (own.first(), own.last()) {
        // A phase begins when its first request is due, and ends with its last one, however that ended.
        let to = own.iter().map(|s| s.ended).max().unwrap_or(to.ended);
        let gap = longest_gap(completions, from.due, to);
        report.longest_gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
    }
    if !latency.is_empty() {
        let ms = |micros: u64| micros as f64 / 1000.0;
        report.latency = Latency {
            p50_ms: ms(latency.value_at_quantile(0.5)),
            p99_ms: ms(latency.value_at_quantile(0.99)),
            p999_ms: ms(latency.value_at_quantile(0.999)),
            max_ms: ms(latency.max()),
        };
    }
    report
}

/// Longest stretch without a completion that overlaps `from..to`: it may have begun before `from`, and counts no
/// further than `to`.
fn longest_gap(completions: &[Duration], from: Duration, to: Duration) -> Duration {
    let next = completions.partition_point(|at| *at <= from);
    let mut last = next.checked_sub(1).map_or(from, |before| completions[before]);
    let mut longest = Duration::ZERO;
    for at in completions[next..].iter().copied().take_while(|at| *at <= to) {
        longest = longest.max(at - last);
        last = at;
    }
    longest.max(to.saturating_sub(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Failure;
    use std::sync::Arc;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn done(index: u64, started: u64, ended: u64, site: &str) -> Sample {
        let outcome = Outcome::Complete { site: Arc::from(site) };
        Sample { index, due: ms(started), started: ms(started), ended: ms(ended), outcome }
    }

    fn lost(index: u64, started: u64, ended: u64, stage: Stage, cause: Cause) -> Sample {
        let outcome = Outcome::Failed(Failure { stage, cause });
        Sample { index, due: ms(started), started: ms(started), ended: ms(ended), outcome }
    }

    fn phase(name: &str, requests: Range<u64>) -> Phase {
        Phase { name: name.into(), requests }
    }

    #[test]
    fn phases_count_their_own_requests() {
        let samples = [
            done(0, 0, 5, "west"),
            done(1, 10, 16, "west"),
            done(2, 20, 24, ""),
            lost(3, 30, 31, Stage::Connect, Cause::Refused),
            done(4, 40, 44, "east"),
        ];
        let report = report(&samples, &[phase("a", 0..2), phase("b", 2..4)], &[]);
        assert_eq!((report.requests, report.failed, report.in_flight), (4, 1, 0));
        assert_eq!(report.phases[0].by_site, BTreeMap::from([("west".to_owned(), 2)]));
        assert_eq!(report.phases[1].by_site, BTreeMap::from([("unknown".to_owned(), 1)]));
        assert_eq!(report.phases[1].failures, BTreeMap::from([("refused while connecting".to_owned(), 1)]));
        // The histogram keeps three digits.
        assert!((5.9..6.1).contains(&report.phases[0].latency.max_ms));
    }

    #[test]
    fn the_longest_gap_runs_from_answer_to_answer() {
        let samples = [
            done(0, 0, 5, "west"),
            done(1, 10, 15, "west"),
            lost(2, 20, 400, Stage::Answer, Cause::Reset),
            done(3, 30, 415, "dc"),
            done(4, 500, 505, "dc"),
        ];
        let report = report(&samples, &[phase("a", 0..2), phase("b", 2..5)], &[]);
        assert_eq!(report.phases[0].longest_gap_ms, 10);
        assert_eq!(report.phases[1].longest_gap_ms, 400);
        assert_eq!(report.longest_gap_ms, 400);
    }

    #[test]
    fn a_phase_without_any_answer_is_one_gap() {
        let samples = [done(0, 0, 5, "w"), lost(1, 10, 2010, Stage::Answer, Cause::TimedOut)];
        assert_eq!(report(&samples, &[phase("b", 1..2)], &[]).longest_gap_ms, 2005);
        assert_eq!(report(&[], &[phase("b", 0..2)], &[]).longest_gap_ms, 0);
    }

    #[test]
    fn only_what_was_open_on_the_killed_part_was_in_flight() {
        let kill = Kill { before: ms(100), after: ms(104) };
        let hit = |sample: Sample| kill.hit(&sample);
        assert!(hit(lost(0, 98, 101, Stage::Answer, Cause::Reset)));
        assert!(hit(lost(0, 103, 500, Stage::Send, Cause::Closed)));
        assert!(hit(lost(0, 99, 2099, Stage::Answer, Cause::TimedOut)));
        // Begun when the part was already dead: a survivor should have taken it.
        assert!(!hit(lost(0, 105, 500, Stage::Answer, Cause::Reset)));
        // Over before the kill.
        assert!(!hit(lost(0, 90, 99, Stage::Answer, Cause::Reset)));
        // Never accepted by anyone.
        assert!(!hit(lost(0, 98, 101, Stage::Connect, Cause::Refused)));
        // An answer, if a wrong one.
        assert!(!hit(lost(0, 98, 101, Stage::Answer, Cause::Status(503))));
        assert!(!hit(done(0, 98, 101, "west")));
    }

    #[test]
    fn a_report_survives_json() {
        let before = report(&[done(0, 0, 5, "west")], &[phase("a", 0..1)], &[]);
        let text = serde_json::to_string(&before).expect("serializes");
        assert!(
            text.starts_with(r#"{"requests":1,"failed":0,"in_flight":0,"longest_gap_ms":5,"phases":["#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Report>(&text).expect("parses"), before);
    }
}
