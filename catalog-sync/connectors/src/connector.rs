//! One source as a task: what should be registered, the health of each, and the events that follow.

mod report;

pub use report::{InstanceReport, SourceReport};

use crate::announce::Announcer;
use crate::health::{Checker, Key, Target};
use model::config::HealthProbe;
use model::endpoint::Health;
use model::node::{Instance, SourceChange, SourceEvent};
use report::Refusals;
use runtime::metrics::Counts;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often a lease is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long the first list waits for the first probes, so that a restart does not make healthy instances blink.
const SETTLE: Duration = Duration::from_secs(2);
/// Least time between two full lists that the other side asked for.
const RELIST_EVERY: Duration = Duration::from_secs(1);
/// How long a leaving source waits for room to withdraw.
const WITHDRAW_WAIT: Duration = Duration::from_secs(5);

/// An instance that should be registered, with what tells its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The instance. Its health stands as it is when there is no check to find it out.
    pub instance: Instance,
    /// What is checked.
    pub target: Target,
}

/// All that should be registered.
pub type Desired = Arc<BTreeMap<Key, Checked>>;

/// What happens on the way to the federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A new connection is up: everything is said anew.
    Connected,
    /// There is no connection.
    Disconnected,
    /// An event was taken, or refused.
    Taken {
        /// Its number.
        sequence: u64,
        /// Why it was refused; none: it was taken.
        refused: Option<String>,
    },
}

/// What a connector needs.
#[derive(Debug)]
pub struct Parts {
    /// What should be registered; none: that is not known yet, and nothing is listed before it is.
    pub desired: watch::Receiver<Option<Desired>>,
    /// What happens on the way to the federation.
    pub inputs: mpsc::Receiver<Input>,
    /// Where events go. A full queue holds the connector back; what changes meanwhile becomes one event.
    pub events: mpsc::Sender<SourceEvent>,
    /// For `status`.
    pub report: watch::Sender<SourceReport>,
    /// It has a lease: [`RENEW_EVERY`] for agents, none for connectors of the site itself.
    pub renew_every: Option<Duration>,
    /// Where the results of its probes are counted.
    pub probes: Arc<Counts>,
    /// When it leaves, it takes back all that it has registered.
    pub withdraw: bool,
}

/// A connector, running.
struct Connector {
    parts: Parts,
    checker: Checker,
    announcer: Announcer,
    desired: Option<Desired>,
    connected: bool,
    /// Grows over all connections, so that no number has two meanings.
    sequence: u64,
    /// The first list waits until then for probes.
    settled_at: Option<Instant>,
    relist_at: Option<Instant>,
    refusals: Refusals,
}

/// Everything that may happen.
enum Happened {
    Shutdown,
    Input(Input),
    Desired,
    Health(Key),
    Room(mpsc::OwnedPermit<SourceEvent>),
    Renew,
    Settled,
    Relist,
    /// One of the other ends is gone, so nothing can be said any more.
    Deserted,
}

/// Runs a connector until `shutdown`, and then takes back what it has registered where it should.
pub async fn run(parts: Parts, shutdown: CancellationToken) {
    let mut connector = Connector {
        checker: Checker::new(parts.probes.clone()),
        parts,
        announcer: Announcer::default(),
        desired: None,
        connected: false,
        sequence: 0,
        settled_at: None,
        relist_at: None,
        refusals: Refusals::default(),
    };
    connector.parts.desired.mark_changed();
    connector.run(shutdown).await;
}

impl Connector {
    async fn run(mut self, shutdown: CancellationToken) {
        // Without a lease the timer only has to exist.
        let mut renew = interval(self.parts.renew_every.unwrap_or(RENEW_EVERY));
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_next = self.announcer.has_next();
            let has_lease = self.parts.renew_every.is_some();
            let happened = tokio::select! {
                biased;
                () = shutdown.cancelled() => Happened::Shutdown,
                input = self.parts.inputs.recv() => input.map_or(Happened::Deserted, Happened::Input),
                changed = self.parts.desired.changed() => {
                    if changed.is_ok() { Happened::Desired } else { Happened::Deserted }
                }
                changed = self.checker.changed() => Happened::Health(changed.key),
                () = until(self.settled_at) => Happened::Settled,
                () = until(self.relist_at) => Happened::Relist,
                _ = renew.tick(), if has_lease => Happened::Renew,
                room = self.parts.events.clone().reserve_owned(), if has_next => {
                    room.map_or(Happened::Deserted, Happened::Room)
                }
            };
            match happened {
                Happened::Shutdown => {
                    self.leave().await;
                    return;
                }
                Happened::Deserted => return,
                Happened::Input(input) => self.hear(input),
                Happened::Desired => self.take_desired(),
                Happened::Health(key) => self.take_health(&key),
                Happened::Settled => {
                    self.settled_at = None;
                    self.begin_if_ready();
                }
                Happened::Relist => {
                    self.relist_at = None;
                    self.begin_if_ready();
                }
                Happened::Renew => self.announcer.renew(),
                Happened::Room(room) => self.say(room),
            }
        }
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::Connected => {
                self.connected = true;
                self.announcer.stop();
                self.refusals.clear();
                self.relist_at = None;
                self.begin_if_ready();
            }
            Input::Disconnected => {
                self.connected = false;
                self.announcer.stop();
            }
            Input::Taken { sequence, refused } => self.taken(sequence, refused),
        }
        self.report();
    }

    fn taken(&mut self, sequence: u64, refused: Option<String>) {
        let Some(reason) = refused else {
            self.refusals.taken(sequence);
            return;
        };
        warn!(reason, "a registration was refused");
        // A renewal is refused only by one who does not hold our list; so it is told again.
        if self.refusals.refused(sequence, reason) && self.connected && self.relist_at.is_none() {
            self.announcer.stop();
            self.relist_at = Some(Instant::now() + RELIST_EVERY);
        }
    }

    fn take_desired(&mut self) {
        let Some(desired) = self.parts.desired.borrow_and_update().clone() else { return };
        let targets = desired.iter().map(|(key, checked)| (key.clone(), checked.target.clone())).collect();
        self.checker.reconcile(targets);
        let gone: Vec<Key> =
            self.announcer.wanted().keys().filter(|key| !desired.contains_key(key)).cloned().collect();
        for key in gone {
            self.announcer.set(key, None);
        }
        let first = self.desired.is_none();
        self.desired = Some(desired);
        let keys: Vec<Key> = self.desired.iter().flat_map(|desired| desired.keys().cloned()).collect();
        for key in keys {
            self.want(&key);
        }
        if first {
            self.settled_at = Some(Instant::now() + SETTLE);
        }
        self.begin_if_ready();
        self.report();
    }

    fn take_health(&mut self, key: &Key) {
        let before = self.announcer.wanted().get(key).map(|instance| instance.endpoint.health);
        self.want(key);
        let after = self.announcer.wanted().get(key).map(|instance| instance.endpoint.health);
        if before != after {
            let (service, endpoint) = key;
            let failure = self.checker.state(key).and_then(|state| state.failure.as_ref());
            match failure {
                Some(failure) => {
                    info!(%service, %endpoint, health = ?after, why = %failure, "health changes")
                }
                None => info!(%service, %endpoint, health = ?after, "health changes"),
            }
        }
        self.begin_if_ready();
        self.report();
    }

    /// Puts an instance with its present health among those that should be registered.
    fn want(&mut self, key: &Key) {
        let Some(checked) = self.desired.as_ref().and_then(|desired| desired.get(key)) else { return };
        let mut instance = checked.instance.clone();
        if checked.target.check.probe != HealthProbe::None {
            let health = self.checker.state(key).map_or(Health::Unhealthy, |state| state.health);
            instance.endpoint.health = health;
        }
        self.announcer.set(key.clone(), Some(instance));
    }

    /// Begins the full list of a connection once it is known what to list, and how it is.
    fn begin_if_ready(&mut self) {
        if self.checker.all_known() {
            self.settled_at = None;
        }
        let waits = self.settled_at.is_some() || self.relist_at.is_some();
        if self.connected && self.desired.is_some() && self.announcer.is_silent() && !waits {
            self.announcer.begin_list();
        }
    }

    fn say(&mut self, room: mpsc::OwnedPermit<SourceEvent>) {
        let Some(change) = self.announcer.next() else { return };
        self.sequence += 1;
        self.refusals.said(self.sequence, &change);
        let done = change == SourceChange::InitDone;
        room.send(SourceEvent { sequence: self.sequence, change });
        if done {
            self.report();
        }
    }

    fn report(&self) {
        let instance = |(key, instance): (&Key, &Instance)| {
            let state = self.checker.state(key);
            InstanceReport {
                service: key.0.clone(),
                endpoint: key.1.clone(),
                health: instance.endpoint.health,
                failure: state.and_then(|state| state.failure.as_ref()).map(ToString::to_string),
                refused: self.refusals.of(key).map(str::to_owned),
            }
        };
        let report = SourceReport {
            known: self.desired.is_some(),
            registered: self.announcer.is_live(),
            instances: self.announcer.wanted().iter().map(instance).collect(),
        };
        self.parts.report.send_if_modified(|old| {
            let differs = *old != report;
            *old = report;
            differs
        });
    }

    /// Takes back what was registered, where this is the word of somebody who leaves for good.
    async fn leave(mut self) {
        if !self.parts.withdraw || !self.announcer.is_live() {
            return;
        }
        let keys: Vec<Key> = self.announcer.wanted().keys().cloned().collect();
        for key in keys {
            self.announcer.set(key, None);
        }
        let until = Instant::now() + WITHDRAW_WAIT;
        while self.announcer.has_next() {
            let room = self.parts.events.clone().reserve_owned();
            match tokio::time::timeout_at(until, room).await {
                Ok(Ok(room)) => self.say(room),
                Ok(Err(_)) | Err(_) => {
                    warn!("left before everything was withdrawn; the lease does the rest");
                    return;
                }
            }
        }
    }
}

/// Waits until a time, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
