//! Joining, the config stream of agents, and who is refused.

use crate::one_site::instance;
use crate::support::{Node, Roads, Site, eventually};
use api::rest::service::ServiceView;
use api::rest::token::TokenReply;
use api::rest::workload::WorkloadReply;
use hyper::Method;
use identity::credentials::Credentials;
use identity::invite::JoinToken;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::proof;
use model::config::{ConfigKey, ConfigValue};
use model::endpoint::{Health, Reach};
use model::ids::Label;
use model::node::{FederationMessage, NodeKind, NodeMessage, SourceChange, SourceEvent};
use runtime::clock::unix_ms;
use serde_json::json;
use tonic::Status;
use wire::enroll::{JoinReply, JoinRequest, RenewReply, RenewRequest};
use wire::pb;
use wire::pb::enroll_client::EnrollClient;

async fn token(site: &Site, kind: &str, name: &str) -> JoinToken {
    let request = json!({"kind": kind, "name": name, "namespaces": if kind == "agent" { vec!["shop"] } else { vec![] }});
    let reply: TokenReply = site.ask(Method::POST, "/v1/tokens", &request).await.expect("a token");
    JoinToken::decode(&reply.token, unix_ms()).expect("reads")
}

async fn join(site: &Site, token: &JoinToken, name: &str, key: &NodeKey) -> Result<JoinReply, Status> {
    let (channel, exporter) = site.channel(None).await;
    let name: Label = name.parse().expect("valid");
    let csr = key.csr_der();
    let context = proof::join_context(token.kind, &name, &csr);
    let proof = proof::prove(&token.secret, &exporter, &context);
    let request = JoinRequest { token: token.id, proof, csr, kind: token.kind, name, tunnel_address: None };
    let reply = EnrollClient::new(channel).join(pb::JoinRequest::from(&request)).await?.into_inner();
    Ok(JoinReply::try_from(reply).expect("well formed"))
}

/// An agent that has joined with a token for namespace `shop`.
async fn agent(site: &Site, host: &str) -> LiveCredentials {
    let key = NodeKey::generate().expect("a key");
    let reply = join(site, &token(site, "agent", host).await, host, &key).await.expect("joins");
    LiveCredentials::new(Credentials::new(reply.chain, &key).expect("fits"))
}

async fn source(node: &mut Node, sequence: u64, change: SourceChange) -> Option<String> {
    node.say(NodeMessage::Source(SourceEvent { sequence, change })).await;
    loop {
        let told = tokio::time::timeout(crate::support::DEADLINE, node.told.recv()).await.expect("in time");
        if let FederationMessage::SourceTaken { sequence: of, refused } = told.expect("the stream is there")
            && of == sequence
        {
            return refused;
        }
    }
}

#[tokio::test]
async fn an_agent_joins_registers_and_is_kept_to_its_scope() {
    let site = Site::start("east", &Roads::default()).await;
    let mut gateway = site.gateway("gw-0", &[]).await;
    let credentials = agent(&site, "vm-1").await;
    assert_eq!(credentials.id().to_string(), "spiffe://east.mesh/agent/vm-1");
    let mut node = Node::connect(&site, credentials, NodeKind::Agent, None).await;
    let own = || Reach::Agent("vm-1".parse().expect("valid"));
    let with = |service: &str, reach: Reach| instance(service, "vm-1", reach, Health::Healthy);
    assert_eq!(source(&mut node, 1, SourceChange::Init).await, None);
    assert_eq!(source(&mut node, 2, SourceChange::InitApply(with("shop/cart", own()))).await, None);
    let refused = source(&mut node, 3, SourceChange::InitApply(with("bank/vault", own()))).await;
    assert!(refused.expect("refused").contains("bank"));
    let foreign = Reach::Agent("vm-2".parse().expect("valid"));
    assert!(source(&mut node, 4, SourceChange::InitApply(with("shop/other", foreign))).await.is_some());
    assert_eq!(source(&mut node, 5, SourceChange::InitDone).await, None);
    crate::one_site::import(&mut gateway, "shop/cart", |import| import.groups.len() == 1).await;
    assert_eq!(site.get::<api::rest::service::ServiceList>("/v1/services").await.services.len(), 1);

    // A clean goodbye withdraws at once.
    let delete = SourceChange::Delete("shop/cart".parse().expect("valid"), "vm-1".parse().expect("valid"));
    assert_eq!(source(&mut node, 6, delete).await, None);
    let key = ConfigKey::Service("shop/cart".parse().expect("valid"));
    gateway.wait_config("no cart", |config| (!config.contains_key(&key)).then_some(())).await;
}

#[tokio::test]
async fn an_exposed_workload_reaches_its_agent_and_has_a_name_at_once() {
    let site = Site::start("east", &Roads::default()).await;
    let _gateway = site.gateway("gw-0", &[]).await;
    let workload = |host: &str, namespace: &str| {
        json!({"workload": {
            "apiVersion": "meshfed.dev/v1alpha1", "kind": "Workload",
            "metadata": {"name": "cart", "namespace": namespace},
            "spec": {"host": host, "port": 8080, "protocol": "http"},
        }})
    };
    let unknown = site.ask::<WorkloadReply>(Method::PUT, "/v1/workloads", &workload("vm-1", "shop")).await;
    assert!(unknown.expect_err("no agent").contains("no agent on a host vm-1"));

    let mut node = Node::connect(&site, agent(&site, "vm-1").await, NodeKind::Agent, None).await;
    let outside = site.ask::<WorkloadReply>(Method::PUT, "/v1/workloads", &workload("vm-1", "bank")).await;
    assert!(outside.expect_err("outside").contains("may not register in namespace bank"));
    let reply: WorkloadReply =
        site.ask(Method::PUT, "/v1/workloads", &workload("vm-1", "shop")).await.expect("exposes");
    assert_eq!(reply.service.dns_name, "cart.shop.svc.clusterset.local");
    assert!(reply.service.vip.is_some() && reply.service.exported, "{reply:?}");
    let key = ConfigKey::Workload("shop/cart".parse().expect("valid"), "vm-1".parse().expect("valid"));
    let told = node.wait_config("the workload", |config| config.get(&key).cloned()).await;
    let ConfigValue::Workload(spec) = told else { panic!("{told:?}") };
    assert_eq!(spec.locality.to_string(), "eu/fra");
    let reply: api::rest::change::ChangeReply =
        site.ask(Method::DELETE, "/v1/workloads/shop/cart/vm-1", &()).await.expect("unexposes");
    assert_eq!(reply.change.change, "deleted");
    node.wait_config("no workload", |config| (!config.contains_key(&key)).then_some(())).await;
}

#[tokio::test]
async fn a_token_is_good_for_one_node_of_its_name() {
    let site = Site::start("east", &Roads::default()).await;
    let _gateway = site.gateway("gw-0", &[]).await;
    let of_vm = token(&site, "agent", "vm-1").await;
    let key = NodeKey::generate().expect("a key");
    let error = join(&site, &of_vm, "vm-2", &key).await.expect_err("another name");
    assert!(error.message().contains("is for agent vm-1"), "{error}");
    let mut forged = of_vm.clone();
    forged.secret = identity::secret::Secret::random().expect("random");
    let error = join(&site, &forged, "vm-1", &key).await.expect_err("forged");
    assert!(error.message().contains("proof"), "{error}");
    join(&site, &of_vm, "vm-1", &key).await.expect("joins");
    // The answer may have been lost: the same request is answered again.
    join(&site, &of_vm, "vm-1", &key).await.expect("joins again");
    let other = NodeKey::generate().expect("a key");
    let error = join(&site, &of_vm, "vm-1", &other).await.expect_err("used");
    assert!(error.message().contains("used already"), "{error}");

    let west = Site::start("west", &Roads::default()).await;
    let error = join(&west, &of_vm, "vm-1", &key).await.expect_err("foreign");
    assert!(error.message().contains("not known to west"), "{error}");
}

#[tokio::test]
async fn a_token_that_has_run_out_is_refused_and_is_gone() {
    let site = Site::start("east", &Roads::default()).await;
    let request = json!({"kind": "gateway", "name": "gw-1", "expires_in_s": 1});
    let error = site.ask::<TokenReply>(Method::POST, "/v1/tokens", &request).await.expect_err("too short");
    assert!(error.contains("10 to 604800"), "{error}");
    let agent_without_gateway = json!({"kind": "agent", "name": "vm-1"});
    let error = site.ask::<TokenReply>(Method::POST, "/v1/tokens", &agent_without_gateway).await;
    assert!(error.expect_err("no gateway").contains("no gateway through which"));
}

#[tokio::test]
async fn a_call_of_the_wrong_role_is_refused() {
    let site = Site::start("east", &Roads::default()).await;
    let gateway = site.gateway("gw-0", &[]).await;
    let (channel, _) = site.channel(Some(&site.admin)).await;
    let mut config = pb::config_client::ConfigClient::new(channel.clone());
    let error = config.stream(tokio_stream::empty()).await.expect_err("an administrator is no node");
    assert_eq!(error.code(), tonic::Code::PermissionDenied);
    assert!(error.message().contains("an administrator"), "{error}");
    let mut exchange = pb::exchange_client::ExchangeClient::new(channel);
    let error = exchange.session(tokio_stream::empty()).await.expect_err("nor a peer");
    assert!(error.message().contains("federations of linked sites"), "{error}");

    let (channel, _) = site.channel(None).await;
    let error = EnrollClient::new(channel.clone()).renew(pb::RenewRequest { csr: vec![1] }).await;
    assert_eq!(error.expect_err("a stranger").code(), tonic::Code::Unauthenticated);
    let mut config = pb::config_client::ConfigClient::new(channel);
    let error = config.stream(tokio_stream::empty()).await.expect_err("a stranger");
    assert_eq!(error.code(), tonic::Code::Unauthenticated);
    drop(gateway);
}

#[tokio::test]
async fn a_leaf_is_renewed_for_the_identity_of_the_connection() {
    let site = Site::start("east", &Roads::default()).await;
    let _gateway = site.gateway("gw-0", &[]).await;
    let (channel, _) = site.channel(Some(&agent(&site, "vm-1").await)).await;
    let key = NodeKey::generate().expect("a key");
    let request = pb::RenewRequest::from(&RenewRequest { csr: key.csr_der() });
    let reply = EnrollClient::new(channel).renew(request).await.expect("renews").into_inner();
    let reply = RenewReply::try_from(reply).expect("well formed");
    let credentials = Credentials::new(reply.chain, &key).expect("fits");
    assert_eq!(credentials.id().to_string(), "spiffe://east.mesh/agent/vm-1");
}

#[tokio::test]
async fn an_agent_whose_lease_runs_survives_a_restart_of_the_federation() {
    let roads = Roads::default();
    let site = Site::start("east", &roads).await;
    let gateway = site.gateway("gw-0", &[]).await;
    let credentials = agent(&site, "vm-1").await;
    let mut node = Node::connect(&site, credentials.clone(), NodeKind::Agent, None).await;
    let cart = instance("shop/cart", "vm-1", Reach::Agent("vm-1".parse().expect("valid")), Health::Healthy);
    source(&mut node, 1, SourceChange::Init).await;
    source(&mut node, 2, SourceChange::InitApply(cart.clone())).await;
    source(&mut node, 3, SourceChange::InitDone).await;
    eventually("registered", || async {
        let list: api::rest::service::ServiceList = site.get("/v1/services").await;
        (list.services.len() == 1).then_some(())
    })
    .await;
    drop((node, gateway));
    let site = site.restart().await;
    let view: ServiceView = site.get("/v1/services/shop/cart").await;
    assert_eq!(view.healthy, 1, "{view:?}");
    let mut node = Node::connect(&site, credentials, NodeKind::Agent, None).await;
    assert_eq!(source(&mut node, 1, SourceChange::Init).await, None);
    assert_eq!(source(&mut node, 2, SourceChange::InitApply(cart)).await, None);
}

#[tokio::test]
async fn nodes_take_their_virtual_ips_from_the_block_of_the_site_and_share_when_it_is_full() {
    let mut settings = crate::support::settings("east");
    // The last of its block, so that the nodes' ranges lie before it and not in the block of the next site.
    settings.vip_range = Some(model::config::VipRange { base: [127, 79, 0, 0].into() });
    let site = Site::start_with(settings, &Roads::default()).await;
    let mut given = Vec::new();
    for at in 1..=8 {
        let name = format!("gw-{at}");
        let of = token(&site, "gateway", &name).await;
        let reply = join(&site, &of, &name, &NodeKey::generate().expect("a key")).await.expect("joins");
        given.push(reply.vip_range.expect("a range").base.octets()[1]);
    }
    assert_eq!(given, [72, 73, 74, 75, 76, 77, 78, 72]);
    let events: api::rest::event::EventList = site.get("/v1/events").await;
    let told: Vec<_> = events.events.iter().filter(|event| event.what.contains("virtual IPs")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].subject, "gateway gw-8");
    assert!(told[0].what.contains("127.72.0.0/16, as gateway gw-1 does"), "{told:?}");
    // Joining again does not move a node.
    let of = token(&site, "gateway", "gw-3").await;
    let again = join(&site, &of, "gw-3", &NodeKey::generate().expect("a key")).await.expect("joins");
    assert_eq!(again.vip_range.expect("a range").base.octets()[1], 74);
}
