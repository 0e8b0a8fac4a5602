//! The gRPC services: enrolment, config, exchange. One TLS port for all; who may call what is checked per call.

pub mod config;
pub mod enroll;
pub mod exchange;

use crate::answer::{Denial, Denied};
use crate::hub::HubHandle;
use crate::listener::{Accepted, PeerInfo};
use identity::peer::RoleKind;
use identity::tls::{Accept, server_config};
use model::identity::{Role, SpiffeId};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::{Request, Status};
use wire::pb::config_server::ConfigServer;
use wire::pb::enroll_server::EnrollServer;
use wire::pb::exchange_server::ExchangeServer;

/// Longest message of a node: a full list of a source comes as one message for each instance, paths of all peers as one.
const NODE_MESSAGE_MAX: usize = 16 << 20;
/// Longest message of a stranger.
const ENROLL_MESSAGE_MAX: usize = 256 << 10;
/// Longest message of a peer: a batch of 3 MiB in the replicator's estimate, twice that for the encoding. More would let
/// a hostile peer fill the memory with lists within lists (`wire::codec` counts the outer ones).
pub(crate) const PEER_MESSAGE_MAX: usize = 6 << 20;
/// A connection on which nothing answers for this long is closed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));
/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 256;

/// The TLS config of the port.
pub fn tls(hub: &HubHandle) -> rustls::ServerConfig {
    let accept = Accept {
        own: &[RoleKind::Gateway, RoleKind::Agent, RoleKind::Admin, RoleKind::Federation],
        linked: &[RoleKind::Federation],
        anonymous: true,
    };
    server_config(&hub.pki.credentials, &hub.pki.trust, accept, &[b"h2"])
}

/// Serves until told to stop.
///
/// # Errors
/// The server failed as a whole.
pub async fn serve(
    connections: Accepted,
    hub: HubHandle,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let enroll = EnrollServer::new(enroll::EnrollService { hub: hub.clone() })
        .max_decoding_message_size(ENROLL_MESSAGE_MAX);
    let config = ConfigServer::new(config::ConfigService { hub: hub.clone(), stop: stop.clone() })
        .max_decoding_message_size(NODE_MESSAGE_MAX)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Zstd);
    let exchange = ExchangeServer::new(exchange::ExchangeService { hub, stop: stop.clone() })
        .max_decoding_message_size(PEER_MESSAGE_MAX)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Zstd);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(Some(STREAMS_MAX))
        .add_service(enroll)
        .add_service(config)
        .add_service(exchange)
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await
}

/// Who calls, and over which session.
fn peer<T>(request: &Request<T>) -> Result<PeerInfo, Status> {
    let peer = request.extensions().get::<PeerInfo>().cloned();
    peer.ok_or_else(|| Status::internal("the connection says nothing of its other end"))
}

/// Who calls; strangers are refused.
fn known<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    let peer = peer(request)?;
    peer.id.ok_or_else(|| Status::unauthenticated("this call needs a client certificate"))
}

/// A call for another role.
fn wrong_role(id: &SpiffeId, wanted: &str) -> Status {
    let role = match &id.role {
        Role::Gateway(_) => "a gateway",
        Role::Federation(_) => "a federation",
        Role::Agent(_) => "an agent",
        Role::Admin(_) => "an administrator",
        Role::Workload { .. } => "a workload",
    };
    Status::permission_denied(format!("this call is for {wanted}, and {id} is {role}"))
}

/// A refusal as a status. Its text has all that the error says.
fn status(denied: &Denied) -> Status {
    let text = denied.error.to_string();
    match denied.denial {
        Denial::Invalid => Status::invalid_argument(text),
        Denial::NotFound => Status::not_found(text),
        Denial::Conflict => Status::failed_precondition(text),
        Denial::Unavailable => Status::unavailable(text),
    }
}
