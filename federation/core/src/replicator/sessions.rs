//! Sessions: which of two stays, who is a clone, and what messages do.

use super::*;

impl Replicator {
    /// A session with a site is up. The shell has proven that the other end belongs to the site's trust domain.
    ///
    /// Sessions that go up at the same time because both sides dialled are settled alike on both sides: the one that
    /// the lower uid dialled stays.
    pub fn handle_session_up(&mut self, site: &SiteId, session: SessionId, dialled: Dialled, now: Instant) {
        let own_uid = self.identity.uid;
        let Some(peer) = self.peers.get_mut(site) else {
            let reason = RefusedSession::NotLinked;
            self.farewell(site, session, PeerMessage::Refused { reason });
            self.event(Event::Close { site: site.clone(), session, why: CloseCause::NotLinked });
            return;
        };
        let newcomer = Session::new(session, dialled, now);
        let Some(first) = &peer.session else {
            peer.session = Some(newcomer);
            self.greet(site, now);
            return;
        };
        if first.incarnation.is_none() {
            let by_lower = |dialled| (dialled == Dialled::Here) == (own_uid < peer.link.uid);
            if first.dialled != dialled && by_lower(first.dialled) {
                self.event(Event::Close { site: site.clone(), session, why: CloseCause::Duplicate });
            } else {
                self.close_first(site, CloseCause::Duplicate);
                if let Some(peer) = self.peers.get_mut(site) {
                    peer.session = Some(newcomer);
                }
                self.greet(site, now);
            }
            return;
        }
        let before = peer.rival.replace(newcomer);
        if let Some(before) = before {
            self.event(Event::Close { site: site.clone(), session: before.id, why: CloseCause::Duplicate });
        }
        if dialled == Dialled::Here {
            self.greet_rival(site, now);
        }
    }

    /// A session has ended.
    pub fn handle_session_down(&mut self, site: &SiteId, session: SessionId, now: Instant) {
        let Some(peer) = self.peers.get_mut(site) else { return };
        if peer.rival.as_ref().is_some_and(|rival| rival.id == session) {
            peer.rival = None;
        } else if peer.session.as_ref().is_some_and(|first| first.id == session) {
            peer.session = None;
            peer.held.end_session();
            self.promote(site, now);
        }
    }

    /// A peer said something. What breaks the protocol is refused with the reason, ends the session, and changes
    /// nothing.
    pub fn handle_message(&mut self, site: &SiteId, session: SessionId, message: PeerMessage, now: Instant) {
        let known = self.peers.get(site).map(|peer| {
            let is = |known: &Option<Session>| known.as_ref().is_some_and(|known| known.id == session);
            (is(&peer.session), is(&peer.rival))
        });
        let outcome = match known {
            Some((true, _)) => self.handle_first(site, message, now),
            Some((_, true)) => self.handle_rival(site, message, now),
            // The peer's answer to the same word of ours.
            Some((false, false)) | None if message == PeerMessage::Unlinked => Ok(()),
            Some((false, false)) | None => Err(MessageError::UnknownSession),
        };
        if let Err(error) = outcome {
            self.refuse(site, session, error, now);
        }
    }

    fn refuse(&mut self, site: &SiteId, session: SessionId, error: MessageError, now: Instant) {
        self.counters.messages_refused += 1;
        let reason = match error {
            MessageError::WrongUid { .. } => RefusedSession::WrongUid,
            _ => RefusedSession::Protocol,
        };
        if error != MessageError::UnknownSession {
            self.farewell(site, session, PeerMessage::Refused { reason });
        }
        self.handle_session_down(site, session, now);
        self.event(Event::Close { site: site.clone(), session, why: CloseCause::Broken(error) });
    }

    fn handle_first(
        &mut self,
        site: &SiteId,
        message: PeerMessage,
        now: Instant,
    ) -> Result<(), MessageError> {
        let Some(peer) = self.peers.get_mut(site) else { return Ok(()) };
        let Some(first) = peer.session.as_mut() else { return Ok(()) };
        let (session, greeted) = (first.id, first.incarnation.is_some());
        match message {
            PeerMessage::Refused { reason } => {
                self.close_first(site, CloseCause::RefusedByPeer(reason));
                self.promote(site, now);
                return Ok(());
            }
            PeerMessage::Unlinked => {
                // So that the other side can say that it was heard.
                self.farewell(site, session, PeerMessage::Unlinked);
                self.close_all(site, &CloseCause::Unlinked, now);
                self.forget(site);
                self.event(Event::UnlinkedByPeer { site: site.clone() });
                return Ok(());
            }
            PeerMessage::Hello { .. } if greeted => return Err(MessageError::SecondHello),
            PeerMessage::Hello { uid, incarnation, held, scope, view } => {
                check_uid(uid, peer)?;
                self.handle_hello(site, incarnation, held, scope, view, now)?;
            }
            _ if !greeted => return Err(MessageError::BeforeHello),
            PeerMessage::Batch(batch) => self.handle_batch(site, batch, now)?,
            PeerMessage::Ack(version) => self.handle_ack(site, version, now)?,
            PeerMessage::Digest { version, digest } => self.handle_digest(site, version, digest, now),
            PeerMessage::Resync { reason } => self.handle_resync(site, reason, now),
            // Whom to trust is the shell's business.
            PeerMessage::KeepAlive | PeerMessage::Trust { .. } => {}
        }
        self.heard(site, now);
        Ok(())
    }

    /// A message of the session in use was taken: its peer lives, so a second process of it is a clone.
    fn heard(&mut self, site: &SiteId, now: Instant) {
        let Some(peer) = self.peers.get_mut(site) else { return };
        let change = peer.handle_heard(now);
        let kept = peer.session.as_mut().and_then(|first| {
            first.heard_at = now;
            first.incarnation
        });
        let clone = peer.rival.take_if(|rival| rival.waiting.is_some());
        if let Some(change) = change {
            self.state_changed(site, change);
        }
        let (Some(kept), Some(clone)) = (kept, clone) else { return };
        let Some(refused) = clone.incarnation else { return };
        self.counters.clones_refused += 1;
        self.farewell(site, clone.id, PeerMessage::Refused { reason: RefusedSession::Clone });
        self.event(Event::CloneRefused { site: site.clone(), kept, refused });
        self.event(Event::Close { site: site.clone(), session: clone.id, why: CloseCause::Clone });
    }

    fn handle_rival(
        &mut self,
        site: &SiteId,
        message: PeerMessage,
        now: Instant,
    ) -> Result<(), MessageError> {
        let Some(peer) = self.peers.get_mut(site) else { return Ok(()) };
        let first = peer.session.as_ref().and_then(|first| first.incarnation);
        let Some(rival) = peer.rival.as_mut() else { return Ok(()) };
        match message {
            PeerMessage::Refused { reason } => {
                let session = rival.id;
                peer.rival = None;
                let why = CloseCause::RefusedByPeer(reason);
                self.event(Event::Close { site: site.clone(), session, why });
                Ok(())
            }
            PeerMessage::Hello { .. } if rival.waiting.is_some() => Err(MessageError::SecondHello),
            PeerMessage::Hello { uid, incarnation, held, scope, view } => {
                rival.heard_at = now;
                rival.incarnation = Some(incarnation);
                rival.waiting = Some((PeerMessage::Hello { uid, incarnation, held, scope, view }, now));
                check_uid(uid, peer)?;
                if first == Some(incarnation) {
                    self.close_first(site, CloseCause::Duplicate);
                    self.promote(site, now);
                    self.heard(site, now);
                }
                Ok(())
            }
            PeerMessage::KeepAlive | PeerMessage::Trust { .. } if rival.waiting.is_some() => {
                rival.heard_at = now;
                Ok(())
            }
            // Not yet known to speak for the peer, so it cannot end the link; it ends itself.
            PeerMessage::Unlinked => {
                let session = rival.id;
                peer.rival = None;
                self.event(Event::Close { site: site.clone(), session, why: CloseCause::Unlinked });
                Ok(())
            }
            PeerMessage::KeepAlive
            | PeerMessage::Trust { .. }
            | PeerMessage::Batch(_)
            | PeerMessage::Ack(_)
            | PeerMessage::Digest { .. }
            | PeerMessage::Resync { .. } => Err(MessageError::BeforeHello),
        }
    }

    /// The second session becomes the first, if there is one. That is no sign of life: its `Hello` may be old.
    fn promote(&mut self, site: &SiteId, now: Instant) {
        let Some(peer) = self.peers.get_mut(site) else { return };
        if peer.session.is_some() {
            return;
        }
        let Some(mut rival) = peer.rival.take() else { return };
        let session = rival.id;
        let hello = rival.waiting.take();
        rival.incarnation = None;
        let greeted = rival.greeted;
        peer.session = Some(rival);
        if !greeted {
            self.greet(site, now);
        }
        if let Some((PeerMessage::Hello { incarnation, held, scope, view, .. }, _)) = hello
            && let Err(error) = self.handle_hello(site, incarnation, held, scope, view, now)
        {
            self.refuse(site, session, error, now);
        }
    }

    /// Says hello in the session of a peer.
    fn greet(&mut self, site: &SiteId, now: Instant) {
        let Some(hello) = self.hello(site) else { return };
        self.send(site, hello, now);
        if let Some(first) = self.peers.get_mut(site).and_then(|peer| peer.session.as_mut()) {
            first.greeted = true;
        }
    }

    fn greet_rival(&mut self, site: &SiteId, now: Instant) {
        let Some(hello) = self.hello(site) else { return };
        if let Some(rival) = self.peers.get_mut(site).and_then(|peer| peer.rival.as_mut()) {
            rival.greeted = true;
            rival.spoke_at = now;
            rival.push(hello, 0);
        }
    }

    fn hello(&self, site: &SiteId) -> Option<PeerMessage> {
        let peer = self.peers.get(site)?;
        Some(PeerMessage::Hello {
            uid: self.identity.uid,
            incarnation: self.incarnation,
            held: peer.held.held(),
            scope: peer.link.want.clone(),
            view: peer.link.view,
        })
    }

    fn handle_hello(
        &mut self,
        site: &SiteId,
        incarnation: Incarnation,
        held: Option<Held>,
        scope: Scope,
        view: View,
        now: Instant,
    ) -> Result<(), MessageError> {
        let own = self.own.version();
        if let Some(held) = held
            && held.version.epoch.0 > own.epoch.0.saturating_add(EPOCH_LEAD_MAX)
        {
            return Err(MessageError::WildEpoch { said: held.version.epoch.0, own: own.epoch.0 });
        }
        let Some(peer) = self.peers.get_mut(site) else { return Ok(()) };
        let mut producer = Producer::new(&self.own, scope, view, held, peer.offer_since);
        let found = held.and_then(|held| {
            let cause = judge(&held, peer, &self.own, &producer)?;
            Some((cause, held.version.epoch))
        });
        if let Some((why, seen)) = found {
            self.raise(site, seen, why);
            producer.restart(&self.own);
        }
        let first = self.peers.get_mut(site).and_then(|peer| peer.session.as_mut());
        if let Some(first) = first {
            first.incarnation = Some(incarnation);
            first.producer = Some(producer);
        }
        if found.is_some() {
            self.flush(now)
        } else {
            self.pump(site, now)
        }
        Ok(())
    }

    /// Takes an epoch that is greater than any that was seen.
    fn raise(&mut self, site: &SiteId, seen: Epoch, why: RaiseCause) {
        let from = self.own.version().epoch;
        let to = Epoch(from.max(seen).0 + 1);
        self.own.raise(to);
        self.counters.epochs_raised += 1;
        self.event(Event::EpochRaised { site: site.clone(), from, to, why });
    }

    fn handle_batch(
        &mut self,
        site: &SiteId,
        batch: model::exchange::Batch,
        now: Instant,
    ) -> Result<(), MessageError> {
        let Some(peer) = self.peers.get_mut(site) else { return Ok(()) };
        let limit = self.settings.window_batches;
        if peer.session.as_ref().is_some_and(|first| first.acks_queued >= limit) {
            return Err(MessageError::WindowExceeded { limit });
        }
        let expected = Expected {
            site,
            uid: peer.link.uid,
            trust_domain: &peer.link.trust_domain,
            scope: &peer.link.want,
        };
        let checked = check::batch(batch, &expected, &self.settings)?;
        let head_before = peer.held.held();
        let applied = peer.held.apply(checked, &self.settings)?;
        let (version, entries) = (peer.held.version(), peer.held.len());
        peer.repaired += u64::from(applied.repaired);
        let head_moved = head_before != peer.held.held() || applied.complete;
        self.counters.batches_applied += 1;
        self.store_held(site, applied.changes);
        if head_moved {
            self.store_head(site);
        }
        let version = version.unwrap_or_default();
        self.send(site, PeerMessage::Ack(version), now);
        if let Some(reason) = applied.resync {
            self.send(site, PeerMessage::Resync { reason: reason.to_owned() }, now);
        }
        if applied.complete {
            self.counters.snapshots_complete += 1;
            self.event(Event::SnapshotComplete { site: site.clone(), version, entries });
        }
        if applied.repaired {
            self.counters.digests_repaired += 1;
            self.event(Event::DigestRepaired { site: site.clone(), version });
        }
        Ok(())
    }

    fn handle_ack(&mut self, site: &SiteId, version: Version, now: Instant) -> Result<(), MessageError> {
        let first = self.peers.get_mut(site).and_then(|peer| peer.session.as_mut());
        let Some(producer) = first.and_then(|first| first.producer.as_mut()) else { return Ok(()) };
        producer.handle_ack(version)?;
        self.pump(site, now);
        Ok(())
    }

    fn handle_digest(&mut self, site: &SiteId, version: Version, digest: [u8; 32], now: Instant) {
        let Some(peer) = self.peers.get_mut(site) else { return };
        match peer.held.compare(version, digest) {
            Comparison::Same | Comparison::NotNow => {}
            Comparison::Differs => {
                self.counters.digests_differed += 1;
                self.event(Event::DigestDiffered { site: site.clone(), version });
                let reason = format!(
                    "the digest differs at epoch {} revision {}",
                    version.epoch.0, version.revision.0
                );
                self.send(site, PeerMessage::Resync { reason }, now);
            }
        }
    }

    fn handle_resync(&mut self, site: &SiteId, reason: String, now: Instant) {
        let first = self.peers.get_mut(site).and_then(|peer| peer.session.as_mut());
        let Some(producer) = first.and_then(|first| first.producer.as_mut()) else { return };
        producer.handle_resync(&self.own);
        let reason = reason.chars().take(200).collect();
        self.event(Event::ResyncAsked { site: site.clone(), reason });
        self.pump(site, now);
    }

    /// Ends the session in use; a second one stays what it is.
    fn close_first(&mut self, site: &SiteId, why: CloseCause) {
        let Some(peer) = self.peers.get_mut(site) else { return };
        let Some(first) = peer.session.take() else { return };
        peer.held.end_session();
        self.event(Event::Close { site: site.clone(), session: first.id, why });
    }

    pub(super) fn close_all(&mut self, site: &SiteId, why: &CloseCause, _now: Instant) {
        self.close_first(site, why.clone());
        if let Some(rival) = self.peers.get_mut(site).and_then(|peer| peer.rival.take()) {
            self.event(Event::Close { site: site.clone(), session: rival.id, why: why.clone() });
        }
    }

    /// Keeps sessions alive, closes silent ones, and lets a second session take over from a silent first.
    pub(super) fn check_sessions(&mut self, site: &SiteId, now: Instant) {
        let (silence, contest, keepalive) = (self.settings.silence, self.contest(), self.settings.keepalive);
        let Some(peer) = self.peers.get_mut(site) else { return };
        if let Some(rival) = peer.rival.take_if(|rival| now >= rival.heard_at + silence) {
            self.event(Event::Close { site: site.clone(), session: rival.id, why: CloseCause::Silent });
        }
        let Some(peer) = self.peers.get_mut(site) else { return };
        let contested = peer
            .rival
            .as_ref()
            .and_then(|rival| rival.waiting.as_ref())
            .is_some_and(|(_, since)| now >= *since + contest);
        let silent = peer.session.as_ref().is_some_and(|first| now >= first.heard_at + silence);
        if contested || silent {
            self.close_first(site, CloseCause::Silent);
            self.promote(site, now);
        }
        let after_commit = self.commits + u64::from(!self.pending.is_empty());
        let Some(peer) = self.peers.get_mut(site) else { return };
        for session in peer.session.iter_mut().chain(peer.rival.iter_mut()) {
            if session.greeted && now >= session.spoke_at + keepalive {
                session.spoke_at = now;
                session.push(PeerMessage::KeepAlive, after_commit);
            }
        }
    }
}

fn check_uid(said: model::ids::SiteUid, peer: &Peer) -> Result<(), MessageError> {
    let pinned = peer.link.uid;
    if said == pinned { Ok(()) } else { Err(MessageError::WrongUid { said, pinned }) }
}

/// Whether what a peer holds of the own catalog could not have come from this store.
fn judge(held: &Held, peer: &Peer, own: &OwnCatalog, producer: &Producer) -> Option<RaiseCause> {
    if held.version.epoch < own.version().epoch {
        return None;
    }
    if held.version > peer.given {
        return Some(RaiseCause::Ahead);
    }
    let comparable =
        producer.follows() && producer.is_unchanged_since(own, &peer.link.offer, held.version.revision);
    let differs = comparable && producer.digest_of(own, &peer.link.offer) != held.digest;
    differs.then_some(RaiseCause::Differs)
}
