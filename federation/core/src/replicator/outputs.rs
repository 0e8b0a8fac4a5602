//! What comes out: records, messages, events, the next wake-up; and the ways in which they are queued.

use super::*;

impl Replicator {
    /// The next commit. It is to be durable before the next call of [`poll_transmit`](Self::poll_transmit).
    pub fn poll_persist(&mut self) -> Option<Commit> {
        if self.pending.is_empty() {
            return None;
        }
        self.commits += 1;
        let pending = std::mem::take(&mut self.pending);
        Some(Commit { records: pending.into_iter().map(|(key, value)| Record { key, value }).collect() })
    }

    /// The next message to send, to which session of which peer, in the order of each session.
    ///
    /// Messages whose commit was not yet handed out by [`poll_persist`](Self::poll_persist) wait.
    pub fn poll_transmit(&mut self) -> Option<(SiteId, SessionId, PeerMessage)> {
        if let Some(farewell) = self.farewells.pop_front() {
            return Some(farewell);
        }
        let commits = self.commits;
        self.peers.iter_mut().find_map(|(site, peer)| {
            [&mut peer.session, &mut peer.rival].into_iter().flatten().find_map(|session| {
                let message = session.pop(commits)?;
                Some((site.clone(), session.id, message))
            })
        })
    }

    /// The next event. Changes of entries come first, so that a reader has them all when it hears that a snapshot is
    /// complete.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(((site, key), cause)) = self.changed.pop_first() {
            return Some(match cause {
                None => Event::Applied { site, key },
                Some(cause) => Event::Withdrawn { site, key, cause },
            });
        }
        if self.events_lost > 0 {
            let count = std::mem::take(&mut self.events_lost);
            return Some(Event::EventsLost { count });
        }
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, and why. Every `handle_*` may change it.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let mut next: Option<(Instant, &'static str)> = None;
        let mut consider = |at: Instant, why| {
            if next.is_none_or(|(earliest, _)| at < earliest) {
                next = Some((at, why));
            }
        };
        if let Some(at) = self.flush_at {
            consider(at, "gathered changes are stored and told");
        }
        for peer in self.peers.values() {
            if let Some(at) = peer.lease_ends(self.settings.lease) {
                consider(at, "the lease of a peer runs out");
            }
            for session in peer.session.iter().chain(&peer.rival) {
                consider(session.heard_at + self.settings.silence, "a session is silent");
                if session.greeted {
                    consider(session.spoke_at + self.settings.keepalive, "a session is kept alive");
                }
                if let Some((_, since)) = &session.waiting {
                    consider(*since + self.contest(), "a second session takes over from a silent one");
                }
            }
            if peer.session.is_some() {
                consider(self.digest_at, "digests are compared");
            }
        }
        next
    }

    /// How long a second live process of a peer waits for the first to show that it lives.
    pub(super) fn contest(&self) -> Duration {
        self.settings.keepalive * 2
    }

    pub(super) fn schedule_flush(&mut self, now: Instant) {
        if self.own.is_unstored() {
            self.flush_at.get_or_insert(now + self.settings.coalesce);
        }
    }

    /// Stores and tells what was gathered.
    pub(super) fn flush(&mut self, now: Instant) {
        self.flush_at = None;
        for record in self.own.store() {
            self.pending.insert(record.key, record.value);
        }
        self.forget_tombstones(now);
        let sites: Vec<SiteId> = self.peers.keys().cloned().collect();
        for site in sites {
            self.pump(&site, now);
        }
    }

    pub(super) fn forget_tombstones(&mut self, now: Instant) {
        let before = now.checked_sub(self.settings.tombstone_horizon);
        self.own.forget_tombstones(before, self.settings.tombstones_max);
    }

    /// Makes messages for a peer as far as its window goes. While changes wait to be stored, the flush will do it.
    pub(super) fn pump(&mut self, site: &SiteId, now: Instant) {
        if self.own.is_unstored() {
            return;
        }
        let Some(peer) = self.peers.get_mut(site) else { return };
        let Some(session) = peer.session.as_mut() else { return };
        let Some(mut producer) = session.producer.take() else { return };
        while let Some(message) = producer.next(&self.own, &peer.link.offer, &self.settings) {
            if let PeerMessage::Batch(batch) = &message {
                self.counters.batches_made += 1;
                if batch.version > peer.given {
                    peer.given = batch.version;
                    let given = Given { version: peer.given, offer: peer.link.offer.clone() };
                    self.pending.insert(RecordKey::Given(site.clone()), Some(RecordValue::Given(given)));
                }
            }
            let after_commit = self.commits + u64::from(!self.pending.is_empty());
            session.push(message, after_commit);
            session.spoke_at = now;
        }
        session.producer = Some(producer);
    }

    /// Queues a message for the session of a peer, behind what is to be stored.
    pub(super) fn send(&mut self, site: &SiteId, message: PeerMessage, now: Instant) {
        let after_commit = self.commits + u64::from(!self.pending.is_empty());
        if let Some(session) = self.peers.get_mut(site).and_then(|peer| peer.session.as_mut()) {
            session.push(message, after_commit);
            session.spoke_at = now;
        }
    }

    pub(super) fn farewell(&mut self, site: &SiteId, session: SessionId, message: PeerMessage) {
        if self.farewells.len() >= FAREWELLS_MAX {
            self.farewells.pop_front();
        }
        self.farewells.push_back((site.clone(), session, message));
    }

    pub(super) fn event(&mut self, event: Event) {
        if self.events.len() >= self.settings.events_max {
            self.events.pop_front();
            self.events_lost += 1;
        }
        self.events.push_back(event);
    }

    /// Says that the state of a peer changed, and with it what readers see of its entries.
    pub(super) fn state_changed(&mut self, site: &SiteId, change: StateChange) {
        let Some(peer) = self.peers.get(site) else { return };
        let mut withdrawn = 0;
        if change.from == PeerState::Expired || change.to == PeerState::Expired {
            let cause = (change.to == PeerState::Expired).then_some(Withdrawal::Lease);
            for (key, _) in peer.held.iter().filter(|(key, _)| !is_shown(PeerState::Expired, key)) {
                self.changed.insert((site.clone(), key.clone()), cause);
                withdrawn += 1;
            }
        }
        let StateChange { from, to, reason } = change;
        self.event(Event::PeerChanged { site: site.clone(), from, to, reason });
        if to == PeerState::Expired {
            self.event(Event::LeaseExpired { site: site.clone(), withdrawn });
        }
    }

    /// Stores the head of what is held of a peer.
    pub(super) fn store_head(&mut self, site: &SiteId) {
        let Some(peer) = self.peers.get(site) else { return };
        let head = peer.held.head_record().map(RecordValue::HeldHead);
        self.pending.insert(RecordKey::HeldHead(site.clone()), head);
    }

    /// Stores entries of a peer that changed, and tells readers.
    pub(super) fn store_held(&mut self, site: &SiteId, changes: BTreeMap<EntryKey, Option<Withdrawal>>) {
        let Some(peer) = self.peers.get(site) else { return };
        for (key, cause) in changes {
            let value = peer.held.entry(&key).cloned().map(RecordValue::Held);
            self.pending.insert(RecordKey::Held(site.clone(), key.clone()), value);
            if is_shown(peer.state(), &key) {
                self.changed.insert((site.clone(), key), cause);
            }
        }
    }
}
