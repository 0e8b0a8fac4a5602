//! Messages between the nodes of a site and their federation.

use super::check::*;
use super::exchange::{endpoint_key, endpoint_key_of};
use super::{Cause, WireError, limits};
use crate::pb;
use model::node::*;
use std::net::SocketAddr;

words!(pb::PathState, PathState, {
    Dialling = Dialling,
    Live = Live,
    Suspect = Suspect,
    Dead = Dead,
    Draining = Draining,
});

impl From<&NodeMessage> for pb::NodeMessage {
    fn from(message: &NodeMessage) -> Self {
        use pb::node_message::Message as Wire;
        Self {
            message: Some(match message {
                NodeMessage::Hello { kind, holds, tunnel_address, locality } => Wire::Hello(pb::NodeHello {
                    kind: pb::NodeKind::from(*kind) as i32,
                    holds: holds.as_ref().map(Into::into),
                    tunnel_address: tunnel_address.as_ref().map(ToString::to_string).unwrap_or_default(),
                    locality: locality.as_ref().map(ToString::to_string),
                }),
                NodeMessage::Ack(version) => Wire::Ack(version.into()),
                NodeMessage::Paths(paths) => {
                    Wire::Paths(pb::Paths { paths: paths.iter().map(Into::into).collect() })
                }
                NodeMessage::Source(event) => Wire::Source(event.into()),
                NodeMessage::CarrierFailed { carrier, reason } => Wire::CarrierFailed(pb::CarrierFailed {
                    carrier: *carrier,
                    reason: clean(reason, limits::TEXT_MAX),
                }),
                NodeMessage::Explained { id, explanation } => {
                    Wire::Explained(pb::Explained { id: *id, explanation: Some(explanation.as_ref().into()) })
                }
                NodeMessage::Streams { open } => Wire::Streams(pb::OpenStreams {
                    open: (open.iter())
                        .map(|(service, site, count)| pb::OpenStreamsOf {
                            service: Some(service.into()),
                            site: site.to_string(),
                            count: *count,
                        })
                        .collect(),
                }),
                NodeMessage::Problems(problems) => Wire::Problems(pb::Problems {
                    problems: (problems.iter().take(limits::PROBLEMS_MAX))
                        .map(|problem| clean(problem, limits::TEXT_MAX))
                        .collect(),
                }),
                NodeMessage::Event(event) => Wire::Event(pb::NodeEvent {
                    what: clean(&event.what, limits::TEXT_MAX),
                    why: clean(&event.why, limits::TEXT_MAX),
                }),
                NodeMessage::Leaving => Wire::Leaving(pb::NodeLeaving {}),
            }),
        }
    }
}

impl TryFrom<pb::NodeMessage> for NodeMessage {
    type Error = WireError;

    fn try_from(message: pb::NodeMessage) -> Result<Self, WireError> {
        use pb::node_message::Message as Wire;
        Ok(match need("message", message.message)? {
            Wire::Hello(hello) => hello_of(hello).in_field("hello")?,
            Wire::Ack(version) => Self::Ack(version.into()),
            Wire::Paths(paths) => {
                Self::Paths(list("paths", paths.paths, limits::PATHS_MAX).in_field("paths")?)
            }
            Wire::Source(event) => Self::Source(event.try_into().in_field("source")?),
            Wire::CarrierFailed(failed) => Self::CarrierFailed {
                carrier: failed.carrier,
                reason: text("carrier_failed.reason", failed.reason, limits::TEXT_MAX)?,
            },
            Wire::Explained(explained) => Self::Explained {
                id: explained.id,
                explanation: Box::new(convert("explanation", explained.explanation).in_field("explained")?),
            },
            Wire::Streams(streams) => Self::Streams {
                open: list_of("open", streams.open, limits::STREAMS_MAX, |of| {
                    Ok((convert("service", of.service)?, parse("site", &of.site)?, of.count))
                })
                .in_field("streams")?,
            },
            Wire::Problems(problems) => {
                Self::Problems(list_of("problems", problems.problems, limits::PROBLEMS_MAX, |problem| {
                    text("", problem, limits::TEXT_MAX)
                })?)
            }
            Wire::Event(event) => Self::Event(NodeEvent {
                what: text("event.what", event.what, limits::TEXT_MAX)?,
                why: text("event.why", event.why, limits::TEXT_MAX)?,
            }),
            Wire::Leaving(_) => Self::Leaving,
        })
    }
}

fn hello_of(hello: pb::NodeHello) -> Result<NodeMessage, WireError> {
    Ok(NodeMessage::Hello {
        kind: word::<pb::NodeKind, _>("kind", hello.kind)?,
        holds: hello.holds.map(Into::into),
        tunnel_address: socket_some("tunnel_address", &hello.tunnel_address)?,
        locality: hello.locality.map(|locality| parse("locality", &locality)).transpose()?,
    })
}

/// An address with a port; empty: none.
pub(crate) fn socket_some(field: &'static str, text: &str) -> Result<Option<SocketAddr>, WireError> {
    if text.is_empty() { Ok(None) } else { socket(field, text).map(Some) }
}

impl From<&PathReport> for pb::PathReport {
    fn from(path: &PathReport) -> Self {
        Self {
            site: path.site.to_string(),
            gateway: path.gateway.to_string(),
            address: path.address.to_string(),
            state: pb::PathState::from(path.state) as i32,
            rtt_us: path.rtt.map(unduration_us),
            loss_permille: path.loss_permille,
            streams: path.streams,
            problem: clean(&path.problem, limits::TEXT_MAX),
            mtu: path.mtu.map(u32::from),
        }
    }
}

impl TryFrom<pb::PathReport> for PathReport {
    type Error = WireError;

    fn try_from(path: pb::PathReport) -> Result<Self, WireError> {
        Ok(Self {
            site: parse("site", &path.site)?,
            gateway: parse("gateway", &path.gateway)?,
            address: socket("address", &path.address)?,
            state: word::<pb::PathState, _>("state", path.state)?,
            rtt: path.rtt_us.map(|us| duration_us("rtt_us", us)).transpose()?,
            loss_permille: range("loss_permille", path.loss_permille, 0, 1000)?,
            streams: path.streams,
            problem: text("problem", path.problem, limits::TEXT_MAX)?,
            mtu: path.mtu.map(|bytes| mtu("mtu", bytes)).transpose()?,
        })
    }
}

impl From<&SourceEvent> for pb::SourceEvent {
    fn from(event: &SourceEvent) -> Self {
        use pb::source_event::Change as Wire;
        Self {
            sequence: event.sequence,
            change: Some(match &event.change {
                SourceChange::Init => Wire::Init(pb::SourceInit {}),
                SourceChange::InitApply(instance) => Wire::InitApply(instance.into()),
                SourceChange::InitDone => Wire::InitDone(pb::SourceInitDone {}),
                SourceChange::Apply(instance) => Wire::Apply(instance.into()),
                SourceChange::Delete(service, id) => Wire::Delete(endpoint_key(service, id)),
                SourceChange::Renew => Wire::Renew(pb::SourceRenew {}),
            }),
        }
    }
}

impl TryFrom<pb::SourceEvent> for SourceEvent {
    type Error = WireError;

    fn try_from(event: pb::SourceEvent) -> Result<Self, WireError> {
        use pb::source_event::Change as Wire;
        let change = match need("change", event.change)? {
            Wire::Init(_) => SourceChange::Init,
            Wire::InitApply(instance) => SourceChange::InitApply(instance.try_into().in_field("init_apply")?),
            Wire::InitDone(_) => SourceChange::InitDone,
            Wire::Apply(instance) => SourceChange::Apply(instance.try_into().in_field("apply")?),
            Wire::Delete(key) => {
                let (service, id) = endpoint_key_of(key).in_field("delete")?;
                SourceChange::Delete(service, id)
            }
            Wire::Renew(_) => SourceChange::Renew,
        };
        Ok(Self { sequence: event.sequence, change })
    }
}

impl From<&Instance> for pb::Instance {
    fn from(instance: &Instance) -> Self {
        Self {
            service: Some((&instance.service).into()),
            spec: Some((&instance.spec).into()),
            endpoint: Some((&instance.endpoint).into()),
        }
    }
}

impl TryFrom<pb::Instance> for Instance {
    type Error = WireError;

    fn try_from(instance: pb::Instance) -> Result<Self, WireError> {
        Ok(Self {
            service: convert("service", instance.service)?,
            spec: convert("spec", instance.spec)?,
            endpoint: convert("endpoint", instance.endpoint)?,
        })
    }
}

impl From<&FederationMessage> for pb::FederationMessage {
    fn from(message: &FederationMessage) -> Self {
        use pb::federation_message::Message as Wire;
        Self {
            message: Some(match message {
                FederationMessage::Config(update) => Wire::Config(update.into()),
                FederationMessage::OpenCarrier { carrier, target } => {
                    Wire::OpenCarrier(pb::OpenCarrier { carrier: *carrier, target: Some(target.into()) })
                }
                FederationMessage::Explain { id, request } => {
                    Wire::Explain(pb::Explain { id: *id, request: Some(request.into()) })
                }
                FederationMessage::SourceTaken { sequence, refused } => Wire::SourceTaken(pb::SourceTaken {
                    sequence: *sequence,
                    refused: refused.as_deref().map(|why| clean(why, limits::TEXT_MAX)),
                }),
                FederationMessage::Drain(drain) => Wire::Drain(pb::Drain { drain: *drain }),
            }),
        }
    }
}

impl TryFrom<pb::FederationMessage> for FederationMessage {
    type Error = WireError;

    fn try_from(message: pb::FederationMessage) -> Result<Self, WireError> {
        use pb::federation_message::Message as Wire;
        Ok(match need("message", message.message)? {
            Wire::Config(update) => Self::Config(update.try_into().in_field("config")?),
            Wire::OpenCarrier(open) => Self::OpenCarrier {
                carrier: open.carrier,
                target: convert("target", open.target).in_field("open_carrier")?,
            },
            Wire::Explain(explain) => Self::Explain {
                id: explain.id,
                request: convert("request", explain.request).in_field("explain")?,
            },
            Wire::SourceTaken(taken) => Self::SourceTaken {
                sequence: taken.sequence,
                refused: (taken.refused)
                    .map(|why| text("source_taken.refused", why, limits::TEXT_MAX))
                    .transpose()?,
            },
            Wire::Drain(drain) => Self::Drain(drain.drain),
        })
    }
}

impl From<&CarrierTarget> for pb::open_carrier::Target {
    fn from(target: &CarrierTarget) -> Self {
        match target {
            CarrierTarget::Peer(site) => Self::Peer(site.to_string()),
            CarrierTarget::Invite { addresses, trust_domain, anchors } => Self::Invite(pb::InviteTarget {
                addresses: addresses.iter().map(ToString::to_string).collect(),
                trust_domain: trust_domain.to_string(),
                anchors: anchors.clone(),
            }),
        }
    }
}

impl TryFrom<pb::open_carrier::Target> for CarrierTarget {
    type Error = WireError;

    fn try_from(target: pb::open_carrier::Target) -> Result<Self, WireError> {
        let invite = match target {
            pb::open_carrier::Target::Peer(site) => return Ok(Self::Peer(parse("peer", &site)?)),
            pb::open_carrier::Target::Invite(invite) => invite,
        };
        let addresses =
            list_of("invite.addresses", invite.addresses, limits::GATEWAYS_MAX, |text| socket("", &text))?;
        let anchors = certificates("invite.anchors", invite.anchors, limits::ANCHORS_MAX)?;
        for (field, empty) in
            [("invite.addresses", addresses.is_empty()), ("invite.anchors", anchors.is_empty())]
        {
            if empty {
                return Err(WireError::new(field, Cause::Missing));
            }
        }
        let trust_domain = parse("invite.trust_domain", &invite.trust_domain)?;
        Ok(Self::Invite { addresses, trust_domain, anchors })
    }
}
