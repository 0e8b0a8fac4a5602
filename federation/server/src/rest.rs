//! The API: HTTPS with a client certificate of an administrator of this site. `api::rest` has the table of paths.
//!
//! Handlers ask the hub and give its answer; what they decide themselves is only HTTP.

mod handlers;
mod reach;
mod trust;

use crate::answer::{Denial, Denied};
use crate::hub::HubHandle;
use crate::listener::{Accepted, PeerInfo};
use api::rest::error::{ApiError, ErrorBody};
use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use identity::peer::RoleKind;
use identity::tls::{Accept, server_config};
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

/// Longest request: files with resources.
const BODY_MAX: usize = 8 << 20;

/// The TLS config of the port.
pub fn tls(hub: &HubHandle) -> rustls::ServerConfig {
    let accept = Accept { own: &[RoleKind::Admin], linked: &[], anonymous: false };
    server_config(&hub.pki.credentials, &hub.pki.trust, accept, &[b"http/1.1"])
}

/// What handlers have.
#[derive(Clone)]
struct Api {
    hub: HubHandle,
    /// Where enrolment is served, for tokens.
    config_address: SocketAddr,
}

/// Serves until told to stop.
///
/// # Errors
/// The server failed as a whole.
pub async fn serve(
    connections: Accepted,
    hub: HubHandle,
    config_address: SocketAddr,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = router(Api { hub, config_address });
    let service = router.into_make_service_with_connect_info::<PeerInfo>();
    axum::serve(connections, service).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(api: Api) -> Router {
    use handlers as h;
    Router::new()
        .route("/v1/site", get(h::site))
        .route("/v1/invites", post(h::invite))
        .route("/v1/links", get(h::links).post(h::link))
        .route("/v1/links/{site}", delete(h::unlink))
        .route("/v1/tokens", post(h::token))
        .route("/v1/services", get(h::services))
        .route("/v1/services/{namespace}/{name}", get(h::service))
        .route("/v1/exports/{namespace}/{name}", put(h::export).delete(h::unexport))
        .route("/v1/workloads", put(h::expose))
        .route("/v1/workloads/{namespace}/{name}/{id}", delete(h::unexpose))
        .route("/v1/apply", post(h::apply))
        .route("/v1/delete", post(h::delete))
        .route("/v1/resources/{kind}", get(h::resources))
        .route("/v1/status", get(h::status))
        .route("/v1/events", get(h::events))
        .route("/v1/explain", post(h::explain))
        .route("/v1/drain", post(h::drain))
        .route("/v1/reach", post(reach::reach))
        .route("/v1/backup", get(h::backup))
        .route("/v1/trust", get(trust::trust))
        .route("/v1/trust/rotate", post(trust::rotate))
        .route("/v1/trust/finish", post(trust::finish))
        .fallback(h::nothing)
        .method_not_allowed_fallback(h::not_so)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(api)
}

/// A refusal as an answer.
struct Refusal(StatusCode, Box<ApiError>);

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let status = match denied.denial {
            Denial::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Denial::NotFound => StatusCode::NOT_FOUND,
            Denial::Conflict => StatusCode::CONFLICT,
            Denial::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, denied.error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: *self.1 })).into_response()
    }
}

type Reply<T> = Result<Json<T>, Refusal>;
