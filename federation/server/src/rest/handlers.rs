//! One function for each method and path.

use super::{Api, Refusal, Reply};
use crate::answer::Denied;
use crate::link;
use api::resource::Kind;
use api::rest::change::{ApplyReply, ApplyRequest, ChangeQuery, ChangeReply, DeleteRequest, ResourceList};
use api::rest::drain::{DrainReply, DrainRequest};
use api::rest::error::ApiError;
use api::rest::event::{EventList, EventsQuery};
use api::rest::explain::{ExplainRequest, ExplanationView};
use api::rest::link::{InviteReply, InviteRequest, LinkList, LinkRequest, LinkView, UnlinkReply};
use api::rest::service::{ServiceList, ServiceView};
use api::rest::site::SiteView;
use api::rest::status::StatusView;
use api::rest::token::{TokenReply, TokenRequest};
use api::rest::workload::{WorkloadReply, WorkloadRequest};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, Method, StatusCode, Uri};
use model::ids::{EndpointId, SiteId};
use model::service::ServiceName;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::time::Duration;

/// Longest wait for an event.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a node may take for an explanation.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// A body in JSON; what is wrong with it is said in our own words.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    api::rest::read(bytes).map_err(|error| {
        let denied = Denied::invalid(
            "the request cannot be read",
            error.to_string(),
            "is this command line as old as the federation?",
        );
        Refusal(StatusCode::BAD_REQUEST, denied.error)
    })
}

/// A body that may be left out.
pub(super) fn body_or_default<T: DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, Refusal> {
    if bytes.is_empty() { Ok(T::default()) } else { body(bytes) }
}

/// A query; each of its fields is a number or a truth value, so it can be read as JSON.
fn query<T: DeserializeOwned + Default>(query: Option<&str>) -> Result<T, Refusal> {
    let mut fields = serde_json::Map::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        fields.insert(name.to_owned(), value);
    }
    serde_json::from_value(fields.into()).map_err(api::rest::Unreadable::from).map_err(|error| {
        Refusal(StatusCode::BAD_REQUEST, boxed("the query cannot be read", error.to_string(), ""))
    })
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| Denied::invalid(error.to_string(), "", "").into())
}

fn service_name(namespace: &str, name: &str) -> Result<ServiceName, Refusal> {
    parse(&format!("{namespace}/{name}"))
}

fn boxed(message: impl Into<String>, cause: impl Into<String>, help: &str) -> Box<ApiError> {
    Box::new(ApiError::new(message, cause, help))
}

pub(super) fn gone(gone: crate::hub::Gone) -> Refusal {
    Denied::unavailable(gone.to_string(), "", "run this again in a moment").into()
}

pub(super) async fn nothing(uri: Uri) -> Refusal {
    let what = format!("the API has no path {}", uri.path());
    Refusal(StatusCode::NOT_FOUND, boxed(what, "", "is this command line as old as the federation?"))
}

pub(super) async fn not_so(method: Method, uri: Uri) -> Refusal {
    Refusal(StatusCode::METHOD_NOT_ALLOWED, boxed(format!("{} does not take {method}", uri.path()), "", ""))
}

pub(super) async fn site(State(api): State<Api>) -> Reply<SiteView> {
    Ok(Json(api.hub.ask(|hub| hub.site_view()).await.map_err(gone)?))
}

pub(super) async fn invite(State(api): State<Api>, bytes: Bytes) -> Reply<InviteReply> {
    let request: InviteRequest = body_or_default(&bytes)?;
    Ok(Json(api.hub.demand(move |hub| hub.invite(request)).await?))
}

pub(super) async fn links(State(api): State<Api>) -> Reply<LinkList> {
    Ok(Json(api.hub.ask(|hub| hub.links()).await.map_err(gone)?))
}

pub(super) async fn link(State(api): State<Api>, bytes: Bytes) -> Reply<LinkView> {
    let request: LinkRequest = body(&bytes)?;
    // A task of its own: a client that goes away does not leave half a link behind.
    let accepted = tokio::spawn(async move { link::accept(&api.hub, request).await }).await;
    let accepted = accepted
        .map_err(|_| Denied::unavailable("the link was not made", "the federation is leaving", ""))?;
    Ok(Json(accepted?))
}

pub(super) async fn unlink(
    State(api): State<Api>,
    Path(site): Path<String>,
    RawQuery(raw): RawQuery,
) -> Reply<UnlinkReply> {
    let site: SiteId = parse(&site)?;
    let ChangeQuery { dry_run } = query(raw.as_deref())?;
    let parting = api.hub.demand(move |hub| hub.unlink(&site, dry_run)).await?;
    Ok(Json(parting.told().await))
}

pub(super) async fn token(State(api): State<Api>, bytes: Bytes) -> Reply<TokenReply> {
    let request: TokenRequest = body(&bytes)?;
    let address = api.config_address;
    Ok(Json(api.hub.demand(move |hub| hub.make_token(request, address)).await?))
}

pub(super) async fn services(State(api): State<Api>) -> Reply<ServiceList> {
    Ok(Json(api.hub.ask(|hub| hub.services()).await.map_err(gone)?))
}

pub(super) async fn service(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
) -> Reply<ServiceView> {
    let service = service_name(&namespace, &name)?;
    Ok(Json(api.hub.demand(move |hub| hub.service(&service)).await?))
}

pub(super) async fn export(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(raw): RawQuery,
) -> Reply<ChangeReply> {
    let service = service_name(&namespace, &name)?;
    let ChangeQuery { dry_run } = query(raw.as_deref())?;
    Ok(Json(api.hub.demand(move |hub| hub.set_export(&service, true, dry_run)).await?))
}

pub(super) async fn unexport(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(raw): RawQuery,
) -> Reply<ChangeReply> {
    let service = service_name(&namespace, &name)?;
    let ChangeQuery { dry_run } = query(raw.as_deref())?;
    Ok(Json(api.hub.demand(move |hub| hub.set_export(&service, false, dry_run)).await?))
}

pub(super) async fn expose(State(api): State<Api>, bytes: Bytes) -> Reply<WorkloadReply> {
    let request: WorkloadRequest = body(&bytes)?;
    Ok(Json(api.hub.demand(move |hub| hub.expose(request)).await?))
}

pub(super) async fn unexpose(
    State(api): State<Api>,
    Path((namespace, name, id)): Path<(String, String, String)>,
    RawQuery(raw): RawQuery,
) -> Reply<ChangeReply> {
    let service = service_name(&namespace, &name)?;
    let id: EndpointId = parse(&id)?;
    let ChangeQuery { dry_run } = query(raw.as_deref())?;
    Ok(Json(api.hub.demand(move |hub| hub.unexpose(&service, &id, dry_run)).await?))
}

pub(super) async fn apply(State(api): State<Api>, bytes: Bytes) -> Reply<ApplyReply> {
    let request: ApplyRequest = body(&bytes)?;
    Ok(Json(api.hub.demand(move |hub| hub.apply(&request)).await?))
}

pub(super) async fn delete(State(api): State<Api>, bytes: Bytes) -> Reply<ApplyReply> {
    let request: DeleteRequest = body(&bytes)?;
    Ok(Json(api.hub.demand(move |hub| hub.delete(&request)).await?))
}

pub(super) async fn resources(State(api): State<Api>, Path(kind): Path<String>) -> Reply<ResourceList> {
    let kind: Kind = parse(&kind)?;
    Ok(Json(api.hub.ask(move |hub| hub.list_resources(kind)).await.map_err(gone)?))
}

pub(super) async fn status(State(api): State<Api>) -> Reply<StatusView> {
    Ok(Json(api.hub.ask(|hub| hub.status()).await.map_err(gone)?))
}

pub(super) async fn events(State(api): State<Api>, RawQuery(raw): RawQuery) -> Reply<EventList> {
    let EventsQuery { after, wait_ms } = query(raw.as_deref())?;
    let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
    let mut newest = api.hub.events.watch();
    if !wait.is_zero() {
        // Nothing new within the time is an answer too.
        let _ = tokio::time::timeout(wait, newest.wait_for(|last| *last > after)).await;
    }
    Ok(Json(api.hub.events.after(after)))
}

pub(super) async fn explain(State(api): State<Api>, bytes: Bytes) -> Reply<ExplanationView> {
    let request: ExplainRequest = body(&bytes)?;
    let asked = api.hub.demand(move |hub| hub.ask_node(&request)).await?;
    let question = asked.question;
    let answer = match asked.node {
        Some((_, answer)) => tokio::time::timeout(EXPLAIN_TIMEOUT, answer).await.ok().and_then(Result::ok),
        None => None,
    };
    let view = api.hub.ask(move |hub| {
        let explanation = answer.unwrap_or_else(|| hub.explain_here(&question));
        hub.explanation_view(&question, &explanation)
    });
    Ok(Json(view.await.map_err(gone)?))
}

pub(super) async fn drain(State(api): State<Api>, bytes: Bytes) -> Reply<DrainReply> {
    let request: DrainRequest = body(&bytes)?;
    Ok(Json(api.hub.demand(move |hub| hub.drain(&request)).await?))
}

pub(super) async fn backup(
    State(api): State<Api>,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), Refusal> {
    let taken = api.hub.demand(|hub| hub.backup()).await?;
    let failed = |why: String| Denied::unavailable("no backup was made", why, "run this again");
    // Not on the hub's thread, nor on one that serves others: it is as long as the store.
    let copied = tokio::task::spawn_blocking(move || taken.bytes()).await;
    let bytes = copied.map_err(|error| failed(error.to_string()))?;
    let bytes = bytes.map_err(|error| failed(runtime::telemetry::chain(&error).to_string()))?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly() {
        let of = |text| query::<EventsQuery>(Some(text)).map_err(|refusal| refusal.1.to_string());
        assert_eq!(of("after=3&wait_ms=10").map(|query| (query.after, query.wait_ms)), Ok((3, 10)));
        assert!(
            query::<ChangeQuery>(Some("dry_run=true")).map_err(|refusal| refusal.0).expect("reads").dry_run
        );
        assert!(of("befor=3").expect_err("unknown").contains("befor"));
        assert!(of("after=x").is_err());
    }
}
