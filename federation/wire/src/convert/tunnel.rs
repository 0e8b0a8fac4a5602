//! Headers, answers and peer views of the tunnel.

use super::check::*;
use super::{Cause, WireError, limits};
use crate::pb;
use model::ids::StreamId;
use model::node::PeerViews;
use model::tunnel::{Answer, ServiceStream, StreamHeader, StreamKind, Target};

/// Longest `traceparent`; the W3C format of version 00 has 55 characters.
const TRACEPARENT_MAX: usize = 64;

impl From<&StreamHeader> for pb::StreamHeader {
    fn from(header: &StreamHeader) -> Self {
        use pb::stream_header::Kind;
        Self {
            stream: header.stream.0.to_vec(),
            hops: header.hops.into(),
            traceparent: clean(&header.traceparent, TRACEPARENT_MAX),
            kind: Some(match &header.kind {
                StreamKind::Service(service) => Kind::Service(service.into()),
                StreamKind::Federation => Kind::Federation(pb::FederationStream {}),
                StreamKind::Config => Kind::Config(pb::ConfigStream {}),
                StreamKind::Views => Kind::Views(pb::ViewsStream {}),
            }),
        }
    }
}

impl TryFrom<pb::StreamHeader> for StreamHeader {
    type Error = WireError;

    fn try_from(header: pb::StreamHeader) -> Result<Self, WireError> {
        use pb::stream_header::Kind;
        Ok(Self {
            kind: match need("kind", header.kind)? {
                Kind::Service(service) => StreamKind::Service(service.try_into().in_field("service")?),
                Kind::Federation(_) => StreamKind::Federation,
                Kind::Config(_) => StreamKind::Config,
                Kind::Views(_) => StreamKind::Views,
            },
            stream: StreamId(bytes("stream", &header.stream)?),
            hops: range("hops", header.hops, 0, u8::MAX.into())? as u8,
            traceparent: text("traceparent", header.traceparent, TRACEPARENT_MAX)?,
        })
    }
}

impl From<&ServiceStream> for pb::ServiceStream {
    fn from(stream: &ServiceStream) -> Self {
        Self {
            service: Some((&stream.service).into()),
            port: Some((&stream.port).into()),
            caller: Some((&stream.caller).into()),
            target: Some((&stream.target).into()),
            bytes_ahead: stream.bytes_ahead,
        }
    }
}

impl TryFrom<pb::ServiceStream> for ServiceStream {
    type Error = WireError;

    fn try_from(stream: pb::ServiceStream) -> Result<Self, WireError> {
        Ok(Self {
            service: convert("service", stream.service)?,
            port: convert("port", stream.port)?,
            caller: convert("caller", stream.caller)?,
            target: convert("target", stream.target)?,
            bytes_ahead: stream.bytes_ahead,
        })
    }
}

impl From<&Target> for pb::Target {
    fn from(target: &Target) -> Self {
        use pb::target::Within;
        Self {
            site: target.site().to_string(),
            within: Some(match target {
                Target::Site(_) => Within::Any(pb::AnyEndpoint {}),
                Target::Locality(_, locality) => Within::Locality(locality.to_string()),
                Target::Endpoint(_, endpoint) => Within::Endpoint(endpoint.to_string()),
            }),
        }
    }
}

impl TryFrom<pb::Target> for Target {
    type Error = WireError;

    fn try_from(target: pb::Target) -> Result<Self, WireError> {
        use pb::target::Within;
        let site = parse("site", &target.site)?;
        Ok(match need("within", target.within)? {
            Within::Any(_) => Self::Site(site),
            Within::Locality(locality) => Self::Locality(site, parse("locality", &locality)?),
            Within::Endpoint(endpoint) => Self::Endpoint(site, parse("endpoint", &endpoint)?),
        })
    }
}

impl From<&Answer> for pb::Answer {
    fn from(answer: &Answer) -> Self {
        Self {
            answer: Some(match answer {
                Answer::Accepted { endpoint, locality } => pb::answer::Answer::Accepted(pb::Accepted {
                    endpoint: endpoint.to_string(),
                    locality: locality.to_string(),
                }),
                Answer::Refused(refusal) => pb::answer::Answer::Refused(refusal.into()),
            }),
        }
    }
}

impl TryFrom<pb::Answer> for Answer {
    type Error = WireError;

    fn try_from(answer: pb::Answer) -> Result<Self, WireError> {
        match need("answer", answer.answer)? {
            pb::answer::Answer::Accepted(accepted) => Ok(Self::Accepted {
                endpoint: parse("accepted.endpoint", &accepted.endpoint)?,
                locality: parse("accepted.locality", &accepted.locality)?,
            }),
            pb::answer::Answer::Refused(refusal) => {
                Ok(Self::Refused(refusal.try_into().in_field("refused")?))
            }
        }
    }
}

impl From<&PeerViews> for pb::PeerViews {
    fn from(views: &PeerViews) -> Self {
        let peers = views.peers.iter();
        Self {
            peers: peers
                .map(|(site, view)| pb::PeerViewOf { site: site.to_string(), view: Some(view.into()) })
                .collect(),
            draining: views.draining,
        }
    }
}

impl TryFrom<pb::PeerViews> for PeerViews {
    type Error = WireError;

    fn try_from(views: pb::PeerViews) -> Result<Self, WireError> {
        let peers = list_of("peers", views.peers, limits::SITES_MAX, |of| {
            Ok((parse("site", &of.site)?, convert("view", of.view)?))
        })?;
        let mut sites: Vec<_> = peers.iter().map(|(site, _)| site).collect();
        sites.sort();
        if sites.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(WireError::new("peers", Cause::Rule("a site is there twice")));
        }
        Ok(Self { peers, draining: views.draining })
    }
}
