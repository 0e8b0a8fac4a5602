//! The rest of the API of one site: reach, explain, delete, resources.

use crate::one_site::{direct, files, import};
use crate::support::{DEADLINE, Node, Roads, Site};
use api::rest::change::{ApplyReply, ResourceList};
use api::rest::explain::ExplanationView;
use api::rest::reach::ReachReply;
use hyper::Method;
use model::decision::ExplainRequest;
use model::node::{FederationMessage, NodeMessage};
use model::routing::Import;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::net::TcpListener;

#[tokio::test]
async fn reach_says_of_each_address_whether_somebody_is_there() {
    let roads = Roads::default();
    let site = Site::start("east", &roads).await;
    let ask = |count: usize| {
        let addresses: Vec<String> = (0..count).map(|at| format!("127.0.0.{}:4430", at + 1)).collect();
        json!({"addresses": addresses})
    };
    let error = site.ask::<ReachReply>(Method::POST, "/v1/reach", &ask(1)).await.expect_err("no gateway");
    assert!(error.contains("no gateway that could dial another site"), "{error}");
    let _gateway = site.gateway("gw-0", &[]).await;
    for count in [0, 17] {
        let error = site.ask::<ReachReply>(Method::POST, "/v1/reach", &ask(count)).await.expect_err("bounds");
        assert!(error.contains("1 to 16 addresses"), "{error}");
    }
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound")
    };
    // The road stands for what is at the address: a federation, a host on which nobody listens, nothing at all.
    for (road, outcome) in [
        (Some(site.handle.config_address), "answered"),
        (Some(closed), "refused"),
        (None::<SocketAddr>, "silent"),
    ] {
        match road {
            Some(road) => drop(roads.lock().expect("fine").insert("east.mesh".to_owned(), road)),
            None => drop(roads.lock().expect("fine").remove("east.mesh")),
        }
        let reply: ReachReply = site.ask(Method::POST, "/v1/reach", &ask(2)).await.expect("probes");
        let seen: Vec<&str> = reply.probes.iter().map(|probe| probe.outcome.as_str()).collect();
        assert_eq!(seen, [outcome, outcome], "{reply:?}");
        assert_eq!(reply.reached(), outcome == "answered");
        assert!(
            reply.lines("east")[1].starts_with("127.0.0.2:4430/udp from east gateway gw-0: "),
            "{reply:?}"
        );
    }
}

/// Answers the next question as a node would that has this import.
async fn explains(node: &mut Node, name: &str, import: Import) -> ExplainRequest {
    let (id, request) = loop {
        let told = tokio::time::timeout(DEADLINE, node.told.recv()).await.expect("in time");
        if let FederationMessage::Explain { id, request } = told.expect("the stream is there") {
            break (id, request);
        }
    };
    let mut router = policy::Router::new("east".parse().expect("valid"), name.to_owned());
    router.handle_import(import, Instant::now());
    let explanation = Box::new(router.explain(&request, &|_| 3, Instant::now(), 0));
    node.say(NodeMessage::Explained { id, explanation }).await;
    request
}

#[tokio::test]
async fn the_node_that_would_serve_the_caller_explains() {
    let site = Site::start("east", &Roads::default()).await;
    let (mut one, mut other) = (site.gateway("gw-0", &[]).await, site.gateway("gw-1", &[]).await);
    let _source = files(&site, vec![direct("shop/cart", "a")]).await;
    let seen = import(&mut one, "shop/cart", |import| !import.groups.is_empty()).await;
    let ask = |question: serde_json::Value| {
        let site = &site;
        async move { site.ask::<ExplanationView>(Method::POST, "/v1/explain", &question).await }
    };
    let question = json!({"service": "shop/cart", "as": "web/front", "without": ["west"]});
    let (view, request) = tokio::join!(ask(question), explains(&mut one, "gateway gw-0", seen.clone()));
    assert_eq!(view.expect("explains").node, "gateway gw-0");
    let identity = request.caller.identity.expect("the caller is named").to_string();
    assert_eq!(identity, "spiffe://east.mesh/ns/web/sa/front");
    assert_eq!(request.without.len(), 1);

    let question = json!({"service": "shop/cart", "node": "gw-1"});
    let (view, _) = tokio::join!(ask(question), explains(&mut other, "gateway gw-1", seen));
    assert_eq!(view.expect("explains").node, "gateway gw-1");
    let error = ask(json!({"service": "shop/cart", "node": "gw-9"})).await.expect_err("unknown");
    assert!(error.contains("no gateway and no agent named gw-9"), "{error}");
    let error = ask(json!({"service": "shop/cart", "as": "front"})).await.expect_err("no identity");
    assert!(error.contains("NAMESPACE/ACCOUNT"), "{error}");
}

#[tokio::test]
async fn resources_are_listed_as_they_were_written_and_deleted_whole_or_not_at_all() {
    let site = Site::start("east", &Roads::default()).await;
    let policy = "apiVersion: meshfed.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: strict, namespace: shop}\n\
                  spec: {strict: true}\n";
    let export =
        "apiVersion: meshfed.dev/v1alpha1\nkind: ServiceExport\nmetadata: {name: cart, namespace: shop}\n";
    let file = |text: &str| json!({"name": "all.yaml", "text": text});
    let both = json!({"files": [file(&format!("{policy}---\n{export}"))]});
    site.ask::<ApplyReply>(Method::POST, "/v1/apply", &both).await.expect("applies");
    let count = |kind: &'static str| {
        let site = &site;
        async move { site.get::<ResourceList>(&format!("/v1/resources/{kind}")).await.items.len() }
    };
    assert_eq!((count("FailoverPolicy").await, count("ServiceExport").await), (1, 1));
    let listed: ResourceList = site.get("/v1/resources/FailoverPolicy").await;
    assert_eq!(listed.items, api::resource::parse("all.yaml", policy).expect("valid"));

    let delete = |body: serde_json::Value| {
        let site = &site;
        async move { site.ask::<ApplyReply>(Method::POST, "/v1/delete", &body).await }
    };
    let named = |kind: &str, name: &str| json!({"kind": kind, "namespace": "shop", "name": name});
    let one = |dry_run: bool| json!({"names": [named("FailoverPolicy", "strict")], "dry_run": dry_run});
    let reply = delete(one(true)).await.expect("would");
    assert_eq!((reply.changes[0].change.as_str(), reply.dry_run), ("deleted", true));
    assert_eq!(count("FailoverPolicy").await, 1, "that was a dry run");
    let mixed = json!({"names": [named("FailoverPolicy", "strict"), {"kind": "Link", "name": "west"}]});
    let error = delete(mixed).await.expect_err("a link is none");
    assert!(error.contains("meshfed unlink west"), "{error}");
    assert_eq!(count("FailoverPolicy").await, 1, "all or nothing");
    assert_eq!(delete(one(false)).await.expect("deletes").changes[0].change, "deleted");
    assert_eq!(delete(one(false)).await.expect("is gone").changes[0].change, "absent");
    let reply = delete(json!({"files": [file(export)]})).await.expect("deletes");
    assert_eq!((reply.changes.len(), reply.changes[0].change.as_str()), (1, "deleted"));
    assert_eq!((count("FailoverPolicy").await, count("ServiceExport").await), (0, 0));
    let error = delete(json!({"files": [file("kind: Site\n")]})).await.expect_err("a mistake");
    assert!(error.contains("all.yaml"), "{error}");
}
