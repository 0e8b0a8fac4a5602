//! What must be remembered from one decision to the next.
//!
//! Sans-IO: it is told what happens and when, and never asks. Nothing in it is needed to decide: without it, every group
//! is at its first sight. It is bounded: past a bound, what is new is not remembered.

pub mod high_water;
pub mod order;
pub mod outlier;
pub mod returning;

use high_water::HighWater;
use model::endpoint::{Endpoint, Health};
use model::ids::{EndpointId, SiteId};
use model::routing::{FailoverPolicy, Group, GroupId, Import, PeerView};
use model::service::ServiceName;
use order::Order;
use outlier::Outlier;
use returning::{Returned, Returning};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Most services that are remembered.
pub const SERVICES_MAX: usize = 65_536;
/// Most groups of one service that are remembered.
pub const GROUPS_MAX: usize = 4_096;
/// Most endpoints of one service whose failures are remembered.
pub const OUTLIERS_MAX: usize = 4_096;
/// How long a group or a service that is gone is remembered: long enough that one that comes back is known again.
pub const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// How often what is to be forgotten is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What became of a stream that an endpoint was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It accepted.
    Ok,
    /// It refused, or did not answer in time.
    Failed,
}

/// High-water marks, recoveries, outliers, and the order of sites.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Bound: `SERVICES_MAX`.
    services: BTreeMap<ServiceName, ServiceMemory>,
    order: Order,
    /// When what is to be forgotten was last looked for; none: there was never anything.
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
struct ServiceMemory {
    /// Bound: `GROUPS_MAX`.
    groups: BTreeMap<GroupId, GroupMemory>,
    /// Bound: `OUTLIERS_MAX`.
    outliers: BTreeMap<EndpointId, Outlier>,
    gone_since: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
struct GroupMemory {
    total: HighWater,
    returning: Returning,
    gone_since: Option<Instant>,
}

/// Endpoints of a group that could take load: healthy, and of the own site or of a peer that can be reached.
pub fn healthy(group: &Group, own: &SiteId, peers: &BTreeMap<SiteId, PeerView>) -> u32 {
    if group.id.site == *own {
        let healthy = group.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy).count();
        return u32::try_from(healthy).unwrap_or(u32::MAX);
    }
    let usable = peers.get(&group.id.site).is_some_and(|peer| peer.state.is_usable());
    if usable { group.healthy } else { 0 }
}

impl Memory {
    /// A service is there or has changed, or the state of a peer that has a part in it.
    pub fn handle_service(
        &mut self,
        import: &Import,
        own: &SiteId,
        peers: &BTreeMap<SiteId, PeerView>,
        now: Instant,
    ) {
        // From the first service on there is something to forget.
        self.swept = self.swept.or(Some(now));
        if !self.services.contains_key(&import.service) && self.services.len() >= SERVICES_MAX {
            return;
        }
        let memory = self.services.entry(import.service.clone()).or_default();
        memory.gone_since = None;
        let mut present = BTreeSet::new();
        for group in &import.groups {
            present.insert(&group.id);
            if !memory.groups.contains_key(&group.id) && memory.groups.len() >= GROUPS_MAX {
                continue;
            }
            let remembered = memory.groups.entry(group.id.clone()).or_default();
            remembered.gone_since = None;
            remembered.total.handle_value(group.total, now);
            let total = remembered.total.mark(now);
            remembered.returning.handle_healthy(healthy(group, own, peers), total, &import.failover, now);
        }
        for (_, remembered) in memory.groups.iter_mut().filter(|(id, _)| !present.contains(id)) {
            remembered.handle_gone(&import.failover, now);
        }
        let endpoints: BTreeSet<&EndpointId> =
            import.groups.iter().flat_map(|group| &group.endpoints).map(|endpoint| &endpoint.id).collect();
        memory.outliers.retain(|endpoint, _| endpoints.contains(endpoint));
    }

    /// A service is gone.
    pub fn handle_service_removed(&mut self, service: &ServiceName, now: Instant) {
        if let Some(memory) = self.services.get_mut(service) {
            memory.gone_since = memory.gone_since.or(Some(now));
            memory.outliers.clear();
            memory.groups.values_mut().for_each(|group| group.handle_gone(&FailoverPolicy::default(), now));
        }
    }

    /// The round trip to a peer was measured.
    pub fn handle_rtt(&mut self, site: &SiteId, rtt: Duration, now: Instant) {
        self.order.handle_rtt(site, rtt, now);
    }

    /// A peer is gone.
    pub fn handle_peer_removed(&mut self, site: &SiteId) {
        self.order.handle_removed(site);
    }

    /// An endpoint of the own site was given a stream.
    pub fn handle_outcome(
        &mut self,
        service: &ServiceName,
        endpoint: &EndpointId,
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(memory) = self.services.get_mut(service) else { return };
        match outcome {
            Outcome::Ok => {
                if let Some(outlier) = memory.outliers.get_mut(endpoint) {
                    outlier.handle_ok(now);
                    if outlier.is_forgotten() {
                        memory.outliers.remove(endpoint);
                    }
                }
            }
            Outcome::Failed => {
                let room = memory.outliers.len() < OUTLIERS_MAX || memory.outliers.contains_key(endpoint);
                if room {
                    memory.outliers.entry(endpoint.clone()).or_default().handle_failed(now);
                }
            }
        }
    }

    /// Time has reached what [`Self::poll_timeout`] announced.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.order.handle_timeout(now);
        let due = self.swept.is_some_and(|swept| now.saturating_duration_since(swept) >= SWEEP_EVERY);
        if !due {
            return;
        }
        self.swept = Some(now);
        let keep = |gone: Option<Instant>| {
            gone.is_none_or(|gone| now.saturating_duration_since(gone) < FORGET_AFTER)
        };
        self.services.retain(|_, memory| {
            memory.groups.retain(|_, group| keep(group.gone_since));
            keep(memory.gone_since)
        });
    }

    /// When to call [`Self::handle_timeout`], and why. A measured round trip, a removed peer and the call itself may
    /// change the answer.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let order = self.order.poll_timeout().map(|at| (at, "order of sites"));
        let sweep = self.swept.map(|swept| (swept + SWEEP_EVERY, "forget what is gone"));
        order.into_iter().chain(sweep).min()
    }

    /// The most endpoints that a group has had in ten minutes, its present `total` included.
    pub fn total(&self, service: &ServiceName, group: &GroupId, total: u32, now: Instant) -> u32 {
        self.group(service, group).map_or(total, |memory| memory.total.mark(now).max(total))
    }

    /// How much of the `healthy` endpoints of a group has its load back.
    pub fn returned(
        &self,
        service: &ServiceName,
        group: &GroupId,
        healthy: u32,
        policy: &FailoverPolicy,
        now: Instant,
    ) -> Returned {
        match self.group(service, group) {
            Some(memory) => memory.returning.returned(healthy, policy, now),
            None => {
                Returned { settled: healthy, returned: f64::from(healthy), furthest: 1.0, begins_in: None }
            }
        }
    }

    /// Those of the endpoints of one group that are set aside: never more than half, those that return last.
    pub fn outliers(&self, service: &ServiceName, group: &[&Endpoint], now: Instant) -> BTreeSet<EndpointId> {
        let Some(memory) = self.services.get(service).filter(|memory| !memory.outliers.is_empty()) else {
            return BTreeSet::new();
        };
        let until = |endpoint: &Endpoint| memory.outliers.get(&endpoint.id)?.aside_until(now);
        let mut aside: Vec<(Instant, &EndpointId)> =
            group.iter().filter_map(|endpoint| Some((until(endpoint)?, &endpoint.id))).collect();
        aside.sort();
        aside.into_iter().rev().take(group.len() / 2).map(|(_, id)| id.clone()).collect()
    }

    /// Endpoints that are set aside, of all services. More than are left out of decisions, where that is half of a group.
    pub fn set_aside(&self, now: Instant) -> usize {
        let outliers = self.services.values().flat_map(|memory| memory.outliers.values());
        outliers.filter(|outlier| outlier.aside_until(now).is_some()).count()
    }

    /// Sites whose round trip is known, nearest first.
    pub fn by_rtt(&self) -> &[SiteId] {
        self.order.sites()
    }

    fn group(&self, service: &ServiceName, group: &GroupId) -> Option<&GroupMemory> {
        self.services.get(service)?.groups.get(group)
    }
}

impl GroupMemory {
    fn handle_gone(&mut self, policy: &FailoverPolicy, now: Instant) {
        self.gone_since = self.gone_since.or(Some(now));
        self.total.handle_value(0, now);
        self.returning.handle_healthy(0, self.total.mark(now), policy, now);
    }
}

/// An instant to begin a test with; which one does not matter.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can be made in no other way")]
pub(crate) fn some_instant() -> Instant {
    Instant::now()
}
