//! A bench: sites whose messages arrive at once and in order, unless a test holds them up.

use federation_core::Replicator;
use federation_core::event::Event;
use federation_core::peer::{PathsSummary, PeerLink};
use federation_core::session::{Dialled, SessionId};
use federation_core::settings::Settings;
use federation_core::store::Restored;
use model::catalog::{
    EntryKey, EntryValue, GroupSummary, OwnKey, OwnValue, Scope, ServiceSpec, SiteInfo, View,
};
use model::endpoint::{Endpoint, Health, Reach};
use model::exchange::PeerMessage;
use model::ids::{Incarnation, SiteId, SiteUid};
use model::service::{AppProtocol, PortKey, ServiceKind, ServiceName, ServicePort, Subset};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// One site on the bench.
pub struct Seat {
    pub core: Replicator,
    pub store: Restored,
    pub events: Vec<Event>,
    /// Everything that it sent, in order.
    pub sent: Vec<(SiteId, SessionId, PeerMessage)>,
    /// Sessions that it has not closed, with the site at the other end.
    pub open: BTreeMap<SessionId, SiteId>,
}

/// Sites, and sessions between them.
pub struct Bench {
    pub now: Instant,
    pub seats: BTreeMap<SiteId, Seat>,
    pub settings: Settings,
    next_session: u64,
    next_incarnation: u64,
    /// Sites that hear nothing.
    pub deaf: BTreeSet<SiteId>,
}

pub fn site(name: &str) -> SiteId {
    name.parse().expect("a label")
}

pub fn uid(name: &str) -> SiteUid {
    let mut uid = [0; 16];
    uid[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    SiteUid(uid)
}

pub fn info(name: &str) -> SiteInfo {
    SiteInfo {
        id: site(name),
        uid: uid(name),
        trust_domain: format!("{name}.mesh").parse().expect("valid"),
        locality: "eu/fra".parse().expect("valid"),
        clusterset: "meshfed".parse().expect("valid"),
        gateways: Vec::new(),
    }
}

pub fn link(name: &str) -> PeerLink {
    let info = info(name);
    PeerLink {
        site: info.id,
        uid: info.uid,
        trust_domain: info.trust_domain,
        offer: Scope::All,
        want: Scope::All,
        view: View::Summary,
    }
}

pub fn name(text: &str) -> ServiceName {
    text.parse().expect("valid")
}

pub fn only(services: &[&str]) -> Scope {
    Scope::Only { namespaces: BTreeSet::new(), services: services.iter().map(|text| name(text)).collect() }
}

pub fn spec(kind: ServiceKind) -> ServiceSpec {
    let port = ServicePort { key: PortKey::tcp(80), name: None, app: AppProtocol::Tcp, retry_safe: false };
    ServiceSpec { ports: vec![port], kind, declared_total: None }
}

pub fn endpoint(id: &str) -> Endpoint {
    Endpoint {
        id: id.parse().expect("valid"),
        locality: "eu/fra".parse().expect("valid"),
        network: "default".parse().expect("valid"),
        subset: Subset::default(),
        weight: 1,
        health: Health::Healthy,
        reach: Reach::Direct(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ports: BTreeMap::from([(PortKey::tcp(80), 8080)]),
        hostname: None,
    }
}

pub fn group_key(service: &str) -> EntryKey {
    EntryKey::Group(name(service), "eu/fra".parse().expect("valid"), Subset::default())
}

impl Bench {
    /// Sites that are linked with each other, with empty stores, recovered, without sessions.
    pub fn new(names: &[&str]) -> Self {
        Self::with(names, Settings::default())
    }

    pub fn with(names: &[&str], settings: Settings) -> Self {
        let mut bench = Self {
            now: Instant::now(),
            seats: BTreeMap::new(),
            settings,
            next_session: 1,
            next_incarnation: 1,
            deaf: BTreeSet::new(),
        };
        for name in names {
            bench.start(name, Restored::default(), &others(names, name));
            bench.with_core(name, |core, now| core.handle_recovered(now));
        }
        bench
    }

    /// Starts the process of a site; it takes the place of one that runs.
    pub fn start(&mut self, name: &str, store: Restored, peers: &[&str]) {
        let incarnation = Incarnation(self.next_incarnation);
        self.next_incarnation += 1;
        let settings = self.settings.clone();
        let mut core = Replicator::new(7, self.now, info(name), incarnation, store.clone(), settings);
        for peer in peers {
            core.handle_link(link(peer), self.now);
        }
        let seat = Seat { core, store, events: Vec::new(), sent: Vec::new(), open: BTreeMap::new() };
        self.seats.insert(site(name), seat);
        self.drain(&site(name));
    }

    /// The process of a site dies and starts anew; peers see its sessions end. It is recovering then.
    pub fn restart(&mut self, name: &str, store: Restored, peers: &[&str]) {
        let sessions: Vec<(SessionId, SiteId)> =
            self.seat(name).open.iter().map(|(id, peer)| (*id, peer.clone())).collect();
        self.start(name, store, peers);
        for (session, peer) in sessions {
            self.down(&peer, &site(name), session);
        }
        self.drive();
    }

    pub fn seat(&mut self, name: &str) -> &mut Seat {
        self.seats.get_mut(&site(name)).expect("on the bench")
    }

    pub fn core(&mut self, name: &str) -> &mut Replicator {
        &mut self.seat(name).core
    }

    /// Calls the core of a site, and carries out what it wants.
    pub fn with_core<T>(&mut self, name: &str, call: impl FnOnce(&mut Replicator, Instant) -> T) -> T {
        let now = self.now;
        let outcome = call(self.core(name), now);
        self.drive();
        outcome
    }

    pub fn say(&mut self, name: &str, key: OwnKey, value: Option<OwnValue>) {
        self.with_core(name, |core, now| core.handle_own(key, value, now)).expect("valid");
    }

    /// Exports a service with these endpoints.
    pub fn export(&mut self, at: &str, service: &str, endpoints: &[&str]) {
        let value = OwnValue::Service(spec(ServiceKind::ClusterSetIp));
        self.say(at, OwnKey::Service(name(service)), Some(value));
        self.say(at, OwnKey::Export(name(service)), Some(OwnValue::Export { created_at_ms: 5 }));
        for id in endpoints {
            let key = OwnKey::Endpoint(name(service), id.parse().expect("valid"));
            self.say(at, key, Some(OwnValue::Endpoint(endpoint(id))));
        }
    }

    pub fn remove_endpoint(&mut self, at: &str, service: &str, id: &str) {
        self.say(at, OwnKey::Endpoint(name(service), id.parse().expect("valid")), None);
    }

    /// A session goes up at both ends.
    pub fn connect(&mut self, dialler: &str, other: &str) -> SessionId {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        self.up(other, dialler, session, Dialled::There);
        self.up(dialler, other, session, Dialled::Here);
        self.drive();
        session
    }

    pub fn up(&mut self, at: &str, peer: &str, session: SessionId, dialled: Dialled) {
        let now = self.now;
        let seat = self.seat(at);
        seat.open.insert(session, site(peer));
        seat.core.handle_session_up(&site(peer), session, dialled, now);
    }

    pub fn down(&mut self, at: &SiteId, peer: &SiteId, session: SessionId) {
        let now = self.now;
        let Some(seat) = self.seats.get_mut(at) else { return };
        if seat.open.remove(&session).is_some() {
            seat.core.handle_session_down(peer, session, now);
        }
    }

    /// Stores what a site wants stored, hears its events, and gives back what it sends and whether it closed anything.
    fn drain(&mut self, at: &SiteId) -> (Vec<(SiteId, SessionId, PeerMessage)>, bool) {
        let mut sent = Vec::new();
        let Some(seat) = self.seats.get_mut(at) else { return (sent, false) };
        let mut closed = Vec::new();
        loop {
            let commit = seat.core.poll_persist();
            let last = commit.is_none();
            for record in commit.into_iter().flat_map(|commit| commit.records) {
                seat.store.apply(record).expect("sound");
            }
            while let Some(message) = seat.core.poll_transmit() {
                sent.push(message);
            }
            while let Some(event) = seat.core.poll_event() {
                if let Event::Close { site, session, .. } = &event
                    && seat.open.remove(session).is_some()
                {
                    closed.push((site.clone(), *session));
                }
                seat.events.push(event);
            }
            if last {
                break;
            }
        }
        seat.sent.extend(sent.iter().cloned());
        // Last words arrive before the end.
        for (to, session, message) in std::mem::take(&mut sent) {
            if closed.contains(&(to.clone(), session)) {
                self.deliver(&to, at, session, message);
            } else {
                sent.push((to, session, message));
            }
        }
        let any_closed = !closed.is_empty();
        for (peer, session) in closed {
            self.down(&peer, at, session);
        }
        (sent, any_closed)
    }

    fn deliver(&mut self, to: &SiteId, from: &SiteId, session: SessionId, message: PeerMessage) {
        if self.deaf.contains(to) {
            return;
        }
        let now = self.now;
        let Some(seat) = self.seats.get_mut(to) else { return };
        if seat.open.contains_key(&session) {
            seat.core.handle_message(from, session, message, now);
        }
    }

    /// Carries messages to and fro until nobody has anything to say.
    pub fn drive(&mut self) {
        for _ in 0..10_000 {
            let mut quiet = true;
            for at in self.seats.keys().cloned().collect::<Vec<_>>() {
                let (sent, closed) = self.drain(&at);
                quiet &= !closed;
                for (to, session, message) in sent {
                    quiet = false;
                    self.deliver(&to, &at, session, message);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the sites talk for ever");
    }

    /// Lets time pass, with every timer at its instant.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let next =
                self.seats.values().filter_map(|seat| seat.core.poll_timeout()).map(|(at, _)| at).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            self.seats.values_mut().for_each(|seat| seat.core.handle_timeout(now));
            self.drive();
        }
        self.now = end;
    }

    /// Long enough for changes to be told.
    pub fn settle(&mut self) {
        self.run_for(Duration::from_millis(20));
    }

    pub fn paths(&mut self, at: &str, peer: &str, live: u32, total: u32) {
        let paths = PathsSummary { live, total, ..PathsSummary::default() };
        self.with_core(at, |core, now| core.handle_paths(&site(peer), &paths, now));
    }

    pub fn held(&mut self, at: &str, peer: &str) -> BTreeMap<EntryKey, EntryValue> {
        self.core(at).held(&site(peer)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Healthy and total of the only group of a service.
    pub fn group(&mut self, at: &str, peer: &str, service: &str) -> Option<(u32, u32)> {
        match self.held(at, peer).get(&group_key(service)) {
            Some(EntryValue::Group(GroupSummary { healthy, total, .. })) => Some((*healthy, *total)),
            _ => None,
        }
    }

    pub fn holds_export(&mut self, at: &str, peer: &str, service: &str) -> bool {
        self.held(at, peer).contains_key(&EntryKey::Export(name(service)))
    }

    pub fn take_events(&mut self, at: &str) -> Vec<Event> {
        std::mem::take(&mut self.seat(at).events)
    }

    /// Batches that a site has sent to a peer since it was last asked.
    pub fn take_batches(&mut self, at: &str, peer: &str) -> Vec<model::exchange::Batch> {
        let sent = std::mem::take(&mut self.seat(at).sent);
        sent.into_iter()
            .filter_map(|(to, _, message)| match message {
                PeerMessage::Batch(batch) if to == site(peer) => Some(batch),
                _ => None,
            })
            .collect()
    }
}

fn others<'a>(names: &[&'a str], name: &str) -> Vec<&'a str> {
    names.iter().copied().filter(|other| *other != name).collect()
}
