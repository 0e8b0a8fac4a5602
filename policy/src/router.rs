//! What a gateway or an agent holds to route: imports, the state of its peers, and what it remembers.

use crate::decide::{Input, Tried, decide};
use crate::explain;
use crate::memory::{self, Memory, Outcome};
use model::decision::{Decision, ExplainRequest, Explanation};
use model::endpoint::{Endpoint, Health};
use model::ids::{EndpointId, SiteId};
use model::routing::{Caller, GroupId, Import, PeerView};
use model::service::{PortKey, ServiceName};
use model::tunnel::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Routes streams of one process.
///
/// Changes go in through `handle_*`, with the time; questions take `&self`, so that many can be answered at once
/// between two changes.
#[derive(Debug, Clone)]
pub struct Router {
    own: SiteId,
    /// How the process calls itself in explanations ("gateway gw-0").
    node: String,
    /// Bounded by what the federation sends, which bounds it.
    imports: BTreeMap<ServiceName, Import>,
    /// Linked sites; bounded as `imports`.
    peers: BTreeMap<SiteId, PeerView>,
    memory: Memory,
}

/// A stream that is to be routed.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Service.
    pub service: &'a ServiceName,
    /// Port.
    pub port: PortKey,
    /// Caller.
    pub caller: &'a Caller,
    /// How far the process before has decided already; none: this is the first.
    pub target: Option<&'a Target>,
    /// Candidates that did not take this stream.
    pub tried: &'a BTreeSet<Tried>,
    /// Open streams of an endpoint of the own site for this service.
    pub open_streams: &'a dyn Fn(&EndpointId) -> u32,
}

impl Router {
    /// Knows nothing yet.
    pub fn new(own: SiteId, node: String) -> Self {
        Self { own, node, imports: BTreeMap::new(), peers: BTreeMap::new(), memory: Memory::default() }
    }

    /// A service is there or has changed.
    pub fn handle_import(&mut self, import: Import, now: Instant) {
        self.memory.handle_service(&import, &self.own, &self.peers, now);
        self.imports.insert(import.service.clone(), import);
    }

    /// A service is gone.
    pub fn handle_import_removed(&mut self, service: &ServiceName, now: Instant) {
        self.imports.remove(service);
        self.memory.handle_service_removed(service, now);
    }

    /// The state of a linked site, from the own paths.
    pub fn handle_peer(&mut self, site: &SiteId, view: PeerView, now: Instant) {
        if let Some(rtt) = view.rtt {
            self.memory.handle_rtt(site, rtt, now);
        }
        let before = self.peers.insert(site.clone(), view).is_some_and(|before| before.state.is_usable());
        if before != view.state.is_usable() {
            self.remember(site, now);
        }
    }

    /// A site is no longer linked.
    pub fn handle_peer_removed(&mut self, site: &SiteId, now: Instant) {
        self.memory.handle_peer_removed(site);
        if self.peers.remove(site).is_some_and(|before| before.state.is_usable()) {
            self.remember(site, now);
        }
    }

    /// An endpoint of the own site accepted a stream, or refused it, or did not answer.
    pub fn handle_outcome(
        &mut self,
        service: &ServiceName,
        endpoint: &EndpointId,
        outcome: Outcome,
        now: Instant,
    ) {
        self.memory.handle_outcome(service, endpoint, outcome, now);
    }

    /// Time has reached what [`Self::poll_timeout`] announced.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.memory.handle_timeout(now);
    }

    /// When to call [`Self::handle_timeout`], and why. Any `handle_*` may change the answer.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.memory.poll_timeout()
    }

    /// Where a stream goes, and why; `random` is a random number.
    pub fn decide(&self, ask: &Ask<'_>, now: Instant, random: u64) -> Decision {
        let none = (BTreeSet::new(), BTreeSet::new());
        decide(&self.input(ask, (&none.0, &none.1), now, random))
    }

    /// The same decision for a question, told to a person.
    pub fn explain(
        &self,
        request: &ExplainRequest,
        open_streams: &dyn Fn(&EndpointId) -> u32,
        now: Instant,
        random: u64,
    ) -> Explanation {
        let tried = BTreeSet::new();
        let ask = Ask {
            service: &request.service,
            port: explain::port(request, self.imports.get(&request.service)),
            caller: &request.caller,
            target: None,
            tried: &tried,
            open_streams,
        };
        let failed = BTreeSet::new();
        let input = self.input(&ask, (&request.without, &failed), now, random);
        explain::explain(&self.node, request, &input)
    }

    /// Endpoints that are known by name, for the names of headless services: the healthy ones of the own site and of
    /// peers that can be reached; when there are none, the last known ones.
    pub fn named_endpoints(&self, service: &ServiceName) -> Vec<(&GroupId, &Endpoint)> {
        let Some(import) = self.imports.get(service) else { return Vec::new() };
        let usable = |site: &SiteId| {
            *site == self.own || self.peers.get(site).is_some_and(|peer| peer.state.is_usable())
        };
        let groups = import.groups.iter().filter(|group| usable(&group.id.site));
        let all: Vec<_> = groups
            .flat_map(|group| group.endpoints.iter().map(move |endpoint| (&group.id, endpoint)))
            .collect();
        let healthy: Vec<_> =
            all.iter().filter(|(_, endpoint)| endpoint.health == Health::Healthy).copied().collect();
        if healthy.is_empty() { all } else { healthy }
    }

    /// Whether a healthy endpoint could take a stream of the service now, at any site but `without`: whether streams
    /// to that site have somewhere else to go.
    pub fn is_served(&self, service: &ServiceName, without: Option<&SiteId>) -> bool {
        let served = |import: &Import| {
            let others = import.groups.iter().filter(|group| Some(&group.id.site) != without);
            others.map(|group| memory::healthy(group, &self.own, &self.peers)).any(|healthy| healthy > 0)
        };
        self.imports.get(service).is_some_and(served)
    }

    /// An endpoint of the own site.
    pub fn endpoint(&self, service: &ServiceName, id: &EndpointId) -> Option<&Endpoint> {
        let groups = self.imports.get(service)?.groups.iter().filter(|group| group.id.site == self.own);
        groups.flat_map(|group| &group.endpoints).find(|endpoint| endpoint.id == *id)
    }

    /// Endpoints of the own site that are set aside after failures.
    pub fn set_aside(&self, now: Instant) -> usize {
        self.memory.set_aside(now)
    }

    /// A service.
    pub fn import(&self, service: &ServiceName) -> Option<&Import> {
        self.imports.get(service)
    }

    /// All services, ordered by name.
    pub fn imports(&self) -> impl Iterator<Item = &Import> {
        self.imports.values()
    }

    /// State of the linked sites.
    pub fn peers(&self) -> &BTreeMap<SiteId, PeerView> {
        &self.peers
    }

    /// The own site.
    pub fn own(&self) -> &SiteId {
        &self.own
    }

    fn input<'a>(
        &'a self,
        ask: &Ask<'a>,
        (without, failed): (&'a BTreeSet<SiteId>, &'a BTreeSet<GroupId>),
        now: Instant,
        random: u64,
    ) -> Input<'a> {
        Input {
            own: &self.own,
            service: ask.service,
            import: self.imports.get(ask.service),
            port: ask.port,
            caller: ask.caller,
            target: ask.target,
            peers: &self.peers,
            memory: &self.memory,
            tried: ask.tried,
            without,
            failed,
            open_streams: ask.open_streams,
            now,
            random,
        }
    }

    /// Tells the memory of a change of one peer.
    fn remember(&mut self, site: &SiteId, now: Instant) {
        let touched = |import: &&Import| import.groups.iter().any(|group| group.id.site == *site);
        for import in self.imports.values().filter(touched) {
            self.memory.handle_service(import, &self.own, &self.peers, now);
        }
    }
}
