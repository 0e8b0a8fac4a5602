//! Which connection takes a new stream.

use super::{Connection, ConnectionId, PathTable};
use crate::liveness::State;
use model::ids::{GatewayName, SiteId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Load {
    /// Bulk streams among them.
    pub bulk: u32,
    /// Open streams.
    pub streams: u32,
}

/// How a stream gets to a linked site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Over this connection, whose other end is a gateway of the site.
    Path(ConnectionId),
    /// Over this connection to a sibling, which has a path to the site.
    Sibling(ConnectionId),
}

impl Hop {
    /// The connection.
    pub fn connection(self) -> ConnectionId {
        match self {
            Self::Path(id) | Self::Sibling(id) => id,
        }
    }
}

impl PathTable {
    /// The next hop of a stream to a linked site. `tried` are connections that it was already sent over. A stream that
    /// came `from_sibling` is not passed to one again: one hop, never two. None: no live way is left.
    pub fn next_hop(
        &mut self,
        site: &SiteId,
        from_sibling: bool,
        tried: &BTreeSet<ConnectionId>,
        load: &dyn Fn(ConnectionId) -> Load,
    ) -> Option<Hop> {
        if let Some(id) = self.place(site, tried, load) {
            return Some(Hop::Path(id));
        }
        if from_sibling {
            return None;
        }
        let reachable: BTreeSet<GatewayName> = self
            .live_siblings()
            .map(|(gateway, _)| gateway)
            .filter(|gateway| self.reaches(gateway, site))
            .cloned()
            .collect();
        let own = self.own.site.clone();
        self.pick(&own, tried, load, &|c| reachable.contains(&c.path.gateway)).map(Hop::Sibling)
    }

    /// A connection to a gateway of the site: live, the better paths first, then the fewest bulk streams, then the fewest
    /// streams. Gateways that were not tried come before those that were, and one that drains comes last: a process
    /// that leaves still serves those who have nobody else yet.
    pub fn place(
        &mut self,
        site: &SiteId,
        tried: &BTreeSet<ConnectionId>,
        load: &dyn Fn(ConnectionId) -> Load,
    ) -> Option<ConnectionId> {
        self.pick(site, tried, load, &|_| true)
    }

    /// A connection to a sibling that may hold something which this gateway does not: each call with what was tried
    /// before names another sibling, and none twice.
    pub fn place_sibling(
        &mut self,
        tried: &BTreeSet<ConnectionId>,
        load: &dyn Fn(ConnectionId) -> Load,
    ) -> Option<ConnectionId> {
        let own = self.own.site.clone();
        let tried_gateways = self.gateways_of(tried);
        self.pick(&own, tried, load, &|c| !tried_gateways.contains(&c.path.gateway))
    }

    /// Whether a stream whose connection is dead could go another way to the site. Only ways that have been live for a
    /// while count: where several connections come back after a silence, the first must not take the streams of those
    /// that are back a moment later.
    pub fn has_steady_way(&self, site: &SiteId, from_sibling: bool, now: Instant) -> bool {
        let steady = |c: &Connection| takes_streams(c) && now >= c.live_since + self.settings.steady_after;
        self.of_site(site).any(|(_, c)| steady(c))
            || !from_sibling
                && self.of_site(&self.own.site).any(|(_, c)| steady(c) && self.reaches(&c.path.gateway, site))
    }

    /// Whether a sibling says that it reaches the site.
    fn reaches(&self, sibling: &GatewayName, site: &SiteId) -> bool {
        let view = self.siblings.get(sibling).filter(|view| !view.draining);
        view.and_then(|view| view.peers.get(site)).is_some_and(|view| view.state.is_usable())
    }

    fn gateways_of(&self, ids: &BTreeSet<ConnectionId>) -> BTreeSet<GatewayName> {
        ids.iter().filter_map(|id| self.connections.get(id)).map(|c| c.path.gateway.clone()).collect()
    }

    /// Siblings with a live connection that take streams, with the round trip to them.
    pub(super) fn live_siblings(&self) -> impl Iterator<Item = (&GatewayName, Option<Duration>)> {
        let live = self.of_site(&self.own.site).filter(|(_, c)| takes_streams(c));
        live.map(|(_, c)| (&c.path.gateway, c.health.rtt))
    }

    fn pick(
        &mut self,
        site: &SiteId,
        tried: &BTreeSet<ConnectionId>,
        load: &dyn Fn(ConnectionId) -> Load,
        wanted: &dyn Fn(&Connection) -> bool,
    ) -> Option<ConnectionId> {
        let tried_gateways = self.gateways_of(tried);
        // Streams of a gateway in all, so that equal connections are filled gateway by gateway.
        let mut by_gateway: BTreeMap<&GatewayName, u32> = BTreeMap::new();
        for (id, c) in self.of_site(site) {
            let streams = by_gateway.entry(&c.path.gateway).or_default();
            *streams = streams.saturating_add(load(id).streams);
        }
        let open = |id: ConnectionId, c: &Connection| {
            c.health.state == State::Live && !tried.contains(&id) && !self.is_duplicate(c) && wanted(c)
        };
        let mut best: Option<(Rank, Vec<ConnectionId>)> = None;
        for (id, c) in self.of_site(site).filter(|(id, c)| open(*id, c)) {
            let gateway = &c.path.gateway;
            let listed = self.path(&c.path).is_some_and(|path| path.address.is_some());
            let poor = c.quality.is_poor() || !listed;
            let streams = by_gateway.get(gateway).copied().unwrap_or(0);
            let drains = c.health.peer_draining;
            let rank = (drains, tried_gateways.contains(gateway), poor, load(id), streams);
            match &mut best {
                Some((least, ids)) if *least == rank => ids.push(id),
                Some((least, _)) if *least < rank => {}
                _ => best = Some((rank, vec![id])),
            }
        }
        let (_, equal) = best?;
        self.turn = self.turn.wrapping_add(1);
        let turn = usize::try_from(self.turn % equal.len() as u64).unwrap_or(0);
        equal.get(turn).copied()
    }
}

/// Least is best: it drains, its gateway was tried, it is poor or no longer listed, its load, streams of its gateway.
type Rank = (bool, bool, bool, Load, u32);

fn takes_streams(connection: &Connection) -> bool {
    connection.health.state == State::Live && !connection.health.peer_draining
}
