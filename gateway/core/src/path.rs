//! All tunnel connections of a gateway, by peer: who is dialled and when again, which connection takes a stream, and
//! how each peer is.
//!
//! A *path* is a pair of gateways; several connections lie on it. The shell tells the table what happens to
//! connections, and carries out its [`Action`]s. The own site is in the table too: its other gateways are siblings.

mod place;
mod quality;
mod settings;
mod view;
mod words;

pub use place::{Hop, Load};
pub use settings::Settings;
pub use words::{Action, CloseReason, ConnectionId, Event, Health, Own, PathKey, Site, Unwelcome};

use crate::liveness::State;
use model::ids::{GatewayName, SiteId, SiteUid};
use model::node::PathState;
use model::routing::{PeerState, PeerView};
use quality::Quality;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

/// Events that wait to be polled. The oldest is dropped beyond; views and reports are always true.
const EVENTS_MAX: usize = 4_096;

#[derive(Debug)]
struct Connection {
    path: PathKey,
    /// This process dialled it.
    dialled: bool,
    remote: SocketAddr,
    health: Health,
    /// Since when it has been live; counts while it is.
    live_since: Instant,
    load: Load,
    quality: Quality,
}

#[derive(Debug)]
struct Path {
    /// Where it can be dialled; none: it is not, or no longer, named in the config, and has dialled in.
    address: Option<SocketAddr>,
    dialling: bool,
    failures: u32,
    dial_at: Instant,
    ever_up: bool,
    problem: String,
    said: PathState,
    connections: BTreeSet<ConnectionId>,
}

impl Path {
    fn new(address: Option<SocketAddr>, now: Instant) -> Self {
        Self {
            address,
            dialling: false,
            failures: 0,
            dial_at: now,
            ever_up: false,
            problem: String::new(),
            said: PathState::Dialling,
            connections: BTreeSet::new(),
        }
    }
}

#[derive(Debug)]
struct Peer {
    uid: SiteUid,
    said: PeerState,
    paths: BTreeMap<GatewayName, Path>,
}

/// What a sibling says that it reaches.
#[derive(Debug, Clone, Default)]
struct SiblingView {
    peers: BTreeMap<SiteId, PeerView>,
    draining: bool,
}

/// The table. See the module.
#[derive(Debug)]
pub struct PathTable {
    own: Own,
    settings: Settings,
    rng: fastrand::Rng,
    peers: BTreeMap<SiteId, Peer>,
    /// Bound: `connections_max` per path.
    connections: BTreeMap<ConnectionId, Connection>,
    siblings: BTreeMap<GatewayName, SiblingView>,
    turn: u64,
    /// Bound: at most one dial per path and one close per connection.
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl PathTable {
    /// An empty table.
    pub fn new(own: Own, settings: Settings, seed: u64) -> Self {
        Self {
            own,
            settings,
            rng: fastrand::Rng::with_seed(seed),
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            siblings: BTreeMap::new(),
            turn: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// All sites to hold connections with, the own one included. Sites that are missing were unlinked: their
    /// connections are closed at once. A gateway that is missing from its site takes no new streams.
    pub fn handle_sites(&mut self, sites: Vec<Site>, now: Instant) {
        let gone: Vec<SiteId> =
            self.peers.keys().filter(|id| !sites.iter().any(|site| site.id == **id)).cloned().collect();
        for site in gone {
            let ids: Vec<ConnectionId> = self.of_site(&site).map(|(id, _)| id).collect();
            self.peers.remove(&site);
            for id in ids {
                self.connections.remove(&id);
                self.actions.push_back(Action::Close { connection: id, why: CloseReason::Unlinked });
            }
        }
        for site in sites {
            let peer = self.peers.entry(site.id.clone()).or_insert_with(|| Peer {
                uid: site.uid,
                said: PeerState::Unreachable,
                paths: BTreeMap::new(),
            });
            peer.uid = site.uid;
            for (name, path) in &mut peer.paths {
                let listed = site.gateways.iter().find(|gateway| gateway.name == *name);
                let address = listed.map(|gateway| gateway.address);
                if address.is_some() && path.address != address {
                    // It has moved: what failed at the old address says nothing of the new one.
                    (path.failures, path.dial_at) = (0, now);
                }
                path.address = address;
            }
            for gateway in site.gateways {
                let myself = site.id == self.own.site && gateway.name == self.own.gateway;
                if !myself {
                    peer.paths.entry(gateway.name).or_insert_with(|| Path::new(Some(gateway.address), now));
                }
            }
            self.tend_site(&site.id, now);
        }
    }

    /// A connection is there, which this process dialled or accepted.
    ///
    /// # Errors
    /// It may not be kept; the shell closes it.
    pub fn handle_connected(
        &mut self,
        path: &PathKey,
        id: ConnectionId,
        dialled: bool,
        remote: SocketAddr,
        now: Instant,
    ) -> Result<(), Unwelcome> {
        if path.site == self.own.site && path.gateway == self.own.gateway {
            return Err(Unwelcome::Myself);
        }
        let Some(peer) = self.peers.get_mut(&path.site) else { return Err(Unwelcome::UnknownSite) };
        let alive =
            |id: &&ConnectionId| self.connections.get(id).is_some_and(|c| c.health.state != State::Dead);
        let held = peer.paths.get(&path.gateway).map(|path| path.connections.iter().filter(alive).count());
        let too_many = held.unwrap_or(0) >= self.settings.connections_max;
        let known = peer.paths.entry(path.gateway.clone()).or_insert_with(|| Path::new(None, now));
        if dialled {
            (known.dialling, known.failures, known.dial_at) = (false, 0, now);
        }
        if too_many {
            return Err(Unwelcome::TooMany);
        }
        known.ever_up = true;
        known.problem.clear();
        known.connections.insert(id);
        let quality = Quality::new(now);
        let (health, load) = (Health::default(), Load::default());
        let connection =
            Connection { path: path.clone(), dialled, remote, health, live_since: now, load, quality };
        self.connections.insert(id, connection);
        self.tend_site(&path.site, now);
        Ok(())
    }

    /// Dialling failed.
    pub fn handle_dial_failed(&mut self, path: &PathKey, problem: &str, now: Instant) {
        let jitter = self.rng.f64();
        let delay = self.settings.redial_after(self.path(path).map_or(0, |path| path.failures), jitter);
        let Some(known) = self.path_mut(path) else { return };
        known.dialling = false;
        known.failures = known.failures.saturating_add(1);
        known.dial_at = now + delay;
        known.problem = problem.chars().take(200).collect();
        self.tend_site(&path.site.clone(), now);
    }

    /// A connection has ended, other than by `Action::Close`.
    pub fn handle_closed(&mut self, id: ConnectionId, problem: &str, now: Instant) {
        let Some(connection) = self.forget(id) else { return };
        let site = connection.path.site.clone();
        if let Some(path) = self.path_mut(&connection.path) {
            path.problem = problem.chars().take(200).collect();
            if path.connections.is_empty() && site == self.own.site {
                self.siblings.remove(&connection.path.gateway);
            }
        }
        self.tend_site(&site, now);
    }

    /// How a connection is.
    pub fn handle_health(&mut self, id: ConnectionId, health: Health, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.health.state != State::Live {
            connection.live_since = now;
        }
        connection.health = health;
        connection.quality.note(&health, &self.settings, now);
        let site = connection.path.site.clone();
        self.tend_site(&site, now);
    }

    /// What a connection carries. The shell says so of all connections right before `handle_timeout`, which closes those
    /// that have no use and carry nothing.
    pub fn handle_load(&mut self, id: ConnectionId, load: Load) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.load = load;
        }
    }

    /// What a sibling says that it reaches by its own paths.
    pub fn handle_sibling_view(
        &mut self,
        gateway: &GatewayName,
        peers: Vec<(SiteId, PeerView)>,
        draining: bool,
    ) {
        // Only linked sites are kept, so a sibling cannot make this grow.
        let peers = peers.into_iter().filter(|(site, _)| self.peers.contains_key(site)).collect();
        if self.path(&PathKey { site: self.own.site.clone(), gateway: gateway.clone() }).is_some() {
            self.siblings.insert(gateway.clone(), SiblingView { peers, draining });
        }
    }

    /// Time has come to what `poll_timeout` said, or a second has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            connection.quality.note(&connection.health, &self.settings, now);
        }
        self.close_useless();
        for site in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.tend_site(&site, now);
        }
    }

    /// When `handle_timeout` wants to be called, and why. It wants to be called each second besides.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let mut next = None;
        for (site, peer) in &self.peers {
            for (gateway, path) in &peer.paths {
                if self.wants_dial(site, gateway, path) {
                    next = Some(next.map_or(path.dial_at, |next: Instant| next.min(path.dial_at)));
                }
            }
        }
        next.map(|at| (at, "dial"))
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The gateway at the other end of a connection.
    pub fn path_of(&self, id: ConnectionId) -> Option<&PathKey> {
        self.connections.get(&id).map(|connection| &connection.path)
    }

    fn path(&self, key: &PathKey) -> Option<&Path> {
        self.peers.get(&key.site)?.paths.get(&key.gateway)
    }

    fn path_mut(&mut self, key: &PathKey) -> Option<&mut Path> {
        self.peers.get_mut(&key.site)?.paths.get_mut(&key.gateway)
    }

    /// Open connections on a path.
    pub fn connections_of(&self, path: &PathKey) -> impl Iterator<Item = ConnectionId> {
        self.path(path).into_iter().flat_map(|path| path.connections.iter().copied())
    }

    fn on_path(
        &self,
        site: &SiteId,
        gateway: &GatewayName,
    ) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let path = self.peers.get(site).and_then(|peer| peer.paths.get(gateway));
        path.into_iter().flat_map(|path| self.all_of(path))
    }

    fn of_site(&self, site: &SiteId) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let paths = self.peers.get(site).into_iter().flat_map(|peer| peer.paths.values());
        paths.flat_map(|path| self.all_of(path))
    }

    fn all_of<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (ConnectionId, &'a Connection)> {
        path.connections.iter().filter_map(|id| Some((*id, self.connections.get(id)?)))
    }

    fn forget(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if let Some(path) = self.path_mut(&connection.path) {
            path.connections.remove(&id);
        }
        Some(connection)
    }

    /// Whether, where both sides dial, the connections that this one dials stay.
    fn own_dials_stay(&self, site: &SiteId, gateway: &GatewayName) -> bool {
        if *site == self.own.site {
            return self.own.gateway < *gateway;
        }
        self.peers.get(site).is_none_or(|peer| self.own.uid < peer.uid)
    }

    /// Whether a connection is to go because one that the other side dialled stays.
    fn is_duplicate(&self, connection: &Connection) -> bool {
        let PathKey { site, gateway } = &connection.path;
        let stays = self.own_dials_stay(site, gateway);
        let is_kept = |c: &Connection| c.dialled == stays;
        !is_kept(connection)
            && self.on_path(site, gateway).any(|(_, c)| is_kept(c) && c.health.state == State::Live)
    }

    fn wants_dial(&self, site: &SiteId, gateway: &GatewayName, path: &Path) -> bool {
        let stays = self.own_dials_stay(site, gateway);
        if path.address.is_none() || path.dialling || (*site == self.own.site && !stays) {
            return false;
        }
        let alive = || self.on_path(site, gateway).map(|(_, c)| c).filter(|c| c.health.state != State::Dead);
        // Where the other side dials too and its connections stay, more of ours would only be closed again.
        let theirs_stay = !stays && alive().any(|c| !c.dialled);
        let busy = alive().filter(|c| !theirs_stay && c.load.streams >= self.settings.streams_busy).count();
        let wanted = (self.settings.connections + busy).min(self.settings.connections_max);
        alive().filter(|c| c.dialled || !stays).count() < wanted
    }

    /// Looks at everything of one site: dials, and tells what has changed.
    fn tend_site(&mut self, site: &SiteId, now: Instant) {
        let Some(peer) = self.peers.get(site) else { return };
        let mut dial = Vec::new();
        let mut states = Vec::new();
        for (gateway, path) in &peer.paths {
            if now >= path.dial_at && self.wants_dial(site, gateway, path) {
                dial.extend(path.address.map(|address| (gateway.clone(), address)));
            }
            states.push((gateway.clone(), self.path_state(site, gateway, path)));
        }
        self.tell(site, states);
        for (gateway, address) in dial {
            let path = PathKey { site: site.clone(), gateway };
            if let Some(known) = self.path_mut(&path) {
                known.dialling = true;
            }
            self.actions.push_back(Action::Dial { path, address });
        }
        self.forget_unlisted(site);
    }

    /// Closes what carries nothing and has no use.
    fn close_useless(&mut self) {
        let idle = self.connections.iter().filter(|(_, c)| c.load.streams == 0);
        let close: Vec<_> = idle.filter_map(|(id, c)| Some((*id, self.useless(c)?))).collect();
        for (id, why) in close {
            self.forget(id);
            self.actions.push_back(Action::Close { connection: id, why });
        }
    }

    fn useless(&self, c: &Connection) -> Option<CloseReason> {
        let PathKey { site, gateway } = &c.path;
        let listed = self.path(&c.path).is_some_and(|path| path.address.is_some());
        let other_lives = || self.on_path(site, gateway).any(|(_, c)| c.health.state == State::Live);
        if c.dialled && self.is_duplicate(c) {
            Some(CloseReason::Duplicate)
        } else if c.dialled && !listed {
            Some(CloseReason::GatewayGone)
        } else if c.health.state == State::Dead && other_lives() {
            Some(CloseReason::Replaced)
        } else {
            None
        }
    }

    fn tell(&mut self, site: &SiteId, states: Vec<(GatewayName, PathState)>) {
        for (gateway, state) in states {
            let path = PathKey { site: site.clone(), gateway };
            if let Some(known) = self.path_mut(&path).filter(|known| known.said != state) {
                known.said = state;
                let problem = known.problem.clone();
                self.note(Event::Path { path, state, problem });
            }
        }
        let view = self.own_view(site);
        if let Some(peer) = self.peers.get_mut(site).filter(|peer| peer.said != view.state) {
            peer.said = view.state;
            if *site != self.own.site {
                self.note(Event::Peer { site: site.clone(), view });
            }
        }
    }

    fn forget_unlisted(&mut self, site: &SiteId) {
        if let Some(peer) = self.peers.get_mut(site) {
            peer.paths.retain(|_, path| path.address.is_some() || !path.connections.is_empty());
        }
    }

    fn note(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests;
