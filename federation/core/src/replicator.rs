//! The replicator: one site's own catalog, what it holds of its peers, and the sessions between them.

use crate::check::{self, Expected, MessageError};
use crate::event::{CloseCause, Event, RaiseCause, Withdrawal};
use crate::held::{Comparison, HeldCatalog};
use crate::own::OwnCatalog;
use crate::peer::{PathsSummary, Peer, PeerLink, PeerStatus, StateChange};
use crate::producer::Producer;
use crate::session::{Dialled, Session, SessionId};
use crate::settings::Settings;
use crate::store::{Commit, Given, HeldRecord, Record, RecordKey, RecordValue, Restored};
use model::catalog::{
    EntryKey, EntryValue, Epoch, OwnKey, OwnValue, Revision, Scope, SiteInfo, Version, View,
};
use model::exchange::{Held, PeerMessage, RefusedSession};
use model::ids::{Incarnation, SiteId};
use model::routing::PeerState;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

mod inputs;
mod outputs;
mod sessions;

/// How far a peer's claim about the own epoch may be ahead of it. A lost store falls back to 1, so claims are far
/// ahead for good reasons; a hostile peer cannot use up the numbers in a site's lifetime.
const EPOCH_LEAD_MAX: u64 = 1 << 32;
/// Most last words to closed sessions that wait to be sent; beyond it the oldest are dropped.
const FAREWELLS_MAX: usize = 64;

/// The replicator of one site.
///
/// It composes the own catalog (`own`, told to peers through a `Producer` per session) with what is held of each peer
/// (`HeldCatalog`), the state of each link, and the records that have to be stored.
///
/// After each `handle_*` the shell drains, in this order: [`poll_persist`](Self::poll_persist) (and makes the commit
/// durable), [`poll_transmit`](Self::poll_transmit), [`poll_event`](Self::poll_event); and then waits for the next
/// input or the instant of [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Replicator {
    settings: Settings,
    identity: SiteInfo,
    incarnation: Incarnation,
    own: OwnCatalog,
    peers: BTreeMap<SiteId, Peer>,
    /// What the store knows of sites that were not linked yet in this process; taken over by `handle_link`, deleted
    /// when recovering ends.
    unclaimed_given: BTreeMap<SiteId, Given>,
    unclaimed_held: BTreeMap<SiteId, HeldRecord>,
    /// When gathered changes of the own catalog are stored and told.
    flush_at: Option<Instant>,
    /// When digests are next compared.
    digest_at: Instant,
    /// Records to store; newer values replace older ones, so it is bounded by the catalogs.
    pending: BTreeMap<RecordKey, Option<RecordValue>>,
    /// Commits handed out.
    commits: u64,
    /// Last words to sessions that are closed. Bounded by `FAREWELLS_MAX`.
    farewells: VecDeque<(SiteId, SessionId, PeerMessage)>,
    /// Entries that changed; newer changes replace older ones, so it is bounded by the catalogs.
    changed: BTreeMap<(SiteId, EntryKey), Option<Withdrawal>>,
    /// Other events. Bounded by `Settings::events_max`.
    events: VecDeque<Event>,
    events_lost: u64,
    counters: Counters,
}

/// Things that happened, counted since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages of peers that were refused.
    pub messages_refused: u64,
    /// Sessions that were refused because another live process spoke for the same uid.
    pub clones_refused: u64,
    /// Digests that differed: each is a bug.
    pub digests_differed: u64,
    /// Differences that were repaired.
    pub digests_repaired: u64,
    /// Epochs taken.
    pub epochs_raised: u64,
    /// Snapshots of peers that were complete.
    pub snapshots_complete: u64,
    /// Batches of peers that were applied.
    pub batches_applied: u64,
    /// Batches that were made for peers.
    pub batches_made: u64,
}

/// Lengths of everything that could grow, for `status` and for tests of the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Records that wait to be stored.
    pub records: usize,
    /// Messages that wait to be sent.
    pub messages: usize,
    /// Batches that peers have not acknowledged.
    pub in_flight: usize,
    /// Events that wait, without changes of entries.
    pub events: usize,
    /// Changes of entries that wait.
    pub changes: usize,
    /// Entries of snapshots that are not complete.
    pub staged: usize,
    /// Tombstones that are kept, both views together.
    pub tombstones: usize,
    /// Changes that concern one peer alone and were not yet sent.
    pub private: usize,
}

/// A change of the own catalog that makes no sense. The caller's fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnError {
    /// The kind of value does not belong to the key.
    #[error("the value under {key:?} is of another kind than its key")]
    WrongKind {
        /// Key.
        key: OwnKey,
    },
    /// A value breaks a rule that peers hold us to.
    #[error("the value under {key:?} is not valid: {what}")]
    BadValue {
        /// Key.
        key: OwnKey,
        /// Which rule.
        what: &'static str,
    },
    /// The site itself cannot be removed, and its name, uid and trust domain stay.
    #[error("the site itself cannot be removed or become another")]
    OtherSite,
}

impl Replicator {
    /// Begins with what the store holds; `Restored::default()` when it is new.
    ///
    /// The own catalog is `recovering` from here until [`handle_recovered`](Self::handle_recovered). `incarnation` is
    /// drawn anew for each start of the process; `seed` spreads the digests of many sites over time.
    pub fn new(
        seed: u64,
        now: Instant,
        site: SiteInfo,
        incarnation: Incarnation,
        restored: Restored,
        settings: Settings,
    ) -> Self {
        let mut settings = settings;
        settings.tombstone_horizon = settings.tombstone_horizon.max(settings.lease);
        let mut phases = fastrand::Rng::with_seed(seed ^ 0x6469_6765_7374);
        let interval_us = u64::try_from(settings.digest_interval.as_micros()).unwrap_or(u64::MAX);
        let digest_at = now + Duration::from_micros(phases.u64(..=interval_us));
        let given = restored.given.values().map(|given| given.version.epoch).max().unwrap_or_default();
        let mut replicator = Self {
            own: OwnCatalog::new(restored.version, given, restored.own),
            identity: site.clone(),
            incarnation,
            peers: BTreeMap::new(),
            unclaimed_given: restored.given,
            unclaimed_held: restored.held,
            flush_at: None,
            digest_at,
            pending: BTreeMap::new(),
            commits: 0,
            farewells: VecDeque::new(),
            changed: BTreeMap::new(),
            events: VecDeque::new(),
            events_lost: 0,
            counters: Counters::default(),
            settings,
        };
        replicator.own.set(OwnKey::Site, OwnValue::Site(site), now);
        replicator.schedule_flush(now);
        replicator
    }

    /// The own catalog, ordered by key.
    pub fn own(&self) -> impl Iterator<Item = (&OwnKey, &OwnValue)> {
        self.own.iter()
    }

    /// How many entries the own catalog has.
    pub fn own_len(&self) -> usize {
        self.own.len()
    }

    /// One entry of the own catalog.
    pub fn own_entry(&self, key: &OwnKey) -> Option<&OwnValue> {
        self.own.entry(key)
    }

    /// Position of the own catalog.
    pub fn own_version(&self) -> Version {
        self.own.version()
    }

    /// Whether removals are held back, since not every source has finished a full list.
    pub fn is_recovering(&self) -> bool {
        self.own.is_recovering()
    }

    /// Linked sites, in order.
    pub fn peers(&self) -> impl Iterator<Item = &SiteId> {
        self.peers.keys()
    }

    /// What is known of a peer; none: it is not linked.
    pub fn peer(&self, site: &SiteId) -> Option<PeerStatus> {
        self.peers.get(site).map(|peer| peer.status(self.settings.lease))
    }

    /// The state of a peer alone; none: it is not linked.
    pub fn peer_state(&self, site: &SiteId) -> Option<PeerState> {
        self.peers.get(site).map(Peer::state)
    }

    /// Whether a session with a peer is in use.
    pub fn talks_with(&self, site: &SiteId) -> bool {
        self.peers.get(site).is_some_and(|peer| peer.session.is_some())
    }

    /// What is held of a peer and not expired, ordered by key. Empty when it is not linked.
    pub fn held(&self, site: &SiteId) -> impl Iterator<Item = (&EntryKey, &EntryValue)> {
        self.peers
            .get(site)
            .into_iter()
            .flat_map(|peer| peer.held.iter().filter(|(key, _)| is_shown(peer.state(), key)))
    }

    /// One entry of a peer, when it is held and not expired.
    pub fn held_entry(&self, site: &SiteId, key: &EntryKey) -> Option<&EntryValue> {
        let peer = self.peers.get(site)?;
        peer.held.entry(key).filter(|_| is_shown(peer.state(), key))
    }

    /// Whether every linked peer's catalog has been complete once: then an unknown name does not exist.
    pub fn names_complete(&self) -> bool {
        self.peers.values().all(|peer| peer.held.complete_once())
    }

    /// What happened, counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Lengths of everything that could grow.
    pub fn backlog(&self) -> Backlog {
        let sessions = || self.peers.values().flat_map(|peer| peer.session.iter().chain(&peer.rival));
        let producers = || sessions().filter_map(|session| session.producer.as_ref());
        Backlog {
            records: self.pending.len() + self.own.unstored(),
            messages: sessions().map(|session| session.outbox.len()).sum::<usize>() + self.farewells.len(),
            in_flight: producers().map(Producer::in_flight).sum(),
            events: self.events.len(),
            changes: self.changed.len(),
            staged: self.peers.values().map(|peer| peer.held.staged()).sum(),
            tombstones: self.own.projection(View::Summary).tombstones()
                + self.own.projection(View::Endpoints).tombstones(),
            private: producers().map(Producer::private).sum(),
        }
    }
}

/// Whether readers see an entry of a peer in this state: an expired peer's endpoints are withdrawn, its names stay.
fn is_shown(state: PeerState, key: &EntryKey) -> bool {
    match key {
        EntryKey::Site | EntryKey::Export(_) => true,
        EntryKey::Group(..) | EntryKey::Endpoint(..) => state != PeerState::Expired,
    }
}
