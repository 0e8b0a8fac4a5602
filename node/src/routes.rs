//! The routing table of a node: what `policy` decides from, kept in line with the config and with the node's own
//! paths, and the open streams that count in its decisions.

use crate::config::NodeConfig;
use crate::store::ConfigStore;
use crate::tally::Tally;
use model::decision::{ExplainRequest, Explanation};
use model::endpoint::Endpoint;
use model::ids::{EndpointId, SiteId};
use model::routing::{Import, PeerView};
use model::service::ServiceName;
use policy::{Ask, Outcome, Router};
use runtime::shutdown::Shutdown;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Longest sleep between two looks at the router's timers.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Shortest, so that a timer that is always due cannot spin.
const SLEEP_MIN: Duration = Duration::from_millis(5);

/// Shared by all streams of a node.
pub struct Routes {
    own: SiteId,
    router: RwLock<Router>,
    /// What was last taken from the config, by pointer, so that only what changed goes in.
    taken: Mutex<BTreeMap<ServiceName, Arc<Import>>>,
    /// Open streams by service and serving site, then by endpoint; an entry leaves with its last stream.
    open: Mutex<BTreeMap<(ServiceName, SiteId), BTreeMap<EndpointId, u32>>>,
    /// Config or views came in.
    changed: Notify,
    tally: Arc<Tally>,
}

impl Routes {
    /// An empty table. `node` is how the process calls itself in explanations ("gateway gw-0").
    pub fn new(own: SiteId, node: String) -> Arc<Self> {
        Arc::new(Self {
            own: own.clone(),
            router: RwLock::new(Router::new(own, node)),
            taken: Mutex::new(BTreeMap::new()),
            open: Mutex::new(BTreeMap::new()),
            changed: Notify::new(),
            tally: Arc::default(),
        })
    }

    /// What was counted; shared by all that serves the clients of the node.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Asks the router.
    pub fn read<T>(&self, ask: impl FnOnce(&Router) -> T) -> T {
        // The router has no state that a panic could leave half-changed; the same holds for the locks below.
        ask(&self.router.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Router, Instant) -> T) -> T {
        change(&mut self.router.write().unwrap_or_else(PoisonError::into_inner), Instant::now())
    }

    /// Takes what differs between the config and what was taken before.
    pub fn handle_config(&self, config: &NodeConfig) {
        self.forget_unlinked(config);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<ServiceName> =
            taken.keys().filter(|name| !config.services.contains_key(*name)).cloned().collect();
        let fresh: Vec<(&ServiceName, &Arc<Import>)> = config
            .services
            .iter()
            .filter(|(name, import)| taken.get(*name).is_none_or(|held| !Arc::ptr_eq(held, import)))
            .collect();
        if gone.is_empty() && fresh.is_empty() {
            return;
        }
        self.write(|router, now| {
            for name in &gone {
                router.handle_import_removed(name, now);
            }
            for (_, import) in &fresh {
                router.handle_import((***import).clone(), now);
            }
        });
        for name in &gone {
            taken.remove(name);
        }
        for (name, import) in fresh {
            taken.insert(name.clone(), import.clone());
        }
        self.changed.notify_one();
    }

    /// Views may come of sites that are no longer linked: whoever has them hears of that a moment later.
    fn forget_unlinked(&self, config: &NodeConfig) {
        let unlinked: Vec<SiteId> = self.read(|router| {
            router.peers().keys().filter(|site| !config.peers.contains_key(*site)).cloned().collect()
        });
        if !unlinked.is_empty() {
            self.write(|router, now| unlinked.iter().for_each(|site| router.handle_peer_removed(site, now)));
        }
    }

    /// Takes the state of linked sites, as this node's own paths show it.
    pub fn handle_views<'a>(&self, views: impl IntoIterator<Item = (&'a SiteId, PeerView)>) {
        self.write(|router, now| {
            for (site, view) in views {
                router.handle_peer(site, view, now);
            }
        });
        self.changed.notify_one();
    }

    /// Takes what became of a stream that an endpoint of the own site was given.
    pub fn handle_outcome(&self, service: &ServiceName, endpoint: &EndpointId, outcome: Outcome) {
        self.write(|router, now| router.handle_outcome(service, endpoint, outcome, now));
    }

    /// Decides.
    pub fn decide(&self, ask: &Ask<'_>) -> model::decision::Decision {
        let decision = self.read(|router| router.decide(ask, Instant::now(), fastrand::u64(..)));
        self.tally.decided(&decision);
        decision
    }

    /// Answers `explain` from what this node would do.
    pub fn explain(&self, request: &ExplainRequest) -> Explanation {
        let open = self.open_of(&request.service);
        let open_streams = |endpoint: &EndpointId| open.get(endpoint).copied().unwrap_or(0);
        self.read(|router| router.explain(request, &open_streams, Instant::now(), fastrand::u64(..)))
    }

    /// The own site.
    pub fn own(&self) -> &SiteId {
        &self.own
    }

    /// An endpoint of the own site.
    pub fn endpoint(&self, service: &ServiceName, endpoint: &EndpointId) -> Option<Endpoint> {
        self.read(|router| router.endpoint(service, endpoint).cloned())
    }

    /// Open streams of a service at the own site, by endpoint.
    pub fn open_of(&self, service: &ServiceName) -> BTreeMap<EndpointId, u32> {
        let key = (service.clone(), self.own.clone());
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned().unwrap_or_default()
    }

    /// Open streams by service and serving site.
    pub fn open_streams(&self) -> Vec<(ServiceName, SiteId, u32)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |endpoints: &BTreeMap<EndpointId, u32>| endpoints.values().sum();
        open.iter().map(|((service, site), open)| (service.clone(), site.clone(), sum(open))).collect()
    }

    /// Counts a stream while the guard lives.
    pub(crate) fn count(
        self: &Arc<Self>,
        service: &ServiceName,
        site: &SiteId,
        endpoint: &EndpointId,
    ) -> Counted {
        let (place, endpoint) = ((service.clone(), site.clone()), endpoint.clone());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open.entry(place.clone()).or_default().entry(endpoint.clone()).or_default() += 1;
        Counted { routes: self.clone(), place, endpoint }
    }

    /// Keeps the table in line with the config, and its timers going, until shutdown begins.
    pub async fn run(self: Arc<Self>, store: Arc<ConfigStore>, shutdown: Shutdown) {
        let mut config = store.subscribe();
        let mut taken: Option<Arc<NodeConfig>> = None;
        loop {
            let (current, waits) = store.look(|| config.borrow_and_update().clone());
            if taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &current)) {
                self.forget_unlinked(&current);
            } else {
                self.handle_config(&current);
                taken = Some(current);
            }
            if let Some(since) = waits {
                self.tally.routed.note(since.elapsed());
            }
            let sleep = self.keep_time();
            tokio::select! {
                changed = config.changed() => if changed.is_err() { return },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Sees to the router's timers; answers how long until the next.
    fn keep_time(&self) -> Duration {
        let left = |due: Instant| due.saturating_duration_since(Instant::now());
        let due = || self.read(Router::poll_timeout).map(|(due, _)| due);
        if due().is_some_and(|due| left(due).is_zero()) {
            self.write(|router, now| router.handle_timeout(now));
        }
        due().map_or(SLEEP_MAX, left).clamp(SLEEP_MIN, SLEEP_MAX)
    }
}

/// A counted stream.
pub(crate) struct Counted {
    routes: Arc<Routes>,
    place: (ServiceName, SiteId),
    endpoint: EndpointId,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.routes.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(endpoints) = open.get_mut(&self.place) else { return };
        if let Some(count) = endpoints.get_mut(&self.endpoint) {
            *count -= 1;
            if *count == 0 {
                endpoints.remove(&self.endpoint);
            }
        }
        if endpoints.is_empty() {
            open.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::routing::PeerState;

    fn site(name: &str) -> SiteId {
        name.parse().expect("valid")
    }

    #[test]
    fn a_stream_counts_while_it_is_open_and_leaves_nothing_behind() {
        let routes = Routes::new(site("west"), "agent vm-1".to_owned());
        let service: ServiceName = "shop/cart".parse().expect("valid");
        let [one, two]: [EndpointId; 2] = ["one", "two"].map(|id| id.parse().expect("valid"));
        let open = [
            routes.count(&service, &site("west"), &one),
            routes.count(&service, &site("west"), &one),
            routes.count(&service, &site("west"), &two),
            routes.count(&service, &site("east"), &one),
        ];
        assert_eq!(routes.open_of(&service), BTreeMap::from([(one, 2), (two, 1)]));
        let sums = [(service.clone(), site("east"), 1), (service.clone(), site("west"), 3)];
        assert_eq!(routes.open_streams(), sums);
        drop(open);
        assert!(routes.open.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn a_view_of_a_site_that_is_not_linked_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = ConfigStore::open(folder.path()).expect("opens");
        let routes = Routes::new(site("west"), "agent vm-1".to_owned());
        let shutdown = Shutdown::new();
        let running = tokio::spawn(routes.clone().run(store, shutdown.clone()));
        let view = PeerView { state: PeerState::Connected, rtt: None };
        routes.handle_views([(&site("east"), view)]);
        let gone = async {
            while routes.read(|router| !router.peers().is_empty()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("forgotten");
        shutdown.begin();
        running.await.expect("no panic");
    }
}
