//! How an agent gets a stream to where it was decided to go.

use crate::gateways::Gateways;
use crate::incoming::Workloads;
use model::endpoint::{Endpoint, Reach};
use model::ids::{HostName, NetworkName, SiteId};
use model::service::ServiceName;
use node::route::{Way, Ways};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// The ways of one agent.
pub struct AgentWays {
    /// Own host.
    pub host: HostName,
    /// Network that this host is a member of: its members are dialled directly.
    pub network: NetworkName,
    /// Its workloads.
    pub workloads: watch::Receiver<Workloads>,
    /// Its gateways.
    pub gateways: Arc<Gateways>,
}

impl AgentWays {
    fn through_gateways(&self, site: Option<&SiteId>) -> Vec<Way> {
        self.gateways.candidates(site).into_iter().map(|(_, link)| Way::Open(link.connection)).collect()
    }

    /// Where a workload of this host listens.
    fn local(&self, service: &ServiceName, endpoint: &Endpoint, target_port: u16) -> Option<Way> {
        let workloads = self.workloads.borrow();
        let workload = workloads.get(&(service.clone(), endpoint.id.clone()))?;
        Some(Way::Dial(SocketAddr::new(workload.address, target_port)))
    }
}

impl Ways for AgentWays {
    fn to_endpoint(
        &self,
        service: &ServiceName,
        endpoint: &Endpoint,
        target_port: u16,
        _hops: u8,
    ) -> Vec<Way> {
        match &endpoint.reach {
            Reach::Agent(host) if *host == self.host => {
                self.local(service, endpoint, target_port).into_iter().collect()
            }
            Reach::Agent(_) => self.through_gateways(None),
            Reach::Direct(address) if endpoint.network == self.network => {
                vec![Way::Dial(SocketAddr::new(*address, target_port))]
            }
            Reach::Direct(_) => self.through_gateways(None),
        }
    }

    fn to_site(&self, site: &SiteId, _hops: u8) -> Vec<Way> {
        self.through_gateways(Some(site))
    }

    fn has_steady_way(&self, site: &SiteId, _hops: u8) -> bool {
        self.gateways.has_steady_way(Some(site), Instant::now())
    }

    fn has_steady_way_to(
        &self,
        service: &ServiceName,
        endpoint: &Endpoint,
        target_port: u16,
        _hops: u8,
    ) -> bool {
        match &endpoint.reach {
            Reach::Agent(host) if *host == self.host => self.local(service, endpoint, target_port).is_some(),
            Reach::Direct(_) if endpoint.network == self.network => true,
            Reach::Agent(_) | Reach::Direct(_) => self.gateways.has_steady_way(None, Instant::now()),
        }
    }
}
