//! A bench for the intake: sources by number, short words for what they say, and the catalog as it was told.

#![allow(dead_code, clippy::expect_used)]

use model::catalog::{OwnKey, OwnValue, ServiceSpec};
use model::endpoint::{Endpoint, Health, Reach};
use model::node::{Instance, SourceChange, SourceEvent};
use model::service::{AppProtocol, PortKey, ServiceKind, ServiceName, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use sync_core::event::{Change, Conflict, Event};
use sync_core::intake::{Intake, Limits, Restored};
use sync_core::refused::Refused;
use sync_core::source::{Session, SourceConfig, SourceId};

/// Some point in time to count from; the core itself asks no clock.
#[allow(clippy::disallowed_methods)]
pub fn start() -> Instant {
    Instant::now()
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn service(name: &str) -> ServiceName {
    name.parse().expect("valid")
}

/// A service with one port of this number; two numbers are two specs that contradict each other.
pub fn spec(port: u16) -> ServiceSpec {
    let port = ServicePort { key: PortKey::tcp(port), name: None, app: AppProtocol::Tcp, retry_safe: false };
    ServiceSpec { ports: vec![port], kind: ServiceKind::ClusterSetIp, declared_total: None }
}

pub fn agent(host: &str) -> SourceId {
    SourceId::Agent(host.parse().expect("valid"))
}

pub fn files() -> SourceId {
    SourceId::Connector("files".parse().expect("valid"))
}

pub fn config(source: &SourceId, namespaces: Option<&[&str]>) -> SourceConfig {
    let namespaces: Option<BTreeSet<_>> =
        namespaces.map(|of| of.iter().map(|name| name.parse().expect("valid")).collect());
    match source {
        SourceId::Agent(host) => SourceConfig::agent(host.clone(), namespaces),
        SourceId::Connector(_) => SourceConfig::connector(),
    }
}

/// What `source` would say of an endpoint: reached as it may be, on the port of the spec.
pub fn instance(source: &SourceId, name: &str, id: &str, port: u16, weight: u32) -> Instance {
    let reach = match source {
        SourceId::Agent(host) => Reach::Agent(host.clone()),
        SourceId::Connector(_) => Reach::Direct([10, 0, 0, 1].into()),
    };
    let endpoint = Endpoint {
        id: id.parse().expect("valid"),
        locality: "eu/fra".parse().expect("valid"),
        network: "net".parse().expect("valid"),
        subset: Default::default(),
        weight,
        health: Health::Healthy,
        reach,
        ports: BTreeMap::from([(PortKey::tcp(port), 8080)]),
        hostname: None,
    };
    Instance { service: service(name), spec: spec(port), endpoint }
}

/// The intake, its clock, one connection per source, and the catalog as a shell would have it stored.
pub struct Bench {
    pub intake: Intake,
    pub now: Instant,
    pub sessions: BTreeMap<SourceId, (Session, u64)>,
    pub catalog: BTreeMap<OwnKey, (OwnValue, SourceId)>,
    pub conflicts: BTreeSet<Conflict>,
    pub changes: Vec<Change>,
    pub recovered: u32,
}

impl Bench {
    pub fn new(sources: &[(SourceId, SourceConfig)], restored: Restored) -> Self {
        Self::with(Limits::default(), sources, restored)
    }

    pub fn with(limits: Limits, sources: &[(SourceId, SourceConfig)], restored: Restored) -> Self {
        let now = start();
        let mut catalog = BTreeMap::new();
        for (name, spec, owner) in &restored.services {
            let value = OwnValue::Service(spec.clone());
            catalog.insert(OwnKey::Service(name.clone()), (value, owner.clone()));
        }
        for (name, endpoint, owner) in &restored.endpoints {
            let key = OwnKey::Endpoint(name.clone(), endpoint.id.clone());
            catalog.insert(key, (OwnValue::Endpoint(endpoint.clone()), owner.clone()));
        }
        let intake = Intake::new(limits, sources.to_vec(), restored, now);
        let mut bench = Self {
            intake,
            now,
            sessions: BTreeMap::new(),
            catalog,
            conflicts: BTreeSet::new(),
            changes: Vec::new(),
            recovered: 0,
        };
        bench.drain();
        bench
    }

    /// Two agents and the files of the site, with nothing restored.
    pub fn of_three() -> (Self, SourceId, SourceId, SourceId) {
        let (one, two, files) = (agent("vm-1"), agent("vm-2"), files());
        let sources = [&one, &two, &files].map(|source| (source.clone(), config(source, None)));
        (Self::new(&sources, Restored::default()), one, two, files)
    }

    pub fn open(&mut self, source: &SourceId) {
        let session = self.intake.handle_source_open(source, self.now).expect("registered");
        self.sessions.insert(source.clone(), (session, 0));
        self.drain();
    }

    pub fn gone(&mut self, source: &SourceId) {
        if let Some((session, _)) = self.sessions.remove(source) {
            self.intake.handle_source_gone(&session, self.now);
            self.drain();
        }
    }

    pub fn say(&mut self, source: &SourceId, change: SourceChange) -> Result<(), Refused> {
        let (session, sequence) = self.sessions.get_mut(source).expect("open");
        *sequence += 1;
        let event = SourceEvent { sequence: *sequence, change };
        let said = self.intake.handle_source_event(session, event, self.now);
        self.drain();
        said
    }

    pub fn apply(&mut self, source: &SourceId, name: &str, id: &str, port: u16) {
        self.say(source, SourceChange::Apply(instance(source, name, id, port, 1))).expect("taken");
    }

    pub fn delete(&mut self, source: &SourceId, name: &str, id: &str) {
        let change = SourceChange::Delete(service(name), id.parse().expect("valid"));
        self.say(source, change).expect("taken");
    }

    /// Opens a connection and sends a full list of `(service, id, port)`.
    pub fn list(&mut self, source: &SourceId, instances: &[(&str, &str, u16)]) {
        self.open(source);
        self.say(source, SourceChange::Init).expect("taken");
        for (name, id, port) in instances {
            let element = instance(source, name, id, *port, 1);
            self.say(source, SourceChange::InitApply(element)).expect("taken");
        }
        self.say(source, SourceChange::InitDone).expect("taken");
    }

    /// Lets time pass, serving every timeout when it is due.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((due, _)) = self.intake.poll_timeout().filter(|(due, _)| *due <= until) {
            self.now = self.now.max(due);
            self.intake.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.intake.handle_timeout(self.now);
        self.drain();
    }

    /// Lets time pass while these sources renew each 5 s.
    pub fn run_with(&mut self, time: Duration, renewing: &[&SourceId]) {
        let until = self.now + time;
        while self.now < until {
            self.run_for(secs(5).min(until - self.now));
            for source in renewing {
                self.say(source, SourceChange::Renew).expect("taken");
            }
        }
    }

    pub fn settle(&mut self) {
        self.run_for(Duration::from_millis(20));
    }

    pub fn drain(&mut self) {
        while let Some(event) = self.intake.poll_event() {
            match event {
                Event::Change(change) => {
                    match &change.value {
                        Some(value) => {
                            self.catalog.insert(change.key.clone(), (value.clone(), change.owner.clone()));
                        }
                        None => {
                            self.catalog.remove(&change.key).expect("only what was told can go");
                        }
                    }
                    self.changes.push(change);
                }
                Event::Conflict(conflict) => assert!(self.conflicts.insert(conflict), "told once"),
                Event::ConflictOver(conflict) => assert!(self.conflicts.remove(&conflict), "was told"),
                Event::Source { from, to, .. } => assert_ne!(from, to),
                Event::Recovered => self.recovered += 1,
            }
        }
    }

    pub fn endpoint(&self, name: &str, id: &str) -> Option<&Endpoint> {
        match self.catalog.get(&OwnKey::Endpoint(service(name), id.parse().expect("valid"))) {
            Some((OwnValue::Endpoint(endpoint), _)) => Some(endpoint),
            _ => None,
        }
    }

    pub fn health(&self, name: &str, id: &str) -> Option<Health> {
        self.endpoint(name, id).map(|endpoint| endpoint.health)
    }

    pub fn owner(&self, name: &str, id: &str) -> Option<&SourceId> {
        self.catalog.get(&OwnKey::Endpoint(service(name), id.parse().expect("valid"))).map(|of| &of.1)
    }

    pub fn service(&self, name: &str) -> Option<&ServiceSpec> {
        match self.catalog.get(&OwnKey::Service(service(name))) {
            Some((OwnValue::Service(spec), _)) => Some(spec),
            _ => None,
        }
    }

    /// What a store would give back after a restart.
    pub fn stored(&self) -> Restored {
        let mut restored = Restored::default();
        for (key, (value, owner)) in &self.catalog {
            match (key, value) {
                (OwnKey::Service(name), OwnValue::Service(spec)) => {
                    restored.services.push((name.clone(), spec.clone(), owner.clone()));
                }
                (OwnKey::Endpoint(name, _), OwnValue::Endpoint(endpoint)) => {
                    restored.endpoints.push((name.clone(), endpoint.clone(), owner.clone()));
                }
                _ => panic!("{key:?} is not a source's business"),
            }
        }
        restored
    }
}
