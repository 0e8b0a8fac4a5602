//! The oracles at work: each event, commit and state is judged by rules that know nothing of how the core works.

use super::World;
use crate::oracle::{self, Entries, Violation};
use crate::truth;
use federation_core::event::{CloseCause, Event, RaiseCause, Withdrawal};
use federation_core::store::{Commit, HeldHead, RecordKey, RecordValue};
use model::catalog::{EntryKey, EntryValue};
use model::routing::PeerState;
use std::time::Duration;

impl World {
    /// Notes that a rule was broken; the first counts.
    pub(super) fn violate(&mut self, rule: &'static str, what: String) {
        self.note(|| format!("VIOLATION {rule}: {what}"));
        self.violation.get_or_insert(Violation { rule, what });
    }

    fn violate_if(&mut self, outcome: Result<(), Violation>, site: usize, origin: usize) {
        if let Err(Violation { rule, what }) = outcome {
            let (site, origin) = (truth::site_name(site), truth::site_name(origin));
            self.violate(rule, format!("at {site}, of {origin}: {what}"));
        }
    }

    pub(super) fn judge_event(&mut self, site: usize, event: Event) {
        self.note(|| format!("{} ! {event:?}", truth::site_name(site)));
        self.saw_event(&event);
        match event {
            Event::Applied { site: origin, key } => {
                let origin = self.number(&origin);
                self.judge_applied(site, origin, key);
            }
            Event::Withdrawn { site: origin, key, cause } => {
                let origin = self.number(&origin);
                self.judge_withdrawn(site, origin, key, cause);
            }
            Event::LeaseExpired { site: peer, .. } => {
                let peer = self.number(&peer);
                let dead_for = self.now.duration_since(self.probes.path_seen(site, peer));
                if dead_for < self.settings.lease {
                    self.violate("no lease runs out early", format!("dead for {dead_for:?} only"));
                }
            }
            Event::EpochRaised { site: peer, why, .. } => {
                let peer = self.number(&peer);
                let state = &self.sites[site];
                let known = state.tampered || state.unlinked.contains(&peer);
                if why == RaiseCause::Differs || !known {
                    let site = truth::site_name(site);
                    self.violate("no epoch is taken without cause", format!("{site} took one: {why}"));
                }
            }
            Event::Close { session, why, .. } => {
                self.mix(5, session.0);
                if let CloseCause::Broken(error) = &why {
                    let site = truth::site_name(site);
                    self.violate("the cores keep their own protocol", format!("at {site}: {error}"));
                }
                self.close_end(session, site);
            }
            Event::UnlinkedByPeer { site: peer } => {
                let peer = self.number(&peer);
                self.sites[site].unlinked.insert(peer);
                self.forget_link(site, peer);
            }
            Event::DigestDiffered { site: ref peer, .. } | Event::ResyncAsked { site: ref peer, .. } => {
                let peer = self.number(peer);
                if !self.both_tampered(site, peer) {
                    let site = truth::site_name(site);
                    self.violate(
                        "both sides hold the same at the same position",
                        format!("{site}: {event:?}"),
                    );
                }
            }
            Event::EventsLost { .. } => self.violate("no event is lost", format!("{event:?}")),
            Event::PeerChanged { .. }
            | Event::SnapshotComplete { .. }
            | Event::CloneRefused { .. }
            | Event::DigestRepaired { .. } => {}
        }
    }

    fn judge_applied(&mut self, site: usize, origin: usize, key: EntryKey) {
        self.mix(6, origin as u64);
        let process = self.sites[site].process.as_ref();
        let value = process.and_then(|p| p.held_entry(&self.names[origin], &key)).cloned();
        let Some(value) = value else {
            return self.violate("an event says what is", format!("{key:?} was applied and is not held"));
        };
        let before = self.sites[site].known.insert((origin, key.clone()), value.clone());
        // A value that was there before is only shown again.
        if let Some(sent_at) = self.delivered_by(origin).filter(|_| before.as_ref() != Some(&value)) {
            let sampled = self.sites[site].disk.sampled.insert((origin, key.clone()), sent_at);
            let outcome = match &value {
                EntryValue::Group(group) => {
                    self.histories[&(origin, site)].check_group(&key, group.total, before.as_ref(), sampled)
                }
                EntryValue::Site(_) | EntryValue::Export(_) | EntryValue::Endpoint(_) => {
                    self.said[origin].check_value(&key, &value, before.as_ref(), sampled)
                }
            };
            self.violate_if(outcome, site, origin);
        }
        self.sites[site].mirror.entry(origin).or_default().insert(key, value);
    }

    fn judge_withdrawn(&mut self, site: usize, origin: usize, key: EntryKey, cause: Withdrawal) {
        self.mix(7, origin as u64);
        let mirrored = self.sites[site].mirror.entry(origin).or_default().remove(&key);
        if cause != Withdrawal::Lease {
            self.sites[site].known.remove(&(origin, key.clone()));
        }
        match cause {
            Withdrawal::Tombstone | Withdrawal::Snapshot => {
                let sent_at = self.delivered_by(origin);
                let sampled = match sent_at {
                    Some(sent_at) => self.sites[site].disk.sampled.insert((origin, key.clone()), sent_at),
                    None => None,
                };
                if sent_at.is_none() {
                    self.violate("nothing is removed without cause", format!("{key:?} without a message"));
                }
                let outcome = self.histories[&(origin, site)].check_withdrawn(&key, sampled);
                self.violate_if(outcome, site, origin);
            }
            Withdrawal::Lease => {
                let is_detail = matches!(key, EntryKey::Group(..) | EntryKey::Endpoint(..));
                if !is_detail || self.state(site, origin) != Some(PeerState::Expired) {
                    self.violate("nothing is removed without cause", format!("{key:?} by a lease"));
                }
            }
            Withdrawal::Unlink => {
                let told = self.delivered_by(origin).is_some();
                if self.sites[site].links.contains_key(&origin) && !told {
                    self.violate("nothing is removed without cause", format!("{key:?} by unlink"));
                }
            }
            Withdrawal::Scope => {
                let wants = self.sites[site].links.get(&origin).map(|terms| &terms.want);
                if key.service().is_none_or(|name| wants.is_none_or(|want| want.contains(name))) {
                    self.violate("nothing is removed without cause", format!("{key:?} by scope"));
                }
            }
        }
        let expected = cause != Withdrawal::Unlink && cause != Withdrawal::Scope;
        if mirrored.is_none() && expected {
            self.violate("an event says what is", format!("{key:?} was withdrawn and was not there"));
        }
    }

    /// With both stores restored nobody knows better what was said, until a digest differs and a snapshot repairs it.
    fn both_tampered(&self, a: usize, b: usize) -> bool {
        self.sites[a].tampered && self.sites[b].tampered
    }

    /// When the message that is being delivered was sent, if it is of this peer.
    fn delivered_by(&self, peer: usize) -> Option<std::time::Instant> {
        self.delivering.filter(|(from, _)| *from == peer).map(|(_, sent_at)| sent_at)
    }

    fn state(&self, site: usize, peer: usize) -> Option<PeerState> {
        let process = self.sites[site].process.as_ref()?;
        process.peer_state(&self.names[peer])
    }

    /// States follow the paths, and leases run out when they should.
    pub(super) fn judge_state(&mut self, site: usize, peer: usize) {
        let (Some(state), Some(told)) = (self.state(site, peer), self.probes.told(site, peer)) else {
            return;
        };
        let silent_for = self.now.duration_since(self.probes.last_heard(site, peer));
        let wrong = match state {
            PeerState::Connected | PeerState::Degraded => told.live == 0,
            PeerState::Unreachable => {
                told.live > 0 || silent_for > self.settings.lease + Duration::from_secs(1)
            }
            PeerState::Expired => told.live > 0,
            PeerState::Removed => true,
        };
        if wrong {
            let (site, peer) = (truth::site_name(site), truth::site_name(peer));
            let told = format!("{peer} is {state} at {site}, {told:?}, silent for {silent_for:?}");
            self.violate("the state of a peer follows its paths", told);
        }
    }

    /// Positions only go forward.
    pub(super) fn judge_commit(&mut self, site: usize, commit: &Commit) {
        for record in &commit.records {
            match (&record.key, &record.value) {
                (RecordKey::OwnVersion, Some(RecordValue::OwnVersion(version))) => {
                    let before = self.sites[site].disk.store.version;
                    if before.is_some_and(|before| *version <= before) {
                        let what = format!("own position from {before:?} to {version:?}");
                        self.violate("no position goes backward", what);
                    }
                }
                (RecordKey::HeldHead(origin), Some(RecordValue::HeldHead(head))) => {
                    let before = self.sites[site].disk.store.held.get(origin).and_then(|h| h.head.clone());
                    if let Some(before) = before
                        && !follows(&before, head)
                        && !self.both_tampered(site, self.number(origin))
                    {
                        let what = format!("of {origin} from {before:?} to {head:?}");
                        self.violate("no position goes backward, no revision is applied twice", what);
                    }
                }
                _ => {}
            }
        }
    }

    /// Everything that could grow is bounded.
    pub(super) fn judge_bounds(&mut self, site: usize) {
        let Some(process) = &self.sites[site].process else { return };
        if !self.steps.is_multiple_of(16) {
            return;
        }
        let backlog = process.backlog();
        let peers = self.sites.len() - 1;
        let keys = usize::from(truth::SERVICES) * (3 + 2 * usize::from(truth::ENDPOINTS)) + 2;
        let good = backlog.records <= keys
            && backlog.messages == 0
            && backlog.events == 0
            && backlog.changes == 0
            && backlog.in_flight <= peers * self.settings.window_batches
            && backlog.staged <= peers * keys
            && backlog.tombstones <= 2 * (self.settings.tombstones_max + keys)
            && backlog.private <= 8 * keys;
        // Batches and acknowledgements by the windows, and a few of each other kind.
        let stalled = self.streams.values().map(|stream| stream.stalled()).max().unwrap_or(0);
        if !good || stalled > 2 * (2 * self.settings.window_batches + 16) {
            self.violate("memory is bounded", format!("{backlog:?}, {stalled} items wait in one stream"));
        }
    }

    /// The first way in which the world has not converged.
    pub fn difference(&self) -> Option<Violation> {
        let rule = "catalogs converge";
        let differs = |what: String| Some(Violation { rule, what });
        for (site, state) in self.sites.iter().enumerate() {
            let name = truth::site_name(site);
            let Some(process) = &state.process else { return differs(format!("{name} is down")) };
            if process.is_recovering() {
                return differs(format!("{name} is recovering"));
            }
            let own = process.own().map(|(key, value)| (key.clone(), value.clone())).collect();
            if state.truth != own {
                return differs(format!(
                    "{name} says of itself\n{own:#?}\nits sources say\n{:#?}",
                    state.truth
                ));
            }
            for peer in 0..self.sites.len() {
                let Some(expected) = (peer != site).then(|| self.expected(peer, site)).flatten() else {
                    continue;
                };
                let peer_name = truth::site_name(peer);
                let held: Entries = process
                    .held(&peer_name)
                    .map(|(key, value): (&EntryKey, &EntryValue)| (key.clone(), value.clone()))
                    .collect();
                let (is, should) = (oracle::text(&held), oracle::text(&expected));
                if is != should {
                    return differs(format!("{name} holds of {peer_name}\n{is}\nand should\n{should}"));
                }
                let mirror = state.mirror.get(&peer).cloned().unwrap_or_default();
                if mirror != held {
                    return differs(format!("{name}: events said of {peer_name}\n{}", oracle::text(&mirror)));
                }
                let status = process.peer(&peer_name)?;
                if status.state != PeerState::Connected || !status.complete_once || status.snapshot_open {
                    return differs(format!("{peer_name} at {name}: {status:?}"));
                }
            }
        }
        None
    }
}

/// Whether one head may come after another. The digest of nothing stands for a catalog that is not whole.
fn follows(before: &HeldHead, after: &HeldHead) -> bool {
    let whole = before.digest != [0; 32] && after.digest != [0; 32];
    let same = (&before.scope, before.view, before.digest) == (&after.scope, after.view, after.digest);
    after.version > before.version || (after.version == before.version && (!whole || same))
}
