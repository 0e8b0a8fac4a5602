//! Streams that gateways open to the agent: callers of its workloads, and what the gateways see of other sites.

use crate::gateways::{Gateways, Link};
use gateway_core::admission::refusal;
use model::decision::{Refusal, RefusalCode};
use model::ids::{EndpointId, GatewayName, SiteId};
use model::locality::Locality;
use model::node::PeerViews;
use model::tunnel::{HOPS_MAX, ServiceStream, StreamHeader, StreamKind, Target};
use runtime::shutdown::Tasks;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tracing::debug;
use tunnel::IncomingStream;

/// Workloads of this host by the endpoint that each became.
pub type Workloads = Arc<connectors::agent::Workloads>;

/// What serves a stream that comes in.
#[derive(Clone)]
pub struct Door {
    /// The own site; streams for others have no business here.
    pub site: SiteId,
    /// Workloads, now.
    pub workloads: watch::Receiver<Workloads>,
    /// Where views go.
    pub gateways: Arc<Gateways>,
    /// The process takes nothing new.
    pub draining: watch::Receiver<bool>,
    /// Streams that are finished when the process leaves.
    pub tasks: Tasks,
}

/// A workload that takes a stream.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    address: SocketAddr,
    endpoint: EndpointId,
    locality: Locality,
}

impl Door {
    /// Serves all streams of one connection to its end. As many are served at a time as the gateway may have open.
    pub async fn serve(self, gateway: GatewayName, link: Link) {
        while let Ok(incoming) = link.connection.accept_stream().await {
            let door = self.clone();
            match &incoming.header().kind {
                StreamKind::Service(service) => {
                    let found = self.find(incoming.header(), service);
                    self.tasks.spawn(door.call(incoming, found));
                }
                StreamKind::Views => {
                    tokio::spawn(door.follow_views(gateway.clone(), link.clone(), incoming));
                }
                StreamKind::Federation | StreamKind::Config => {
                    let detail = "an agent carries nothing to a federation".to_owned();
                    tokio::spawn(incoming.refuse(refusal(RefusalCode::BadHeader, detail)));
                }
            }
        }
    }

    /// Where the workload listens that a stream is for.
    fn find(&self, header: &StreamHeader, stream: &ServiceStream) -> Result<Found, Refusal> {
        let refused = |code, detail: String| Err(refusal(code, detail));
        if header.hops > HOPS_MAX {
            return refused(
                RefusalCode::TooManyHops,
                format!("it has gone through {} processes", header.hops),
            );
        }
        if *self.draining.borrow() {
            return refused(RefusalCode::Draining, "the agent takes nothing new".to_owned());
        }
        let Target::Endpoint(site, endpoint) = &stream.target else {
            return refused(
                RefusalCode::BadHeader,
                "an agent is asked for one endpoint, and none is named".to_owned(),
            );
        };
        if *site != self.site {
            return refused(
                RefusalCode::BadHeader,
                format!("this agent belongs to site {}, not {site}", self.site),
            );
        }
        let workloads = self.workloads.borrow();
        let Some(workload) = workloads.get(&(stream.service.clone(), endpoint.clone())) else {
            let detail = format!("no workload {endpoint} of {} on this host", stream.service);
            return refused(RefusalCode::NoEndpoint, detail);
        };
        let Some((_, port)) = workload.ports.iter().find(|(port, _)| port.key == stream.port) else {
            let detail = format!("workload {endpoint} of {} has no port {}", stream.service, stream.port);
            return refused(RefusalCode::UnknownPort, detail);
        };
        Ok(Found {
            address: SocketAddr::new(workload.address, *port),
            endpoint: endpoint.clone(),
            locality: workload.locality.clone(),
        })
    }

    async fn call(self, incoming: IncomingStream, found: Result<Found, Refusal>) {
        let Found { address, endpoint, locality } = match found {
            Ok(found) => found,
            Err(refusal) => {
                debug!(code = %refusal.code, detail = refusal.detail, "refused a stream");
                return incoming.refuse(refusal).await;
            }
        };
        let tcp = match tunnel::dial::dial(address).await {
            Ok(tcp) => tcp,
            Err(error) => {
                debug!(%endpoint, %error, "a workload did not take a connection");
                return incoming.refuse(error.refusal()).await;
            }
        };
        // A caller that is gone by now drops both; the workload sees a reset.
        if let Ok(stream) = incoming.accept(endpoint, locality).await {
            tunnel::splice::splice(tcp, stream, bytes::Bytes::new(), None).await;
        }
    }

    async fn follow_views(self, gateway: GatewayName, link: Link, incoming: IncomingStream) {
        let own = "agent".parse().expect("a valid id");
        let Ok(mut stream) = incoming.accept(own, Locality::default()).await else { return };
        let following = async {
            let mut body = Vec::new();
            while let Some(views) = read_views(&mut stream, &mut body).await? {
                self.gateways.handle_views(&gateway, &link.connection, views);
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ended = following => if let Err(error) = ended {
                debug!(%gateway, error = format!("{error:#}"), "a gateway sent views that break the rules");
            },
            () = link.retired.cancelled() => {}
        }
    }
}

/// Reads views into a buffer that is used again; none: there are no more.
async fn read_views(
    stream: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
) -> anyhow::Result<Option<PeerViews>> {
    let mut length = [0; wire::frame::VIEWS_LENGTH];
    if stream.read_exact(&mut length).await.is_err() {
        return Ok(None);
    }
    body.resize(wire::frame::views_length(length)?, 0);
    if stream.read_exact(body).await.is_err() {
        return Ok(None);
    }
    Ok(Some(wire::frame::decode_views(body)?))
}
