use super::*;
use api::text::Text;
use bench::sample::{Cause, Failure, Stage};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// 100 requests/s for 30 s, each answered after 5 ms by the site that `who` names, or failed.
fn record(who: impl Fn(u64) -> Option<&'static str>, faults: Vec<Happened>) -> Record {
    let samples = (0..3000)
        .map(|index| {
            let due = at(index * 10);
            let outcome = who(index * 10)
                .map_or(Outcome::Failed(Failure { stage: Stage::Answer, cause: Cause::Reset }), |site| {
                    Outcome::Complete { site: site.into() }
                });
            Sample { index, due, started: due, ended: due + at(5), outcome }
        })
        .collect();
    Record { samples, faults, rate: 100, length: Duration::from_secs(30), ..Record::default() }
}

fn fault(from: u64, until: Option<u64>) -> Happened {
    Happened { words: "cut".into(), before: at(from), after: at(from + 2), ended: until.map(at) }
}

#[test]
fn the_return_counts_from_the_last_heal_until_the_load_stays_divided_as_before() {
    let away = |ms: u64| Some(if (5_000..17_000).contains(&ms) { "far" } else { "near" });
    let numbers = numbers(&record(away, vec![fault(5_000, Some(12_000))]));
    let returned = numbers.full_return_ms.expect("seen");
    assert!((5_000..=6_000).contains(&returned), "{returned}");
    assert_eq!(numbers.swings, 2);
}

#[test]
fn a_load_that_never_comes_back_has_not_returned() {
    let away = |ms: u64| Some(if ms >= 5_000 { "far" } else { "near" });
    assert_eq!(numbers(&record(away, vec![fault(5_000, Some(12_000))])).full_return_ms, None);
    // Nor one that goes to and fro to the end.
    let swings = |ms: u64| Some(if ms >= 5_000 && (ms / 1000) % 4 < 2 { "far" } else { "near" });
    let swinging = numbers(&record(swings, vec![fault(5_000, Some(12_000))]));
    assert_eq!(swinging.full_return_ms, None);
    assert!(swinging.swings > 6, "{}", swinging.swings);
}

#[test]
fn a_failure_counts_from_the_latest_change_before_it() {
    let who = |ms: u64| if [5_300, 12_800].contains(&ms) { None } else { Some("near") };
    let numbers = numbers(&record(who, vec![fault(5_000, Some(12_000))]));
    assert_eq!((numbers.failed, numbers.last_failure_ms), (2, Some(805)));
}

#[test]
fn a_failure_before_any_fault_counts_from_the_start() {
    let who = |ms: u64| (ms != 3_000).then_some("near");
    assert_eq!(numbers(&record(who, vec![fault(5_000, None)])).last_failure_ms, Some(3_005));
}

#[test]
fn only_what_was_open_when_a_fault_began_is_in_flight() {
    // The request of 5 000 ms is open from 5 000 to 5 005, the next ones begin when the fault is in force.
    let who = |ms: u64| (!(5_000..5_030).contains(&ms)).then_some("near");
    let numbers = numbers(&record(who, vec![fault(5_001, None)]));
    assert_eq!((numbers.failed, numbers.in_flight), (3, 1));
    let expect = Expectations { failed: Some(Text(Failures::InFlight)), ..Expectations::default() };
    assert!(!rows(&expect, &numbers)[0].held);
}

#[test]
fn every_bound_that_is_broken_is_told_and_breaks_the_whole() {
    let text = "kind: Experiment\nname: x\ntopology: t\nlength: 30s\nexpect:\n  failed: 1%\n  lastFailure: 1s\n  \
                longestGap: 500ms\n  fullReturn: 5s\n  withdrawn: 0\n  catalogsEqual: true\n  swings: 0\n";
    let experiment = crate::read("x.yaml", text).expect("right");
    let bad = |ms: u64| {
        if (6_000..9_000).contains(&ms) { None } else { Some(if ms > 9_000 { "far" } else { "near" }) }
    };
    let report = judge(&experiment, &record(bad, vec![fault(5_000, Some(12_000))]), 1.0);
    assert!(!report.held);
    let broken: Vec<&str> = report.rows.iter().filter(|r| !r.held).map(|r| r.expected.as_str()).collect();
    assert_eq!(
        broken,
        [
            "failed ≤ 1 %",
            "no failure later than 1s after a change",
            "longest gap ≤ 500ms",
            "full return ≤ 5s after the heal",
            "catalogs equal at the end",
            "the load changes sides ≤ 0 times"
        ]
    );
    let good = judge(&experiment, &record(|_| Some("near"), vec![fault(5_000, Some(12_000))]), 1.0);
    let broken: Vec<&str> = good.rows.iter().filter(|r| !r.held).map(|r| r.expected.as_str()).collect();
    assert_eq!(broken, ["catalogs equal at the end"], "there were none to compare");
}
