//! Links that are not made yet, and those that may not be made: dry runs, confirmations, anchors, clones.

use crate::links::{accept, invite, linked};
use crate::support::{Roads, Site, eventually};
use api::rest::event::{EventList, EventView};
use api::rest::link::{InviteReply, LinkList, LinkView};
use hyper::Method;
use identity::ca::Ca;
use identity::invite::Invite;
use identity::proof;
use model::catalog::{Scope, SiteInfo};
use model::identity::Bundle;
use model::ids::SiteUid;
use runtime::clock::unix_ms;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use wire::enroll::{RedeemReply, RedeemRequest};
use wire::pb;
use wire::pb::enroll_client::EnrollClient;

async fn links(site: &Site) -> Vec<LinkView> {
    site.get::<LinkList>("/v1/links").await.links
}

#[tokio::test]
async fn a_dry_run_of_a_link_says_what_it_would_open_and_changes_nothing() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _gateways = (east.gateway("gw-0", &["west"]).await, west.gateway("gw-0", &["east"]).await);
    let text = invite(&east, json!({})).await;
    let request = json!({"invite": text, "offer": {"services": ["shop/cart"]}, "dry_run": true});
    let view: LinkView = west.ask(Method::POST, "/v1/links", &request).await.expect("would");
    assert_eq!((view.site.as_str(), view.trust_domain.as_str()), ("east", "east.mesh"));
    assert_eq!((view.offer.services.len(), view.accept.new_names), (1, true));
    assert_eq!(view.gateways, ["127.0.0.1:4430"]);
    assert_eq!((links(&east).await.len(), links(&west).await.len()), (0, 0));
    // It has not used up the invite either.
    accept(&west, &text).await.expect("links");
}

#[tokio::test]
async fn an_invite_that_has_run_out_is_refused_by_whoever_would_take_it_up() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _gateways = (east.gateway("gw-0", &[]).await, west.gateway("gw-0", &[]).await);
    for seconds in [9, 86_401] {
        let request = json!({"expires_in_s": seconds});
        let error = east.ask::<InviteReply>(Method::POST, "/v1/invites", &request).await.expect_err("bounds");
        assert!(error.contains("10 to 86400 seconds"), "{error}");
    }
    let text = invite(&east, json!({})).await;
    let mut late = Invite::decode(&text, unix_ms()).expect("reads");
    assert!((890_000..=900_000).contains(&(late.expires_ms - unix_ms())), "15 min");
    late.expires_ms = unix_ms() - 5_000;
    let error = accept(&west, &late.encode()).await.expect_err("late");
    assert!(error.contains("the invite cannot be used") && error.contains("meshfed link invite"), "{error}");
    assert_eq!((links(&east).await.len(), links(&west).await.len()), (0, 0));
}

/// Takes up an invite by hand, as the federation of another site would.
async fn redeem(
    inviter: &Site,
    text: &str,
    site: &SiteInfo,
    bundle: &Bundle,
    confirm: bool,
) -> Result<RedeemReply, Status> {
    let invite = Invite::decode(text, unix_ms()).expect("reads");
    let (channel, exporter) = inviter.channel(None).await;
    let context = proof::redeem_context(site.uid, bundle);
    let request = RedeemRequest {
        invite: invite.id,
        proof: proof::prove(&invite.secret, &exporter, &context),
        site: site.clone(),
        bundle: bundle.clone(),
        offer: Scope::All,
        confirm,
    };
    let reply = EnrollClient::new(channel).redeem(pb::RedeemRequest::from(&request)).await?.into_inner();
    Ok(RedeemReply::try_from(reply).expect("well formed"))
}

fn stranger(name: &str) -> SiteInfo {
    SiteInfo {
        id: name.parse().expect("valid"),
        uid: SiteUid([7; 16]),
        trust_domain: format!("{name}.mesh").parse().expect("valid"),
        locality: Default::default(),
        clusterset: "meshfed".parse().expect("valid"),
        gateways: Vec::new(),
    }
}

#[tokio::test]
async fn a_link_is_pending_until_the_accepter_confirms_and_he_may_repeat_himself() {
    let east = Site::start("east", &Roads::default()).await;
    let _gateway = east.gateway("gw-0", &[]).await;
    let dc = stranger("dc");
    let bundle = Ca::generate(&dc.trust_domain, unix_ms()).expect("a CA").bundle(1);
    let first = invite(&east, json!({"accept": {"all": true}})).await;
    for _ in 0..2 {
        let reply = redeem(&east, &first, &dc, &bundle, false).await.expect("taken up");
        assert!(!reply.active);
        let seen = links(&east).await;
        assert_eq!((seen.len(), seen[0].state.as_str(), seen[0].accept.all), (1, "pending", true));
    }
    // Nothing is known of its catalog, and nothing is said of that; least of all that it is fresh.
    let scraped = eventually("a scrape", async || {
        let text = east.handle.metrics.encode();
        text.contains("meshfed_peer_state{peer=\"dc\",state=\"pending\"} 1\n").then_some(text)
    });
    let scraped = scraped.await;
    for metric in ["meshfed_catalog_age_seconds", "meshfed_catalog_revision", "meshfed_catalog_entries"] {
        assert!(!scraped.contains(&format!("{metric}{{")), "{scraped}");
    }
    // What was begun may be begun anew, with what the newer invite opens.
    let second = invite(&east, json!({"offer": {"services": ["shop/cart"]}})).await;
    redeem(&east, &second, &dc, &bundle, false).await.expect("taken up");
    let seen = links(&east).await;
    assert_eq!((seen.len(), seen[0].state.as_str()), (1, "pending"));
    assert_eq!((seen[0].accept.all, seen[0].offer.services.len()), (false, 1));
    for _ in 0..2 {
        assert!(redeem(&east, &second, &dc, &bundle, true).await.expect("confirms").active);
        assert_ne!(links(&east).await[0].state, "connected", "no path leads there");
    }
    let events: EventList = east.get("/v1/events").await;
    assert_eq!(events.events.iter().filter(|event| event.what == "is linked").count(), 1, "{events:?}");

    // The proof is bound to who takes it up.
    let other = SiteInfo { uid: SiteUid([8; 16]), ..stranger("dc2") };
    let bundle = Ca::generate(&other.trust_domain, unix_ms()).expect("a CA").bundle(1);
    let error = redeem(&east, &second, &other, &bundle, false).await.expect_err("used");
    assert!(error.message().contains("used already, by another site"), "{error}");
}

#[tokio::test]
async fn a_bundle_that_shares_an_anchor_key_is_refused() {
    let east = Site::start("east", &Roads::default()).await;
    let _gateway = east.gateway("gw-0", &[]).await;
    let dc = stranger("dc");
    // Another certificate, for another name, over the key of the CA of east.
    let pem = std::fs::read_to_string(east.folder.join("ca/ca.key")).expect("a key");
    let key = rcgen::KeyPair::from_pem(&pem).expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let anchor = params.self_signed(&key).expect("signed").der().to_vec();
    let bundle = Bundle { trust_domain: dc.trust_domain.clone(), sequence: 1, anchors: vec![anchor] };
    let text = invite(&east, json!({})).await;
    let error = redeem(&east, &text, &dc, &bundle, false).await.expect_err("shared");
    assert!(error.message().contains("dc and this site share a CA key"), "{error}");
    assert!(error.message().contains("give one of them a CA of its own"), "{error}");
    assert_eq!(links(&east).await.len(), 0);
    // The invite is still good for a site that has its own.
    let bundle = Ca::generate(&dc.trust_domain, unix_ms()).expect("a CA").bundle(1);
    redeem(&east, &text, &dc, &bundle, false).await.expect("taken up");
}

/// A way to a federation that lets the first connections through, and no more until it is widened.
async fn turnstile(to: std::net::SocketAddr, places: &Arc<AtomicUsize>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let places = places.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let free = places.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if free.is_ok() {
                let mut far = TcpStream::connect(to).await.expect("the federation is there");
                tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut near, &mut far).await) });
            }
        }
    });
    address
}

#[tokio::test]
async fn a_confirmation_that_was_not_heard_is_repeated() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _gateways = (east.gateway("gw-0", &["west"]).await, west.gateway("gw-0", &["east"]).await);
    // The invite is shown, and nothing after it arrives.
    let places = Arc::new(AtomicUsize::new(1));
    let by = turnstile(east.handle.config_address, &places).await;
    roads.lock().expect("fine").insert("east.mesh".to_owned(), by);
    accept(&west, &invite(&east, json!({})).await).await.expect("begins");
    assert_eq!(links(&east).await[0].state, "pending");
    assert!(!links(&west).await[0].synced, "east does not talk to it yet");
    places.store(usize::MAX, Ordering::SeqCst);
    linked(&west, "east", "connected").await;
    linked(&east, "west", "connected").await;
}

#[tokio::test]
async fn the_second_of_two_live_copies_of_a_site_is_refused_and_the_first_goes_on() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let gateways = (east.gateway("gw-0", &["west"]).await, west.gateway("gw-0", &["east"]).await);
    accept(&west, &invite(&east, json!({})).await).await.expect("links");
    linked(&west, "east", "connected").await;
    linked(&east, "west", "connected").await;
    drop(gateways.0);
    let copied = tempfile::tempdir().expect("a folder");
    let copy = copied.path().join("east");
    let east = east.restart_after(|folder| copy_folder(folder, &copy)).await;
    let _gateway = east.gateway("gw-0", &["west"]).await;
    linked(&east, "west", "connected").await;
    // Both may have dialled, and then one of two sessions is closed; whoever comes in between would be the first.
    eventually("east talks again, and goes on", || async {
        for _ in 0..10 {
            for site in [&east, &west] {
                let status: api::rest::status::StatusView = site.get("/v1/status").await;
                if !status.peers[0].catalog.live {
                    return None;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(())
    })
    .await;

    // It knows where west is, and west does not know where it is.
    let own_roads = Roads::default();
    own_roads.lock().expect("fine").insert("west.mesh".to_owned(), west.handle.config_address);
    let clone = Site::start_copy(&east, copy, &own_roads).await;
    let _clones_gateway = clone.gateway("gw-0", &["west"]).await;
    let seen = eventually("west says so", || told(&west, "a second copy of it was refused")).await;
    assert!(seen.why.contains("a site directory was copied"), "{seen:?}");
    eventually("the copy hears why", || told(&clone, "another live process speaks for this site")).await;
    let status: api::rest::status::StatusView = west.get("/v1/status").await;
    assert!(status.peers[0].catalog.live, "the first goes on: {status:?}");
    drop(gateways.1);
}

/// An event in which this is said.
async fn told(site: &Site, what: &str) -> Option<EventView> {
    let events = site.get::<EventList>("/v1/events").await.events;
    events.into_iter().find(|event| event.what.contains(what) || event.why.contains(what))
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("there").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            copy_folder(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}
