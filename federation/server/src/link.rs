//! Taking up an invite: through an own gateway to a gateway of the inviter, and inside that TLS from federation to
//! federation.

use crate::answer::{Answer, Denied};
use crate::hub::{AcceptPlan, Hub, HubHandle};
use crate::names::NodeId;
use crate::session;
use api::rest::link::{LinkRequest, LinkView};
use identity::invite::Invite;
use identity::peer::RoleKind;
use identity::proof;
use identity::tls::Expect;
use model::ids::{GatewayName, SiteId};
use model::node::{CarrierTarget, FederationMessage};
use runtime::clock;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::debug;
use wire::enroll::{RedeemReply, RedeemRequest};
use wire::pb;
use wire::pb::enroll_client::EnrollClient;

/// Rounds over all gateways. The inviter's gateways hear of the invite only moments before, and a gateway that has
/// just started may not have its config yet.
const ROUNDS: usize = 3;
/// Pause between rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes up an invite.
///
/// # Errors
/// Why not; nothing is changed then.
pub async fn accept(hub: &HubHandle, request: LinkRequest) -> Answer<LinkView> {
    let invite = Invite::decode(&request.invite, clock::unix_ms()).map_err(|error| {
        Denied::invalid(
            "the invite cannot be used",
            error.to_string(),
            "ask for a new one: meshfed link invite",
        )
    })?;
    let dry_run = request.dry_run;
    let planned = invite.clone();
    let plan = hub.demand(move |hub| hub.plan_accept(&request, &planned)).await?;
    if dry_run {
        return Ok(preview(&invite, &plan));
    }
    let reply = redeem(hub, &invite, &plan, false).await?;
    let (stored, spec) = (invite.clone(), plan.spec.clone());
    hub.demand(move |hub| hub.accepted(&stored, spec, &reply)).await?;
    let site = invite.site.clone();
    match redeem(hub, &invite, &plan, true).await {
        Ok(reply) if reply.active => hub.demand(move |hub| hub.confirmed(&site)).await?,
        // It is stored here, and is confirmed again until it is heard: see `keep_confirming`.
        Ok(_) => {}
        Err(denied) => debug!(%denied, "the link is not confirmed yet"),
    }
    let site = invite.site;
    let view = hub.ask(move |hub| hub.link_view(&site)).await;
    Ok(view.ok().flatten().unwrap_or_default())
}

fn preview(invite: &Invite, plan: &AcceptPlan) -> LinkView {
    LinkView {
        site: invite.site.to_string(),
        uid: invite.uid.to_string(),
        trust_domain: invite.bundle.trust_domain.to_string(),
        state: "pending".to_owned(),
        offer: (&plan.scopes.offer).into(),
        accept: (&plan.scopes.accept).into(),
        gateways: invite.gateways.iter().map(ToString::to_string).collect(),
        ..LinkView::default()
    }
}

/// Shows the invite to the inviter.
async fn redeem(hub: &HubHandle, invite: &Invite, plan: &AcceptPlan, confirm: bool) -> Answer<RedeemReply> {
    let mut tried = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
            tried.clear();
        }
        for gateway in &plan.gateways {
            match redeem_through(hub, invite, plan, gateway, confirm).await {
                Ok(reply) => return Ok(reply),
                Err(Failed::Refused(denied)) => return Err(denied),
                Err(Failed::NotReached(why)) => {
                    let addresses: Vec<String> =
                        invite.gateways.iter().map(|address| format!("{address}/udp")).collect();
                    tried.push(format!(
                        "{} from {} gateway {gateway}: {why}",
                        addresses.join(", "),
                        plan.site.id
                    ));
                }
            }
        }
    }
    let mut denied = Denied::unavailable(
        format!("{} cannot reach any gateway of {}", plan.site.id, invite.site),
        "",
        format!(
            "open UDP 4430 there, or set `advertise` in {}'s site.yaml, then run this again; nothing was changed",
            invite.site
        ),
    );
    denied.error.tried = tried;
    denied.error.likely = format!(
        "a firewall or security group of {} blocks UDP 4430, or the advertised address is private",
        invite.site
    );
    Err(denied)
}

enum Failed {
    /// The inviter says no.
    Refused(Denied),
    /// There is no way to it through this gateway.
    NotReached(String),
}

async fn redeem_through(
    hub: &HubHandle,
    invite: &Invite,
    plan: &AcceptPlan,
    gateway: &GatewayName,
    confirm: bool,
) -> Result<RedeemReply, Failed> {
    let unreached = |why: String| Failed::NotReached(why);
    let awaited = hub.carriers.expect(gateway).map_err(|error| unreached(error.to_string()))?;
    let open = FederationMessage::OpenCarrier {
        carrier: awaited.carrier,
        target: CarrierTarget::Invite {
            addresses: invite.gateways.clone(),
            trust_domain: invite.bundle.trust_domain.clone(),
            anchors: invite.bundle.anchors.clone(),
        },
    };
    let node = NodeId::Gateway(gateway.clone());
    let told =
        hub.ask(move |hub| hub.tell_node(&node, open)).await.map_err(|gone| unreached(gone.to_string()))?;
    if !told {
        return Err(unreached("it is not connected".to_owned()));
    }
    let expect = Expect::bundle(invite.bundle.clone(), RoleKind::Federation).map_err(|error| {
        Failed::Refused(Denied::invalid("the bundle in the invite is not good", error.to_string(), ""))
    })?;
    // No certificate is shown: the inviter does not know our CA yet.
    let (channel, exporter) =
        session::channel(awaited, None, &expect).await.map_err(|error| unreached(format!("{error:#}")))?;
    let context = proof::redeem_context(plan.site.uid, &plan.bundle);
    let request = RedeemRequest {
        invite: invite.id,
        proof: proof::prove(&invite.secret, &exporter, &context),
        site: plan.site.clone(),
        bundle: plan.bundle.clone(),
        offer: plan.scopes.offer.clone(),
        confirm,
    };
    let mut client = EnrollClient::new(channel);
    let call = tokio::time::timeout(CALL_TIMEOUT, client.redeem(pb::RedeemRequest::from(&request))).await;
    let reply = match call {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status))
            if matches!(
                status.code(),
                Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal
            ) =>
        {
            return Err(unreached(format!("the federation of {} says: {}", invite.site, status.message())));
        }
        Ok(Err(status)) => return Err(Failed::Refused(refused(&invite.site, &status))),
        Err(_) => {
            return Err(unreached("the federation there does not answer: no answer in 10 s".to_owned()));
        }
    };
    RedeemReply::try_from(reply).map_err(|error| {
        Failed::Refused(Denied::invalid(
            format!("{} answered with something malformed", invite.site),
            error.to_string(),
            "is its meshfed much older or newer than this one?",
        ))
    })
}

fn refused(site: &SiteId, status: &tonic::Status) -> Denied {
    let mut lines = status.message().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let rest: Vec<&str> = lines.map(str::trim).collect();
    Denied::conflict(format!("{site} refused the link: {first}"), rest.join("\n"), "nothing was changed")
}

/// Repeats confirmations that may not have been heard, until told to stop.
pub async fn keep_confirming(hub: HubHandle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Hub::CONFIRM_AGAIN) => {}
            () = stop.cancelled() => return,
        }
        let Ok(links) = hub.ask(|hub| hub.unconfirmed()).await else { return };
        for (site, text) in links {
            let Ok(invite) = Invite::decode(&text, clock::unix_ms()) else { continue };
            let Ok(plan) = hub.demand(Hub::plan_again(site.clone())).await else { continue };
            match redeem(&hub, &invite, &plan, true).await {
                Ok(reply) if reply.active => {
                    if let Err(denied) = hub.demand(move |hub| hub.confirmed(&site)).await {
                        debug!(%denied, "the link stays unconfirmed");
                    }
                }
                Ok(_) => {}
                Err(denied) => debug!(%site, %denied, "the link is not confirmed yet"),
            }
        }
    }
}
