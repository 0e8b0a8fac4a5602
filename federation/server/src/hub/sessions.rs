//! Sessions with peers: who dials, through which gateway, and which sessions are open.

use super::{Hub, HubHandle, Input};
use crate::names::NodeId;
use crate::session;
use federation_core::session::{Dialled, SessionId};
use model::exchange::PeerMessage;
use model::ids::{GatewayName, SiteId};
use model::node::{CarrierTarget, FederationMessage};
use runtime::backoff::Backoff;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Messages that wait for a peer. The replicator sends at most 64 batches ahead of acknowledgements, and one of each
/// other kind.
pub(crate) const PEER_MESSAGES_MAX: usize = 256;
/// First and longest wait between attempts to reach a peer's federation.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// How long the side with the greater uid leaves dialling to the other.
const COURTESY: Duration = Duration::from_secs(2);

/// An open session.
#[derive(Debug)]
pub(super) struct SessionEntry {
    pub site: SiteId,
    pub to: mpsc::Sender<PeerMessage>,
    pub stop: CancellationToken,
    /// Something was said over it already, so that it may be kept alive.
    pub greeted: bool,
    /// Numbers of the own bundle and of the peer's that were last told over it.
    pub trust_told: Option<(u64, u64)>,
    /// A bundle of the peer was refused, and that was noted: one event for each session is enough.
    pub refusal_noted: bool,
}

impl SessionEntry {
    /// One over which nothing was said.
    pub fn new(site: SiteId, to: mpsc::Sender<PeerMessage>, stop: CancellationToken) -> Self {
        Self { site, to, stop, greeted: false, trust_told: None, refusal_noted: false }
    }
}

/// Attempts to reach the federation of one peer.
#[derive(Debug)]
pub(super) struct Dial {
    backoff: Backoff,
    next_at: Instant,
    running: bool,
    /// Why the last attempt failed.
    pub failed: Option<String>,
}

impl Hub {
    pub(super) fn session_up(
        &mut self,
        site: SiteId,
        session: SessionId,
        dialled: Dialled,
        entry: SessionEntry,
        now: Instant,
    ) {
        // Whoever talks to us trusts our certificate, so the link is active on the other side too.
        if let Err(denied) = self.confirmed(&site) {
            warn!(%site, %denied, "the link stays unconfirmed");
        }
        self.sessions.insert(session, entry);
        self.replicator.handle_session_up(&site, session, dialled, now);
        if let Some(dial) = self.dials.get_mut(&site) {
            dial.failed = None;
        }
    }

    pub(super) fn session_down(&mut self, site: &SiteId, session: SessionId, now: Instant) {
        self.sessions.remove(&session);
        self.partings.remove(&session);
        self.replicator.handle_session_down(site, session, now);
        if let Some(dial) = self.dials.get_mut(site) {
            dial.next_at = dial.next_at.max(now + BACKOFF.0);
        }
    }

    /// Ends a session, after what was already said over it.
    fn close_session(&mut self, session: SessionId) {
        if let Some(entry) = self.sessions.remove(&session) {
            entry.stop.cancel();
        }
    }

    pub(super) fn transmit(&mut self) {
        while let Some((site, session, message)) = self.replicator.poll_transmit() {
            let Some(entry) = self.sessions.get_mut(&session) else { continue };
            match entry.to.try_send(message) {
                Ok(()) => entry.greeted = true,
                Err(mpsc::error::TrySendError::Closed(_)) => debug!(%site, %session, "the session is ending"),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    warn!(%site, %session, "the peer does not read; the session is cut");
                    self.close_session(session);
                }
            }
        }
        self.tell_trust();
        for session in std::mem::take(&mut self.closing) {
            self.close_session(session);
        }
    }

    /// The number of a session that is being opened.
    pub fn new_session(&mut self) -> SessionId {
        self.next_session += 1;
        SessionId(self.next_session)
    }

    /// How others reach this hub; none while the process is leaving.
    fn handle_to_self(&self) -> Option<HubHandle> {
        Some(HubHandle {
            inputs: self.myself.upgrade()?,
            book: self.published.subscribe(),
            events: self.events.clone(),
            carriers: self.carriers.clone(),
            pki: self.pki.clone(),
            tally: self.tally.clone(),
        })
    }

    pub(super) fn tick_dials(&mut self, now: Instant) {
        self.dials.retain(|site, dial| dial.running || self.links.contains_key(site));
        let peers: Vec<SiteId> = self.replicator.peers().cloned().collect();
        for site in peers {
            let Some(link) = self.links.get(&site) else { continue };
            let wait = if self.site.uid < link.site.site().uid { Duration::ZERO } else { COURTESY };
            let talks = self.replicator.peer(&site).is_some_and(|peer| peer.session.is_some());
            let reachable = self.gateways_towards(Some(&site)).into_iter().find(|(_, live)| *live);
            let dial = self.dials.entry(site.clone()).or_insert_with(|| Dial {
                backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
                next_at: now + wait,
                running: false,
                failed: None,
            });
            if talks {
                dial.next_at = dial.next_at.max(now + wait);
                dial.backoff.reset();
                continue;
            }
            if dial.running || now < dial.next_at {
                continue;
            }
            match reachable {
                Some((gateway, _)) => self.dial(site, gateway),
                None => dial.next_at = dial.next_at.max(now),
            }
        }
    }

    fn dial(&mut self, site: SiteId, gateway: GatewayName) {
        let Some(hub) = self.handle_to_self() else { return };
        let Some(link) = self.links.get(&site) else { return };
        let trust_domain = link.site.site().trust_domain;
        let awaited = match self.carriers.expect(&gateway) {
            Ok(awaited) => awaited,
            Err(error) => return warn!(%error, "no carrier"),
        };
        let open = FederationMessage::OpenCarrier {
            carrier: awaited.carrier,
            target: CarrierTarget::Peer(site.clone()),
        };
        if !self.tell(&NodeId::Gateway(gateway), open) {
            return;
        }
        if let Some(dial) = self.dials.get_mut(&site) {
            dial.running = true;
        }
        self.runtime.spawn(async move {
            let failed = session::dial(&hub, site.clone(), trust_domain, awaited).await;
            let failed = failed.err().map(|error| format!("{error:#}"));
            // The hub may have ended meanwhile.
            let _ = hub.send(Input::DialEnded { site, failed }).await;
        });
    }

    pub(super) fn dial_ended(&mut self, site: &SiteId, failed: Option<String>, now: Instant) {
        let Some(dial) = self.dials.get_mut(site) else { return };
        dial.running = false;
        dial.next_at = now + dial.backoff.next_wait();
        if let Some(why) = &failed {
            debug!(%site, %why, "the peer's federation was not reached");
        }
        dial.failed = failed;
    }
}
