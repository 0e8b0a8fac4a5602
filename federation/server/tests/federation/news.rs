//! Events: every change of state that a person would ask about, once, with its cause.

use crate::links::{accept, invite, linked};
use crate::one_site::{direct, files, import};
use crate::support::{Roads, Site, eventually, path};
use api::rest::change::{ApplyReply, ChangeReply};
use api::rest::event::{EventList, EventView};
use hyper::Method;
use model::endpoint::Health;
use model::node::{NodeMessage, PathReport, PathState, SourceChange};
use serde_json::json;

async fn events(site: &Site) -> Vec<EventView> {
    site.get::<EventList>("/v1/events").await.events
}

/// Waits for an event about something.
async fn event(site: &Site, subject: &str, what: &str) -> EventView {
    let found = || async {
        let is = |event: &EventView| event.subject == subject && event.what == what;
        events(site).await.into_iter().rfind(is)
    };
    eventually(&format!("{subject}: {what}"), found).await
}

fn apply(names: &[String]) -> serde_json::Value {
    let text: String = names
        .iter()
        .map(|name| {
            format!("---\napiVersion: meshfed.dev/v1alpha1\nkind: ServiceExport\nmetadata: {{name: {name}, namespace: shop}}\n")
        })
        .collect();
    json!({"files": [{"name": "exports.yaml", "text": text}]})
}

#[tokio::test]
async fn what_becomes_of_a_peers_services_is_told_with_its_cause() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _east_gateway = east.gateway("gw-0", &["west"]).await;
    let mut west_gateway = west.gateway("gw-0", &["east"]).await;
    let names: Vec<String> = (0..20).map(|at| format!("s{at}")).collect();
    let services = names.iter().map(|name| direct(&format!("shop/{name}"), "a"));
    let mut source = files(&east, services.chain([direct("shop/cart", "a")]).collect()).await;
    let all = json!({"all": true});
    accept(&west, &invite(&east, json!({"offer": all, "accept": all})).await).await.expect("links");
    assert!(!event(&east, "peer west", "begins to link").await.why.is_empty());
    linked(&west, "east", "connected").await;
    event(&west, "peer east", "its federation answers").await;

    east.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/cart", &()).await.expect("exports");
    event(&west, "service shop/cart", "is offered by east: 1 of 1 healthy").await;
    let mut sick = direct("shop/cart", "a");
    sick.endpoint.health = Health::Unhealthy;
    source.send(SourceChange::Apply(sick)).await.expect("taken");
    let told = event(&west, "service shop/cart", "0 of 1 healthy in east (was 1 of 1)").await;
    assert_eq!(told.why, "east says so");
    east.ask::<ChangeReply>(Method::DELETE, "/v1/exports/shop/cart", &()).await.expect("unexports");
    let told = event(&west, "service shop/cart", "is no longer offered by east").await;
    assert_eq!(told.why, "its owner withdrew it");

    // Many at a time are one event.
    east.ask::<ApplyReply>(Method::POST, "/v1/apply", &apply(&names)).await.expect("applies");
    event(
        &west,
        "peer east",
        "20 more services are offered: shop/s0, shop/s1, shop/s10, shop/s11, shop/s12 and 15 more",
    )
    .await;

    // What is known from the store after a start is no news.
    import(&mut west_gateway, "shop/s7", |import| import.groups.len() == 1).await;
    drop(west_gateway);
    let west = west.restart().await;
    let _west_gateway = west.gateway("gw-0", &["east"]).await;
    linked(&west, "east", "connected").await;
    let offered: Vec<EventView> =
        events(&west).await.into_iter().filter(|event| event.what.contains("offered")).collect();
    assert_eq!(offered, []);
    west.ask::<api::rest::link::UnlinkReply>(Method::DELETE, "/v1/links/east", &()).await.expect("unlinks");
    let lost: Vec<EventView> = eventually("the services are gone", || async {
        let of = |event: &EventView| event.what.contains("20 services are no longer offered");
        let lost: Vec<EventView> = events(&west).await.into_iter().filter(of).collect();
        (!lost.is_empty()).then_some(lost)
    })
    .await;
    assert_eq!(lost[0].why, "the link was removed");
}

#[tokio::test]
async fn what_becomes_of_a_path_is_told_by_its_gateway() {
    let site = Site::start("east", &Roads::default()).await;
    let gateway = site.gateway("gw-0", &[]).await;
    let report = |state: PathState, problem: &str| {
        let path = PathReport { state, problem: problem.to_owned(), ..path("west") };
        gateway.say(NodeMessage::Paths(vec![path]))
    };
    report(PathState::Live, "").await;
    let subject = "path gw-0 → gw-0 of west";
    assert_eq!(event(&site, subject, "answers").await.seen_by, "gateway gw-0");
    report(PathState::Suspect, "").await;
    event(&site, subject, "misses probes and takes no new streams").await;
    report(PathState::Dead, "no answer in 600 ms").await;
    assert_eq!(event(&site, subject, "is dead").await.why, "no answer in 600 ms");
    // Reports come each second; what is as it was is no news.
    report(PathState::Dead, "no answer in 600 ms").await;
    report(PathState::Draining, "").await;
    assert_eq!(event(&site, subject, "takes no new streams").await.why, "the gateway there drains");
    gateway.say(NodeMessage::Paths(Vec::new())).await;
    event(&site, subject, "is given up").await;
    let told: Vec<String> = events(&site)
        .await
        .into_iter()
        .filter(|event| event.subject == subject)
        .map(|event| event.what)
        .collect();
    assert_eq!(told.len(), 5, "{told:?}");

    // A federation that starts hears how things are, which is no change.
    drop(gateway);
    let site = site.restart().await;
    let gateway = site.gateway("gw-0", &["west"]).await;
    gateway.say(NodeMessage::Paths(vec![PathReport { state: PathState::Dead, ..path("west") }])).await;
    event(&site, subject, "is dead").await;
    let told: Vec<EventView> =
        events(&site).await.into_iter().filter(|event| event.subject == subject).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}
