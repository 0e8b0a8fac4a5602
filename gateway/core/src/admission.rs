//! A stream header from an authenticated peer: taken, or refused with the reason.

use crate::path::Load;
use model::decision::{Refusal, RefusalCode};
use model::identity::{Role, SpiffeId};
use model::ids::{HostName, SiteId};
use model::routing::{Caller, Import};
use model::service::Protocol;
use model::tunnel::{HOPS_MAX, ServiceStream, StreamHeader, StreamKind, Target};
use policy::access::{self, Permit};

/// Most streams at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From one peer (a gateway or an agent). Default 8 192: four connections of 2 048 streams.
    pub streams_per_peer: u32,
    /// In all. Default 32 768: each may hold two descriptors, and hosts allow 65 536 or more.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams_per_peer: 8_192, streams: 32_768 }
    }
}

/// Who sent the header, by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender<'a> {
    /// A gateway of a linked site.
    Peer(&'a SiteId, &'a SpiffeId),
    /// Another gateway of the own site.
    Sibling,
    /// An agent of the own site.
    Agent(&'a HostName, &'a SpiffeId),
}

impl<'a> Sender<'a> {
    /// Reads the sender from its certificate's id. `linked` finds the linked site of a trust domain. None: a role or a
    /// trust domain that has no business here.
    pub fn of(
        id: &'a SpiffeId,
        own: &SpiffeId,
        linked: impl FnOnce(&SpiffeId) -> Option<&'a SiteId>,
    ) -> Option<Self> {
        let is_own = id.trust_domain == own.trust_domain;
        match &id.role {
            Role::Gateway(_) if is_own => Some(Self::Sibling),
            Role::Agent(host) if is_own => Some(Self::Agent(host, id)),
            Role::Gateway(_) => linked(id).map(|site| Self::Peer(site, id)),
            Role::Agent(_) | Role::Federation(_) | Role::Admin(_) | Role::Workload { .. } => None,
        }
    }
}

/// What counts beside the header.
#[derive(Debug)]
pub struct Context<'a> {
    /// Own site.
    pub own: &'a SiteId,
    /// Who sent it.
    pub sender: Sender<'a>,
    /// The service, as this process knows it.
    pub import: Option<&'a Import>,
    /// This process takes no new streams.
    pub draining: bool,
    /// Open streams of this sender.
    pub open_of_sender: u32,
    /// Open streams in all.
    pub open: u32,
    /// Limits.
    pub limits: &'a Limits,
}

/// Takes a stream, or says why not.
///
/// # Errors
/// The refusal to answer with.
pub fn admit(header: &StreamHeader, context: &Context<'_>) -> Result<(), Refusal> {
    if header.hops > HOPS_MAX {
        let detail = format!("it has gone through {} processes, {HOPS_MAX} are allowed", header.hops);
        return Err(refusal(RefusalCode::TooManyHops, detail));
    }
    check_sender(header, context)?;
    check_limits(context)?;
    match &header.kind {
        StreamKind::Service(_) if context.draining => {
            Err(refusal(RefusalCode::Draining, "this process takes no new streams".to_owned()))
        }
        StreamKind::Service(stream) => check_service(stream, context),
        // They go on while it drains: it may take streams again.
        StreamKind::Federation | StreamKind::Config | StreamKind::Views => Ok(()),
    }
}

/// Whether who sent it may send such a thing and say such things of its caller.
fn check_sender(header: &StreamHeader, context: &Context<'_>) -> Result<(), Refusal> {
    match (&header.kind, context.sender) {
        (StreamKind::Service(stream), sender) => {
            check_caller(&stream.caller, sender, context)?;
            check_target(&stream.target, sender, context)
        }
        (StreamKind::Federation, Sender::Peer(..))
        | (StreamKind::Config, Sender::Agent(..))
        | (StreamKind::Views, Sender::Sibling) => Ok(()),
        (StreamKind::Federation, _) => Err(bad("only a gateway of a linked site carries its federation")),
        (StreamKind::Config, _) => Err(bad("only an agent of this site asks for its config")),
        (StreamKind::Views, _) => Err(bad("only a gateway of this site says what it reaches")),
    }
}

/// A caller's identity is never invented: it lies within what its sender may speak for.
fn check_caller(caller: &Caller, sender: Sender<'_>, context: &Context<'_>) -> Result<(), Refusal> {
    match sender {
        Sender::Peer(site, id) => {
            if caller.site != *site {
                return Err(bad(&format!("a gateway of {site} speaks for a caller of {}", caller.site)));
            }
            let foreign =
                caller.identity.as_ref().filter(|identity| identity.trust_domain != id.trust_domain);
            foreign.map_or(Ok(()), |identity| {
                Err(bad(&format!("{identity} is not of {site}'s trust domain, {}", id.trust_domain)))
            })
        }
        // It has checked what it passes on, by the same rules.
        Sender::Sibling => Ok(()),
        Sender::Agent(host, id) => {
            if caller.site != *context.own {
                return Err(bad(&format!("the agent of {host} speaks for a caller of {}", caller.site)));
            }
            // Which accounts it may assert is in its token, which gateways do not know: so none but the host itself.
            let foreign = caller.identity.as_ref().filter(|identity| *identity != id);
            foreign.map_or(Ok(()), |identity| {
                Err(bad(&format!("the agent of {host} may not assert the identity {identity}")))
            })
        }
    }
}

/// Nobody is carried through: what comes from another site is for this one.
fn check_target(target: &Target, sender: Sender<'_>, context: &Context<'_>) -> Result<(), Refusal> {
    match sender {
        Sender::Peer(site, _) if target.site() != context.own => Err(bad(&format!(
            "{site} asks {} for a way to {}, which it does not give",
            context.own,
            target.site()
        ))),
        Sender::Peer(..) | Sender::Sibling | Sender::Agent(..) => Ok(()),
    }
}

fn check_limits(context: &Context<'_>) -> Result<(), Refusal> {
    let overloaded = |what: &str, limit: u32| {
        Err(refusal(RefusalCode::Overloaded, format!("{what} at a time are the limit here: {limit}")))
    };
    if context.open >= context.limits.streams {
        return overloaded("open streams", context.limits.streams);
    }
    if context.open_of_sender >= context.limits.streams_per_peer {
        return overloaded("open streams of one peer", context.limits.streams_per_peer);
    }
    Ok(())
}

fn check_service(stream: &ServiceStream, context: &Context<'_>) -> Result<(), Refusal> {
    let Some(import) = context.import else {
        let detail = format!("{} knows no service {}", context.own, stream.service);
        return Err(refusal(RefusalCode::UnknownService, detail));
    };
    if !import.ports.iter().any(|port| port.key == stream.port) {
        let detail = format!("{} has no port {}", stream.service, stream.port);
        return Err(refusal(RefusalCode::UnknownPort, detail));
    }
    if stream.port.protocol != Protocol::Tcp {
        let detail = format!("{} of {}: only TCP is carried", stream.port, stream.service);
        return Err(refusal(RefusalCode::UnknownPort, detail));
    }
    // The policy of a site is enforced by its own processes.
    if stream.target.site() == context.own
        && let Permit::Denied(why) = access::permit(&stream.service, &import.access, &stream.caller)
    {
        return Err(refusal(RefusalCode::Denied, why));
    }
    Ok(())
}

/// The load of one peer over several connections.
pub fn streams_of(loads: impl IntoIterator<Item = Load>) -> u32 {
    loads.into_iter().fold(0, |all, load| all.saturating_add(load.streams))
}

fn bad(detail: &str) -> Refusal {
    refusal(RefusalCode::BadHeader, detail.to_owned())
}

/// A refusal; whether another candidate may still take the stream follows from its code.
pub fn refusal(code: RefusalCode, detail: String) -> Refusal {
    let retryable = match code {
        RefusalCode::UnknownService
        | RefusalCode::UnknownPort
        | RefusalCode::NoEndpoint
        | RefusalCode::EndpointFailed
        | RefusalCode::NoPath
        | RefusalCode::Draining
        | RefusalCode::Overloaded
        | RefusalCode::TooManyHops => true,
        RefusalCode::Denied | RefusalCode::BadHeader => false,
    };
    Refusal { code, retryable, detail: detail.chars().take(200).collect() }
}

#[cfg(test)]
mod tests;
