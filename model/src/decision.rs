//! What a routing decision says, with its reason: the same words for traffic, logs, tests and `explain`.

use crate::ids::{EndpointId, SiteId};
use crate::locality::Locality;
use crate::routing::{Caller, GroupId, PeerState};
use crate::service::{PortKey, ServiceName};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Where a stream goes, or why nowhere; and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// Why, with every number that counted.
    pub reason: Reason,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An endpoint of the own site.
    Endpoint {
        /// Its group.
        group: GroupId,
        /// Which one.
        endpoint: EndpointId,
    },
    /// A linked site serves it; the gateway there picks the endpoint.
    Site {
        /// The group to ask for.
        group: GroupId,
    },
    /// Nobody.
    Refused(Refusal),
}

/// Why a stream was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kind of the refusal.
    pub code: RefusalCode,
    /// Another candidate may still take it.
    pub retryable: bool,
    /// In words, for logs and `explain`; at most 200 characters on the wire.
    pub detail: String,
}

/// Kinds of refusals; closed, so that they can be a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// No service of this name is known here.
    UnknownService,
    /// The service has no such port.
    UnknownPort,
    /// Access policy forbids it.
    Denied,
    /// No endpoint is left that could take it.
    NoEndpoint,
    /// The endpoint refused the connection or did not answer.
    EndpointFailed,
    /// No live path leads there.
    NoPath,
    /// The process drains.
    Draining,
    /// A limit was reached.
    Overloaded,
    /// The header broke the protocol, or asserted what its sender may not assert.
    BadHeader,
    /// It has gone through too many processes.
    TooManyHops,
}

impl RefusalCode {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::UnknownService,
        Self::UnknownPort,
        Self::Denied,
        Self::NoEndpoint,
        Self::EndpointFailed,
        Self::NoPath,
        Self::Draining,
        Self::Overloaded,
        Self::BadHeader,
        Self::TooManyHops,
    ];
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UnknownService => "unknown service",
            Self::UnknownPort => "unknown port",
            Self::Denied => "denied",
            Self::NoEndpoint => "no endpoint",
            Self::EndpointFailed => "endpoint failed",
            Self::NoPath => "no path",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::BadHeader => "bad header",
            Self::TooManyHops => "too many hops",
        })
    }
}

/// Every number that counted in a decision.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reason {
    /// Rule that allowed or denied; empty: no policy, so allowed by default.
    pub permit: String,
    /// Tiers, nearest first.
    pub tiers: Vec<TierReason>,
    /// Tier that was drawn; index into `tiers`.
    pub chosen: Option<usize>,
    /// No endpoint here or at a usable peer is healthy: last known ones are used.
    pub panic: bool,
    /// All peers are gone, so this site is probably the one that is cut off.
    pub isolated: bool,
    /// How the endpoint was picked within the tier; empty when a peer picks it.
    pub pick: String,
}

/// Words for the distance of a tier from the caller; the only ones that [`TierReason::distance`] takes.
pub mod distance {
    /// Same zone of this site.
    pub const SAME_ZONE: &str = "same zone";
    /// Same region of this site.
    pub const SAME_REGION: &str = "same region";
    /// This site, but another region, or the region of one of the two is not known.
    pub const SAME_SITE: &str = "same site";
    /// Same region of another site.
    pub const SAME_REGION_OTHER_SITE: &str = "same region of another site";
    /// Another region of another site.
    pub const OTHER_REGION: &str = "other region";
    /// All of them, nearest first.
    pub const ALL: [&str; 5] = [SAME_ZONE, SAME_REGION, SAME_SITE, SAME_REGION_OTHER_SITE, OTHER_REGION];
}

/// One tier.
#[derive(Debug, Clone, PartialEq)]
pub struct TierReason {
    /// Its groups.
    pub groups: Vec<GroupReason>,
    /// Its distance; one of [`distance::ALL`].
    pub distance: &'static str,
    /// Healthy endpoints.
    pub healthy: u32,
    /// What they are measured against: the high-water mark, or the declared total.
    pub total: u32,
    /// Share of the load, 0 to 1.
    pub share: f64,
    /// Why the share is not what health alone would give; empty when it is.
    pub note: String,
}

/// One group of a tier.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupReason {
    /// Which.
    pub id: GroupId,
    /// Healthy endpoints.
    pub healthy: u32,
    /// All endpoints.
    pub total: u32,
    /// Sum of weights of the healthy ones.
    pub capacity: u64,
    /// State of the peer; none for the own site.
    pub peer: Option<PeerState>,
    /// Round trip to the peer.
    pub rtt: Option<Duration>,
    /// Endpoints that are set aside after failures.
    pub outliers: u32,
}

/// A question to `explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Service.
    pub service: ServiceName,
    /// Port; none: the first one.
    pub port: Option<PortKey>,
    /// Caller.
    pub caller: Caller,
    /// What if these sites were gone.
    pub without: BTreeSet<SiteId>,
}

/// An answer of `explain`.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Who answered ("gateway gw-0", "agent vm-1").
    pub node: String,
    /// Locality of the caller that was assumed.
    pub locality: Locality,
    /// Port that was asked for.
    pub port: Option<PortKey>,
    /// The decision.
    pub decision: Decision,
    /// Endpoints that a caller would now be given, with their open streams; only for the own site.
    pub now: Vec<(EndpointId, u32)>,
    /// What would happen next, if the chosen tier failed; none: nobody else could serve.
    pub then: Option<Box<TierReason>>,
}

impl Eq for Explanation {}
