//! Whether the peer has heard that the link is over.

use crate::links::{accept, invite, linked};
use crate::support::{Roads, Site};
use api::rest::link::{LinkList, UnlinkReply};
use hyper::Method;
use serde_json::json;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A way to a federation on which, once it is shut, connections stay open and nothing arrives any more: what a peer that
/// has just died looks like.
async fn gate(to: SocketAddr, shut: &watch::Sender<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shut = shut.subscribe();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(to).await.expect("the federation is there");
            let ((near_reader, near_writer), (far_reader, far_writer)) =
                (near.into_split(), far.into_split());
            tokio::spawn(pass(near_reader, far_writer, shut.clone()));
            tokio::spawn(pass(far_reader, near_writer, shut.clone()));
        }
    });
    address
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut shut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if shut.wait_for(|shut| !shut).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_peer_counts_as_told_only_when_it_has_answered() {
    for dies in [false, true] {
        let roads = Roads::default();
        let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
        let shut = watch::Sender::new(false);
        for site in [&east, &west] {
            let by = gate(site.handle.config_address, &shut).await;
            roads.lock().expect("fine").insert(format!("{}.mesh", site.name), by);
        }
        let _gateways = (east.gateway("gw-0", &["west"]).await, west.gateway("gw-0", &["east"]).await);
        accept(&west, &invite(&east, json!({})).await).await.expect("links");
        linked(&west, "east", "connected").await;
        linked(&east, "west", "connected").await;

        shut.send_replace(dies);
        let reply: UnlinkReply = west.ask(Method::DELETE, "/v1/links/east", &()).await.expect("unlinks");
        assert_eq!(reply.peer_told, !dies, "{reply:?}");
        assert_eq!(reply.note, if dies { "east does not answer" } else { "" });
        assert!(west.get::<LinkList>("/v1/links").await.links.is_empty());
        if !dies {
            // Whoever has answered has stored it.
            assert!(east.get::<LinkList>("/v1/links").await.links.is_empty());
        }
    }
}
