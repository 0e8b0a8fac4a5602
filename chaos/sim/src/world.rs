//! The world: sites on a fabric, in virtual time.

use crate::chance;
use crate::fabric::{Carries, Fabric, Fault, Packet, Verdict};
use crate::oracle::{self, History, Violation};
use crate::site::{Site, Terms};
use crate::stream::{Item, Stream, StreamEvent};
use crate::transition::{CrashPoint, Transition};
use crate::truth::{self, Change};
use federation_core::Replicator;
use federation_core::peer::{PathsSummary, PeerLink};
use federation_core::session::{Dialled, SessionId};
use federation_core::settings::Settings;
use model::catalog::{Scope, View};
use model::exchange::PeerMessage;
use model::ids::SiteId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

mod faults;
mod judge;
mod probes;
mod processes;
mod seen;

pub use probes::Probes;
pub use seen::REACHED;

/// The world.
#[derive(Debug)]
pub struct World {
    /// Now.
    pub now: Instant,
    /// When it began.
    pub start: Instant,
    /// Its sites.
    pub sites: Vec<Site>,
    /// The first rule that was broken; the world stops then.
    pub violation: Option<Violation>,
    /// What happened, in words; filled only when asked for.
    pub log: Option<Vec<String>>,
    /// Changes with everything that happens: equal for equal seeds.
    pub trace: u64,
    /// Things that happened.
    pub steps: u64,
    /// How often each kind of thing happened that a run is to reach.
    pub seen: BTreeMap<&'static str, u64>,
    pub(crate) names: Vec<SiteId>,
    pub(crate) streams: BTreeMap<SessionId, Stream>,
    pub(crate) next_session: u64,
    settings: Settings,
    seed: u64,
    fabric: Fabric,
    /// Faults of transitions, until one heals them.
    faults: Vec<Fault>,
    queue: BTreeMap<(Instant, u64), Happening>,
    queued: u64,
    probes: Probes,
    /// What each peer was to hold of each site: (origin, consumer).
    histories: BTreeMap<(usize, usize), History>,
    /// What the sources of each site said.
    said: Vec<History>,
    /// The message that is being delivered: who sent it, and when.
    delivering: Option<(usize, Instant)>,
    dials: fastrand::Rng,
    relists: fastrand::Rng,
    incarnations: fastrand::Rng,
}

/// What the queue holds.
#[derive(Debug)]
enum Happening {
    Stream(StreamEvent),
    Dial(usize, usize),
    Probe,
    Relist(usize, u64),
    Boot(usize, u64),
}

impl World {
    /// A world of sites that are all linked with each other, with empty stores, everything up.
    pub fn new(seed: u64, sites: usize, settings: Settings) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            start: now,
            sites: (0..sites).map(|site| Site::new(site, sites)).collect(),
            violation: None,
            log: None,
            trace: seed,
            steps: 0,
            seen: BTreeMap::new(),
            names: (0..sites).map(truth::site_name).collect(),
            streams: BTreeMap::new(),
            next_session: 1,
            settings,
            seed,
            fabric: Fabric::new(seed, sites),
            faults: Vec::new(),
            queue: BTreeMap::new(),
            queued: 0,
            probes: Probes::new(sites, now),
            histories: BTreeMap::new(),
            said: (0..sites).map(|_| History::default()).collect(),
            delivering: None,
            dials: chance::child(seed, "dials", 0),
            relists: chance::child(seed, "relists", 0),
            incarnations: chance::child(seed, "incarnations", 0),
        };
        for site in 0..sites {
            world.update_histories(site);
            world.boot(site);
            for peer in (0..sites).filter(|peer| *peer != site) {
                world.schedule_dial(site, peer);
            }
        }
        world.schedule(now, Happening::Probe);
        world
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        if self.fabric.heal() {
            self.release_stalled();
        }
        while self.violation.is_none() {
            let timer = self.next_timer();
            let happening = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = [timer.map(|(at, _)| at), happening].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.steps += 1;
            self.now = self.now.max(next);
            if happening == Some(next) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            } else if let Some((_, site)) = timer {
                self.mix(1, site as u64);
                let now = self.now;
                if let Some(process) = &mut self.sites[site].process {
                    process.handle_timeout(now);
                }
                self.drain(site);
            }
        }
        self.now = self.now.max(end);
    }

    /// Something happens.
    pub fn apply(&mut self, transition: &Transition) {
        self.note(|| format!("{transition:?}"));
        match transition.clone() {
            Transition::Change { site, change } => self.change(site, &change),
            Transition::Backup { site } => self.sites[site].backup = Some(self.sites[site].disk.clone()),
            Transition::Restart { site, down_ms, silent } => {
                self.kill(site, Duration::from_millis(down_ms), silent);
            }
            Transition::Crash { site, point, down_ms } => {
                self.sites[site].crash = Some((point, Duration::from_millis(down_ms)));
            }
            Transition::LoseStore { site, down_ms } => {
                self.kill(site, Duration::from_millis(down_ms), false);
                self.sites[site].disk = Default::default();
                self.sites[site].tampered = true;
            }
            Transition::RestoreBackup { site, down_ms } => {
                if let Some(backup) = self.sites[site].backup.clone() {
                    self.kill(site, Duration::from_millis(down_ms), false);
                    self.sites[site].disk = backup;
                    self.sites[site].tampered = true;
                }
            }
            Transition::Offer { site, peer, scope } => {
                self.relink(site, peer, |terms| terms.offer = truth::scope(scope));
            }
            Transition::Want { site, peer, scope, endpoints } => self.relink(site, peer, |terms| {
                terms.want = truth::scope(scope);
                terms.view = if endpoints { View::Endpoints } else { View::Summary };
            }),
            Transition::Unlink { site, peer } => self.unlink(site, peer),
            Transition::Relink { a, b } => {
                self.link(a, b);
                self.link(b, a);
            }
            Transition::Cut { .. }
            | Transition::CutOneWay { .. }
            | Transition::CutPath { .. }
            | Transition::Isolate { .. }
            | Transition::Lossy { .. }
            | Transition::Slow { .. }
            | Transition::Heal { .. }
            | Transition::Reset { .. } => self.apply_fault(transition),
        }
    }

    /// The sources of a site say something else.
    pub fn change(&mut self, site: usize, change: &Change) {
        let (key, value) = truth::change_of(site, change);
        match &value {
            Some(value) => drop(self.sites[site].truth.insert(key.clone(), value.clone())),
            None => drop(self.sites[site].truth.remove(&key)),
        }
        self.update_histories(site);
        let now = self.now;
        if let Some(process) = &mut self.sites[site].process {
            process.handle_own(key, value, now).expect("the world says only what is valid");
        }
        self.drain(site);
    }

    /// Changes what a site has agreed with a peer.
    pub fn relink(&mut self, site: usize, peer: usize, change: impl FnOnce(&mut Terms)) {
        let Some(terms) = self.sites[site].links.get_mut(&peer) else { return };
        change(terms);
        self.tell_link(site, peer);
        self.update_histories(site);
        self.update_histories(peer);
        self.drain(site);
    }

    fn link(&mut self, site: usize, peer: usize) {
        let terms = Terms { offer: Scope::All, want: Scope::All, view: View::Summary };
        self.sites[site].links.entry(peer).or_insert(terms);
        self.tell_link(site, peer);
        self.update_histories(site);
        self.update_histories(peer);
        self.drain(site);
    }

    fn unlink(&mut self, site: usize, peer: usize) {
        if self.sites[site].links.remove(&peer).is_none() {
            return;
        }
        self.sites[site].unlinked.insert(peer);
        let now = self.now;
        if let Some(process) = &mut self.sites[site].process {
            process.handle_unlink(&self.names[peer], now);
        }
        self.drain(site);
        self.forget_link(site, peer);
    }

    fn forget_link(&mut self, site: usize, peer: usize) {
        self.sites[site].links.remove(&peer);
        self.sites[site].disk.sampled.retain(|(origin, _), _| *origin != peer);
        self.update_histories(site);
        self.update_histories(peer);
    }

    fn tell_link(&mut self, site: usize, peer: usize) {
        let Some(terms) = self.sites[site].links.get(&peer) else { return };
        let info = truth::site_info(peer, 0);
        let link = PeerLink {
            site: info.id,
            uid: info.uid,
            trust_domain: info.trust_domain,
            offer: terms.offer.clone(),
            want: terms.want.clone(),
            view: terms.view,
        };
        let now = self.now;
        if let Some(process) = &mut self.sites[site].process {
            if process.peer(&link.site).is_none() {
                self.probes.forget_told(site, peer, now);
            }
            process.handle_link(link, now);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Stream(event) => self.handle_stream(event),
            Happening::Dial(from, to) => {
                self.dial(from, to);
                self.schedule_dial(from, to);
            }
            Happening::Probe => {
                self.probe();
                self.schedule(self.now + probes::INTERVAL, Happening::Probe);
            }
            Happening::Relist(site, life) if self.sites[site].life == life => self.relist(site),
            Happening::Boot(site, life) if self.sites[site].life == life => self.boot(site),
            Happening::Relist(..) | Happening::Boot(..) => {}
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at, self.queued), happening);
    }

    pub(crate) fn schedule_stream(&mut self, at: Instant, event: StreamEvent) {
        self.schedule(at, Happening::Stream(event));
    }

    fn schedule_dial(&mut self, from: usize, to: usize) {
        let pause = Duration::from_millis(self.dials.u64(300..2_500));
        self.schedule(self.now + pause, Happening::Dial(from, to));
    }

    pub(crate) fn route(&mut self, from: usize, to: usize, carries: Carries) -> Option<Duration> {
        self.fabric.route(&Packet { from, to, carries })
    }

    fn next_timer(&self) -> Option<(Instant, usize)> {
        let timer = |(site, state): (usize, &Site)| Some((state.process.as_ref()?.poll_timeout()?.0, site));
        self.sites.iter().enumerate().filter_map(timer).min()
    }

    pub(crate) fn session_up(&mut self, site: usize, peer: usize, id: SessionId, dialled: Dialled) {
        self.mix(2, id.0);
        let now = self.now;
        if let Some(process) = &mut self.sites[site].process {
            process.handle_session_up(&self.names[peer], id, dialled, now);
        }
        self.drain(site);
    }

    pub(crate) fn session_down(&mut self, site: usize, peer: usize, id: SessionId) {
        self.mix(3, id.0);
        let now = self.now;
        if let Some(process) = &mut self.sites[site].process {
            process.handle_session_down(&self.names[peer], id, now);
        }
        self.drain(site);
    }

    pub(crate) fn message(
        &mut self,
        site: usize,
        peer: usize,
        id: SessionId,
        message: PeerMessage,
        sent_at: Instant,
    ) {
        self.mix(4, id.0 << 4 | kind(&message));
        self.saw_message(&message);
        self.note(|| {
            let (site, peer) = (truth::site_name(site), truth::site_name(peer));
            format!("{site} <- {peer} [{id}] {message:?}")
        });
        let now = self.now;
        if !matches!(message, PeerMessage::Refused { .. }) {
            self.probes.heard(site, peer, now);
        }
        self.delivering = Some((peer, sent_at));
        if let Some(process) = &mut self.sites[site].process {
            process.handle_message(&self.names[peer], id, message, now);
        }
        self.drain(site);
        self.delivering = None;
    }

    /// Carries out what the core of a site wants, in the order that its contract names.
    pub(crate) fn drain(&mut self, site: usize) {
        loop {
            let Some(process) = &mut self.sites[site].process else { return };
            let commit = process.poll_persist();
            let last = commit.is_none();
            if let Some(commit) = commit {
                let crash = self.sites[site].crash;
                if let Some((CrashPoint::BeforeCommit, down)) = crash {
                    self.saw("crash before a commit");
                    self.kill(site, down, false);
                    return;
                }
                self.judge_commit(site, &commit);
                for record in commit.records {
                    self.sites[site].disk.store.apply(record).expect("the core stores what belongs together");
                }
                if let Some((CrashPoint::BeforeTransmit, down)) = crash {
                    self.saw("crash between commit and message");
                    self.kill(site, down, false);
                    return;
                }
            }
            while let Some((to, id, message)) =
                self.sites[site].process.as_mut().and_then(Replicator::poll_transmit)
            {
                let to = self.number(&to);
                let Some(stream) = self.streams.get(&id) else { continue };
                let end = stream.end_of(site);
                if stream.open[end] && stream.ends[1 - end] == to {
                    let item = Item::Message(Box::new(message), self.now);
                    self.send_item(id, 1 - end, item);
                }
            }
            while let Some(event) = self.sites[site].process.as_mut().and_then(Replicator::poll_event) {
                self.judge_event(site, event);
            }
            if last {
                break;
            }
        }
        self.judge_bounds(site);
    }

    /// Adds a rule to the network; it lasts as long as the fault that is returned.
    #[must_use = "the fault heals when this is dropped"]
    pub fn fault(&mut self, rule: impl Fn(&Packet, &mut fastrand::Rng) -> Verdict + 'static) -> Fault {
        self.fabric.add(rule)
    }

    /// Lets time pass until the world has converged; panics with the difference when it does not within `most`.
    pub fn converge(&mut self, most: Duration) {
        let end = self.now + most;
        loop {
            if let Some(violation) = &self.violation {
                panic!("{violation}");
            }
            let Some(difference) = self.difference() else { return };
            assert!(self.now < end, "after {most:?}: {difference}");
            self.run_for(Duration::from_millis(100));
        }
    }

    /// All faults of transitions are over.
    pub fn heal_all(&mut self) {
        self.faults.clear();
        self.fabric.heal();
        self.release_stalled();
    }

    fn tell_paths(&mut self, site: usize, peer: usize, paths: &PathsSummary) {
        let now = self.now;
        if let Some(process) = &mut self.sites[site].process {
            process.handle_paths(&self.names[peer], paths, now);
        }
        self.drain(site);
    }

    /// Brings the histories up to date of what peers are to hold of a site.
    fn update_histories(&mut self, origin: usize) {
        self.said[origin].update(self.now, oracle::said(&self.sites[origin].truth));
        for consumer in 0..self.sites.len() {
            if consumer == origin {
                continue;
            }
            let projected = self.expected(origin, consumer).unwrap_or_default();
            self.histories.entry((origin, consumer)).or_default().update(self.now, projected);
        }
    }

    /// What a site is to hold of another; none: they are not linked both ways.
    pub fn expected(&self, origin: usize, consumer: usize) -> Option<oracle::Entries> {
        let offers = self.sites[origin].links.get(&consumer)?;
        let wants = self.sites[consumer].links.get(&origin)?;
        Some(oracle::project(&self.sites[origin].truth, &offers.offer, &wants.want, wants.view))
    }

    /// Number of a site by its name.
    fn number(&self, name: &SiteId) -> usize {
        self.names.iter().position(|known| known == name).expect("cores speak only of linked sites")
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn mix(&mut self, kind: u64, detail: u64) {
        let elapsed = u64::try_from(self.now.duration_since(self.start).as_micros()).unwrap_or(u64::MAX);
        for word in [elapsed, kind, detail] {
            self.trace = (self.trace ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let elapsed = self.now.duration_since(self.start);
            log.push(format!("{:>9.3} s  {}", elapsed.as_secs_f64(), text()));
        }
    }
}

fn kind(message: &PeerMessage) -> u64 {
    match message {
        PeerMessage::Hello { .. } => 0,
        PeerMessage::Batch(batch) => 8 | u64::from(batch.snapshot) | u64::from(batch.complete) << 1,
        PeerMessage::Ack(_) => 1,
        PeerMessage::Digest { .. } => 2,
        PeerMessage::Resync { .. } => 3,
        PeerMessage::Refused { .. } => 4,
        PeerMessage::KeepAlive => 5,
        PeerMessage::Unlinked => 6,
        PeerMessage::Trust { .. } => 7,
    }
}
