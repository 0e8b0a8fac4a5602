//! All connections of the gateway: the shell around `gateway_core::path`, and the agents that are connected.

mod agents;
mod dial;

use agents::Agents;
use gateway_core::path::{
    self, Action, CloseReason, ConnectionId, Event, Hop, Load, Own, PathKey, PathTable,
};
use identity::trust::TrustStore;
use model::identity::{Role, SpiffeId};
use model::ids::{GatewayName, HostName, SiteId};
use model::node::{PathReport, PathState, PeerViews};
use model::routing::PeerView;
use node::config::NodeConfig;
use runtime::shutdown::Shutdown;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info, warn};
use tunnel::{CloseCode, Connection, Tunnel};

/// The table is looked at at least this often.
const TICK: Duration = Duration::from_secs(1);
/// Ways to one place that a stream is offered.
const WAYS_MAX: usize = 8;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A gateway of a linked site.
    Peer(PathKey),
    /// Another gateway of the own site.
    Sibling(GatewayName),
    /// An agent of the own site.
    Agent(HostName),
}

struct Inner {
    table: PathTable,
    /// As many as the table has.
    connections: BTreeMap<ConnectionId, Connection>,
    agents: Agents,
    /// Linked sites by trust domain would be searched for each new connection; there are few, and they are here.
    config: Arc<NodeConfig>,
}

/// All connections. Shared by everything that opens or takes streams.
pub(crate) struct Paths {
    inner: Mutex<Inner>,
    own: SpiffeId,
    site: SiteId,
    tunnel: Tunnel,
    trust: TrustStore,
    /// New connections, for whoever serves their streams.
    opened: mpsc::Sender<(Who, Connection)>,
    /// Wakes the task that keeps the table's time.
    wake: Notify,
    /// Changes whenever the state of a peer or a path does.
    changed: watch::Sender<()>,
    draining: AtomicBool,
    /// It also refuses what still comes.
    refusing: AtomicBool,
}

impl Paths {
    pub(crate) fn new(
        own: Own,
        id: SpiffeId,
        settings: path::Settings,
        tunnel: Tunnel,
        trust: TrustStore,
        opened: mpsc::Sender<(Who, Connection)>,
    ) -> Arc<Self> {
        let site = own.site.clone();
        let inner = Inner {
            table: PathTable::new(own, settings, fastrand::u64(..)),
            connections: BTreeMap::new(),
            agents: Agents::default(),
            config: Arc::new(NodeConfig::default()),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            own: id,
            site,
            tunnel,
            trust,
            opened,
            wake: Notify::new(),
            changed: watch::Sender::new(()),
            draining: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
        })
    }

    /// The own site.
    pub(crate) fn site(&self) -> &SiteId {
        &self.site
    }

    /// Who this process is.
    pub(crate) fn own(&self) -> &SpiffeId {
        &self.own
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing that is done under it panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the table something, and carries out what it wants.
    fn tell<T>(self: &Arc<Self>, what: impl FnOnce(&mut Inner, Instant) -> T) -> T {
        let (answer, actions, events) = {
            let mut inner = self.lock();
            let answer = what(&mut inner, Instant::now());
            let mut actions = Vec::new();
            while let Some(action) = inner.table.poll_action() {
                let closing = match &action {
                    Action::Close { connection, .. } => inner.connections.remove(connection),
                    Action::Dial { .. } => None,
                };
                actions.push((action, closing));
            }
            let events: Vec<Event> = std::iter::from_fn(|| inner.table.poll_event()).collect();
            (answer, actions, events)
        };
        for (action, closing) in actions {
            match action {
                Action::Dial { path, address } => {
                    tokio::spawn(self.clone().dial(path, address));
                }
                Action::Close { why, .. } => close(closing, why),
            }
        }
        if !events.is_empty() {
            events.iter().for_each(log);
            self.changed.send_replace(());
        }
        self.wake.notify_one();
        answer
    }

    /// Follows changes of peers and paths.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes the sites from the config.
    pub(crate) fn handle_config(self: &Arc<Self>, config: &Arc<NodeConfig>) {
        let own = config.site.iter().map(|site| &site.site);
        let sites = own.chain(config.peers.values().map(|peer| &peer.site));
        let sites = sites
            .map(|site| path::Site { id: site.id.clone(), uid: site.uid, gateways: site.gateways.clone() })
            .collect();
        self.tell(|inner, now| {
            inner.config = config.clone();
            inner.table.handle_sites(sites, now);
        });
    }

    /// Keeps the table's time until shutdown begins.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut next_tick = Instant::now();
        loop {
            let due = self.lock().table.poll_timeout().map(|(due, _)| due);
            let due = due.map_or(next_tick, |due| due.min(next_tick));
            tokio::select! {
                () = tokio::time::sleep(due.saturating_duration_since(Instant::now())) => {
                    next_tick = Instant::now() + TICK;
                    self.tick();
                }
                () = self.wake.notified() => {}
                () = shutdown.begun() => return,
            }
        }
    }

    fn tick(self: &Arc<Self>) {
        self.tell(|inner, now| {
            for (id, connection) in &inner.connections {
                inner.table.handle_load(*id, load(connection));
            }
            inner.table.handle_timeout(now);
            inner.agents.forget_ended();
        });
    }

    /// Takes a connection that was accepted.
    pub(crate) async fn adopt(self: &Arc<Self>, connection: Connection) {
        let Some(who) = self.who(connection.peer()) else {
            debug!(peer = %connection.peer(), "closed a connection: its role or site has no business here");
            connection.close(CloseCode::Unwelcome, "this gateway does not know you");
            return;
        };
        self.keep(who, connection).await;
    }

    /// Who that is, for this gateway; none: nobody.
    fn who(&self, id: &SpiffeId) -> Option<Who> {
        let is_own = id.trust_domain == self.own.trust_domain;
        match &id.role {
            Role::Gateway(gateway) if is_own => Some(Who::Sibling(gateway.clone())),
            Role::Gateway(gateway) => {
                let config = self.lock().config.clone();
                let peer = config.peers.values().find(|peer| peer.site.trust_domain == id.trust_domain)?;
                Some(Who::Peer(PathKey { site: peer.site.id.clone(), gateway: gateway.clone() }))
            }
            Role::Agent(host) if is_own => Some(Who::Agent(host.clone())),
            Role::Agent(_) | Role::Federation(_) | Role::Admin(_) | Role::Workload { .. } => None,
        }
    }

    fn key(&self, who: &Who) -> Option<PathKey> {
        match who {
            Who::Peer(path) => Some(path.clone()),
            Who::Sibling(gateway) => Some(PathKey { site: self.site.clone(), gateway: gateway.clone() }),
            Who::Agent(_) => None,
        }
    }

    /// Keeps a connection, watches it, and hands it to whoever serves its streams.
    async fn keep(self: &Arc<Self>, who: Who, connection: Connection) {
        let id = ConnectionId(connection.id());
        let kept = match (&who, self.key(&who)) {
            (Who::Agent(host), _) => self.tell(|inner, _| {
                inner.agents.add(host.clone(), connection.clone()).map_err(|error| error.to_string())
            }),
            (_, Some(path)) => self.tell(|inner, now| {
                let (dialled, remote) = (connection.dialled(), connection.remote());
                let kept = inner.table.handle_connected(&path, id, dialled, remote, now);
                if kept.is_ok() {
                    inner.connections.insert(id, connection.clone());
                }
                kept.map_err(|error| error.to_string())
            }),
            (Who::Peer(_) | Who::Sibling(_), None) => return,
        };
        if let Err(reason) = kept {
            warn!(peer = %connection.peer(), reason, "closed a connection");
            connection.close(CloseCode::Unwelcome, &reason);
            return;
        }
        connection.set_draining(self.draining.load(Ordering::SeqCst));
        tokio::spawn(self.clone().watch(connection.clone()));
        // Its receiver lives as long as the process takes streams.
        let _ = self.opened.send((who, connection)).await;
    }

    /// Follows the health of a connection to its end.
    async fn watch(self: Arc<Self>, connection: Connection) {
        let id = ConnectionId(connection.id());
        let mut health = connection.watch();
        loop {
            let now = *health.borrow_and_update();
            let now = path::Health {
                state: now.state,
                rtt: now.rtt,
                loss_permille: now.loss_permille,
                peer_draining: now.peer_draining,
            };
            self.tell(|inner, at| inner.table.handle_health(id, now, at));
            tokio::select! {
                changed = health.changed() => if changed.is_err() { break },
                _ = connection.closed() => break,
            }
        }
        let reason = connection.closed().await.to_string();
        self.tell(|inner, now| {
            inner.connections.remove(&id);
            inner.table.handle_closed(id, &reason, now);
            inner.agents.forget_ended();
        });
        debug!(peer = %connection.peer(), reason, "a connection has ended");
    }

    /// Takes what a sibling says that it reaches.
    pub(crate) fn handle_sibling_views(self: &Arc<Self>, gateway: &GatewayName, views: PeerViews) {
        self.tell(|inner, _| inner.table.handle_sibling_view(gateway, views.peers, views.draining));
        self.changed.send_replace(());
    }

    /// Takes no new streams, or takes them again; peers are told.
    pub(crate) fn set_draining(&self, draining: bool) {
        self.refusing.store(draining, Ordering::SeqCst);
        self.tell_draining(draining);
    }

    /// Tells peers that it drains, so that they place streams elsewhere, and still takes those of who has nobody else.
    pub(crate) fn tell_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::SeqCst);
        let inner = self.lock();
        for connection in inner.connections.values().chain(inner.agents.all()) {
            connection.set_draining(draining);
        }
        self.changed.send_replace(());
    }

    /// Whether new streams are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::SeqCst)
    }

    /// Whether peers are told that it drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// State of each linked site: by own paths, or those of a sibling.
    pub(crate) fn views(&self) -> Vec<(SiteId, PeerView)> {
        self.lock().table.views()
    }

    /// State of each linked site by own paths.
    pub(crate) fn own_views(&self) -> Vec<(SiteId, PeerView)> {
        self.lock().table.own_views()
    }

    pub(crate) fn reports(&self) -> Vec<PathReport> {
        let inner = self.lock();
        let mut reports = inner.table.reports();
        for report in &mut reports {
            let path = PathKey { site: report.site.clone(), gateway: report.gateway.clone() };
            let connections = inner.table.connections_of(&path);
            report.mtu = connections.filter_map(|id| inner.connections.get(&id)).map(Connection::mtu).max();
        }
        reports
    }

    /// Open streams of one peer, over all its connections.
    pub(crate) fn streams_of(&self, who: &Who) -> u32 {
        let inner = self.lock();
        let connections = match (who, self.key(who)) {
            (Who::Agent(host), _) => inner.agents.of(host),
            (_, Some(path)) => {
                let ids = inner.table.connections_of(&path);
                ids.filter_map(|id| inner.connections.get(&id).cloned()).collect()
            }
            (Who::Peer(_) | Who::Sibling(_), None) => Vec::new(),
        };
        gateway_core::admission::streams_of(connections.iter().map(load))
    }

    /// Connections over which a linked site can be reached now, best first.
    pub(crate) fn to_site(&self, site: &SiteId, from_sibling: bool) -> Vec<Connection> {
        self.collect(|table, tried, load| {
            table.next_hop(site, from_sibling, tried, load).map(Hop::connection)
        })
    }

    /// Whether a stream whose connection to a linked site is dead could go another way there.
    pub(crate) fn has_steady_way(&self, site: &SiteId, from_sibling: bool) -> bool {
        self.lock().table.has_steady_way(site, from_sibling, Instant::now())
    }

    /// Connections whose other end is a gateway of the linked site.
    pub(crate) fn directly_to_site(&self, site: &SiteId) -> Vec<Connection> {
        self.collect(|table, tried, load| table.place(site, tried, load))
    }

    /// Connections over which an agent can be reached now, best first.
    pub(crate) fn to_agent(&self, host: &HostName, from_sibling: bool) -> Vec<Connection> {
        let mut ways = self.lock().agents.live(host);
        if !from_sibling {
            ways.extend(self.collect(|table, tried, load| table.place_sibling(tried, load)));
        }
        ways
    }

    fn collect(
        &self,
        mut next: impl FnMut(&mut PathTable, &BTreeSet<ConnectionId>, Loads<'_>) -> Option<ConnectionId>,
    ) -> Vec<Connection> {
        let mut inner = self.lock();
        let Inner { table, connections, .. } = &mut *inner;
        let load = |id: ConnectionId| connections.get(&id).map(load).unwrap_or_default();
        let mut tried = BTreeSet::new();
        let mut found = Vec::new();
        while found.len() < WAYS_MAX
            && let Some(id) = next(table, &tried, &load)
        {
            found.extend(connections.get(&id).cloned());
            tried.insert(id);
        }
        found
    }
}

/// What each connection carries now.
type Loads<'a> = &'a dyn Fn(ConnectionId) -> Load;

fn load(connection: &Connection) -> Load {
    let load = connection.load();
    Load { bulk: load.bulk, streams: load.streams }
}

fn close(connection: Option<Connection>, why: CloseReason) {
    let Some(connection) = connection else { return };
    let (code, reason) = match why {
        CloseReason::Unlinked => (CloseCode::Unwelcome, "the sites are not linked any more"),
        CloseReason::Duplicate => (CloseCode::Duplicate, ""),
        CloseReason::GatewayGone => (CloseCode::Done, "this gateway is not one of its site any more"),
        CloseReason::Replaced => (CloseCode::Silent, ""),
    };
    connection.close(code, reason);
}

fn log(event: &Event) {
    match event {
        Event::Peer { site, view } => {
            info!(peer = %site, state = %view.state, "a linked site has changed its state")
        }
        Event::Path { path, state: PathState::Dead, problem } => {
            warn!(peer = %path.site, gateway = %path.gateway, problem, "a path is dead");
        }
        Event::Path { path, state, problem } => {
            debug!(peer = %path.site, gateway = %path.gateway, ?state, problem, "a path has changed its state");
        }
    }
}
