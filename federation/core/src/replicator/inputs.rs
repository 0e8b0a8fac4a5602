//! What goes in beside sessions: the own catalog, links, paths, time.

use super::*;

impl Replicator {
    /// A source of this site says how an entry is, or (none) that it is gone. While recovering, what is gone stays
    /// until that is over.
    ///
    /// # Errors
    /// [`OwnError`] when the value is none that peers would take; nothing is changed then.
    pub fn handle_own(&mut self, key: OwnKey, value: Option<OwnValue>, now: Instant) -> Result<(), OwnError> {
        match value {
            None if key == OwnKey::Site => return Err(OwnError::OtherSite),
            None => self.own.remove(key, now),
            Some(value) => {
                self.check_own(&key, &value)?;
                self.own.set(key, value, now);
            }
        }
        self.schedule_flush(now);
        Ok(())
    }

    fn check_own(&self, key: &OwnKey, value: &OwnValue) -> Result<(), OwnError> {
        let bad = |what| OwnError::BadValue { key: key.clone(), what };
        match (key, value) {
            (OwnKey::Site, OwnValue::Site(site)) => {
                let own = &self.identity;
                if site.id != own.id || site.uid != own.uid || site.trust_domain != own.trust_domain {
                    return Err(OwnError::OtherSite);
                }
                check::gateways(&site.gateways).map_err(bad)
            }
            (OwnKey::Service(_), OwnValue::Service(spec)) => check::spec(spec).map_err(bad),
            (OwnKey::Export(_), OwnValue::Export { .. }) => Ok(()),
            (OwnKey::Endpoint(_, id), OwnValue::Endpoint(endpoint)) if *id == endpoint.id => {
                check::endpoint(endpoint).map_err(bad)
            }
            (OwnKey::Endpoint(..), OwnValue::Endpoint(_)) => {
                Err(bad("the endpoint has another id than its key"))
            }
            (
                OwnKey::Site | OwnKey::Service(_) | OwnKey::Export(_) | OwnKey::Endpoint(..),
                OwnValue::Site(_) | OwnValue::Service(_) | OwnValue::Export { .. } | OwnValue::Endpoint(_),
            ) => Err(OwnError::WrongKind { key: key.clone() }),
        }
    }

    /// Every source has finished a full list, and every agent that the store or a peer knew has registered again or
    /// let its lease pass. The shell has, before this, removed (`handle_own` with none) what no source named. What
    /// was held back is removed, and snapshots may be complete. What the store holds of sites that were not linked by
    /// now is deleted.
    pub fn handle_recovered(&mut self, now: Instant) {
        if !self.own.is_recovering() {
            return;
        }
        self.own.recovered(now);
        for site in std::mem::take(&mut self.unclaimed_given).into_keys() {
            self.pending.insert(RecordKey::Given(site), None);
        }
        for (site, held) in std::mem::take(&mut self.unclaimed_held) {
            self.delete_held(&site, held.entries.into_keys());
        }
        self.flush(now);
    }

    pub(super) fn delete_held(&mut self, site: &SiteId, keys: impl Iterator<Item = EntryKey>) {
        self.pending.insert(RecordKey::HeldHead(site.clone()), None);
        for key in keys {
            self.pending.insert(RecordKey::Held(site.clone(), key), None);
        }
    }

    /// A site is linked, or its link has changed. At a start this is called for every linked site.
    pub fn handle_link(&mut self, link: PeerLink, now: Instant) {
        let site = link.site.clone();
        let same_site = self
            .peers
            .get(&site)
            .map(|peer| peer.link.uid == link.uid && peer.link.trust_domain == link.trust_domain);
        match same_site {
            Some(true) => self.change_link(link, now),
            Some(false) => {
                self.handle_unlink(&site, now);
                self.add_link(link, now);
            }
            None => self.add_link(link, now),
        }
        if self.own.is_unstored() {
            // The new offer and the position that it takes belong into one commit.
            self.flush(now);
        }
    }

    fn add_link(&mut self, link: PeerLink, now: Instant) {
        let site = link.site.clone();
        let given = self.unclaimed_given.remove(&site);
        let record = self.unclaimed_held.remove(&site).unwrap_or_default();
        let stored: Vec<EntryKey> = record.entries.keys().cloned().collect();
        let (held, dropped) = match HeldCatalog::restore(record, link.uid) {
            Some(mut held) => {
                let dropped = held.rescope(&link.want, link.view);
                (held, dropped)
            }
            None => (HeldCatalog::new(link.uid, link.want.clone(), link.view), Some(stored)),
        };
        let same_offer = given.as_ref().is_some_and(|given| given.offer == link.offer);
        // What the peer holds from before a new link or another offer is no base for changes.
        let offer_since = if same_offer { Revision(0) } else { self.own.skip_revision() };
        let version = given.map(|given| given.version).unwrap_or_default();
        let peer = Peer::new(link, held, version, offer_since, now);
        if !same_offer {
            self.store_given(&peer);
        }
        self.peers.insert(site.clone(), peer);
        if let Some(dropped) = dropped {
            self.store_head(&site);
            for key in dropped {
                self.pending.insert(RecordKey::Held(site.clone(), key), None);
            }
        }
        let shown: Vec<EntryKey> = self.held(&site).map(|(key, _)| key.clone()).collect();
        for key in shown {
            self.changed.insert((site.clone(), key), None);
        }
    }

    fn store_given(&mut self, peer: &Peer) {
        let given = Given { version: peer.given, offer: peer.link.offer.clone() };
        self.pending.insert(RecordKey::Given(peer.link.site.clone()), Some(RecordValue::Given(given)));
    }

    fn change_link(&mut self, link: PeerLink, now: Instant) {
        let site = link.site.clone();
        let Some(mut peer) = self.peers.remove(&site) else { return };
        let before = std::mem::replace(&mut peer.link, link);
        if before.offer != peer.link.offer {
            let producer = peer.session.as_mut().and_then(|session| session.producer.as_mut());
            if let Some(producer) = producer {
                for key in producer.reshared(&self.own, &before.offer, &peer.link.offer) {
                    producer.touch(key, self.own.skip_revision());
                }
            }
            // Also when no key changed: what is exported later is told by the new offer.
            peer.offer_since = self.own.skip_revision();
            self.store_given(&peer);
        }
        let dropped = peer.held.rescope(&peer.link.want, peer.link.view);
        self.peers.insert(site.clone(), peer);
        if let Some(dropped) = dropped {
            self.store_head(&site);
            let changes = dropped.into_iter().map(|key| (key, Some(Withdrawal::Scope))).collect();
            self.store_held(&site, changes);
            self.close_all(&site, &CloseCause::WantChanged, now);
        }
    }

    /// A person has unlinked a site: it is told, if it can be, and everything held of it is withdrawn at once.
    pub fn handle_unlink(&mut self, site: &SiteId, now: Instant) {
        if let Some(session) = self.peers.get(site).and_then(|peer| peer.session.as_ref()).map(|s| s.id) {
            self.farewell(site, session, PeerMessage::Unlinked);
        }
        self.close_all(site, &CloseCause::Unlinked, now);
        self.forget(site);
    }

    pub(super) fn forget(&mut self, site: &SiteId) {
        self.unclaimed_given.remove(site);
        let unclaimed = self.unclaimed_held.remove(site).unwrap_or_default();
        self.pending.insert(RecordKey::Given(site.clone()), None);
        let Some(peer) = self.peers.remove(site) else {
            self.delete_held(site, unclaimed.entries.into_keys());
            return;
        };
        for (key, _) in peer.held.iter() {
            // Also what had expired: a reader that keeps names deletes them by this.
            self.changed.insert((site.clone(), key.clone()), Some(Withdrawal::Unlink));
        }
        self.delete_held(site, peer.held.iter().map(|(key, _)| key.clone()));
        self.event(Event::PeerChanged {
            site: site.clone(),
            from: peer.state(),
            to: PeerState::Removed,
            reason: "the link was removed".to_owned(),
        });
    }

    /// What the own gateways see of the paths to a peer; to be called on each change and at least once in a lease.
    pub fn handle_paths(&mut self, site: &SiteId, paths: &PathsSummary, now: Instant) {
        let Some(peer) = self.peers.get_mut(site) else { return };
        if let Some(change) = peer.handle_paths(paths, now) {
            self.state_changed(site, change);
        }
    }

    /// Time has reached what [`poll_timeout`](Self::poll_timeout) announced. Calls at other times do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        let sites: Vec<SiteId> = self.peers.keys().cloned().collect();
        for site in &sites {
            if let Some(change) =
                self.peers.get_mut(site).and_then(|peer| peer.check_lease(self.settings.lease, now))
            {
                self.state_changed(site, change);
            }
            self.check_sessions(site, now);
        }
        if now >= self.digest_at {
            self.digest_at = now + self.settings.digest_interval;
            self.forget_tombstones(now);
            for site in &sites {
                let session = self.peers.get_mut(site).and_then(|peer| peer.session.as_mut());
                if let Some(producer) = session.and_then(|session| session.producer.as_mut()) {
                    producer.want_digest();
                }
                self.pump(site, now);
            }
        }
        if self.flush_at.is_some_and(|at| now >= at) {
            self.flush(now);
        }
    }
}
