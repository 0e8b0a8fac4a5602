//! Taking something out of service without breaking what is open, and back in.

use crate::text::Text;
use model::ids::{EndpointId, Label};
use model::service::ServiceName;
use serde::{Deserialize, Serialize};

/// `POST /v1/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// What.
    pub target: DrainTarget,
    /// True: take nothing new. False: take it again.
    pub drain: bool,
    /// Say what would happen, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum DrainTarget {
    /// A gateway of the site.
    Gateway {
        /// Its name.
        name: Text<Label>,
    },
    /// An agent: all workloads of its host.
    Agent {
        /// Its host.
        name: Text<Label>,
    },
    /// One endpoint of the site.
    Endpoint {
        /// Service.
        service: Text<ServiceName>,
        /// Id of the endpoint.
        id: Text<EndpointId>,
    },
    /// The whole site.
    Site,
}

/// Answer to a [`DrainRequest`]; asked again, it tells how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainReply {
    /// What, in words: `gateway gw-0`.
    pub target: String,
    /// It takes nothing new.
    pub draining: bool,
    /// Streams that are still open.
    pub open_streams: u32,
    /// Where new streams go now, one line for each service or gateway.
    pub moves: Vec<String>,
    /// What stops, because nobody else can take it.
    pub stops: Vec<String>,
    /// Nothing is open any more.
    pub done: bool,
    /// Nothing was changed: this was asked with `dry_run`.
    pub dry_run: bool,
}
