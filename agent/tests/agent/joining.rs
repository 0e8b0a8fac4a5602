//! Becoming a member, and being one.

use crate::federation::{Joins, eventually, soon};
use crate::imports::service;
use crate::tunnels::nobody;
use crate::world::{Gateway, options, site};
use model::node::NodeKind;
use node::enroll::NodeFolder;
use runtime::shutdown::Shutdown;
use std::net::SocketAddr;
use std::time::Duration;

fn addresses(gateways: &[Gateway]) -> Vec<SocketAddr> {
    gateways.iter().map(|gateway| gateway.tunnel.local_address()).collect()
}

async fn refused(options: agent::Options) -> String {
    match soon("the refusal", agent::run(options, Shutdown::new())).await {
        Ok(_) => panic!("it runs"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn an_agent_joins_through_the_first_gateway_that_leads_to_the_federation() {
    let (_site, federation, gateways) = site(&["gw-0", "gw-1"]).await;
    gateways.iter().for_each(|gateway| gateway.tunnel.set_link_open(true));
    gateways[0].carries_to(nobody().await);
    federation.set(|settings| {
        settings.gateways = gateways.iter().map(Gateway::address).collect();
        settings.vip_range = Some(crate::federation::vip_range());
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vm-1");
    let token = federation.token(NodeKind::Agent, "vm-1", addresses(&gateways));
    let shutdown = Shutdown::new();
    let handle = agent::run(options("vm-1", &path, Some(token)), shutdown.clone()).await.expect("runs");
    assert_eq!(handle.site.as_str(), "west");
    assert!(handle.range.is_some());
    gateways[0].carries_to(federation.address);
    let node = federation.node().await;
    assert_eq!(node.id.to_string(), "spiffe://west.mesh/agent/vm-1");
    shutdown.begin();
    soon("the end", handle.ended()).await;
    assert!(NodeFolder::open(&path).expect("opens").membership().expect("reads").is_some());
}

#[tokio::test]
async fn what_cannot_join_says_why_and_stores_no_membership() {
    let (_site, federation, gateways) = site(&["gw-0"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let token = |name| federation.token(NodeKind::Agent, name, addresses(&gateways));
    let options = |token| options("vm-1", folder.path(), token);

    let said = refused(options(None)).await;
    assert!(said.contains("meshfed token agent vm-1"), "{said}");
    let said = refused(options(Some(token("vm-2")))).await;
    assert!(said.contains("the token is for host vm-2, not vm-1"), "{said}");
    let said =
        refused(options(Some(federation.token(NodeKind::Gateway, "vm-1", addresses(&gateways))))).await;
    assert!(said.contains("lets a gateway join"), "{said}");
    let said = refused(options(Some(token("vm-1")))).await;
    assert!(said.contains("no invite is pending"), "no links are open: {said}");

    gateways[0].tunnel.set_link_open(true);
    let mut other = token("vm-1");
    other.digest = [7; 32];
    let said = refused(options(Some(other))).await;
    assert!(said.contains("digest"), "{said}");
    federation.set(|settings| settings.joins = Joins::Refuses("this token was used already".to_owned()));
    let said = refused(options(Some(token("vm-1")))).await;
    assert!(said.contains("this token was used already"), "{said}");
    let membership = NodeFolder::open(folder.path()).expect("opens").membership().expect("reads");
    assert!(membership.is_none());
}

#[tokio::test]
async fn a_member_starts_again_without_token_or_federation_from_what_it_held() {
    let (site, federation, gateways) = site(&["gw-0"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let list = vec![gateways[0].address()];
    crate::world::member(&site, folder.path(), "vm-1", list.clone(), crate::federation::vip_range());
    let shutdown = Shutdown::new();
    let handle = agent::run(options("vm-1", folder.path(), None), shutdown.clone()).await.expect("runs");
    let mut node = federation.node().await;
    let version = node.send(federation.snapshot(true, vec![site.entry(list), service("shop/cart")]));
    node.acked(version).await;
    shutdown.begin();
    soon("the end", handle.ended()).await;
    drop(federation);

    let shutdown = Shutdown::new();
    let handle = agent::run(options("vm-1", folder.path(), None), shutdown.clone()).await.expect("runs");
    gateways[0].connection().await;
    let health = handle.health;
    soon("readiness", async {
        while !ready(health).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    shutdown.begin();
}

async fn ready(health: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut tcp = tokio::net::TcpStream::connect(health).await.expect("listens");
    tcp.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("writes");
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.expect("reads");
    text.starts_with("HTTP/1.1 200")
}

#[tokio::test]
async fn the_folder_of_another_host_or_site_is_not_used() {
    let (site, federation, gateways) = site(&["gw-0"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let list = vec![gateways[0].address()];
    crate::world::member(&site, folder.path(), "vm-2", list, crate::federation::vip_range());
    let said = refused(options("vm-1", folder.path(), None)).await;
    assert!(said.contains("spiffe://west.mesh/agent/vm-2, not of host vm-1"), "{said}");
    let mut token = federation.token(NodeKind::Agent, "vm-2", addresses(&gateways));
    token.site = "east".parse().expect("valid");
    let said = refused(options("vm-2", folder.path(), Some(token))).await;
    assert!(said.contains("belongs to site west, and the token is for site east"), "{said}");
}

#[tokio::test]
async fn a_certificate_is_renewed_while_everything_goes_on() {
    let (site, federation, gateways) = site(&["gw-0"]).await;
    gateways[0].tunnel.set_link_open(true);
    federation.set(|settings| {
        settings.gateways = vec![gateways[0].address()];
        settings.lifetime = Duration::from_secs(8);
    });
    let folder = tempfile::tempdir().expect("a folder");
    let token = federation.token(NodeKind::Agent, "vm-1", addresses(&gateways));
    let shutdown = Shutdown::new();
    let membership = {
        let folder = NodeFolder::open(folder.path()).expect("opens");
        agent::join::join(&token, &folder, [127, 0, 0, 1].into()).await.expect("joins")
    };
    federation.set(|settings| settings.lifetime = identity::ca::INFRASTRUCTURE_LIFETIME);
    let handle = agent::run(options("vm-1", folder.path(), None), shutdown.clone()).await.expect("runs");
    let connection = gateways[0].connection().await;
    let mut node = federation.node().await;
    eventually("the renewal", || federation.renewals() == 1).await;
    let read =
        || NodeFolder::open(folder.path()).expect("opens").membership().expect("reads").expect("a member");
    eventually("the disk", || read().credentials.chain_pem() != membership.credentials.chain_pem()).await;
    let version = node.send(federation.snapshot(true, vec![site.entry(vec![gateways[0].address()])]));
    node.acked(version).await;
    assert!(connection.close_reason().is_none(), "the connection is the one from before");
    shutdown.begin();
    soon("the end", handle.ended()).await;
}
