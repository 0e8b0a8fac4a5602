//! Joining a site, and staying a member of it.

use crate::config_stream::ByTcp;
use crate::federation::{Federation, Joins, Site, eventually, soon};
use crate::imports::service;
use identity::live::LiveCredentials;
use model::node::{NodeEvent, NodeKind, NodeMessage};
use node::enroll::{self, JoinError, Membership, NodeFolder};
use node::store::ConfigStore;
use node::stream::{Dial, Greeting, Parts, config_stream};
use runtime::shutdown::Shutdown;
use std::error::Error;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

async fn way(address: SocketAddr) -> Box<dyn node::stream::Io> {
    ByTcp::to(address).dial().await.expect("dials")
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn a_node_joins_with_its_token_and_is_still_a_member_after_a_restart() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let directory = tempfile::tempdir().expect("a folder");
    let folder = NodeFolder::open(&directory.path().join("vm-1")).expect("opens");
    let token = federation.token(NodeKind::Agent, "vm-1", vec![federation.address]);
    let key = folder.joining_key().expect("a key");
    let joined = enroll::join_as(&key, &token, way(federation.address).await, None).await.expect("joins");
    assert_eq!(joined.credentials.id().to_string(), "spiffe://east.mesh/agent/vm-1");
    assert!(folder.membership().expect("reads").is_none(), "nothing is stored before it is said");
    folder.store(&joined).expect("stored");

    let again = folder.membership().expect("reads").expect("a member");
    assert_eq!(again.credentials.chain_pem(), joined.credentials.chain_pem());
    assert_eq!((again.reply, again.addresses), (joined.reply, token.addresses));
    for name in ["node.key", "joined"] {
        let mode = std::fs::metadata(folder.path().join(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_site_with_another_ca_than_the_token_says_learns_nothing_from_a_node() {
    let (site, other) = (Site::new("east"), Site::new("east"));
    let (federation, impostor) = (Federation::start(&site).await, Federation::start(&other).await);
    let token = federation.token(NodeKind::Agent, "vm-1", vec![impostor.address]);
    let error = enroll::join(&token, way(impostor.address).await, None).await.expect_err("another CA");
    assert!(matches!(error, JoinError::Unreached { .. }) && error.is_of_the_way(), "{error:?}");
    assert!(chain(&error).contains("digest"), "{}", chain(&error));
}

#[tokio::test]
async fn a_token_that_the_site_does_not_take_is_refused_in_its_words() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let mut token = federation.token(NodeKind::Gateway, "gw-0", vec![federation.address]);
    federation.set(|settings| settings.joins = Joins::Refuses("this token was used already".to_owned()));
    let error = enroll::join(&token, way(federation.address).await, None).await.expect_err("refused");
    assert!(matches!(error, JoinError::Refused { .. }) && !error.is_of_the_way(), "{error:?}");
    assert_eq!(error.to_string(), "site east refused the token: this token was used already");

    token.secret = identity::secret::Secret::from_bytes([7; 32]);
    let error = enroll::join(&token, way(federation.address).await, None).await.expect_err("another secret");
    assert!(error.to_string().contains("the proof of this token is not good"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_taken() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let token = federation.token(NodeKind::Agent, "vm-1", vec![federation.address]);
    for path in ["agent/vm-2", "gateway/vm-1", "admin/vm-1"] {
        federation.set(|settings| settings.joins = Joins::IssuesFor(path.to_owned()));
        let error = enroll::join(&token, way(federation.address).await, None).await.expect_err("another one");
        assert!(matches!(error, JoinError::BadAnswer { .. }), "{error:?}");
        assert!(chain(&error).contains(path), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_way_that_ends_may_be_followed_by_another() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let token = federation.token(NodeKind::Agent, "vm-1", vec![federation.address]);
    let (near, far) = tokio::io::duplex(1_024);
    drop(far);
    let error = enroll::join(&token, Box::new(near), None).await.expect_err("nobody there");
    assert!(error.is_of_the_way(), "{error:?}");
}

/// A member whose certificate is due in 4 s and has run out in 8 s.
async fn due(
    site: &Arc<Site>,
    federation: &Federation,
    folder: &NodeFolder,
) -> (Membership, LiveCredentials) {
    federation.set(|settings| settings.lifetime = Duration::from_secs(8));
    let token = federation.token(NodeKind::Agent, "vm-1", vec![federation.address]);
    let member = enroll::join(&token, way(federation.address).await, None).await.expect("joins");
    folder.store(&member).expect("stored");
    federation.set(|settings| settings.lifetime = identity::ca::INFRASTRUCTURE_LIFETIME);
    assert_eq!(member.credentials.id().trust_domain, site.domain);
    let live = LiveCredentials::new(member.credentials.clone());
    (member, live)
}

#[tokio::test]
async fn a_renewal_replaces_the_certificate_and_drops_no_stream() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let directory = tempfile::tempdir().expect("a folder");
    let folder = NodeFolder::open(directory.path()).expect("opens");
    let (member, live) = due(&site, &federation, &folder).await;

    let store = ConfigStore::open(folder.path()).expect("opens");
    let dial = ByTcp::to(federation.address);
    let (upstream, stream, _commands) = config_stream(Parts {
        dial: dial.clone(),
        credentials: live.clone(),
        trust: site.trust(),
        store: store.clone(),
        greeting: Greeting { kind: NodeKind::Agent, tunnel_address: None, locality: None },
        explainer: Arc::new(|_| panic!("nobody asks")),
    });
    let shutdown = Shutdown::new();
    tokio::spawn(store.clone().keep(shutdown.clone()));
    tokio::spawn(stream.run(shutdown.clone()));
    let mut node = federation.node().await;
    let version = node.send(federation.snapshot(true, vec![site.entry(Vec::new())]));
    node.acked(version).await;

    tokio::spawn(enroll::keep_renewed(
        live.clone(),
        folder.clone(),
        dial,
        site.trust(),
        store.clone(),
        Arc::default(),
        shutdown.clone(),
    ));
    eventually("the renewal", || live.current().chain_pem() != member.credentials.chain_pem()).await;
    assert!(live.current().not_after_ms() > member.credentials.not_after_ms());
    let stored = folder.membership().expect("reads").expect("a member").credentials;
    assert_eq!(stored.chain_pem(), live.current().chain_pem(), "a restart goes on with the new one");
    assert_ne!(*stored.key_pem(), *member.credentials.key_pem(), "with a key of its own");

    assert_eq!(upstream.session(), 1, "the stream is the one from before");
    let version = node.send(federation.change(vec![service("shop/cart")]));
    node.acked(version).await;
    let word = NodeMessage::Event(NodeEvent { what: "still here".to_owned(), why: String::new() });
    upstream.send(word.clone()).await;
    node.wait("the event", |message| (message == word).then_some(())).await;
    assert_eq!(federation.renewals(), 1, "one is enough");
    shutdown.begin();
}

#[tokio::test]
async fn a_renewal_waits_for_a_federation_that_is_dead() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let directory = tempfile::tempdir().expect("a folder");
    let folder = NodeFolder::open(directory.path()).expect("opens");
    let (member, live) = due(&site, &federation, &folder).await;
    let address = federation.address;
    drop(federation);
    let shutdown = Shutdown::new();
    let renewing = tokio::spawn(enroll::keep_renewed(
        live.clone(),
        folder,
        ByTcp::to(address),
        site.trust(),
        ConfigStore::open(directory.path()).expect("opens"),
        Arc::default(),
        shutdown.clone(),
    ));
    let due_in = live.current().renew_at_ms().saturating_sub(runtime::clock::unix_ms());
    tokio::time::sleep(Duration::from_millis(due_in + 200)).await;
    assert_eq!(live.current().chain_pem(), member.credentials.chain_pem());
    let _federation = Federation::start_at(&site, address).await;
    eventually("the renewal", || live.current().chain_pem() != member.credentials.chain_pem()).await;
    shutdown.begin();
    soon("the end", renewing).await.expect("no panic");
}

#[tokio::test]
async fn a_renewal_for_somebody_else_changes_nothing() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let directory = tempfile::tempdir().expect("a folder");
    let folder = NodeFolder::open(directory.path()).expect("opens");
    let (member, live) = due(&site, &federation, &folder).await;
    federation.set(|settings| settings.renews_for = Some("agent/vm-2".to_owned()));
    let shutdown = Shutdown::new();
    let dial = ByTcp::to(federation.address);
    tokio::spawn(enroll::keep_renewed(
        live.clone(),
        folder.clone(),
        dial,
        site.trust(),
        ConfigStore::open(directory.path()).expect("opens"),
        Arc::default(),
        shutdown.clone(),
    ));
    eventually("a second try", || federation.renewals() >= 2).await;
    assert_eq!(live.current().chain_pem(), member.credentials.chain_pem());
    let stored = folder.membership().expect("reads").expect("a member").credentials;
    assert_eq!(stored.chain_pem(), member.credentials.chain_pem());
    shutdown.begin();
}

#[tokio::test]
async fn a_certificate_is_renewed_at_once_when_another_root_signs_than_the_one_that_it_is_of() {
    let site = Site::new("east");
    let federation = Federation::start(&site).await;
    let directory = tempfile::tempdir().expect("a folder");
    let folder = NodeFolder::open(directory.path()).expect("opens");
    let token = federation.token(NodeKind::Agent, "vm-1", vec![federation.address]);
    let member = enroll::join(&token, way(federation.address).await, None).await.expect("joins");
    folder.store(&member).expect("stored");
    let live = LiveCredentials::new(member.credentials.clone());
    let store = ConfigStore::open(folder.path()).expect("opens");
    let shutdown = Shutdown::new();
    tokio::spawn(enroll::keep_renewed(
        live.clone(),
        folder.clone(),
        ByTcp::to(federation.address),
        site.trust(),
        store.clone(),
        Arc::default(),
        shutdown.clone(),
    ));
    // The next root is published: the one that signs is the one that has signed.
    let next = identity::ca::Ca::generate(&site.domain, runtime::clock::unix_ms()).expect("made");
    let signed_by = |anchor: &[u8]| {
        let mut entry = site.entry(Vec::new());
        if let Some(model::config::ConfigValue::Site(site)) = &mut entry.value {
            site.bundle.anchors.push(next.cert_der().to_vec());
            site.signer = Some(identity::bundle::fingerprint(anchor));
        }
        federation.snapshot(true, vec![entry])
    };
    store.apply(signed_by(&site.bundle().anchors[0])).expect("applies");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(federation.renewals(), 0, "it is good for days");
    store.apply(signed_by(next.cert_der())).expect("applies");
    eventually("a renewal", || federation.renewals() >= 1).await;
    shutdown.begin();
}
