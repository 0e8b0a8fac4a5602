//! Health checks: probes at intervals, and what they add up to.

mod exec;
mod probe;
mod tally;

pub use probe::{ProbeFailure, probe};

use crate::metrics::{FAILED, PASSED};
use model::config::{HealthCheck, HealthProbe};
use model::endpoint::Health;
use model::ids::EndpointId;
use model::service::ServiceName;
use runtime::metrics::Counts;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// Names what is checked.
pub type Key = (ServiceName, EndpointId);

/// Most probes that run at a time.
const PROBES_MAX: usize = 128;
/// Most commands that run at a time: each is a process.
const COMMANDS_MAX: usize = 16;
/// Results that wait to be taken. A full queue holds the probes back.
const RESULTS_MAX: usize = 256;
/// Probes do not run in step: each interval is longer or shorter by up to this part of it.
const JITTER: f64 = 0.1;

/// What is checked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Address that the probe asks.
    pub address: IpAddr,
    /// The check.
    pub check: HealthCheck,
}

/// A health that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What.
    pub key: Key,
    /// Its health.
    pub health: Health,
}

/// What is known of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckState {
    /// Its health; Unhealthy until enough probes have passed.
    pub health: Health,
    /// Some probe has ended, so the health is known and not only assumed.
    pub known: bool,
    /// Why the last probe failed; none: it passed, or none has ended.
    pub failure: Option<ProbeFailure>,
}

/// Checks a set of targets, each in a task of its own.
#[derive(Debug)]
pub struct Checker {
    running: BTreeMap<Key, Running>,
    results: mpsc::Receiver<Outcome>,
    sender: mpsc::Sender<Outcome>,
    limits: Arc<Limits>,
    next_run: u64,
    probes: Arc<Counts>,
}

#[derive(Debug)]
struct Running {
    target: Target,
    /// Tells results of this run from those of one before it.
    run: u64,
    tally: Tally,
    state: CheckState,
    /// Ends with this.
    _task: Option<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Outcome {
    key: Key,
    run: u64,
    result: Result<(), ProbeFailure>,
}

#[derive(Debug)]
struct Limits {
    probes: Semaphore,
    commands: Semaphore,
}

impl Checker {
    /// Builds one that checks nothing yet, and counts the results of its probes: see [`crate::metrics::probes`].
    pub fn new(probes: Arc<Counts>) -> Self {
        let (sender, results) = mpsc::channel(RESULTS_MAX);
        let limits = Limits { probes: Semaphore::new(PROBES_MAX), commands: Semaphore::new(COMMANDS_MAX) };
        Self { running: BTreeMap::new(), results, sender, limits: Arc::new(limits), next_run: 0, probes }
    }

    /// Checks these targets from now on, and no others. Who was checked before, at the same address, keeps its health
    /// until a probe of the new check says otherwise; the first probe is made at once.
    pub fn reconcile(&mut self, targets: BTreeMap<Key, Target>) {
        self.running.retain(|key, _| targets.contains_key(key));
        for (key, target) in targets {
            let old = self.running.get(&key);
            if old.is_some_and(|old| old.target == target) {
                continue;
            }
            let kept = old.filter(|old| old.target.address == target.address && old.state.known);
            let state = if target.check.probe == HealthProbe::None {
                CheckState { health: Health::Healthy, known: true, failure: None }
            } else if let Some(kept) = kept {
                kept.state.clone()
            } else {
                CheckState { health: Health::Unhealthy, known: false, failure: None }
            };
            self.next_run += 1;
            let run = self.next_run;
            let tally = Tally::new(state.health == Health::Healthy);
            let task = self.spawn(key.clone(), run, target.clone());
            self.running.insert(key, Running { target, run, tally, state, _task: task });
        }
    }

    fn spawn(&self, key: Key, run: u64, target: Target) -> Option<AbortOnDropHandle<()>> {
        if target.check.probe == HealthProbe::None {
            return None;
        }
        let (sender, limits) = (self.sender.clone(), Arc::clone(&self.limits));
        let task = tokio::spawn(async move {
            loop {
                let result = limited(&limits, &target).await;
                let outcome = Outcome { key: key.clone(), run, result };
                if sender.send(outcome).await.is_err() {
                    return;
                }
                sleep(jittered(target.check.interval)).await;
            }
        });
        Some(AbortOnDropHandle::new(task))
    }

    /// The next health that changes, or becomes known. Waits for ever when nothing is checked. Dropping the future
    /// loses nothing.
    pub async fn changed(&mut self) -> Changed {
        loop {
            let outcome = self.results.recv().await.expect("the checker holds a sender itself");
            if let Some(changed) = self.take(outcome) {
                return changed;
            }
        }
    }

    fn take(&mut self, outcome: Outcome) -> Option<Changed> {
        let running = self.running.get_mut(&outcome.key).filter(|running| running.run == outcome.run)?;
        self.probes.add(if outcome.result.is_ok() { PASSED } else { FAILED });
        let check = &running.target.check;
        let healthy = match &outcome.result {
            Ok(()) => running.tally.passed(check.healthy_threshold),
            Err(_) => running.tally.failed(check.unhealthy_threshold),
        };
        let health = if healthy { Health::Healthy } else { Health::Unhealthy };
        let before = std::mem::replace(
            &mut running.state,
            CheckState { health, known: true, failure: outcome.result.err() },
        );
        if before.health == health && before.known {
            return None;
        }
        let (service, endpoint) = &outcome.key;
        debug!(%service, %endpoint, ?health, failure = ?running.state.failure, "health");
        Some(Changed { key: outcome.key, health })
    }

    /// What is known of a target; none: it is not checked.
    pub fn state(&self, key: &Key) -> Option<&CheckState> {
        self.running.get(key).map(|running| &running.state)
    }

    /// Whether the health of every target is known.
    pub fn all_known(&self) -> bool {
        self.running.values().all(|running| running.state.known)
    }
}

/// Probes when there is room; the wait for it does not count as time of the probe.
async fn limited(limits: &Limits, target: &Target) -> Result<(), ProbeFailure> {
    let pool = match target.check.probe {
        HealthProbe::Exec { .. } => &limits.commands,
        HealthProbe::None | HealthProbe::Tcp { .. } | HealthProbe::Http { .. } | HealthProbe::Grpc { .. } => {
            &limits.probes
        }
    };
    let _room = pool.acquire().await.expect("it is never closed");
    probe(&target.check.probe, target.address, target.check.timeout).await
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}
