//! The roots of the site.

use super::handlers::{body_or_default, gone};
use super::{Api, Refusal, Reply};
use crate::answer::Denied;
use crate::hub::trust::Step;
use crate::listener::PeerInfo;
use api::rest::trust::{TrustReply, TrustRequest, TrustView};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};

pub(super) async fn trust(State(api): State<Api>) -> Reply<TrustView> {
    Ok(Json(api.hub.ask(|hub| hub.trust_view()).await.map_err(gone)?))
}

pub(super) async fn rotate(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    bytes: Bytes,
) -> Reply<TrustReply> {
    step(api, Step::Rotate, peer, &bytes).await
}

pub(super) async fn finish(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<PeerInfo>,
    bytes: Bytes,
) -> Reply<TrustReply> {
    step(api, Step::Finish, peer, &bytes).await
}

async fn step(api: Api, step: Step, peer: PeerInfo, bytes: &Bytes) -> Reply<TrustReply> {
    let request: TrustRequest = body_or_default(bytes)?;
    // Nobody comes this far without a certificate.
    let unknown = || Refusal::from(Denied::invalid("this needs a client certificate", "", ""));
    let admin = peer.id.ok_or_else(unknown)?;
    Ok(Json(api.hub.demand(move |hub| hub.trust_step(step, &request, &admin)).await?))
}
