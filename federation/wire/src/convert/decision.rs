//! Decisions, reasons, explanations.

use super::check::*;
use super::{Cause, WireError, limits};
use crate::pb;
use model::decision::*;
use std::collections::BTreeSet;

/// Tiers of a decision: each has at least one group.
const TIERS_MAX: usize = limits::GROUPS_MAX;

words!(pb::RefusalCode, RefusalCode, {
    UnknownService = UnknownService,
    UnknownPort = UnknownPort,
    Denied = Denied,
    NoEndpoint = NoEndpoint,
    EndpointFailed = EndpointFailed,
    NoPath = NoPath,
    Draining = Draining,
    Overloaded = Overloaded,
    BadHeader = BadHeader,
    TooManyHops = TooManyHops,
});

impl From<&Refusal> for pb::Refusal {
    fn from(refusal: &Refusal) -> Self {
        Self {
            code: pb::RefusalCode::from(refusal.code) as i32,
            retryable: refusal.retryable,
            detail: clean(&refusal.detail, limits::REASON_MAX),
        }
    }
}

impl TryFrom<pb::Refusal> for Refusal {
    type Error = WireError;

    fn try_from(refusal: pb::Refusal) -> Result<Self, WireError> {
        Ok(Self {
            code: word::<pb::RefusalCode, _>("code", refusal.code)?,
            retryable: refusal.retryable,
            detail: text("detail", refusal.detail, limits::REASON_MAX)?,
        })
    }
}

impl From<&Decision> for pb::Decision {
    fn from(decision: &Decision) -> Self {
        use pb::decision::Verdict as Wire;
        Self {
            verdict: Some(match &decision.verdict {
                Verdict::Endpoint { group, endpoint } => Wire::Endpoint(pb::EndpointVerdict {
                    group: Some(group.into()),
                    endpoint: endpoint.to_string(),
                }),
                Verdict::Site { group } => Wire::Site(group.into()),
                Verdict::Refused(refusal) => Wire::Refused(refusal.into()),
            }),
            reason: Some((&decision.reason).into()),
        }
    }
}

impl TryFrom<pb::Decision> for Decision {
    type Error = WireError;

    fn try_from(decision: pb::Decision) -> Result<Self, WireError> {
        use pb::decision::Verdict as Wire;
        Ok(Self {
            verdict: match need("verdict", decision.verdict)? {
                Wire::Endpoint(of) => Verdict::Endpoint {
                    group: convert("group", of.group).in_field("endpoint")?,
                    endpoint: parse("endpoint.endpoint", &of.endpoint)?,
                },
                Wire::Site(group) => Verdict::Site { group: group.try_into().in_field("site")? },
                Wire::Refused(refusal) => Verdict::Refused(refusal.try_into().in_field("refused")?),
            },
            reason: convert("reason", decision.reason)?,
        })
    }
}

impl From<&Reason> for pb::Reason {
    fn from(reason: &Reason) -> Self {
        Self {
            permit: clean(&reason.permit, limits::TEXT_MAX),
            tiers: reason.tiers.iter().map(Into::into).collect(),
            chosen: reason.chosen.map(|at| u32::try_from(at).unwrap_or(u32::MAX)),
            panic: reason.panic,
            isolated: reason.isolated,
            pick: clean(&reason.pick, limits::TEXT_MAX),
        }
    }
}

impl TryFrom<pb::Reason> for Reason {
    type Error = WireError;

    fn try_from(reason: pb::Reason) -> Result<Self, WireError> {
        let tiers: Vec<TierReason> = list("tiers", reason.tiers, TIERS_MAX)?;
        let chosen = reason.chosen.map(|at| at as usize);
        if chosen.is_some_and(|at| at >= tiers.len()) {
            return Err(WireError::new("chosen", Cause::Rule("there is no such tier")));
        }
        Ok(Self {
            permit: text("permit", reason.permit, limits::TEXT_MAX)?,
            tiers,
            chosen,
            panic: reason.panic,
            isolated: reason.isolated,
            pick: text("pick", reason.pick, limits::TEXT_MAX)?,
        })
    }
}

impl From<&TierReason> for pb::TierReason {
    fn from(tier: &TierReason) -> Self {
        Self {
            groups: tier.groups.iter().map(Into::into).collect(),
            distance: tier.distance.to_owned(),
            healthy: tier.healthy,
            total: tier.total,
            share: tier.share,
            note: clean(&tier.note, limits::TEXT_MAX),
        }
    }
}

impl TryFrom<pb::TierReason> for TierReason {
    type Error = WireError;

    fn try_from(tier: pb::TierReason) -> Result<Self, WireError> {
        if !(0.0..=1.0).contains(&tier.share) {
            return Err(WireError::new("share", Cause::Rule("it is not within 0 to 1")));
        }
        let words = distance::ALL.iter().find(|words| **words == tier.distance);
        Ok(Self {
            groups: list("groups", tier.groups, limits::GROUPS_MAX)?,
            distance: words.ok_or_else(|| WireError::new("distance", Cause::Rule("it is not known")))?,
            healthy: tier.healthy,
            total: tier.total,
            share: tier.share,
            note: text("note", tier.note, limits::TEXT_MAX)?,
        })
    }
}

impl From<&GroupReason> for pb::GroupReason {
    fn from(group: &GroupReason) -> Self {
        Self {
            id: Some((&group.id).into()),
            healthy: group.healthy,
            total: group.total,
            capacity: group.capacity,
            peer: group.peer.map_or(pb::PeerState::Unspecified, Into::into) as i32,
            rtt_us: group.rtt.map(unduration_us),
            outliers: group.outliers,
        }
    }
}

impl TryFrom<pb::GroupReason> for GroupReason {
    type Error = WireError;

    fn try_from(group: pb::GroupReason) -> Result<Self, WireError> {
        let peer = match group.peer {
            own if own == pb::PeerState::Unspecified as i32 => None,
            number => Some(word::<pb::PeerState, _>("peer", number)?),
        };
        Ok(Self {
            id: convert("id", group.id)?,
            healthy: group.healthy,
            total: group.total,
            capacity: group.capacity,
            peer,
            rtt: group.rtt_us.map(|us| duration_us("rtt_us", us)).transpose()?,
            outliers: group.outliers,
        })
    }
}

impl From<&ExplainRequest> for pb::ExplainRequest {
    fn from(request: &ExplainRequest) -> Self {
        Self {
            service: Some((&request.service).into()),
            port: request.port.as_ref().map(Into::into),
            caller: Some((&request.caller).into()),
            without: request.without.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<pb::ExplainRequest> for ExplainRequest {
    type Error = WireError;

    fn try_from(request: pb::ExplainRequest) -> Result<Self, WireError> {
        Ok(Self {
            service: convert("service", request.service)?,
            port: request.port.map(|port| port.try_into().in_field("port")).transpose()?,
            caller: convert("caller", request.caller)?,
            without: BTreeSet::from_iter(parse_list("without", request.without, limits::SITES_MAX)?),
        })
    }
}

impl From<&Explanation> for pb::Explanation {
    fn from(explanation: &Explanation) -> Self {
        Self {
            node: clean(&explanation.node, limits::REASON_MAX),
            locality: explanation.locality.to_string(),
            port: explanation.port.as_ref().map(Into::into),
            decision: Some((&explanation.decision).into()),
            now: (explanation.now.iter())
                .map(|(endpoint, streams)| pb::EndpointNow {
                    endpoint: endpoint.to_string(),
                    streams: *streams,
                })
                .collect(),
            then: explanation.then.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<pb::Explanation> for Explanation {
    type Error = WireError;

    fn try_from(explanation: pb::Explanation) -> Result<Self, WireError> {
        let now = list_of("now", explanation.now, limits::ENDPOINTS_MAX, |of| {
            Ok((parse("endpoint", &of.endpoint)?, of.streams))
        })?;
        let then = explanation.then.map(|tier| TierReason::try_from(tier).in_field("then")).transpose()?;
        Ok(Self {
            node: text("node", explanation.node, limits::REASON_MAX)?,
            locality: parse("locality", &explanation.locality)?,
            port: explanation.port.map(|port| port.try_into().in_field("port")).transpose()?,
            decision: convert("decision", explanation.decision)?,
            now,
            then: then.map(Box::new),
        })
    }
}
