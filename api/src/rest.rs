//! What the REST API says and hears, in JSON.
//!
//! Names are stable; a unit stands at the end of a name (`rtt_ms`, `age_s`). Times are milliseconds since 1970 and end
//! in `_at_ms`. Words such as states are those of the model (`connected`, `degraded`). Answers may grow fields: a
//! reader leaves out what it does not know. Requests may not: an unknown field is an error.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | GET /v1/site | | [`site::SiteView`] |
//! | POST /v1/invites | [`link::InviteRequest`] | [`link::InviteReply`] |
//! | POST /v1/links | [`link::LinkRequest`] | [`link::LinkView`] |
//! | GET /v1/links | | [`link::LinkList`] |
//! | DELETE /v1/links/{site} | [`change::ChangeQuery`] in the query | [`link::UnlinkReply`] |
//! | POST /v1/tokens | [`token::TokenRequest`] | [`token::TokenReply`] |
//! | GET /v1/services | | [`service::ServiceList`] |
//! | GET /v1/services/{ns}/{name} | | [`service::ServiceView`] |
//! | PUT, DELETE /v1/exports/{ns}/{name} | [`change::ChangeQuery`] in the query | [`change::ChangeReply`] |
//! | PUT /v1/workloads | [`workload::WorkloadRequest`] | [`workload::WorkloadReply`] |
//! | DELETE /v1/workloads/{ns}/{name}/{id} | [`change::ChangeQuery`] in the query | [`change::ChangeReply`] |
//! | POST /v1/apply | [`change::ApplyRequest`] | [`change::ApplyReply`] |
//! | POST /v1/delete | [`change::DeleteRequest`] | [`change::ApplyReply`] |
//! | GET /v1/resources/{kind} | | [`change::ResourceList`] |
//! | GET /v1/status | | [`status::StatusView`] |
//! | GET /v1/events?after=N&wait_ms= | [`event::EventsQuery`] in the query | [`event::EventList`] |
//! | POST /v1/explain | [`explain::ExplainRequest`] | [`explain::ExplanationView`] |
//! | POST /v1/drain | [`drain::DrainRequest`] | [`drain::DrainReply`] |
//! | POST /v1/reach | [`reach::ReachRequest`] | [`reach::ReachReply`] |
//! | GET /v1/trust | | [`trust::TrustView`] |
//! | POST /v1/trust/rotate, /v1/trust/finish | [`trust::TrustRequest`] | [`trust::TrustReply`] |
//! | GET /v1/backup | | a copy of the store, as bytes: a file `store.redb` |
//!
//! Every other answer is an [`error::ErrorBody`] with a status of 4xx or 5xx.

pub mod change;
pub mod drain;
pub mod error;
pub mod event;
pub mod explain;
pub mod link;
pub mod reach;
pub mod service;
pub mod site;
pub mod status;
pub mod token;
pub mod trust;
pub mod workload;

use serde::de::DeserializeOwned;
use std::time::Duration;

/// A body or a query that is not what is asked for there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unreadable {
    /// What is wrong, in one line of at most 200 characters.
    pub reason: String,
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        // The reader repeats what it found, which may be all that was sent.
        Self { reason: crate::text::plain(&error.to_string(), 200) }
    }
}

/// Reads a body in JSON.
///
/// # Errors
/// It is none, or not of this kind.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    Ok(serde_json::from_slice(body)?)
}

/// Milliseconds with fractions, as `rtt_ms` has them.
pub fn ms(duration: Duration) -> f64 {
    // Three digits after the point are microseconds; more would be noise.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
