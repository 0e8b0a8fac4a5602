//! Who gets in, and what those who do not are told.

use crate::support::{Node, Site, lan, pair, raw_peer, soon};
use identity::peer::RoleKind;
use identity::tls::Expect;
use model::tunnel::{ALPN, ALPN_LINK};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::{Accepted, CloseCode, Closed, ConnectError, Roles, Tunnel};

#[tokio::test]
async fn two_gateways_of_linked_sites_know_each_other() {
    let pair = pair().await;
    assert_eq!(pair.dialled.peer().to_string(), "spiffe://east.mesh/gateway/gw-0");
    assert_eq!(pair.accepted.peer().to_string(), "spiffe://west.mesh/gateway/gw-0");
    assert!(pair.dialled.dialled() && !pair.accepted.dialled());
    assert_eq!(pair.dialled.remote(), pair.east.address());
    assert!(pair.dialled.health().rtt.is_some());
}

#[tokio::test]
async fn another_site_than_the_one_meant_is_refused_by_the_dialler() {
    let (west, east, dc) = (Site::new("west"), Site::new("east"), Site::new("dc"));
    let from = west.gateway(&[&east, &dc]);
    let to = east.gateway(&[&west]);
    let error = from.tunnel.connect(to.address(), from.expects(&dc)).await.expect_err("another site");
    assert!(matches!(error, ConnectError::WrongPeer { .. }), "{error:?}");
    assert!(error.to_string().contains("the address belongs to another site"), "{error}");
}

#[tokio::test]
async fn a_site_that_is_not_linked_here_is_refused_with_the_reason() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let from = west.gateway(&[&east]);
    let to = east.gateway(&[]);
    let error = from.tunnel.connect(to.address(), from.expects(&east)).await.expect_err("not linked");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("refuses our certificate"), "{error}");
}

#[tokio::test]
async fn a_role_without_business_here_is_refused_with_the_reason() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let agent = Node::new(west.credentials("agent/vm-1"), west.trust(&[&east]), lan());
    let to = east.gateway(&[&west]);
    let error = agent.tunnel.connect(to.address(), agent.expects(&east)).await.expect_err("an agent");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");

    let own = west.gateway(&[]);
    let expect = agent.expects(&west);
    let (dialled, accepted) = tokio::join!(agent.tunnel.connect(own.address(), expect), own.accept());
    dialled.expect("an agent of the own site is welcome");
    assert_eq!(accepted.peer().to_string(), "spiffe://west.mesh/agent/vm-1");
}

#[tokio::test]
async fn a_dialler_that_expects_another_role_is_not_content() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let config = lan().accepting(Roles::of_gateway());
    let to = Node::new(east.credentials("agent/vm-1"), east.trust(&[&west]), config);
    let from = west.gateway(&[&east]);
    let error = from.tunnel.connect(to.address(), from.expects(&east)).await.expect_err("an agent");
    assert!(error.to_string().contains("has no business here"), "{error}");
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused_whether_links_are_open_or_not() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let to = east.gateway(&[&west]);
    for open in [false, true] {
        to.tunnel.set_link_open(open);
        // The dialler is done with its handshake before the other side has looked.
        let reason = match raw_peer(None, &to, &east, ALPN).await {
            Ok(raw) => soon("the refusal", raw.closed()).await,
            Err(error) => error,
        };
        let told = reason.to_string();
        assert!(told.contains("certificate"), "{told}");
    }
    // A certificate that is offered is verified, even where none is needed.
    let dc = Site::new("dc");
    let reason = match raw_peer(Some(dc.credentials("gateway/gw-0")), &to, &east, ALPN_LINK).await {
        Ok(raw) => soon("the refusal", raw.closed()).await,
        Err(error) => error,
    };
    assert!(matches!(reason, quinn::ConnectionError::ConnectionClosed(_)), "{reason:?}");
}

#[tokio::test]
async fn nobody_at_all_is_said_to_be_nobody() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let config = tunnel::Config { connect_timeout: std::time::Duration::from_millis(300), ..lan() };
    let from = Node::new(west.credentials("gateway/gw-0"), west.trust(&[&east]), config);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let address = silent.local_addr().expect("bound");
    let error = from.tunnel.connect(address, from.expects(&east)).await.expect_err("silence");
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_link_is_made_only_while_links_are_open() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let from = west.gateway(&[]);
    let to = east.gateway(&[]);
    let expect = Expect::bundle(east.bundle(), RoleKind::Gateway).expect("good");

    let error = from.tunnel.connect_link(to.address(), expect.clone()).await.expect_err("closed");
    assert!(error.to_string().contains("no invite is pending"), "{error}");

    to.tunnel.set_link_open(true);
    let mut asks = from.tunnel.connect_link(to.address(), expect.clone()).await.expect("open");
    asks.write_all(b"may I").await.expect("writes");
    let Some(Accepted::Link(mut answers)) = soon("the link", to.tunnel.accept()).await else {
        panic!("not a link")
    };
    let mut question = [0; 5];
    answers.read_exact(&mut question).await.expect("reads");
    answers.write_all(b"you may").await.expect("writes");
    answers.shutdown().await.expect("ends");
    drop(answers);
    let mut answer = String::new();
    asks.read_to_string(&mut answer).await.expect("reads");
    assert_eq!((&question[..], answer.as_str()), (&b"may I"[..], "you may"));

    to.tunnel.set_link_open(false);
    from.tunnel.connect_link(to.address(), expect.clone()).await.expect_err("closed again");
}

#[tokio::test]
async fn a_stranger_gets_no_further_than_a_link_even_while_links_are_open() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let from = west.gateway(&[&east]);
    let to = east.gateway(&[]);
    to.tunnel.set_link_open(true);
    let error = from.tunnel.connect(to.address(), from.expects(&east)).await.expect_err("not linked");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn who_has_no_certificate_yet_can_join_by_the_digest_of_a_token() {
    let site = Site::new("east");
    let gateway = site.gateway(&[]);
    gateway.tunnel.set_link_open(true);
    let any = "127.0.0.1:0".parse().expect("valid");
    let tunnel = Tunnel::stranger(any, lan()).expect("binds");
    let digest = identity::bundle::digest(&site.bundle());
    let expect = Expect::digest(site.domain.clone(), digest, RoleKind::Gateway);
    let mut asks = tunnel.connect_link(gateway.address(), expect.clone()).await.expect("open");
    asks.write_all(b"may I").await.expect("writes");
    let accepted = soon("the stranger", gateway.tunnel.accept()).await;
    assert!(matches!(accepted, Some(Accepted::Link(_))), "{accepted:?}");
    let error = tunnel.connect(gateway.address(), expect).await.expect_err("no certificate");
    assert!(matches!(error, ConnectError::Impossible { .. }), "{error}");
    let other = Expect::digest(site.domain.clone(), [0; 32], RoleKind::Gateway);
    let error = tunnel.connect_link(gateway.address(), other).await.expect_err("another digest");
    assert!(error.to_string().contains("digest"), "{error}");
}

#[tokio::test]
async fn a_link_carries_no_more_than_it_may() {
    let (west, east) = (Site::new("west"), Site::new("east"));
    let from = west.gateway(&[]);
    let to = east.gateway(&[]);
    to.tunnel.set_link_open(true);
    let expect = Expect::bundle(east.bundle(), RoleKind::Gateway).expect("good");
    let mut asks = from.tunnel.connect_link(to.address(), expect.clone()).await.expect("open");
    let error = asks.write_all(&vec![0; 20_000]).await.expect_err("too much");
    assert!(error.to_string().contains("16384"), "{error}");
}

#[tokio::test]
async fn a_close_tells_the_other_side_why() {
    let pair = pair().await;
    pair.dialled.close(CloseCode::Duplicate, "the other one stays");
    let closed = soon("the close", pair.accepted.closed()).await;
    assert_eq!(closed, Closed::Peer { code: CloseCode::Duplicate, reason: "the other one stays".into() });
    assert_eq!(soon("the close", pair.dialled.closed()).await, Closed::Here);
    assert!(soon("the end", pair.accepted.accept_stream()).await.is_err());
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed() {
    let pair = pair().await;
    drop(pair.dialled);
    let closed = soon("the close", pair.accepted.closed()).await;
    assert!(matches!(closed, Closed::Peer { code: CloseCode::Done, .. }), "{closed:?}");
}
