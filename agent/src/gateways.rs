//! The agent's connections: to two gateways of its site, dialled from here and nowhere else.

mod keeper;

pub use keeper::{GATEWAYS, Keeper};

use model::ids::{GatewayName, SiteId};
use model::node::{PathReport, PathState, PeerViews};
use model::routing::PeerView;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tunnel::Connection;
use tunnel::connection::State;

/// Round trips that differ by less are alike: noise must not send everything one way.
const RTT_GRAIN: Duration = Duration::from_millis(5);

/// How long a connection is live before streams move to it whose own connection has fallen silent: as a gateway's do.
pub const STEADY_AFTER: Duration = Duration::from_millis(500);

/// A connection to a gateway.
#[derive(Debug, Clone)]
pub struct Link {
    /// The connection.
    pub connection: Connection,
    /// Another has taken its place, or the gateway is no longer wanted: what serves the agent itself leaves it, streams
    /// of services finish on it.
    pub retired: CancellationToken,
}

impl Link {
    /// A connection that is in use.
    pub fn new(connection: Connection) -> Self {
        Self { connection, retired: CancellationToken::new() }
    }

    /// Ends when nothing of the agent itself should go over it any more, and says why.
    pub async fn unfit(&self) -> &'static str {
        tokio::select! {
            () = self.connection.dead() => "the connection to the gateway is dead",
            () = self.retired.cancelled() => "the connection to the gateway is given up",
        }
    }

    /// Takes it out of use. It ends when its last stream has.
    fn retire(self) {
        self.retired.cancel();
        self.connection.set_draining(true);
        tokio::spawn(async move {
            while self.connection.load().streams > 0 {
                tokio::select! {
                    _ = self.connection.closed() => return,
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                }
            }
            self.connection.close(tunnel::CloseCode::Done, "another connection is used");
        });
    }
}

/// One gateway that the agent has chosen.
#[derive(Debug)]
struct Held {
    /// Which choice of it this is: tasks of an earlier one have nothing to say here.
    run: u64,
    address: SocketAddr,
    link: Option<Link>,
    /// Since when the connection is live, as far as it is.
    live_since: Instant,
    views: PeerViews,
    problem: String,
    /// Dials that failed since it was connected.
    failures: u32,
}

impl Held {
    fn new(run: u64, address: SocketAddr) -> Self {
        let live_since = Instant::now();
        Self { run, address, link: None, live_since, views: no_views(), problem: String::new(), failures: 0 }
    }

    /// What it says of a linked site that can be reached through it.
    fn view(&self, site: &SiteId) -> Option<&PeerView> {
        self.views.peers.iter().find(|(id, view)| id == site && view.state.is_usable()).map(|(_, view)| view)
    }

    /// Whether new streams can go there.
    fn is_live(&self) -> bool {
        let Some(link) = &self.link else { return false };
        link.connection.health().state == State::Live && link.connection.close_reason().is_none()
    }

    /// Whether it says that it drains.
    fn drains(&self) -> bool {
        self.views.draining || self.link.as_ref().is_some_and(|link| link.connection.health().peer_draining)
    }

    /// Whether new streams should go there.
    fn takes(&self) -> bool {
        self.is_live() && !self.drains()
    }
}

fn no_views() -> PeerViews {
    PeerViews { peers: Vec::new(), draining: false }
}

/// What the agent has of its gateways. Shared by all that open streams.
#[derive(Debug)]
pub struct Gateways {
    /// At most [`GATEWAYS`].
    held: Mutex<BTreeMap<GatewayName, Held>>,
    changed: watch::Sender<()>,
}

impl Gateways {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { held: Mutex::new(BTreeMap::new()), changed: watch::Sender::new(()) })
    }

    /// Follows changes of connections and of what the gateways say.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<GatewayName, Held>) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned map is a whole map.
        work(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is held of a gateway, if it is still held by this choice of it; answers whether it is.
    fn change(&self, name: &GatewayName, run: u64, work: impl FnOnce(&mut Held)) -> bool {
        let found = self.with(|held| held.get_mut(name).filter(|held| held.run == run).map(work)).is_some();
        self.changed.send_replace(());
        found
    }

    /// Takes what a gateway says of the linked sites over this connection.
    pub fn handle_views(&self, name: &GatewayName, connection: &Connection, views: PeerViews) {
        let changed = self.with(|held| {
            let is_its =
                |held: &&mut Held| held.link.as_ref().is_some_and(|link| link.connection == *connection);
            let Some(held) = held.get_mut(name).filter(is_its) else { return false };
            let changed = held.views != views;
            held.views = views;
            changed
        });
        if changed {
            self.changed.send_replace(());
        }
    }

    /// Connections for a new stream to `site`, best first: live ones that see the site, by round trip to it, then by open
    /// streams. Streams within the own site need no view. Gateways that drain come last: one that leaves still serves
    /// those who have nobody else yet.
    pub fn candidates(&self, site: Option<&SiteId>) -> Vec<(GatewayName, Link)> {
        let mut found: Vec<_> = self.with(|held| {
            let live = held.iter().filter(|(_, held)| held.is_live());
            live.filter_map(|(name, held)| {
                let link = held.link.clone()?;
                let beyond = match site {
                    None => Duration::ZERO,
                    Some(site) => held.view(site)?.rtt.unwrap_or(Duration::MAX),
                };
                let rtt = link.connection.health().rtt.unwrap_or_default().saturating_add(beyond);
                let grains = rtt.as_millis() / RTT_GRAIN.as_millis();
                let rank = (held.drains(), grains, link.connection.load().streams);
                Some((rank, name.clone(), link))
            })
            .collect()
        });
        found.sort_by_key(|(rank, _, _)| *rank);
        found.into_iter().map(|(_, name, link)| (name, link)).collect()
    }

    /// Whether a stream whose connection has fallen silent could go another way, to `site` or within the own one. Only
    /// ways that have been live for a while count: where both connections come back after a silence, the first must not
    /// take the streams of the other, which is back a moment later.
    pub fn has_steady_way(&self, site: Option<&SiteId>, now: Instant) -> bool {
        let leads = |held: &Held| site.is_none_or(|site| held.view(site).is_some());
        let steady = |held: &Held| held.takes() && now >= held.live_since + STEADY_AFTER;
        self.with(|held| held.values().any(|held| steady(held) && leads(held)))
    }

    /// All connections that are in use.
    pub fn connections(&self) -> Vec<(GatewayName, Connection)> {
        let connection = |held: &Held| held.link.as_ref().map(|link| link.connection.clone());
        self.with(|held| {
            held.iter().filter_map(|(name, held)| Some((name.clone(), connection(held)?))).collect()
        })
    }

    /// The best view of each linked site that any gateway has that is not dead.
    pub fn views(&self) -> BTreeMap<SiteId, PeerView> {
        let mut best: BTreeMap<SiteId, PeerView> = BTreeMap::new();
        let key = |view: &PeerView| (view.state, view.rtt.unwrap_or(Duration::MAX));
        self.with(|held| {
            // A gateway that is only suspect will mostly be back, and its sites should not count as lost until then.
            let alive = |link: &Link| link.connection.health().state != State::Dead;
            for held in held.values().filter(|held| held.link.as_ref().is_some_and(alive)) {
                for (site, view) in &held.views.peers {
                    if best.get(site).is_none_or(|held| key(view) < key(held)) {
                        best.insert(site.clone(), *view);
                    }
                }
            }
        });
        best
    }

    /// For the federation's `status`.
    pub fn reports(&self, site: &SiteId) -> Vec<PathReport> {
        self.with(|held| held.iter().map(|(name, held)| report(site, name, held)).collect())
    }
}

fn report(site: &SiteId, name: &GatewayName, held: &Held) -> PathReport {
    let connection = held.link.as_ref().map(|link| &link.connection);
    let health = connection.map(Connection::health);
    let state = |health: tunnel::Health| match health.state {
        State::Live if health.peer_draining => PathState::Draining,
        State::Live => PathState::Live,
        State::Suspect => PathState::Suspect,
        State::Dead => PathState::Dead,
    };
    PathReport {
        site: site.clone(),
        gateway: name.clone(),
        address: held.address,
        state: health.map_or(PathState::Dialling, state),
        rtt: health.and_then(|health| health.rtt),
        loss_permille: health.map_or(0, |health| health.loss_permille),
        streams: connection.map_or(0, |connection| connection.load().streams),
        mtu: connection.map(Connection::mtu),
        problem: held.problem.clone(),
    }
}
