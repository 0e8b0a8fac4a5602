//! Many seeds of five sites; `MESHFED_SIM_SEED=N` runs one, with everything that happens.

use sim::run::{Failure, Report, run_seed};
use sim::world::REACHED;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SITES: usize = 5;
const SEEDS: u64 = 1_000;
/// After this many failures a worker stops looking for more.
const FAILURES_MAX: usize = 10;

#[test]
fn a_thousand_seeds_of_five_sites_keep_every_rule() {
    if let Ok(seed) = std::env::var("MESHFED_SIM_SEED") {
        let seed = seed.parse().expect("MESHFED_SIM_SEED is a number");
        match run_seed(seed, SITES, true) {
            Ok(report) => println!("seed {seed}: {report:#?}"),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    // More seeds than a test run has time for: MESHFED_SIM_SEEDS=100000.
    let seeds = std::env::var("MESHFED_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let begin = Instant::now();
    let (reports, failures) = run_seeds(seeds);
    if let Some(first) = failures.first() {
        let all: Vec<String> = failures
            .iter()
            .map(|failure| format!("{} ({})", failure.plan.seed, failure.violation.rule))
            .collect();
        panic!("{first}\nfailed seeds: {}", all.join(", "));
    }
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in reports.iter().flat_map(|report| &report.seen) {
        *seen.entry(what).or_default() += count;
    }
    println!(
        "{seeds} seeds of {SITES} sites in {:.1} s: {} steps, {} s of virtual time",
        begin.elapsed().as_secs_f64(),
        reports.iter().map(|report| report.steps).sum::<u64>(),
        reports.iter().map(|report| report.virtual_time).sum::<Duration>().as_secs(),
    );
    for (what, count) in &seen {
        println!("{count:>9}  {what}");
    }
    let missed: Vec<&str> = REACHED.into_iter().filter(|what| !seen.contains_key(what)).collect();
    assert!(missed.is_empty(), "never happened: {missed:?}");
}

fn run_seeds(seeds: u64) -> (Vec<Report>, Vec<Failure>) {
    let next = AtomicU64::new(0);
    let worker = || {
        let (mut reports, mut failures) = (Vec::new(), Vec::new());
        while failures.len() < FAILURES_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                break;
            }
            match run_seed(seed, SITES, false) {
                Ok(report) => reports.push(report),
                Err(failure) => failures.push(*failure),
            }
        }
        (reports, failures)
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        for thread in threads {
            let (some, failed) = thread.join().expect("a run does not panic");
            reports.extend(some);
            failures.extend(failed);
        }
    });
    failures.sort_by_key(|failure| failure.plan.seed);
    (reports, failures)
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        let first = run_seed(seed, SITES, false).expect("keeps every rule");
        let second = run_seed(seed, SITES, false).expect("keeps every rule");
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn seeds_that_found_bugs_keep_every_rule() {
    for (seed, found) in FOUND {
        if let Err(failure) = run_seed(seed, SITES, false) {
            panic!("{found}\n{failure}");
        }
    }
}

/// Seeds of five sites that once broke a rule, and what was wrong. They say something as long as `Plan::draw` is as it
/// is; each has its claim in the tests of federation-core as well.
const FOUND: [(u64, &str); 9] = [
    (414, "a peer that was linked anew was told only changes since what it held under the link before"),
    (467, "a process that died while it withheld what an old store said told it after its next start"),
    (504, "a site that came back and unlinked a peer broke the protocol in its second session"),
    (550, "what was deleted just before it ceased to be shared was never withdrawn at a slow peer"),
    (2039, "the Hello of a second session renewed the lease when it took over, long after it was said"),
    (6080, "a process that died while recovering told a group at one revision in two ways"),
    (
        11780,
        "endpoints that had registered before the epoch was taken kept the group that an old store had for them",
    ),
    (24830, "a peer with half a snapshot could not say how far its origin had been"),
    (57768, "no bug of the core: the oracle took a value that was shown again for a new one"),
];
