//! Dialling a gateway.

use super::{Paths, Who};
use gateway_core::path::PathKey;
use identity::peer::RoleKind;
use identity::tls::Expect;
use model::identity::Role;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::{debug, info};
use tunnel::CloseCode;

impl Paths {
    /// Dials, and tells the table how it went.
    pub(super) async fn dial(self: Arc<Self>, path: PathKey, address: SocketAddr) {
        if let Err(problem) = self.try_dial(&path, address).await {
            debug!(peer = %path.site, gateway = %path.gateway, %address, problem, "cannot connect");
            self.tell(|inner, now| inner.table.handle_dial_failed(&path, &problem, now));
        }
    }

    async fn try_dial(self: &Arc<Self>, path: &PathKey, address: SocketAddr) -> Result<(), String> {
        let (domain, who) = if path.site == self.site {
            (self.own.trust_domain.clone(), Who::Sibling(path.gateway.clone()))
        } else {
            let config = self.lock().config.clone();
            let peer = config.peers.get(&path.site).ok_or("the site is not linked any more")?;
            (peer.site.trust_domain.clone(), Who::Peer(path.clone()))
        };
        let expect = Expect::trusted(&self.trust, domain, RoleKind::Gateway);
        let connection = self.tunnel.connect(address, expect).await.map_err(|error| error.to_string())?;
        if connection.peer().role != Role::Gateway(path.gateway.clone()) {
            let problem = format!("{address} is {}, not gateway {}", connection.peer(), path.gateway);
            connection.close(CloseCode::Unwelcome, "another gateway was meant");
            return Err(problem);
        }
        info!(peer = %path.site, gateway = %path.gateway, "connected");
        self.keep(who, connection).await;
        Ok(())
    }
}
