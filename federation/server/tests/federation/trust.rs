//! The root of a site, rotated: who is told, who holds it up, who is let in afterwards.

use crate::links::{accept, invite, linked};
use crate::support::{Node, Roads, Site, channel, eventually};
use api::rest::event::EventList;
use api::rest::status::StatusView;
use api::rest::trust::{TrustReply, TrustView};
use federation_server::site_dir::SiteDir;
use hyper::Method;
use identity::ca::Ca;
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::Expect;
use model::catalog::{Scope, View};
use model::config::{ConfigKey, ConfigValue};
use model::exchange::PeerMessage;
use model::identity::{Bundle, SpiffeId};
use model::ids::Incarnation;
use model::node::{NodeKind, NodeMessage};
use runtime::clock::unix_ms;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::enroll::{RenewReply, RenewRequest};
use wire::pb;
use wire::pb::enroll_client::EnrollClient;
use wire::pb::exchange_client::ExchangeClient;

async fn trust(site: &Site) -> TrustView {
    site.get("/v1/trust").await
}

async fn step(site: &Site, verb: &str, request: serde_json::Value) -> Result<TrustReply, String> {
    site.ask(Method::POST, &format!("/v1/trust/{verb}"), &request).await
}

/// Waits until these hold up the next step, and nobody else.
async fn waits_for(site: &Site, names: &[&str]) -> TrustView {
    eventually(&format!("{} waits for {names:?}", site.name), || async {
        let view = trust(site).await;
        (view.waits_for == names).then_some(view)
    })
    .await
}

/// A gateway that keeps its certificate, so that it can renew it.
async fn gateway(site: &Site, peers: &[&str]) -> (Node, LiveCredentials) {
    let (key, address) = (NodeKey::generate().expect("a key"), "127.0.0.1:4430".parse().expect("valid"));
    let joined = site.handle.join_gateway("gw-0".parse().expect("valid"), key.csr_der(), Some(address)).await;
    let credentials = Credentials::new(joined.expect("joins").chain, &key).expect("fits");
    let credentials = LiveCredentials::new(credentials);
    let node = Node::connect(site, credentials.clone(), NodeKind::Gateway, Some(address)).await;
    node.report(peers).await;
    (node, credentials)
}

/// Acknowledges all config, as a gateway does that has it on its disk.
async fn acknowledge(node: &Node) {
    let version = node.updates.borrow().last().map(|update| update.version);
    node.say(NodeMessage::Ack(version.expect("there was config"))).await;
}

/// The roots that a gateway is told of its own site (`None`) or of a peer, once there are so many of this number.
async fn told(node: &mut Node, peer: Option<&str>, sequence: u64, anchors: usize) -> Bundle {
    let key = peer.map_or(ConfigKey::Site, |peer| ConfigKey::Peer(peer.parse().expect("valid")));
    let what = format!("bundle {sequence} of {key:?}");
    node.wait_config(&what, |config| {
        let bundle = match config.get(&key)? {
            ConfigValue::Site(site) => &site.bundle,
            ConfigValue::Peer(peer) => &peer.bundle,
            _ => return None,
        };
        (bundle.sequence == sequence && bundle.anchors.len() == anchors).then(|| bundle.clone())
    })
    .await
}

async fn renew(site: &Site, credentials: &LiveCredentials) {
    let (channel, _) = site.channel(Some(credentials)).await;
    let key = NodeKey::generate().expect("a key");
    let request = pb::RenewRequest::from(&RenewRequest { csr: key.csr_der() });
    let reply = EnrollClient::new(channel).renew(request).await.expect("renews").into_inner();
    let chain = RenewReply::try_from(reply).expect("well formed").chain;
    credentials.replace(Credentials::new(chain, &key).expect("fits"));
}

/// Whether the site lets somebody in with this certificate.
async fn lets_in(site: &Site, credentials: &LiveCredentials) -> bool {
    let expect = Expect::trusted(&site.trust, site.trust.own_domain(), RoleKind::Federation);
    let Ok((channel, _)) = channel(site.handle.config_address, Some(credentials), &expect).await else {
        return false;
    };
    let key = NodeKey::generate().expect("a key");
    let request = pb::RenewRequest::from(&RenewRequest { csr: key.csr_der() });
    EnrollClient::new(channel).renew(request).await.is_ok()
}

async fn events(site: &Site) -> Vec<String> {
    let list: EventList = site.get("/v1/events").await;
    list.events.iter().map(|event| format!("{}: {} ({})", event.subject, event.what, event.why)).collect()
}

/// Two linked sites, with their gateways.
async fn two() -> (Site, Site, (Node, LiveCredentials), Node) {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let (gateway, west_gateway) = (gateway(&east, &["west"]).await, west.gateway("gw-0", &["east"]).await);
    accept(&west, &invite(&east, json!({})).await).await.expect("links");
    linked(&east, "west", "connected").await;
    linked(&west, "east", "connected").await;
    (east, west, gateway, west_gateway)
}

#[tokio::test]
async fn a_root_is_rotated_in_three_steps_and_everybody_is_told_and_no_session_ends() {
    let (mut east, west, (mut gateway, credentials), mut west_gateway) = two().await;
    let old = LiveCredentials::new((*credentials.current()).clone());
    let view = trust(&east).await;
    assert_eq!((view.step.as_str(), view.sequence, view.roots.len()), ("settled", 1, 1), "{view:?}");
    assert_eq!(view.next, "meshfed trust rotate --context east");
    eventually("west has said what it holds", || async {
        trust(&east).await.holders.iter().any(|holder| holder.note == "holds bundle 1").then_some(())
    })
    .await;

    // Step 1. A dry run changes nothing.
    let dry = step(&east, "rotate", json!({"dry_run": true})).await.expect("says what it would do");
    assert!(dry.dry_run && dry.done == "the next root is published", "{dry:?}");
    assert_eq!(trust(&east).await.step, "settled");
    step(&east, "rotate", json!({})).await.expect("publishes");
    told(&mut west_gateway, Some("east"), 2, 2).await;
    told(&mut gateway, None, 2, 2).await;
    let view = waits_for(&east, &["gateway gw-0"]).await;
    assert_eq!((view.step.as_str(), view.roots[1].role.as_str()), ("published", "next"), "{view:?}");
    let refused = step(&east, "rotate", json!({})).await.expect_err("not yet");
    assert!(refused.contains("gateway gw-0 holds it up") && refused.contains("--force"), "{refused}");
    let refused = step(&east, "finish", json!({})).await.expect_err("out of order");
    assert!(refused.contains("does not sign yet") && refused.contains("trust rotate"), "{refused}");
    acknowledge(&gateway).await;
    let view = waits_for(&east, &[]).await;
    assert_eq!(view.next, "meshfed trust rotate --context east");

    // Step 2: the nodes hear which root signs, and whoever has not renewed holds up the end.
    let key = NodeKey::generate().expect("a key");
    let csr: String = key.csr_der().iter().map(|byte| format!("{byte:02x}")).collect();
    let reply = step(&east, "rotate", json!({"csr_hex": csr})).await.expect("switches");
    let admin = reply.admin.expect("a certificate for who asked");
    let admin = Credentials::from_pem(&admin.certificate, &key.to_pem()).expect("a pair");
    assert_eq!(admin.id().to_string(), "spiffe://east.mesh/admin/root");
    let (signer, bundle) = gateway
        .wait_config("the new signer", |config| match config.get(&ConfigKey::Site)? {
            ConfigValue::Site(site) => {
                let signer = site
                    .signer
                    .filter(|signer| *signer == identity::bundle::fingerprint(&site.bundle.anchors[1]));
                Some((signer?, site.bundle.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!(
        view.roots[1].fingerprint,
        signer.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    assert!(credentials.current().is_signed_by(&bundle.anchors[0]));
    let refused = step(&east, "finish", json!({})).await.expect_err("held up");
    assert!(refused.contains("gateway gw-0") && refused.contains("cut off"), "{refused}");
    let status: StatusView = east.get("/v1/status").await;
    let finding = status.findings.iter().find(|finding| finding.subject == "trust").expect("a finding");
    assert!(finding.why.contains("gateway gw-0 holds it up"), "{finding:?}");
    renew(&east, &credentials).await;
    assert!(credentials.current().is_signed_by(&bundle.anchors[1]));
    waits_for(&east, &[]).await;

    // Step 3: only now the old root counts no more.
    assert!(lets_in(&east, &old).await);
    step(&east, "finish", json!({})).await.expect("retires");
    east.admin.replace(admin);
    east.trust.set_own(told(&mut gateway, None, 3, 1).await).expect("good");
    assert!(!lets_in(&east, &old).await, "a certificate of the old root");
    assert!(lets_in(&east, &credentials).await, "one of the new root");
    let held = told(&mut west_gateway, Some("east"), 3, 1).await;
    assert_eq!(held.anchors[0], bundle.anchors[1]);
    waits_for(&east, &[]).await;
    let seen = events(&west).await;
    assert!(!seen.iter().any(|event| event.contains("does not answer")), "a session has ended: {seen:#?}");
    assert_eq!(seen.iter().filter(|event| event.contains("has other roots")).count(), 2, "{seen:#?}");

    // And all of it is so after a restart.
    drop(gateway);
    east = east.restart().await;
    let view = trust(&east).await;
    assert_eq!((view.step.as_str(), view.sequence, view.roots.len()), ("settled", 3, 1), "{view:?}");
}

#[tokio::test]
async fn a_site_that_was_away_through_all_steps_comes_back_and_takes_what_it_has_missed() {
    let (east, west, (mut gateway, credentials), west_gateway) = two().await;
    waits_for(&east, &[]).await;
    drop(west_gateway);
    let (west, roads) = {
        west.shutdown.begin();
        let roads = west.roads.clone();
        (west, roads)
    };
    // Nothing leads to it any more.
    roads.lock().expect("fine").remove("west.mesh");
    eventually("the session is gone", || async {
        let status: StatusView = east.get("/v1/status").await;
        (!status.peers[0].catalog.live).then_some(())
    })
    .await;
    step(&east, "rotate", json!({})).await.expect("publishes");
    told(&mut gateway, None, 2, 2).await;
    acknowledge(&gateway).await;
    waits_for(&east, &["peer west"]).await;
    let refused = step(&east, "rotate", json!({})).await.expect_err("held up");
    assert!(refused.contains("peer west holds it up"), "{refused}");
    let forced = step(&east, "rotate", json!({"force": true})).await.expect("switches");
    assert!(forced.passed_over[0].contains("the old root vouches for the new one"), "{forced:?}");
    renew(&east, &credentials).await;
    waits_for(&east, &["peer west"]).await;
    let refused = step(&east, "finish", json!({})).await.expect_err("held up");
    assert!(refused.contains("peer west holds it up") && refused.contains("holds bundle 1"), "{refused}");
    let key = NodeKey::generate().expect("a key");
    let csr: String = key.csr_der().iter().map(|byte| format!("{byte:02x}")).collect();
    let forced = step(&east, "finish", json!({"force": true, "csr_hex": csr})).await.expect("retires");
    let admin = forced.admin.expect("a certificate for who asked");
    east.admin.replace(Credentials::from_pem(&admin.certificate, &key.to_pem()).expect("a pair"));

    let west = west.restart().await;
    let mut west_gateway = west.gateway("gw-0", &["east"]).await;
    told(&mut west_gateway, Some("east"), 3, 1).await;
    linked(&west, "east", "connected").await;
    eventually("east knows that west has it", || async {
        trust(&east).await.holders.iter().any(|holder| holder.note == "holds bundle 3").then_some(())
    })
    .await;
}

/// Ends the federation of a site; gives what its directory has, which lives as long as the second of them.
async fn ended(site: Site) -> (SiteDir, impl Sized) {
    let domain = site.trust.own_domain();
    let dir = SiteDir::open(&site.folder, &domain).expect("opens");
    let Site { handle, shutdown, _temporary, .. } = site;
    shutdown.begin();
    handle.ended().await;
    (dir, _temporary)
}

/// A federation of `of` as a program of ours, which says to `to` what the test wants.
struct Played {
    say: mpsc::Sender<pb::PeerMessage>,
    _heard: tokio::task::JoinHandle<()>,
}

impl Played {
    async fn new(of: &SiteDir, to: &Site) -> Self {
        let dir = of;
        let domain = dir.authority.trust_domain();
        let (uid, key) = (dir.uid, NodeKey::generate().expect("a key"));
        let id: SpiffeId = format!("spiffe://{domain}/federation/fed-0").parse().expect("valid");
        let lifetime = std::time::Duration::from_secs(3_600);
        let chain = dir.authority.signing().issue(&key.csr_der(), &id, lifetime, unix_ms()).expect("issued");
        let credentials = LiveCredentials::new(Credentials::new(chain, &key).expect("fits"));
        let expect = Expect::trusted(&to.trust, to.trust.own_domain(), RoleKind::Federation);
        let (channel, _) = channel(to.handle.config_address, Some(&credentials), &expect).await.expect("in");
        let (say, outgoing) = mpsc::channel(8);
        let hello = PeerMessage::Hello {
            uid,
            incarnation: Incarnation(7),
            held: None,
            scope: Scope::All,
            view: View::Summary,
        };
        say.send((&hello).into()).await.expect("room");
        let mut client = ExchangeClient::new(channel)
            .accept_compressed(tonic::codec::CompressionEncoding::Zstd)
            .send_compressed(tonic::codec::CompressionEncoding::Zstd);
        let mut incoming =
            client.session(ReceiverStream::new(outgoing)).await.expect("a session").into_inner();
        let heard = tokio::spawn(async move { while let Ok(Some(_)) = incoming.message().await {} });
        Self { say, _heard: heard }
    }

    async fn trust(&self, bundle: &Bundle, vouchers: &[Vec<u8>]) {
        let message = PeerMessage::Trust { bundle: bundle.clone(), vouchers: vouchers.to_vec(), holds: 1 };
        self.say.send((&message).into()).await.expect("the session is there");
    }
}

async fn refused_for(site: &Site, why: &str) {
    eventually(&format!("an event: {why}"), || async {
        let seen = events(site).await;
        seen.iter().any(|event| event.contains("was refused") && event.contains(why)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_forged_an_older_or_a_foreign_bundle_of_a_linked_site_changes_nothing() {
    let (east, west, _gateway, mut west_gateway) = two().await;
    let (east, _folder) = ended(east).await;
    let before = told(&mut west_gateway, Some("east"), 1, 1).await;
    let domain = east.authority.trust_domain().clone();
    let evil = Ca::generate(&domain, unix_ms()).expect("made");
    let signing = east.authority.signing();
    let other = Ca::generate(&domain, unix_ms()).expect("made");
    let forged = |sequence, anchors: &[&[u8]]| Bundle {
        trust_domain: domain.clone(),
        sequence,
        anchors: anchors.iter().map(|anchor| anchor.to_vec()).collect(),
    };
    let cases = [
        (forged(9, &[evil.cert_der()]), "no anchor that is held vouches"),
        (forged(9, &[signing.cert_der(), evil.cert_der()]), "no anchor that is held vouches"),
        (forged(0, &[signing.cert_der()]), "older than number 1"),
        (forged(1, &[evil.cert_der()]), "with other anchors"),
        (west.trust.own(), "it is the bundle of west.mesh"),
    ];
    for (bundle, why) in cases {
        // One event for each session is enough, so each has its own.
        let played = Played::new(&east, &west).await;
        played.trust(&bundle, &[evil.cross(&other, unix_ms()).expect("signed")]).await;
        refused_for(&west, why).await;
        assert_eq!(told(&mut west_gateway, Some("east"), 1, 1).await, before);
    }
    // What the root that is held vouches for is taken.
    let next = Ca::generate(&domain, unix_ms()).expect("made");
    let played = Played::new(&east, &west).await;
    played.trust(&forged(9, &[next.cert_der()]), &[signing.cross(&next, unix_ms()).expect("signed")]).await;
    assert_eq!(told(&mut west_gateway, Some("east"), 9, 1).await.anchors[0], next.cert_der());
}

#[tokio::test]
async fn a_peer_that_says_nothing_of_roots_is_talked_to_as_ever_and_holds_up_the_end_by_name() {
    let (east, west, (mut gateway, credentials), _west_gateway) = two().await;
    // West runs a meshfed that sends no more than it always did. What the real one has said last stays.
    let (west, _folder) = ended(west).await;
    let older = Played::new(&west, &east).await;
    older.say.send((&PeerMessage::KeepAlive).into()).await.expect("the session is there");
    eventually("a session", || async {
        let status: StatusView = east.get("/v1/status").await;
        status.peers[0].catalog.live.then_some(())
    })
    .await;
    step(&east, "rotate", json!({})).await.expect("publishes");
    told(&mut gateway, None, 2, 2).await;
    acknowledge(&gateway).await;
    waits_for(&east, &["peer west"]).await;
    step(&east, "rotate", json!({"force": true})).await.expect("switches");
    renew(&east, &credentials).await;
    let refused = step(&east, "finish", json!({})).await.expect_err("held up");
    assert!(refused.contains("peer west"), "{refused}");
    older.say.send((&PeerMessage::KeepAlive).into()).await.expect("the session is there all along");
    let status: StatusView = east.get("/v1/status").await;
    assert!(status.peers[0].catalog.live);
}
