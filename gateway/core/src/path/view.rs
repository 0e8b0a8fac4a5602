//! How each peer and each path is.

use super::{Health, Path, PathTable, Peer};
use crate::liveness::State;
use model::ids::{GatewayName, SiteId};
use model::node::{PathReport, PathState};
use model::routing::{PeerState, PeerView};
use std::time::Duration;

impl PathTable {
    /// How a linked site is seen from here: by the own paths, or else by those of a sibling that has one.
    pub fn view(&self, site: &SiteId) -> PeerView {
        let own = self.own_view(site);
        if own.state != PeerState::Unreachable {
            return own;
        }
        let through = |(gateway, to_sibling): (&GatewayName, Option<Duration>)| {
            let view = self.siblings.get(gateway).filter(|view| !view.draining)?.peers.get(site)?;
            view.state.is_usable().then(|| view.rtt.zip(to_sibling).map(|(a, b)| a + b))
        };
        match self.live_siblings().filter_map(through).min() {
            Some(rtt) => PeerView { state: PeerState::Degraded, rtt },
            None => own,
        }
    }

    /// How all linked sites are seen from here; see [`PathTable::view`].
    pub fn views(&self) -> Vec<(SiteId, PeerView)> {
        self.peers.keys().filter(|id| **id != self.own.site).map(|id| (id.clone(), self.view(id))).collect()
    }

    /// How all linked sites are seen by this gateway's own paths: what siblings are told.
    pub fn own_views(&self) -> Vec<(SiteId, PeerView)> {
        self.peers
            .keys()
            .filter(|id| **id != self.own.site)
            .map(|id| (id.clone(), self.own_view(id)))
            .collect()
    }

    /// All paths, siblings included, by site and gateway.
    pub fn reports(&self) -> Vec<PathReport> {
        let of_site = |(site, peer): (&SiteId, &Peer)| {
            let report = |(gateway, path): (&GatewayName, &Path)| self.report(site, gateway, path);
            peer.paths.iter().filter_map(report).collect::<Vec<_>>()
        };
        self.peers.iter().flat_map(of_site).collect()
    }

    fn report(&self, site: &SiteId, gateway: &GatewayName, path: &Path) -> Option<PathReport> {
        let on_path = || self.on_path(site, gateway);
        let live = || on_path().filter(|(_, c)| c.health.state == State::Live);
        Some(PathReport {
            site: site.clone(),
            gateway: gateway.clone(),
            address: path.address.or_else(|| on_path().next().map(|(_, c)| c.remote))?,
            state: self.path_state(site, gateway, path),
            rtt: live().filter_map(|(_, c)| c.health.rtt).min(),
            loss_permille: on_path().map(|(_, c)| c.health.loss_permille).max().unwrap_or(0),
            streams: on_path().map(|(_, c)| c.load.streams).sum(),
            // The shell knows it.
            mtu: None,
            problem: match live().next() {
                Some(_) => live().find_map(|(_, c)| c.quality.problem(&self.settings)).unwrap_or_default(),
                None => path.problem.clone(),
            },
        })
    }

    pub(super) fn path_state(&self, site: &SiteId, gateway: &GatewayName, path: &Path) -> PathState {
        let best = self.on_path(site, gateway).map(|(_, c)| match c.health {
            Health { state: State::Live, peer_draining: false, .. } => PathState::Live,
            Health { state: State::Live, peer_draining: true, .. } => PathState::Draining,
            Health { state: State::Suspect, .. } => PathState::Suspect,
            Health { state: State::Dead, .. } => PathState::Dead,
        });
        let rank = |state: &PathState| match state {
            PathState::Live => 0,
            PathState::Draining => 1,
            PathState::Suspect => 2,
            PathState::Dead => 3,
            PathState::Dialling => 4,
        };
        let none = if path.ever_up || path.failures > 0 { PathState::Dead } else { PathState::Dialling };
        best.min_by_key(rank).unwrap_or(none)
    }

    pub(super) fn own_view(&self, site: &SiteId) -> PeerView {
        let Some(peer) = self.peers.get(site) else {
            return PeerView { state: PeerState::Unreachable, rtt: None };
        };
        let states: Vec<PathState> =
            peer.paths.iter().map(|(gateway, path)| self.path_state(site, gateway, path)).collect();
        let usable =
            |state: &PathState| matches!(state, PathState::Live | PathState::Draining | PathState::Suspect);
        let troubled = |state: &PathState| matches!(state, PathState::Dead | PathState::Suspect);
        let live =
            || self.connections.values().filter(|c| c.path.site == *site && c.health.state == State::Live);
        let state = if !states.iter().any(usable) {
            PeerState::Unreachable
        } else if states.iter().any(troubled) || live().any(|c| c.quality.is_poor()) {
            PeerState::Degraded
        } else {
            PeerState::Connected
        };
        PeerView { state, rtt: live().filter_map(|c| c.health.rtt).min() }
    }
}
