//! Gateways that leave for good, and those that only died.

use crate::support::{Node, Roads, Site, eventually};
use api::rest::event::EventList;
use api::rest::status::StatusView;
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use model::config::{ConfigKey, ConfigValue};
use model::node::{NodeKind, NodeMessage};

/// Waits until exactly these gateways are told to nodes, and so to peers.
async fn told(node: &mut Node, names: &[&str]) {
    node.wait_config(&format!("{names:?} as the gateways"), |config| {
        let Some(ConfigValue::Site(site)) = config.get(&ConfigKey::Site) else { return None };
        let told: Vec<&str> = site.site.gateways.iter().map(|gateway| gateway.name.as_str()).collect();
        (told == names).then_some(())
    })
    .await;
}

async fn connected(site: &Site, name: &str, connected: bool) {
    eventually(&format!("{name}: connected is {connected}"), || async {
        let status: StatusView = site.get("/v1/status").await;
        status.nodes.iter().any(|node| node.name == name && node.connected == connected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_leaves_is_withdrawn_at_once_and_one_that_died_is_not() {
    let site = Site::start("east", &Roads::default()).await;
    let mut watcher = {
        // Not one of those that are told: it says no address.
        let key = NodeKey::generate().expect("a key");
        let name = "watcher".parse().expect("valid");
        let joined = site.handle.join_gateway(name, key.csr_der(), None).await.expect("joins");
        let credentials = LiveCredentials::new(Credentials::new(joined.chain, &key).expect("fits"));
        Node::connect(&site, credentials, NodeKind::Gateway, None).await
    };
    let gateways =
        [site.gateway("gw-0", &[]).await, site.gateway("gw-1", &[]).await, site.gateway("gw-2", &[]).await];
    told(&mut watcher, &["gw-0", "gw-1", "gw-2"]).await;
    let [dead, leaving, last] = gateways;

    leaving.say(NodeMessage::Leaving).await;
    told(&mut watcher, &["gw-0", "gw-2"]).await;
    // The end of its stream tells it that it was heard.
    eventually("the stream has ended", || async { leaving.task.is_finished().then_some(()) }).await;
    let status: StatusView = site.get("/v1/status").await;
    let finding =
        status.findings.iter().find(|finding| finding.subject == "gateway gw-1").expect("a finding");
    assert_eq!((finding.severity.as_str(), finding.what.as_str()), ("note", "has left in good order"));

    drop(dead);
    connected(&site, "gw-0", false).await;
    told(&mut watcher, &["gw-0", "gw-2"]).await;

    // It survives a restart of the federation, and coming back ends it.
    drop((watcher, last));
    let site = site.restart().await;
    let mut other = site.gateway("gw-2", &[]).await;
    told(&mut other, &["gw-0", "gw-2"]).await;
    let back = site.gateway("gw-1", &[]).await;
    told(&mut other, &["gw-0", "gw-1", "gw-2"]).await;
    drop(back);
}

#[tokio::test]
async fn the_last_gateway_stays_since_the_site_could_not_be_reached_again_without() {
    let site = Site::start("east", &Roads::default()).await;
    let only = site.gateway("gw-0", &[]).await;
    only.say(NodeMessage::Leaving).await;
    connected(&site, "gw-0", false).await;
    let view: api::rest::site::SiteView = site.get("/v1/site").await;
    assert_eq!(view.gateways.len(), 1);
    let events: EventList = site.get("/v1/events").await;
    let left = events.events.iter().find(|event| event.what == "has left").expect("an event");
    assert!(left.why.contains("it is the last gateway of the site"), "{left:?}");
    let again = site.restart().await;
    let mut node = again.gateway("gw-0", &[]).await;
    told(&mut node, &["gw-0"]).await;
}
