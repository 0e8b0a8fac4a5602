//! Why a source's event was not taken.

use crate::source::SourceId;
use model::endpoint::Reach;
use model::ids::{EndpointId, Namespace};
use model::service::ServiceName;

/// Why an event was not taken. Nothing has changed, unless a variant says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The shell named a source that was never registered.
    #[error("{source_id} is not registered with this site; join it with a token")]
    UnknownSource {
        /// As named.
        source_id: SourceId,
    },
    /// There are too many sources.
    #[error("the site has {max} sources already, the most it takes; {source_id} is one too many")]
    TooManySources {
        /// The new one.
        source_id: SourceId,
        /// The limit.
        max: usize,
    },
    /// The event came over a connection that a newer one of the same source has replaced.
    #[error("{source_id} has opened a newer connection; this one is stale")]
    StaleSession {
        /// Whose.
        source_id: SourceId,
    },
    /// The source sent an event twice, or went backwards.
    #[error("{source_id} sent event {sequence} after {last}; events may not be repeated")]
    Repeated {
        /// Who.
        source_id: SourceId,
        /// Number of the event.
        sequence: u64,
        /// Last number that was seen.
        last: u64,
    },
    /// Events are missing, so all that follows hangs in the air. The source must send a full list.
    #[error("{source_id} sent event {sequence} after {last}: events are missing; send a full list")]
    Gap {
        /// Who.
        source_id: SourceId,
        /// Number of the event.
        sequence: u64,
        /// Last number that was seen.
        last: u64,
    },
    /// A change or a renewal came before the full list of the connection, or after the lease had run out.
    #[error("{source_id} must send a full list first")]
    ListFirst {
        /// Who.
        source_id: SourceId,
    },
    /// An element or the end of a full list came outside one.
    #[error("{source_id} sent a part of a full list outside one")]
    NoList {
        /// Who.
        source_id: SourceId,
    },
    /// The source may not register in this namespace.
    #[error("{source_id} may not register {service}: namespace {namespace} is outside its scope")]
    NamespaceOutsideScope {
        /// Who.
        source_id: SourceId,
        /// What it wanted to register.
        service: ServiceName,
        /// Namespace of it.
        namespace: Namespace,
    },
    /// The endpoint is reached in a way that this source may not speak for.
    #[error("{source_id} may not register {service} {endpoint}: {}", reach_words(reach))]
    ReachOutsideScope {
        /// Who.
        source_id: SourceId,
        /// Service.
        service: ServiceName,
        /// Endpoint.
        endpoint: EndpointId,
        /// As claimed. Boxed, to keep the error small.
        reach: Box<Reach>,
    },
    /// A value of the instance breaks a rule.
    #[error("{service} {endpoint} of {source_id} is not valid: {reason}")]
    Invalid {
        /// Who.
        source_id: SourceId,
        /// Service.
        service: ServiceName,
        /// Endpoint.
        endpoint: EndpointId,
        /// The rule.
        reason: &'static str,
    },
    /// The source claims too many endpoints.
    #[error("{source_id} has {max} endpoints already, the most it may have")]
    TooManyInstances {
        /// Who.
        source_id: SourceId,
        /// The limit.
        max: usize,
    },
    /// All sources together claim too many endpoints.
    #[error("the site has {max} endpoints already, the most it takes")]
    SiteFull {
        /// The limit.
        max: usize,
    },
}

impl Refused {
    /// Whether the source has to send a full list before anything else of it is taken.
    pub fn needs_list(&self) -> bool {
        matches!(self, Self::Gap { .. } | Self::ListFirst { .. } | Self::NoList { .. })
    }
}

fn reach_words(reach: &Reach) -> String {
    match reach {
        Reach::Agent(host) => format!("it is reached through the agent on {host}, for which another speaks"),
        Reach::Direct(address) => {
            format!("it is reached directly at {address}, and an agent speaks only for its own host")
        }
    }
}
