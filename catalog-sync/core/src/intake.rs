//! The core: hears sources, and says what the site's own catalog becomes.

mod sources;
mod tell;

use crate::check;
use crate::claims::{Claims, EndpointKey, Touched};
use crate::event::{Cause, Conflict, Event};
use crate::refused::Refused;
use crate::source::{Session, SourceConfig, SourceId, SourceState, SourceStatus};
use model::catalog::{OwnKey, OwnValue, ServiceSpec};
use model::endpoint::Endpoint;
use model::node::{Instance, SourceChange, SourceEvent};
use model::service::ServiceName;
use sources::{List, Source};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Bounds and times of the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most sources. Default 4 096: a large site with an agent on each host.
    pub sources: usize,
    /// Most endpoints that one source claims. Default 4 096.
    pub instances_per_source: usize,
    /// Most endpoints that all sources claim together. Default 65 536.
    pub instances: usize,
    /// Least time between two changes of one key. The first change is told at once, those that follow within this time
    /// become one. Default 20 ms: a fifth of what a change may take to be routed in another site.
    pub coalesce: Duration,
    /// How much longer than its lease allows a source with restored endpoints may be silent before these are
    /// Unhealthy, since it has to connect anew. Default 15 s: one long wait between two attempts.
    pub restored_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sources: 4_096,
            instances_per_source: 4_096,
            instances: 65_536,
            coalesce: Duration::from_millis(20),
            restored_grace: Duration::from_secs(15),
        }
    }
}

/// What a store holds from before a restart, as [`crate::event::Change`] told it, in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Services, with whose description stands.
    pub services: Vec<(ServiceName, ServiceSpec, SourceId)>,
    /// Endpoints, with their owner.
    pub endpoints: Vec<(ServiceName, Endpoint, SourceId)>,
}

/// What was told under a key.
#[derive(Debug)]
struct Published {
    value: OwnValue,
    owner: SourceId,
    at: Instant,
}

/// A key whose value may have changed, and has not been told.
#[derive(Debug)]
struct Dirty {
    due: (Instant, u8),
    cause: Cause,
}

/// The intake of a site: composes the claims of all sources with the lease of each into the site's own catalog.
///
/// Nothing in it is random, so it needs no seed. Its outputs are kept by key, not in a queue: however fast sources
/// talk and however slowly the shell polls, what waits is bounded by the number of keys, and the newest value counts.
#[derive(Debug)]
pub struct Intake {
    limits: Limits,
    /// Time of the latest input.
    now: Instant,
    /// Registered sources, at most `limits.sources`.
    sources: BTreeMap<SourceId, Source>,
    /// What they claim, at most `limits.instances`.
    claims: Claims,
    /// What was told, and not since told to be gone. At most one per claimed key, beside those about to go.
    published: BTreeMap<OwnKey, Published>,
    /// Keys to look at again; at most one entry per key.
    dirty: BTreeMap<OwnKey, Dirty>,
    /// The same, by the time when they are due.
    due: BTreeSet<(Instant, u8, OwnKey)>,
    /// Conflicts that were told and are not over: by key, each loser with the winner. At most one per claim.
    conflicts: BTreeMap<OwnKey, BTreeMap<SourceId, SourceId>>,
    /// Sources whose state may have changed.
    moved: BTreeSet<SourceId>,
    /// Events of the key that was looked at last; at most two per source.
    out: VecDeque<Event>,
    recovered: bool,
    recovered_told: bool,
}

impl Intake {
    /// Starts with what is known: the sources, and what a store holds of them.
    ///
    /// A restored endpoint whose owner is not among `sources` is kept for one default lease, as if its owner were
    /// an agent that is silent. Restored values are taken as told: they come out as changes only when they change.
    pub fn new(
        limits: Limits,
        sources: Vec<(SourceId, SourceConfig)>,
        restored: Restored,
        now: Instant,
    ) -> Self {
        let mut intake = Self {
            limits,
            now,
            sources: BTreeMap::new(),
            claims: Claims::default(),
            published: BTreeMap::new(),
            dirty: BTreeMap::new(),
            due: BTreeSet::new(),
            conflicts: BTreeMap::new(),
            moved: BTreeSet::new(),
            out: VecDeque::new(),
            recovered: false,
            recovered_told: false,
        };
        for (id, config) in sources {
            intake.sources.insert(id, Source::new(config, now));
        }
        intake.restore(restored);
        intake.update_recovered();
        intake
    }

    fn restore(&mut self, restored: Restored) {
        let specs: BTreeMap<ServiceName, (ServiceSpec, SourceId)> =
            restored.services.into_iter().map(|(name, spec, owner)| (name, (spec, owner))).collect();
        for (service, endpoint, owner) in restored.endpoints {
            let key = OwnKey::Endpoint(service.clone(), endpoint.id.clone());
            let published =
                Published { value: OwnValue::Endpoint(endpoint.clone()), owner: owner.clone(), at: self.now };
            self.published.insert(key.clone(), published);
            let Some((spec, _)) = specs.get(&service) else {
                // Without its service an endpoint means nothing: it goes until its owner says both.
                self.touch(key, &Cause::Orphaned(owner));
                continue;
            };
            let (limits, now) = (self.limits, self.now);
            let source = self.sources.entry(owner.clone()).or_insert_with(|| Source::stranger(now));
            source.restored(&limits);
            source.instances.insert((service.clone(), endpoint.id.clone()));
            self.claims.put(&owner, &service, spec, &endpoint);
        }
        for (service, (spec, owner)) in specs {
            self.claims.prefer(&owner, &service);
            let key = OwnKey::Service(service.clone());
            let published = Published { value: OwnValue::Service(spec), owner: owner.clone(), at: self.now };
            self.published.insert(key.clone(), published);
            if self.claims.service(&service).is_none() {
                self.touch(key, &Cause::Orphaned(owner));
            }
        }
    }

    /// Registers a source, or changes what it may say. Endpoints outside a narrower scope are withdrawn.
    ///
    /// # Errors
    /// [`Refused::TooManySources`].
    pub fn register(&mut self, id: SourceId, config: SourceConfig, now: Instant) -> Result<(), Refused> {
        self.advance(now);
        if let Some(source) = self.sources.get_mut(&id) {
            let narrowed = source.config.scope != config.scope;
            source.config = config;
            if narrowed {
                self.withdraw_outside_scope(&id);
            }
            return Ok(());
        }
        if self.sources.len() >= self.limits.sources {
            return Err(Refused::TooManySources { source_id: id, max: self.limits.sources });
        }
        let mut source = Source::new(config, now);
        source.awaited &= !self.recovered;
        self.moved.insert(id.clone());
        self.sources.insert(id, source);
        Ok(())
    }

    /// Removes a source with all that it claims: the word of a person, or a registration that was revoked.
    pub fn forget(&mut self, id: &SourceId, now: Instant) {
        self.advance(now);
        self.withdraw_all(id, &Cause::Forgotten(id.clone()));
        self.sources.remove(id);
        self.moved.remove(id);
        self.update_recovered();
    }

    /// A source has connected. Earlier connections of it are stale from here on; what it said over them stands.
    ///
    /// # Errors
    /// [`Refused::UnknownSource`].
    pub fn handle_source_open(&mut self, id: &SourceId, now: Instant) -> Result<Session, Refused> {
        self.advance(now);
        let source =
            self.sources.get_mut(id).ok_or_else(|| Refused::UnknownSource { source_id: id.clone() })?;
        let number = source.open();
        self.moved.insert(id.clone());
        Ok(Session { source: id.clone(), number })
    }

    /// A connection of a source has ended. Nothing is removed: its lease runs on.
    pub fn handle_source_gone(&mut self, session: &Session, now: Instant) {
        self.advance(now);
        let Some(source) = self.sources.get_mut(&session.source) else { return };
        if source.session == Some(session.number) {
            source.close();
            self.moved.insert(session.source.clone());
        }
    }

    /// A source says something.
    ///
    /// # Errors
    /// Why it was not taken. A refused element of a full list leaves the rest of the list good, and protects what
    /// the source said earlier under the same key from being missing in the list.
    pub fn handle_source_event(
        &mut self,
        session: &Session,
        event: SourceEvent,
        now: Instant,
    ) -> Result<(), Refused> {
        self.advance(now);
        let id = &session.source;
        let source =
            self.sources.get_mut(id).ok_or_else(|| Refused::UnknownSource { source_id: id.clone() })?;
        source.take_sequence(id, session.number, &event)?;
        match event.change {
            SourceChange::Init => source.list = List::Open(BTreeSet::new()),
            SourceChange::InitApply(instance) => {
                source.need_open_list(id)?;
                self.apply(id, &instance)?;
            }
            SourceChange::InitDone => self.finish_list(id)?,
            SourceChange::Apply(instance) => {
                source.need_list(id)?;
                self.apply(id, &instance)?;
            }
            SourceChange::Delete(service, endpoint) => {
                source.need_list(id)?;
                check::namespace(id, &source.config.scope, &service)?;
                self.withdraw(id, &(service, endpoint), &Cause::Deleted(id.clone()));
            }
            SourceChange::Renew => source.need_complete(id)?,
        }
        self.heard(id);
        Ok(())
    }

    /// Time has reached what [`Self::poll_timeout`] announced.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        let (mut silent, mut gone) = (Vec::new(), Vec::new());
        for (id, source) in &self.sources {
            match source.lease_state(now) {
                SourceState::Gone if !source.gone => gone.push(id.clone()),
                SourceState::Silent if !source.silent => silent.push(id.clone()),
                _ => {}
            }
        }
        for id in silent {
            if let Some(source) = self.sources.get_mut(&id) {
                source.silent = true;
            }
            self.touch_all(&id, &Cause::Silent(id.clone()));
        }
        for id in gone {
            self.withdraw_all(&id, &Cause::Lapsed(id.clone()));
            if let Some(source) = self.sources.get_mut(&id) {
                source.lapse();
            }
            self.moved.insert(id);
        }
        self.update_recovered();
    }

    /// When [`Self::handle_timeout`] has to be called, and why. Any `handle_…`, `register`, `forget` and
    /// [`Self::poll_event`] may change the answer.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let change = self.due.first().map(|(due, ..)| (*due, "a coalesced change is due"));
        let lease = self.next_lease_deadline().map(|due| (due, "the lease of a source runs out"));
        change.into_iter().chain(lease).min()
    }

    /// The next thing to do or to note, as of the time of the latest input.
    ///
    /// Of changes due at one time, services that appear come before endpoints, and services that go come after them.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Some(event);
            }
            if let Some(due) = self.due.first().filter(|(due, ..)| *due <= self.now).cloned() {
                self.due.remove(&due);
                let dirty = self.dirty.remove(&due.2).expect("what is due is dirty");
                self.tell(due.2, dirty.cause);
            } else if let Some(id) = self.moved.pop_first() {
                self.tell_state(id);
            } else if self.recovered && !self.recovered_told {
                self.recovered_told = true;
                return Some(Event::Recovered);
            } else {
                return None;
            }
        }
    }

    /// Whether every source that was waited for has completed a full list, or let its lease run out. Never taken back.
    pub fn all_complete(&self) -> bool {
        self.recovered
    }

    /// Where every source stands, ordered by id.
    pub fn sources(&self) -> impl Iterator<Item = SourceStatus> {
        self.sources.iter().map(|(id, source)| SourceStatus {
            source: id.clone(),
            state: source.state(),
            instances: source.instances.len(),
            holds_up_recovery: source.awaited,
            silent_for: self.now.saturating_duration_since(source.heard),
        })
    }

    /// Conflicts that last, ordered by key.
    pub fn conflicts(&self) -> impl Iterator<Item = Conflict> {
        self.conflicts.iter().flat_map(|(key, losers)| {
            losers.iter().map(|(loser, winner)| Conflict {
                key: key.clone(),
                winner: winner.clone(),
                loser: loser.clone(),
            })
        })
    }

    /// What was told of the site's own catalog so far, ordered by key, with the owner of each.
    pub fn catalog(&self) -> impl Iterator<Item = (&OwnKey, &OwnValue, &SourceId)> {
        self.published.iter().map(|(key, published)| (key, &published.value, &published.owner))
    }
}

impl Intake {
    /// Takes the time of an input, and lets all leases begin again when nobody was there to hear renewals.
    fn advance(&mut self, now: Instant) {
        /// A timeout that is served later than this shows that this process, not the source, stood still.
        const STALL: Duration = Duration::from_secs(1);
        if let Some(deadline) = self.next_lease_deadline() {
            let late = now.saturating_duration_since(deadline);
            if late > STALL {
                self.sources.values_mut().for_each(|source| source.heard = now);
            }
        }
        self.now = self.now.max(now);
    }

    fn next_lease_deadline(&self) -> Option<Instant> {
        self.sources.values().filter_map(Source::next_deadline).min()
    }

    /// Any word of a source renews its lease.
    fn heard(&mut self, id: &SourceId) {
        let Some(source) = self.sources.get_mut(id) else { return };
        let was_silent = source.renew(self.now);
        self.moved.insert(id.clone());
        if was_silent {
            self.touch_all(id, &Cause::Back(id.clone()));
        }
    }

    fn apply(&mut self, id: &SourceId, instance: &Instance) -> Result<(), Refused> {
        let source =
            self.sources.get_mut(id).ok_or_else(|| Refused::UnknownSource { source_id: id.clone() })?;
        let key: EndpointKey = (instance.service.clone(), instance.endpoint.id.clone());
        // Before the checks: a new value that is refused leaves the old one, which the list has not denied.
        source.note_listed(&key);
        check::instance(id, &source.config.scope, instance)?;
        if !self.claims.has(id, &key) {
            if source.instances.len() >= self.limits.instances_per_source {
                let max = self.limits.instances_per_source;
                return Err(Refused::TooManyInstances { source_id: id.clone(), max });
            }
            if self.claims.count() >= self.limits.instances {
                return Err(Refused::SiteFull { max: self.limits.instances });
            }
            source.instances.insert(key.clone());
            source.note_listed(&key);
        }
        let touched = self.claims.put(id, &instance.service, &instance.spec, &instance.endpoint);
        self.touch_claim(key, touched, &Cause::Said(id.clone()));
        Ok(())
    }

    fn finish_list(&mut self, id: &SourceId) -> Result<(), Refused> {
        let source =
            self.sources.get_mut(id).ok_or_else(|| Refused::UnknownSource { source_id: id.clone() })?;
        let listed = source.complete_list(id)?;
        let missing: Vec<EndpointKey> = source.instances.difference(&listed).cloned().collect();
        for key in missing {
            self.withdraw(id, &key, &Cause::NotListed(id.clone()));
        }
        self.update_recovered();
        Ok(())
    }

    fn withdraw(&mut self, id: &SourceId, key: &EndpointKey, cause: &Cause) {
        let Some(touched) = self.claims.remove(id, key) else { return };
        if let Some(source) = self.sources.get_mut(id) {
            source.drop_instance(key);
        }
        self.touch_claim(key.clone(), touched, cause);
    }

    fn withdraw_all(&mut self, id: &SourceId, cause: &Cause) {
        let Some(source) = self.sources.get_mut(id) else { return };
        for key in std::mem::take(&mut source.instances) {
            self.withdraw(id, &key, cause);
        }
    }

    fn withdraw_outside_scope(&mut self, id: &SourceId) {
        let Some(source) = self.sources.get(id) else { return };
        let outside: Vec<EndpointKey> = source
            .instances
            .iter()
            .filter(|key| {
                let reach = self.claims.reach(id, key);
                check::namespace(id, &source.config.scope, &key.0).is_err()
                    || reach.is_some_and(|reach| !check::reach_allowed(&source.config.scope, reach))
            })
            .cloned()
            .collect();
        for key in outside {
            self.withdraw(id, &key, &Cause::OutOfScope(id.clone()));
        }
    }

    fn touch_all(&mut self, id: &SourceId, cause: &Cause) {
        self.moved.insert(id.clone());
        let Some(source) = self.sources.get(id) else { return };
        for (service, endpoint) in source.instances.clone() {
            self.touch(OwnKey::Endpoint(service, endpoint), cause);
        }
    }

    fn touch_claim(&mut self, key: EndpointKey, touched: Touched, cause: &Cause) {
        if touched.service {
            self.touch(OwnKey::Service(key.0.clone()), cause);
        }
        if touched.endpoint {
            self.touch(OwnKey::Endpoint(key.0, key.1), cause);
        }
    }

    fn update_recovered(&mut self) {
        self.recovered |= self.sources.values().all(|source| !source.awaited);
    }
}
