//! Which gateways an agent keeps connections to, and how it gets them back.

use super::{Gateways, Held, Link, no_views};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use identity::peer::RoleKind;
use identity::tls::Expect;
use identity::trust::TrustStore;
use model::catalog::GatewayAddress;
use model::ids::GatewayName;
use node::store::ConfigStore;
use runtime::backoff::Backoff;
use runtime::shutdown::Shutdown;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use tunnel::connection::State;
use tunnel::{Connection, Tunnel};

/// To how many gateways an agent keeps connections: the loss of one moves its streams to the other.
pub const GATEWAYS: usize = 2;
/// How often the choice of gateways is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A dial whose first packet met nobody sends the next one only after a second, so that a gateway that restarts would
/// find its agents late. So another dial begins beside it after this at most (half of it at least).
const DIAL_AGAIN: Duration = Duration::from_millis(800);
/// Dials of one gateway at a time.
const DIALS_MAX: usize = 8;
/// A connection that is lost sooner than this was not welcome; the next dial waits a little.
const SHORT: Duration = Duration::from_secs(2);
/// How long it waits, from and to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What keeps the connections.
pub struct Keeper {
    /// Where they are kept.
    pub gateways: Arc<Gateways>,
    /// Dials.
    pub tunnel: Tunnel,
    /// Whom to expect.
    pub trust: TrustStore,
    /// Where the site's gateways are listed.
    pub store: Arc<ConfigStore>,
    /// Gateways that were known when the agent joined, for as long as the config lists none.
    pub first: Vec<GatewayAddress>,
    /// Gets each new connection.
    pub opened: mpsc::Sender<(GatewayName, Link)>,
}

/// Gateways that are chosen: where each is, and what ends its task.
type Running = BTreeMap<GatewayName, (SocketAddr, Shutdown)>;

impl Keeper {
    /// Keeps connections to [`GATEWAYS`] gateways until shutdown begins. Then it dials no more; those that are there
    /// are left to whoever closes the tunnel.
    pub async fn run(self, shutdown: Shutdown) {
        let keeper = Arc::new(self);
        let mut config = keeper.store.subscribe();
        let mut running = Running::new();
        let mut runs = 0;
        loop {
            config.borrow_and_update();
            let wanted = choose(&keeper.listed(), |gateway| keeper.standing(gateway, &running));
            running.retain(|name, (address, stop)| {
                let keep = wanted.iter().any(|gateway| gateway.name == *name && gateway.address == *address);
                if !keep {
                    stop.begin();
                    keeper.let_go(name);
                }
                keep
            });
            for gateway in wanted {
                if running.contains_key(&gateway.name) {
                    continue;
                }
                runs += 1;
                let stop = shutdown.child();
                running.insert(gateway.name.clone(), (gateway.address, stop.clone()));
                keeper
                    .gateways
                    .with(|held| held.insert(gateway.name.clone(), Held::new(runs, gateway.address)));
                tokio::spawn(keeper.clone().keep_one(gateway, runs, stop));
            }
            tokio::select! {
                _ = config.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    fn let_go(&self, name: &GatewayName) {
        let held = self.gateways.with(|held| held.remove(name));
        self.gateways.changed.send_replace(());
        if let Some(link) = held.and_then(|held| held.link) {
            info!(gateway = %name, "the gateway is no longer used");
            link.retire();
        }
    }

    fn listed(&self) -> Vec<GatewayAddress> {
        match &self.store.current().site {
            Some(site) if !site.site.gateways.is_empty() => site.site.gateways.clone(),
            _ => self.first.clone(),
        }
    }

    fn standing(&self, gateway: &GatewayAddress, running: &Running) -> Standing {
        if running.get(&gateway.name).is_none_or(|(address, _)| *address != gateway.address) {
            return Standing::Untried;
        }
        self.gateways.with(|held| match held.get(&gateway.name) {
            None => Standing::Untried,
            // Silence of a moment is no reason to leave.
            Some(Held { link: Some(link), views, .. }) => {
                match link.connection.health().peer_draining || views.draining {
                    false => Standing::Works,
                    true => Standing::Fails,
                }
            }
            Some(Held { failures: 0, .. }) => Standing::Dialled,
            Some(_) => Standing::Fails,
        })
    }

    async fn keep_one(self: Arc<Self>, gateway: GatewayAddress, run: u64, stop: Shutdown) {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let connection = tokio::select! {
                connection = self.dial(&gateway, run) => connection,
                () = stop.begun() => return,
            };
            let began = Instant::now();
            let link = Link::new(connection.clone());
            let is_held = self.gateways.change(&gateway.name, run, |held| {
                held.link = Some(link.clone());
                held.live_since = Instant::now();
                held.views = no_views();
                held.failures = 0;
                held.problem.clear();
            });
            // Where it is no longer wanted, dropping the connection closes it.
            if !is_held || self.opened.send((gateway.name.clone(), link.clone())).await.is_err() {
                return;
            }
            info!(gateway = %gateway.name, "connected");
            let reason = tokio::select! {
                closed = connection.closed() => closed.to_string(),
                never = self.note_returns(&gateway.name, run, &connection) => match never {},
                () = connection.dead() => connection.close_reason().map_or("it is silent".to_owned(), |why| why.to_string()),
                () = stop.begun() => return,
            };
            warn!(gateway = %gateway.name, reason, "connection lost");
            self.gateways.change(&gateway.name, run, |held| {
                held.link = None;
                held.views = no_views();
                held.problem = reason;
            });
            // A silent one may come back; what has nowhere else to go waits on it for that.
            link.retire();
            if began.elapsed() > SHORT {
                backoff.reset();
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = stop.begun() => return,
            }
        }
    }

    /// Notes each return of a connection from a silence that did not last, for as long as it is polled.
    async fn note_returns(&self, gateway: &GatewayName, run: u64, connection: &Connection) -> Infallible {
        let mut states = connection.states();
        let mut before = State::Live;
        loop {
            let state = *states.borrow_and_update();
            if state == State::Live && before != State::Live {
                self.gateways.change(gateway, run, |held| held.live_since = Instant::now());
            }
            before = state;
            if states.changed().await.is_err() {
                // It is closed, which is for others to notice.
                return std::future::pending().await;
            }
        }
    }

    /// Dials until somebody answers.
    async fn dial(&self, gateway: &GatewayAddress, run: u64) -> Connection {
        let mut again = Backoff::new(DIAL_AGAIN, DIAL_AGAIN);
        let mut next = Instant::now();
        let mut dials = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(dialled) = dials.next() => match dialled {
                    Ok(connection) => return connection,
                    Err(error) => {
                        let error: tunnel::ConnectError = error;
                        debug!(gateway = %gateway.name, %error, "cannot connect");
                        self.gateways.change(&gateway.name, run, |held| {
                            held.failures = held.failures.saturating_add(1);
                            held.problem = error.to_string();
                        });
                    }
                },
                () = tokio::time::sleep_until(next), if dials.len() < DIALS_MAX => {
                    let expect = Expect::trusted(&self.trust, self.trust.own_domain(), RoleKind::Gateway);
                    dials.push(self.tunnel.connect(gateway.address, expect));
                    next = Instant::now() + again.next_wait();
                }
            }
        }
    }
}

/// How the agent stands with a gateway, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It is connected.
    Works,
    /// It is dialled, and that has not failed yet.
    Dialled,
    /// It was not chosen.
    Untried,
    /// Dials have failed, or it drains.
    Fails,
}

/// Stays with gateways that work; fills up with others, in an order that differs from host to host so that agents
/// spread, and changes a gateway that does not answer for one that was not tried.
fn choose(listed: &[GatewayAddress], standing: impl Fn(&GatewayAddress) -> Standing) -> Vec<GatewayAddress> {
    let mut ranked: Vec<_> =
        listed.iter().map(|gateway| (standing(gateway), fastrand::u32(..), gateway)).collect();
    ranked.sort_by_key(|(standing, random, _)| (*standing, *random));
    ranked.into_iter().take(GATEWAYS).map(|(_, _, gateway)| gateway.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gateways, each with its standing, and which are chosen.
    fn chosen(gateways: &[(&str, Standing)]) -> String {
        let listed: Vec<GatewayAddress> = gateways
            .iter()
            .map(|(name, _)| GatewayAddress {
                name: name.parse().expect("valid"),
                address: "127.0.0.1:4430".parse().expect("valid"),
            })
            .collect();
        let standing = |gateway: &GatewayAddress| {
            let (_, standing) =
                gateways.iter().find(|(name, _)| *name == gateway.name.as_str()).expect("listed");
            *standing
        };
        let mut names: Vec<String> =
            choose(&listed, standing).into_iter().map(|g| g.name.to_string()).collect();
        names.sort();
        names.join(" ")
    }

    #[test]
    fn an_agent_stays_with_gateways_that_work() {
        use Standing::*;
        for _ in 0..50 {
            assert_eq!(chosen(&[("a", Works), ("b", Untried), ("c", Works), ("d", Untried)]), "a c");
            assert_eq!(
                chosen(&[("a", Untried), ("b", Dialled), ("c", Works)]),
                "b c",
                "a dial is given its time"
            );
        }
    }

    #[test]
    fn a_gateway_that_does_not_answer_is_changed_for_one_that_was_not_tried() {
        use Standing::*;
        for _ in 0..50 {
            assert_eq!(chosen(&[("a", Fails), ("b", Untried), ("c", Works)]), "b c");
        }
        assert_eq!(chosen(&[("a", Fails), ("b", Fails)]), "a b", "there are no others");
        assert_eq!(chosen(&[]), "");
    }

    #[test]
    fn agents_spread_over_the_gateways() {
        let gateways: Vec<String> = (0..8).map(|number| format!("gw-{number}")).collect();
        let untried: Vec<_> = gateways.iter().map(|name| (name.as_str(), Standing::Untried)).collect();
        let choices: std::collections::BTreeSet<String> = (0..200).map(|_| chosen(&untried)).collect();
        assert!(choices.len() > 5, "{choices:?}");
    }
}
