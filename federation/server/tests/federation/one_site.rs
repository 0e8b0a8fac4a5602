//! One site: config streams, sources, resources, the API.

use crate::support::{Node, Roads, Site, eventually};
use api::rest::change::{ApplyReply, ApplyRequest, ChangeReply, FileText};
use api::rest::drain::{DrainReply, DrainRequest, DrainTarget};
use api::rest::event::EventList;
use api::rest::explain::ExplanationView;
use api::rest::service::{ServiceList, ServiceView};
use api::rest::site::SiteView;
use api::rest::status::StatusView;
use hyper::Method;
use model::catalog::ServiceSpec;
use model::config::{ConfigKey, ConfigValue};
use model::endpoint::{Endpoint, Health, Reach};
use model::node::{FederationMessage, Instance, SourceChange};
use model::routing::Import;
use model::service::{AppProtocol, PortKey, ServiceKind, ServicePort, Subset};
use serde_json::json;

pub fn instance(service: &str, id: &str, reach: Reach, health: Health) -> Instance {
    let port = ServicePort { key: PortKey::tcp(8080), name: None, app: AppProtocol::Http, retry_safe: false };
    Instance {
        service: service.parse().expect("valid"),
        spec: ServiceSpec { ports: vec![port], kind: ServiceKind::ClusterSetIp, declared_total: None },
        endpoint: Endpoint {
            id: id.parse().expect("valid"),
            locality: "eu/fra".parse().expect("valid"),
            network: "east".parse().expect("valid"),
            subset: Subset::default(),
            weight: 1,
            health,
            reach,
            ports: [(PortKey::tcp(8080), 8080)].into(),
            hostname: None,
        },
    }
}

pub fn direct(service: &str, id: &str) -> Instance {
    instance(service, id, Reach::Direct([10, 0, 0, 1].into()), Health::Healthy)
}

/// Registers services through the connector of the process.
pub async fn files(site: &Site, instances: Vec<Instance>) -> federation_server::SourceSender {
    let mut source = site.handle.source("files".parse().expect("valid")).await.expect("opens");
    source.send(SourceChange::Init).await.expect("taken");
    for instance in instances {
        source.send(SourceChange::InitApply(instance)).await.expect("taken");
    }
    source.send(SourceChange::InitDone).await.expect("taken");
    source
}

pub async fn import(node: &mut Node, service: &str, fits: impl Fn(&Import) -> bool) -> Import {
    let key = ConfigKey::Service(service.parse().expect("valid"));
    node.wait_config(service, |config| match config.get(&key) {
        Some(ConfigValue::Service(import)) if fits(import) => Some(import.clone()),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_service_of_a_source_reaches_the_gateways_and_the_api() {
    let site = Site::start("east", &Roads::default()).await;
    let mut gateway = site.gateway("gw-0", &[]).await;
    let mut source = files(&site, vec![direct("shop/cart", "a"), direct("shop/cart", "b")]).await;
    let seen =
        import(&mut gateway, "shop/cart", |import| import.groups.iter().any(|group| group.healthy == 2))
            .await;
    assert!(seen.vip.is_some());

    source
        .send(SourceChange::Delete(seen.service.clone(), "b".parse().expect("valid")))
        .await
        .expect("taken");
    import(&mut gateway, "shop/cart", |import| import.groups.iter().any(|group| group.healthy == 1)).await;

    let list: ServiceList = site.get("/v1/services").await;
    assert_eq!(list.services.len(), 1);
    let view: ServiceView = site.get("/v1/services/shop/cart").await;
    assert_eq!((view.healthy, view.vip.as_deref()), (1, seen.vip.map(|vip| vip.to_string()).as_deref()));
    assert!(!view.exported);
    let status: StatusView = site.get("/v1/status").await;
    assert!(status.healthy, "{:?}", status.findings);
    let events: EventList = site.get("/v1/events").await;
    assert!(events.events.iter().any(|event| event.what == "endpoint b is gone"), "{events:?}");
}

#[tokio::test]
async fn config_is_complete_only_after_all_sources_were_heard() {
    let roads = Roads::default();
    let site = Site::start("east", &roads).await;
    let gateway = site.gateway("gw-0", &[]).await;
    let source = files(&site, vec![direct("shop/cart", "a")]).await;
    eventually("a complete snapshot", || async {
        gateway.updates.borrow().iter().any(|update| update.snapshot && update.complete).then_some(())
    })
    .await;
    eventually("the service is stored", || async {
        let list: ServiceList = site.get("/v1/services").await;
        (list.services.len() == 1).then_some(())
    })
    .await;
    let before: ServiceView = site.get("/v1/services/shop/cart").await;
    drop((gateway, source));

    let site = site.restart().await;
    // The service is known from the store, although its source has not spoken yet.
    let view: ServiceView = site.get("/v1/services/shop/cart").await;
    assert_eq!((view.healthy, &view.vip), (1, &before.vip));
    let mut gateway = site.gateway("gw-0", &[]).await;
    import(&mut gateway, "shop/cart", |_| true).await;
    assert!(
        gateway.updates.borrow().iter().all(|update| !update.complete),
        "it has not heard its source yet"
    );
    let view: SiteView = site.get("/v1/site").await;
    assert!(view.recovering);

    let _source = files(&site, vec![]).await;
    eventually("a complete snapshot without the service", || async {
        let updates = gateway.updates.borrow().clone();
        let key = ConfigKey::Service("shop/cart".parse().expect("valid"));
        let last = updates.iter().rfind(|update| update.complete)?;
        (!last.entries.iter().any(|entry| entry.key == key)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn exports_and_policies_are_applied_whole_or_not_at_all() {
    let site = Site::start("east", &Roads::default()).await;
    let mut gateway = site.gateway("gw-0", &[]).await;
    let _source = files(&site, vec![direct("shop/cart", "a")]).await;
    import(&mut gateway, "shop/cart", |_| true).await;
    let policy = "apiVersion: meshfed.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: strict, namespace: shop}\n\
                  spec: {strict: true}\n";
    let bad = "apiVersion: meshfed.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: b, namespace: shop}\n\
               spec: {strickt: true}\n";
    let file = |name: &str, text: &str| FileText { name: name.to_owned(), text: text.to_owned() };
    let both = ApplyRequest { files: vec![file("a.yaml", policy), file("b.yaml", bad)], dry_run: false };
    let error = site.ask::<ApplyReply>(Method::POST, "/v1/apply", &both).await.expect_err("a mistake");
    assert!(error.contains("b.yaml") && error.contains("strict"), "{error}");
    let all: ServiceView = site.get("/v1/services/shop/cart").await;
    assert!(all.failover.iter().all(|line| !line.contains("takes everything")), "{all:?}");

    let twice = ApplyRequest { files: vec![file("a.yaml", policy), file("b.yaml", policy)], dry_run: false };
    let error = site.ask::<ApplyReply>(Method::POST, "/v1/apply", &twice).await.expect_err("twice");
    assert!(error.contains("FailoverPolicy shop/strict is given twice"), "{error}");

    let one = ApplyRequest { files: vec![file("a.yaml", policy)], dry_run: false };
    let reply: ApplyReply = site.ask(Method::POST, "/v1/apply", &one).await.expect("applies");
    assert_eq!(reply.changes[0].change, "created");
    import(&mut gateway, "shop/cart", |import| import.failover.strict).await;
    let reply: ApplyReply = site.ask(Method::POST, "/v1/apply", &one).await.expect("applies");
    assert_eq!(reply.changes[0].change, "unchanged");

    let reply: ChangeReply =
        site.ask(Method::PUT, "/v1/exports/shop/cart?dry_run=true", &()).await.expect("would");
    assert!(reply.dry_run);
    assert!(!site.get::<ServiceView>("/v1/services/shop/cart").await.exported);
    site.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/cart", &()).await.expect("exports");
    assert!(site.get::<ServiceView>("/v1/services/shop/cart").await.exported);
    let error =
        site.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/crat", &()).await.expect_err("unknown");
    assert!(error.contains("no service shop/crat"), "{error}");
}

#[tokio::test]
async fn what_drains_takes_nothing_new_until_it_is_taken_back() {
    let site = Site::start("east", &Roads::default()).await;
    let mut gateway = site.gateway("gw-0", &[]).await;
    let _source = files(&site, vec![direct("shop/cart", "a"), direct("shop/cart", "b")]).await;
    import(&mut gateway, "shop/cart", |import| import.groups.iter().any(|group| group.healthy == 2)).await;
    let request = |drain| DrainRequest {
        target: DrainTarget::Endpoint {
            service: api::Text("shop/cart".parse().expect("valid")),
            id: api::Text("a".parse().expect("valid")),
        },
        drain,
        dry_run: false,
    };
    let reply: DrainReply = site.ask(Method::POST, "/v1/drain", &request(true)).await.expect("drains");
    assert!(reply.draining && reply.done, "{reply:?}");
    assert_eq!(reply.moves, ["shop/cart → 1 other in east"]);
    import(&mut gateway, "shop/cart", |import| import.groups.iter().any(|group| group.healthy == 1)).await;
    site.ask::<DrainReply>(Method::POST, "/v1/drain", &request(false)).await.expect("undrains");
    import(&mut gateway, "shop/cart", |import| import.groups.iter().any(|group| group.healthy == 2)).await;

    let of_gateway = json!({"target": {"gateway": {"name": "gw-0"}}, "drain": true});
    let reply: DrainReply = site.ask(Method::POST, "/v1/drain", &of_gateway).await.expect("drains");
    assert_eq!(reply.stops.len(), 1, "{reply:?}");
    let told = tokio::time::timeout(crate::support::DEADLINE, gateway.told.recv()).await.expect("in time");
    assert_eq!(told, Some(FederationMessage::Drain(true)));
    let unknown = json!({"target": {"gateway": {"name": "gw-9"}}, "drain": true});
    assert!(site.ask::<DrainReply>(Method::POST, "/v1/drain", &unknown).await.is_err());
}

#[tokio::test]
async fn explain_falls_back_to_the_federation_and_says_so() {
    let site = Site::start("east", &Roads::default()).await;
    let _source = files(&site, vec![direct("shop/cart", "a")]).await;
    eventually("the service", || async {
        let list: ServiceList = site.get("/v1/services").await;
        (list.services.len() == 1).then_some(())
    })
    .await;
    let question = json!({"service": "shop/cart"});
    let view: ExplanationView = site.ask(Method::POST, "/v1/explain", &question).await.expect("explains");
    assert!(view.node.contains("no node answered"), "{view:?}");
    assert_eq!((view.verdict.kind.as_str(), view.verdict.endpoint.as_deref()), ("endpoint", Some("a")));
    let error =
        site.ask::<ExplanationView>(Method::POST, "/v1/explain", &json!({"service": "shop/crat"})).await;
    assert!(error.expect_err("unknown").contains("no service shop/crat"));
}

#[tokio::test]
async fn the_api_explains_what_it_does_not_take() {
    let site = Site::start("east", &Roads::default()).await;
    for (method, path, body, status, says) in [
        (Method::GET, "/v2/site", "", 404, "no path /v2/site"),
        (Method::POST, "/v1/site", "", 405, "does not take POST"),
        (Method::POST, "/v1/tokens", "{", 400, "cannot be read"),
        (Method::POST, "/v1/tokens", r#"{"kind":"agent","nam":"x"}"#, 400, "nam"),
        (Method::GET, "/v1/services/shop/UPPER", "", 422, "a-z"),
        (Method::GET, "/v1/resources/thing", "", 422, "kinds are"),
        (Method::POST, "/v1/links", r#"{"invite":"x"}"#, 422, "no invite"),
        (Method::DELETE, "/v1/links/west", "", 404, "no link with west"),
        (Method::GET, "/v1/events?befor=1", "", 400, "befor"),
    ] {
        let (found, bytes) = site.request(method, path, body.as_bytes().to_vec()).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(found, status, "{path}: {text}");
        assert!(text.contains(says), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_second_federation_on_one_directory_is_refused() {
    let site = Site::start("east", &Roads::default()).await;
    let options = crate::support::options(crate::support::settings("east"), &site.folder);
    let error = federation_server::run(options, Default::default()).await.err().expect("refused");
    assert!(format!("{error:#}").contains("in use by process"), "{error:#}");
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_a_finding_until_it_is_mended() {
    let site = Site::start("east", &Roads::default()).await;
    let _gateway = site.gateway("gw-0", &[]).await;
    let mut sick = direct("shop/cart", "a");
    sick.endpoint.health = Health::Unhealthy;
    let _source = files(&site, vec![sick]).await;
    let troubles = site.handle.troubles("files".parse().expect("valid"));
    let mistake = api::Diagnostic::at("services.yaml", "a: 1\nprt: 2\n", (2, 1), 0)
        .message("unknown field `prt`")
        .help("did you mean `port`?");
    let of = |why: &str| {
        let key = ("shop/cart".parse().expect("valid"), "a".parse().expect("valid"));
        [(key, why.to_owned())].into()
    };
    let trouble = federation_server::SourceTrouble {
        file: Some(mistake),
        has_good: true,
        refused: of("another source has it"),
        failing: of("connection refused"),
    };
    // A connector says everything again when something changes; that is no news.
    for _ in 0..2 {
        troubles.tell(trouble.clone()).await.expect("it runs");
    }
    let status: StatusView = site.get("/v1/status").await;
    assert!(!status.healthy, "{:?}", status.findings);
    let found = |what: &str| {
        let found = status.findings.iter().find(|finding| finding.what == what);
        found.unwrap_or_else(|| panic!("no `{what}` in {:?}", status.findings))
    };
    let file = found("services.yaml:2:1: unknown field `prt`");
    assert_eq!((file.severity.as_str(), file.subject.as_str()), ("error", "connector files"));
    assert!(file.why.contains("stays in force") && file.next.starts_with("did you mean `port`?"), "{file:?}");
    assert_eq!(found("endpoint a of shop/cart is refused").why, "another source has it");
    assert_eq!(found("endpoint a is unhealthy").why, "its check fails: connection refused");

    troubles.tell(Default::default()).await.expect("it runs");
    let status: StatusView = site.get("/v1/status").await;
    assert!(status.healthy, "{:?}", status.findings);
    let events: EventList = site.get("/v1/events").await;
    let said: Vec<&str> = events
        .events
        .iter()
        .filter(|event| event.subject == "connector files")
        .map(|event| event.what.as_str())
        .collect();
    let expected = [
        "has a mistake: services.yaml:2:1: unknown field `prt`",
        "endpoint a of shop/cart is refused",
        "is read again",
    ];
    assert_eq!(
        said.iter().filter(|what| expected.contains(what)).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}
