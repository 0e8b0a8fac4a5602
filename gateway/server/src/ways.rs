//! How a gateway gets a stream to where it was decided to go.

use crate::paths::Paths;
use model::endpoint::{Endpoint, Reach};
use model::ids::SiteId;
use model::service::ServiceName;
use node::route::{Way, Ways};
use std::net::SocketAddr;
use std::sync::Arc;

/// The ways of a gateway.
pub(crate) struct GatewayWays {
    pub(crate) paths: Arc<Paths>,
    /// The stream came from a sibling, so it does not go to one.
    pub(crate) from_sibling: bool,
}

fn open(connections: Vec<tunnel::Connection>) -> Vec<Way> {
    connections.into_iter().map(Way::Open).collect()
}

impl Ways for GatewayWays {
    fn to_endpoint(
        &self,
        _service: &ServiceName,
        endpoint: &Endpoint,
        target_port: u16,
        _hops: u8,
    ) -> Vec<Way> {
        match &endpoint.reach {
            Reach::Direct(address) => vec![Way::Dial(SocketAddr::new(*address, target_port))],
            Reach::Agent(host) => open(self.paths.to_agent(host, self.from_sibling)),
        }
    }

    fn to_site(&self, site: &SiteId, _hops: u8) -> Vec<Way> {
        open(self.paths.to_site(site, self.from_sibling))
    }

    fn has_steady_way(&self, site: &SiteId, _hops: u8) -> bool {
        self.paths.has_steady_way(site, self.from_sibling)
    }
}
