//! A linked site: what the link says, whether it can be reached, and how long knowledge of it stays good.

use crate::held::HeldCatalog;
use crate::session::{Session, SessionId};
use model::catalog::{Revision, Scope, Version, View};
use model::identity::TrustDomain;
use model::ids::{SiteId, SiteUid};
use model::node::{PathReport, PathState};
use model::routing::PeerState;
use std::time::{Duration, Instant};

/// What the link to a site says, as far as the catalog goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLink {
    /// Name of the peer.
    pub site: SiteId,
    /// Uid that was pinned when linking.
    pub uid: SiteUid,
    /// Trust domain that was pinned when linking.
    pub trust_domain: TrustDomain,
    /// The services that the peer may hear of.
    pub offer: Scope,
    /// The services that this site wants to hear of from the peer; anything else that it says is refused.
    pub want: Scope,
    /// How much of them.
    pub view: View,
}

/// What the own gateways see of the paths to one peer, taken together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathsSummary {
    /// Paths that are not dead.
    pub live: u32,
    /// All paths.
    pub total: u32,
    /// A live path is worse than it should be.
    pub degraded: bool,
    /// What is wrong, in words; empty when nothing is. Cut to 200 characters.
    pub problem: String,
}

impl PathsSummary {
    /// Loss beyond which a path counts as degraded, in 1/1000 (design: states of a peer).
    const LOSS_PERMILLE_MAX: u32 = 20;

    /// Takes together what all own gateways report of their paths to one peer.
    pub fn of<'a>(reports: impl IntoIterator<Item = &'a PathReport>) -> Self {
        let mut summary = Self::default();
        for report in reports {
            summary.total = summary.total.saturating_add(1);
            let live = matches!(report.state, PathState::Live | PathState::Suspect | PathState::Draining);
            if live {
                summary.live = summary.live.saturating_add(1);
            }
            let worse = report.state == PathState::Suspect || report.loss_permille > Self::LOSS_PERMILLE_MAX;
            summary.degraded |= live && (worse || !report.problem.is_empty());
            if summary.problem.is_empty() {
                summary.problem.clone_from(&report.problem);
            }
        }
        summary
    }
}

/// What is known of a peer: its state for routing, and separately how fresh its catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// State, from the paths alone.
    pub state: PeerState,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub since: Instant,
    /// When its endpoints are withdrawn, if nothing answers until then; none: the lease does not run.
    pub lease_ends: Option<Instant>,
    /// Session in use.
    pub session: Option<SessionId>,
    /// When a message of it was last heard, in this process.
    pub heard_at: Option<Instant>,
    /// Position held of it; none: nothing.
    pub held: Option<Version>,
    /// Entries held of it.
    pub entries: usize,
    /// Digest over the entries held of it.
    pub digest: [u8; 32],
    /// A snapshot that is not yet complete is coming in.
    pub snapshot_open: bool,
    /// Its catalog was complete at least once.
    pub complete_once: bool,
    /// Differences of what is held of it that were found by a digest and repaired, in this process.
    pub repaired: u64,
    /// Greatest position of the own catalog that it was sent, in the life of this store; zero: none.
    pub given: Version,
    /// Position of the own catalog that it acknowledged, in this session.
    pub acknowledged: Option<Version>,
}

/// A linked site.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The link.
    pub link: PeerLink,
    /// The greatest position that it was sent out of this store; zero: none.
    pub given: Version,
    /// Position at which `link.offer` last changed: a peer that holds less gets a snapshot.
    pub offer_since: Revision,
    /// What is held of it.
    pub held: HeldCatalog,
    /// The session in use.
    pub session: Option<Session>,
    /// A second session, until it is known which of the two stays. Never more than one.
    pub rival: Option<Session>,
    /// When a message of it was last heard.
    pub heard_at: Option<Instant>,
    /// Differences that were repaired.
    pub repaired: u64,
    signal: LinkSignal,
}

/// State of the link to a peer, from its paths, and the lease.
#[derive(Debug)]
struct LinkSignal {
    state: PeerState,
    reason: String,
    since: Instant,
    /// From when the lease runs; only while `Unreachable`.
    lease_from: Option<Instant>,
}

/// A change of state.
#[derive(Debug)]
pub(crate) struct StateChange {
    pub from: PeerState,
    pub to: PeerState,
    pub reason: String,
}

impl Peer {
    pub fn new(
        link: PeerLink,
        held: HeldCatalog,
        given: Version,
        offer_since: Revision,
        now: Instant,
    ) -> Self {
        let signal = LinkSignal {
            state: PeerState::Unreachable,
            reason: "no path has answered since this process started".to_owned(),
            since: now,
            lease_from: Some(now),
        };
        Self {
            link,
            given,
            offer_since,
            held,
            session: None,
            rival: None,
            heard_at: None,
            repaired: 0,
            signal,
        }
    }

    pub fn state(&self) -> PeerState {
        self.signal.state
    }

    /// Takes in what the paths look like.
    pub fn handle_paths(&mut self, paths: &PathsSummary, now: Instant) -> Option<StateChange> {
        let (state, reason) = judge(paths);
        if state == PeerState::Unreachable && self.signal.state == PeerState::Expired {
            return None;
        }
        self.signal.enter(state, reason, now)
    }

    /// A message was heard: the lease starts anew, and what had expired is known again.
    pub fn handle_heard(&mut self, now: Instant) -> Option<StateChange> {
        self.heard_at = Some(now);
        match self.signal.state {
            PeerState::Unreachable => {
                self.signal.lease_from = Some(now);
                None
            }
            PeerState::Expired => {
                let reason = "its federation was heard, no path answers yet".to_owned();
                self.signal.enter(PeerState::Unreachable, reason, now)
            }
            PeerState::Connected | PeerState::Degraded | PeerState::Removed => None,
        }
    }

    /// When the lease runs out.
    pub fn lease_ends(&self, lease: Duration) -> Option<Instant> {
        self.signal.lease_from.map(|from| from + lease)
    }

    /// Expires the peer when its lease is over.
    pub fn check_lease(&mut self, lease: Duration, now: Instant) -> Option<StateChange> {
        if self.lease_ends(lease).is_none_or(|ends| now < ends) {
            return None;
        }
        let reason = format!("no path answered for the whole lease of {} s", lease.as_secs());
        self.signal.enter(PeerState::Expired, reason, now)
    }

    pub fn status(&self, lease: Duration) -> PeerStatus {
        let producer = self.session.as_ref().and_then(|session| session.producer.as_ref());
        PeerStatus {
            state: self.signal.state,
            reason: self.signal.reason.clone(),
            since: self.signal.since,
            lease_ends: self.lease_ends(lease),
            session: self.session.as_ref().map(|session| session.id),
            heard_at: self.heard_at,
            held: self.held.version(),
            entries: self.held.len(),
            digest: self.held.digest().bytes(),
            snapshot_open: self.held.snapshot_open(),
            complete_once: self.held.complete_once(),
            repaired: self.repaired,
            given: self.given,
            acknowledged: producer.and_then(|producer| producer.acknowledged()),
        }
    }
}

impl LinkSignal {
    fn enter(&mut self, state: PeerState, reason: String, now: Instant) -> Option<StateChange> {
        let from = self.state;
        self.reason = reason;
        if from == state {
            return None;
        }
        self.state = state;
        self.since = now;
        self.lease_from = (state == PeerState::Unreachable).then_some(now);
        Some(StateChange { from, to: state, reason: self.reason.clone() })
    }
}

/// State of a peer by its paths.
fn judge(paths: &PathsSummary) -> (PeerState, String) {
    let PathsSummary { live, total, degraded, .. } = *paths;
    let problem: String = paths.problem.chars().take(200).collect();
    let with = |text: String| if problem.is_empty() { text } else { format!("{text}: {problem}") };
    if total == 0 {
        (PeerState::Unreachable, with("there is no path to it".to_owned()))
    } else if live == 0 {
        (PeerState::Unreachable, with(format!("all {total} paths to it are dead")))
    } else if live < total {
        (PeerState::Degraded, with(format!("{} of {total} paths to it are dead", total - live)))
    } else if degraded {
        (PeerState::Degraded, with("loss or round trip is high".to_owned()))
    } else {
        (PeerState::Connected, format!("{live} of {total} paths answer"))
    }
}
