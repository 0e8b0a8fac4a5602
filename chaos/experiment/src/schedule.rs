//! From the faults of a file to moments on the clock of the load.

use crate::schema::{Experiment, Fault, Timed};
use std::time::Duration;

/// One occurrence of a fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrence {
    /// What is done.
    pub fault: Fault,
    /// When it begins.
    pub from: Duration,
    /// When it ends; none: with the run.
    pub until: Option<Duration>,
}

/// Something to do at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// Position of the occurrence in the list that [`occurrences`] gives.
    pub occurrence: usize,
    /// It ends here; otherwise it begins.
    pub ends: bool,
}

/// All occurrences within the run, in order of their beginning. Those that would begin after its end are left out.
pub fn occurrences(experiment: &Experiment) -> Vec<Occurrence> {
    let length = experiment.length.0;
    let mut all: Vec<Occurrence> =
        experiment.faults.iter().flat_map(|timed| of(timed, length)).filter(|o| o.from < length).collect();
    all.sort_by_key(|occurrence| occurrence.from);
    all
}

fn of(timed: &Timed, length: Duration) -> Vec<Occurrence> {
    let Some(fault) = timed.named().into_iter().next() else { return Vec::new() };
    let times = times(timed, length);
    (0..times)
        .map(|n| {
            let from = timed.at.0 + timed.every.map_or(Duration::ZERO, |every| every.0) * u32::from(n);
            let until = timed.lasts.map(|lasts| from + lasts.0).filter(|until| *until < length);
            Occurrence { fault: fault.clone(), from, until }
        })
        .collect()
}

/// How often a fault happens.
fn times(timed: &Timed, length: Duration) -> u16 {
    match (timed.times, timed.every) {
        (Some(times), _) => times,
        (None, None) => 1,
        (None, Some(every)) => {
            let left = length.saturating_sub(timed.at.0).as_millis();
            let fits = left.div_ceil(every.0.as_millis().max(1));
            u16::try_from(fits)
                .unwrap_or(u16::MAX)
                .min(u16::try_from(crate::schema::FAULTS_MAX).unwrap_or(200))
        }
    }
}

/// What is to be done, in order. At one moment, what ends comes before what begins.
pub fn steps(occurrences: &[Occurrence]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, occurrence) in occurrences.iter().enumerate() {
        steps.push(Step { at: occurrence.from, occurrence: number, ends: false });
        // A restart has no end of its own: it is over when the processes are ready again.
        if let (Some(until), false) = (occurrence.until, matches!(occurrence.fault, Fault::Restart(_))) {
            steps.push(Step { at: until, occurrence: number, ends: true });
        }
    }
    steps.sort_by_key(|step| (step.at, !step.ends, step.occurrence));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(faults: &str) -> Experiment {
        let text = format!("kind: Experiment\nname: x\ntopology: t\nlength: 20s\nfaults:\n{faults}");
        crate::read("x.yaml", &text).expect(faults)
    }

    #[test]
    fn a_repeated_fault_happens_as_often_as_it_fits_or_as_is_said() {
        let count = |text: &str| occurrences(&read(text)).len();
        assert_eq!(count("  - { at: 2s, for: 1s, every: 4s, cut: { from: a, to: b } }"), 5);
        assert_eq!(count("  - { at: 2s, for: 1s, every: 4s, times: 2, cut: { from: a, to: b } }"), 2);
        assert_eq!(
            count("  - { at: 2s, every: 4s, times: 9, cut: { from: a, to: b } }"),
            5,
            "the run is over by then"
        );
        assert_eq!(count("  - { at: 20s, kill: federations }"), 0);
    }

    #[test]
    fn at_one_moment_what_ends_comes_first() {
        let all = occurrences(&read(
            "  - { at: 2s, for: 3s, kill: federation a }\n  - { at: 5s, for: 60s, freeze: gateway a/gw-0 }",
        ));
        let order: Vec<(u64, usize, bool)> =
            steps(&all).iter().map(|s| (s.at.as_secs(), s.occurrence, s.ends)).collect();
        // The second would end after the run, so it stays to its end.
        assert_eq!(order, [(2, 0, false), (5, 0, true), (5, 1, false)]);
    }
}
