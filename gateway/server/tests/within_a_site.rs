//! Agents, federations and strangers at a gateway.

mod support;

use identity::peer::RoleKind;
use identity::tls::Expect;
use model::decision::RefusalCode;
use model::tunnel::{StreamHeader, StreamKind};
use std::net::SocketAddr;
use support::{Agent, Gateway, Site, address, endpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::{Config, Tunnel};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_on_a_host_is_reached_over_its_agents_connection() {
    let site = Site::new("east", 1, 1);
    let vm = endpoint("vm-1").await;
    let group = site.endpoints(vec![site.on_host("vm-1", "host-1", vm.port())]);
    let gateway = Gateway::start(&site, 0, site.config(&[], vec![group])).await;
    assert!(gateway.call().await.is_none(), "its agent is not there");
    let agent = Agent::connect(&site, "host-1", gateway.tunnel).await;
    agent.serve(vm);
    let mut call = gateway.call_until_served().await;
    assert_eq!(call.served_by, "vm-1");
    assert!(call.echoes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reaches_endpoints_of_the_site_and_asserts_no_one_else() {
    let site = Site::new("east", 1, 1);
    let vm = endpoint("vm-1").await;
    let group = site.endpoints(vec![site.direct("vm-1", vm)]);
    let gateway = Gateway::start(&site, 0, site.config(&[], vec![group])).await;
    let agent = Agent::connect(&site, "host-1", gateway.tunnel).await;

    let me = Some("spiffe://east.mesh/agent/host-1");
    for (identity, service, expected) in [
        (me, "shop/cart", None),
        (None, "shop/cart", None),
        (Some("spiffe://east.mesh/agent/host-2"), "shop/cart", Some(RefusalCode::BadHeader)),
        (Some("spiffe://west.mesh/agent/host-1"), "shop/cart", Some(RefusalCode::BadHeader)),
        (me, "shop/none", Some(RefusalCode::UnknownService)),
    ] {
        let mut header = agent.header(service, &site);
        if let StreamKind::Service(stream) = &mut header.kind {
            stream.caller.identity = identity.map(|id| id.parse().expect("valid"));
        }
        let refused = agent.open(&header).await.err().map(|refusal| refusal.code);
        assert_eq!(refused, expected, "{identity:?} {service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_config_stream_ends_at_the_federation() {
    let site = Site::new("east", 1, 1);
    let federation = endpoint("federation").await;
    let gateway = Gateway::start_with(&site, 0, site.config(&[], Vec::new()), federation).await;
    let agent = Agent::connect(&site, "host-1", gateway.tunnel).await;
    let open = |kind| StreamHeader { kind, ..agent.header("shop/cart", &site) };
    let mut stream = agent.open(&open(StreamKind::Config)).await.expect("accepted");
    stream.write_all(b"hello").await.expect("writes");
    let mut back = [0; 16];
    stream.read_exact(&mut back).await.expect("reads");
    assert_eq!(&back, b"federation\nhello");

    let refusal =
        agent.open(&open(StreamKind::Federation)).await.expect_err("it is no gateway of a linked site");
    assert_eq!(refusal.code, RefusalCode::BadHeader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_led_to_the_federation_while_a_link_is_made_and_only_then() {
    let federation = endpoint("federation").await;
    for link_open in [true, false] {
        let mut site = Site::new("east", 1, 1);
        site.link_open = link_open;
        let gateway = Gateway::start_with(&site, 0, site.config(&[], Vec::new()), federation).await;
        let stranger = Tunnel::stranger(SocketAddr::new(address().into(), 0), Config::wan()).expect("binds");
        let expect = Expect::bundle(site.ca.bundle(1), RoleKind::Gateway).expect("good");
        let talked = support::eventually("the stranger is told", || async {
            let mut stream = match stranger.connect_link(gateway.tunnel, expect.clone()).await {
                Ok(stream) => stream,
                // The config is followed a moment after the start.
                Err(_) if link_open => return None,
                Err(_) => return Some(false),
            };
            let mut back = [0; 16];
            let talk = async {
                stream.write_all(b"hello").await?;
                stream.read_exact(&mut back).await
            };
            Some(talk.await.is_ok() && &back == b"federation\nhello")
        })
        .await;
        assert_eq!(talked, link_open);
    }
}
