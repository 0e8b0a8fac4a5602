//! Can our gateways reach an address? Asked before a link is made.
//!
//! A gateway is asked to open a carrier there, with an anchor that no other site can chain to. Whoever speaks QUIC
//! there is thereby found, and refused; who does not is silent, or the host says that nobody listens.

use super::{Api, Reply};
use crate::answer::Denied;
use crate::carriers::CarrierError;
use crate::names::NodeId;
use api::rest::reach::{ReachProbe, ReachReply, ReachRequest};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use futures_util::future::join_all;
use model::ids::GatewayName;
use model::node::{CarrierTarget, FederationMessage};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most addresses of one request.
const ADDRESSES_MAX: usize = 16;
/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn reach(State(api): State<Api>, bytes: Bytes) -> Reply<ReachReply> {
    let request: ReachRequest = api::rest::read(&bytes)
        .map_err(|error| Denied::invalid("the request cannot be read", error.to_string(), ""))?;
    if request.addresses.is_empty() || request.addresses.len() > ADDRESSES_MAX {
        return Err(Denied::invalid(format!("1 to {ADDRESSES_MAX} addresses can be probed"), "", "").into());
    }
    let gateways = api.hub.demand(|hub| hub.dialling_gateways()).await?;
    let probes = gateways
        .iter()
        .flat_map(|gateway| request.addresses.iter().map(|address| probe(&api, gateway, address.0)));
    Ok(Json(ReachReply { probes: join_all(probes).await }))
}

async fn probe(api: &Api, gateway: &GatewayName, address: SocketAddr) -> ReachProbe {
    let began = Instant::now();
    let (outcome, seen) = outcome(api, gateway, address).await;
    let waited = began.elapsed();
    ReachProbe {
        gateway: gateway.to_string(),
        address: address.to_string(),
        outcome: outcome.to_owned(),
        // The time has a whole handshake in it, and the way to the gateway: it is no round trip.
        rtt_ms: None,
        waited_ms: api::rest::ms(waited),
        seen,
    }
}

async fn outcome(api: &Api, gateway: &GatewayName, address: SocketAddr) -> (&'static str, String) {
    let awaited = match api.hub.carriers.expect(gateway) {
        Ok(awaited) => awaited,
        Err(error) => return ("silent", error.to_string()),
    };
    let bundle = api.hub.pki.bundle();
    let open = FederationMessage::OpenCarrier {
        carrier: awaited.carrier,
        target: CarrierTarget::Invite {
            addresses: vec![address],
            trust_domain: bundle.trust_domain,
            anchors: bundle.anchors,
        },
    };
    let node = NodeId::Gateway(gateway.clone());
    if !api.hub.ask(move |hub| hub.tell_node(&node, open)).await.unwrap_or(false) {
        return ("silent", format!("gateway {gateway} is not connected"));
    }
    match tokio::time::timeout(PATIENCE, awaited.open()).await {
        Ok(Ok(_)) => ("answered", "it answered".to_owned()),
        Ok(Err(CarrierError::Failed { reason, .. })) => judge(reason),
        Ok(Err(error)) => ("silent", error.to_string()),
        Err(_) => ("silent", format!("no answer in {} s", PATIENCE.as_secs())),
    }
}

/// What a gateway's words say of the address.
fn judge(reason: String) -> (&'static str, String) {
    let lower = reason.to_ascii_lowercase();
    if lower.contains("connection refused") || lower.contains("refused by the host") {
        ("refused", "refused".to_owned())
    } else if lower.contains("timed out") || lower.contains("no answer") || lower.contains("unreachable") {
        ("silent", reason)
    } else {
        // It was refused for what it is, so somebody is there.
        ("answered", "it answered".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_refuses_us_for_what_we_are_is_there() {
        assert_eq!(judge("the certificate of east is not that of the invite".to_owned()).0, "answered");
        assert_eq!(judge("no answer in 3 s".to_owned()).0, "silent");
        assert_eq!(judge("Connection refused (os error 111)".to_owned()).0, "refused");
    }
}
