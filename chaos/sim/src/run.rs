//! Runs plans, and says how they failed.

use crate::oracle::Violation;
use crate::transition::{Plan, Transition};
use crate::world::World;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How long the world has to converge after the last fault is over.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// What a run was like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Equal for equal seeds.
    pub trace: u64,
    /// Things that happened.
    pub steps: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// How often each kind of thing happened.
    pub seen: BTreeMap<&'static str, u64>,
}

/// A run that broke a rule.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The plan.
    pub plan: Plan,
    /// What broke.
    pub violation: Violation,
    /// When, in virtual time.
    pub at: Duration,
    /// What happened, when it was asked for.
    pub log: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, sites, settings, steps } = &self.plan;
        writeln!(
            f,
            "seed {seed} ({sites} sites) failed after {:.3} s: {}",
            self.at.as_secs_f64(),
            self.violation
        )?;
        writeln!(f, "replay: MESHFED_SIM_SEED={seed} cargo test -p meshfed-sim")?;
        writeln!(
            f,
            "batches of {} bytes, windows of {}, {} tombstones, lease {:?}, horizon {:?}",
            settings.batch_bytes,
            settings.window_batches,
            settings.tombstones_max,
            settings.lease,
            settings.tombstone_horizon
        )?;
        let mut at = Duration::ZERO;
        for (pause, transition) in steps {
            at += *pause;
            if at > self.at {
                break;
            }
            writeln!(f, "{:>9.3} s  {transition:?}", at.as_secs_f64())?;
        }
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Runs the plan of a seed.
///
/// # Errors
/// [`Failure`] when a rule is broken, or the world does not converge.
pub fn run_seed(seed: u64, sites: usize, verbose: bool) -> Result<Report, Box<Failure>> {
    run(&Plan::draw(seed, sites), verbose)
}

/// Runs a plan.
///
/// # Errors
/// [`Failure`] when a rule is broken, or the world does not converge.
pub fn run(plan: &Plan, verbose: bool) -> Result<Report, Box<Failure>> {
    let mut world = World::new(plan.seed, plan.sites, plan.settings.clone());
    world.log = verbose.then(Vec::new);
    let outcome = catch_unwind(AssertUnwindSafe(|| live(&mut world, &plan.steps)));
    if outcome.is_err() {
        let what = "see the message above".to_owned();
        world.violation.get_or_insert(Violation { rule: "nothing panics", what });
    }
    let at = world.now.duration_since(world.start);
    match world.violation.take() {
        None => Ok(Report { trace: world.trace, steps: world.steps, virtual_time: at, seen: world.seen }),
        Some(violation) => {
            let log = world.log.take().unwrap_or_default();
            Err(Box::new(Failure { plan: plan.clone(), violation, at, log }))
        }
    }
}

fn live(world: &mut World, steps: &[(Duration, Transition)]) {
    for (pause, transition) in steps {
        world.run_for(*pause);
        if world.violation.is_some() {
            return;
        }
        world.apply(transition);
    }
    world.heal_all();
    settle(world);
}

/// Lets the world converge, and stay so over two comparisons of digests.
fn settle(world: &mut World) {
    let begin = world.now;
    while world.violation.is_none() {
        world.run_for(Duration::from_secs(3));
        let Some(difference) = world.difference() else { break };
        if world.now.duration_since(begin) > SETTLE_MAX {
            world.violation = Some(difference);
            return;
        }
    }
    world.run_for(Duration::from_secs(21));
    if world.violation.is_none() {
        world.violation = world.difference();
    }
}
