//! Two sites: links, refusals, and catalogs that flow.

use crate::one_site::{direct, files, import};
use crate::support::{Roads, Site, eventually, settings};
use api::rest::change::ChangeReply;
use api::rest::link::{InviteReply, LinkList, LinkView, UnlinkReply};
use api::rest::service::ServiceView;
use hyper::Method;
use model::config::{ConfigKey, ConfigValue};
use model::node::{NodeMessage, PathReport, PathState, SourceChange};
use serde_json::json;

pub async fn invite(site: &Site, request: serde_json::Value) -> String {
    site.ask::<InviteReply>(Method::POST, "/v1/invites", &request).await.expect("an invite").invite
}

pub async fn accept(site: &Site, invite: &str) -> Result<LinkView, String> {
    let all = json!({"all": true});
    site.ask(Method::POST, "/v1/links", &json!({"invite": invite, "offer": all, "accept": all})).await
}

pub async fn linked(site: &Site, peer: &str, state: &str) -> LinkView {
    eventually(&format!("{} linked with {peer}", site.name), || async {
        let list: LinkList = site.get("/v1/links").await;
        list.links.into_iter().find(|link| link.site == peer && link.state == state && link.synced)
    })
    .await
}

#[tokio::test]
async fn two_sites_are_linked_and_see_each_others_exports() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _east_gateway = east.gateway("gw-0", &["west"]).await;
    let mut west_gateway = west.gateway("gw-0", &["east"]).await;
    let source = files(&east, vec![direct("shop/cart", "a"), direct("shop/hidden", "a")]).await;
    let all = json!({"all": true});
    let text = invite(&east, json!({"offer": all, "accept": all})).await;
    accept(&west, &text).await.expect("links");
    linked(&east, "west", "connected").await;
    linked(&west, "east", "connected").await;

    east.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/cart", &()).await.expect("exports");
    let seen = import(&mut west_gateway, "shop/cart", |import| !import.groups.is_empty()).await;
    assert_eq!(seen.groups[0].id.site.to_string(), "east");
    assert!(seen.vip.is_some());
    let view: ServiceView = west.get("/v1/services/shop/cart").await;
    assert_eq!(view.sites[0].state, "connected");
    let peer = ConfigKey::Peer("east".parse().expect("valid"));
    let told = west_gateway.wait_config("the peer", |config| config.get(&peer).cloned()).await;
    let ConfigValue::Peer(told) = told else { panic!("{told:?}") };
    assert_eq!(told.site.gateways.len(), 1);

    // The federation of east is gone for a while: nothing is withdrawn, and the session comes back.
    let east = {
        drop((source, _east_gateway));
        east.restart().await
    };
    let _east_gateway = east.gateway("gw-0", &["west"]).await;
    let _source = files(&east, vec![direct("shop/cart", "a"), direct("shop/cart", "b")]).await;
    let seen =
        import(&mut west_gateway, "shop/cart", |import| import.groups.iter().any(|g| g.total == 2)).await;
    assert_eq!(seen.groups.len(), 1);

    // Unlinking takes effect here at once, and the peer is told.
    let reply: UnlinkReply = west.ask(Method::DELETE, "/v1/links/east", &()).await.expect("unlinks");
    assert_eq!((reply.taken.len(), reply.peer_told), (1, true), "{reply:?}");
    let key = ConfigKey::Service("shop/cart".parse().expect("valid"));
    west_gateway.wait_config("no cart", |config| (!config.contains_key(&key)).then_some(())).await;
    eventually("east has forgotten west", || async {
        east.get::<LinkList>("/v1/links").await.links.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_link_ends_also_when_the_peer_is_dead() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _gateways = (east.gateway("gw-0", &["west"]).await, west.gateway("gw-0", &["east"]).await);
    accept(&west, &invite(&east, json!({})).await).await.expect("links");
    linked(&west, "east", "connected").await;
    east.shutdown.begin();
    east.handle.ended().await;
    eventually("the session is gone", || async {
        let status: api::rest::status::StatusView = west.get("/v1/status").await;
        (!status.peers[0].catalog.live).then_some(())
    })
    .await;
    let reply: UnlinkReply = west.ask(Method::DELETE, "/v1/links/east", &()).await.expect("unlinks");
    assert!(!reply.peer_told && reply.note.contains("does not answer"), "{reply:?}");
    assert!(west.get::<LinkList>("/v1/links").await.links.is_empty());
}

#[tokio::test]
async fn an_invite_is_good_for_one_site() {
    let roads = Roads::default();
    let east = Site::start("east", &roads).await;
    let west = Site::start("west", &roads).await;
    let dc = Site::start("dc", &roads).await;
    let _gateways =
        (east.gateway("gw-0", &[]).await, west.gateway("gw-0", &[]).await, dc.gateway("gw-0", &[]).await);
    let text = invite(&east, json!({})).await;
    accept(&west, &text).await.expect("links");
    let error = accept(&dc, &text).await.expect_err("used");
    assert!(error.contains("used already"), "{error}");
    assert!(dc.get::<LinkList>("/v1/links").await.links.is_empty());
    // The same site may repeat it.
    accept(&west, &text).await.expect("links again");
    assert_eq!(east.get::<LinkList>("/v1/links").await.links.len(), 1);

    let named = invite(&east, json!({"to": "west.mesh"})).await;
    let error = accept(&dc, &named).await.expect_err("for another");
    assert!(error.contains("this invite is for west.mesh"), "{error}");
    let error = accept(&dc, "meshfed-invite-1.xyz").await.expect_err("damaged");
    assert!(error.contains("cannot be used"), "{error}");
    let error = accept(&dc, &invite(&dc, json!({})).await).await.expect_err("itself");
    assert!(error.contains("this very site"), "{error}");
}

#[tokio::test]
async fn sites_that_clash_are_not_linked() {
    let roads = Roads::default();
    let east = Site::start("east", &roads).await;
    let _gateway = east.gateway("gw-0", &[]).await;
    let mut same_name = settings("east");
    same_name.trust_domain = "other.mesh".parse().expect("valid");
    let mut same_domain = settings("west");
    same_domain.trust_domain = "east.mesh".parse().expect("valid");
    let mut other_set = settings("west");
    other_set.clusterset = "other".parse().expect("valid");
    for (settings, says) in [
        (same_name, "both sites are named east"),
        (same_domain, "both sites have the trust domain east.mesh"),
        (other_set, "is of clusterset meshfed, this site of other"),
    ] {
        // A road of its own: two sites of one trust domain are told apart by nothing else.
        let site = Site::start_with(settings, &Roads::default()).await;
        let _gateway = site.gateway("gw-0", &[]).await;
        let error = accept(&site, &invite(&east, json!({})).await).await.expect_err(says);
        assert!(error.contains(says), "{error}");
        assert!(site.get::<LinkList>("/v1/links").await.links.is_empty());
    }
    assert!(east.get::<LinkList>("/v1/links").await.links.is_empty());
}

#[tokio::test]
async fn a_second_site_of_one_name_or_uid_is_not_linked() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _gateways = (east.gateway("gw-0", &[]).await, west.gateway("gw-0", &[]).await);
    accept(&west, &invite(&east, json!({})).await).await.expect("links");

    let uid = west.get::<api::rest::site::SiteView>("/v1/site").await.uid;
    let copy = Site::start_as(settings("dc"), &roads, Some(uid)).await;
    let _gateway = copy.gateway("gw-0", &[]).await;
    let error = accept(&copy, &invite(&east, json!({})).await).await.expect_err("the same uid");
    assert!(error.contains("east refused the link") && error.contains("linked already with west"), "{error}");
    assert!(copy.get::<LinkList>("/v1/links").await.links.is_empty());

    let mut again = settings("west");
    again.trust_domain = "west2.mesh".parse().expect("valid");
    let again = Site::start_with(again, &roads).await;
    let _gateway = again.gateway("gw-0", &[]).await;
    let error = accept(&again, &invite(&east, json!({})).await).await.expect_err("the same name");
    assert!(error.contains("linked already with west") && error.contains("meshfed unlink west"), "{error}");
    assert_eq!(east.get::<LinkList>("/v1/links").await.links.len(), 1);
}

/// For a person who reads the output; it asserts that all changes arrive, not how fast.
#[tokio::test]
async fn many_changes_arrive_one_by_one() {
    const SERVICES: usize = 200;
    const CHANGES: usize = 50;
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _east_gateway = east.gateway("gw-0", &["west"]).await;
    let mut west_gateway = west.gateway("gw-0", &["east"]).await;
    let all = json!({"all": true});
    accept(&west, &invite(&east, json!({"offer": all, "accept": all})).await).await.expect("links");
    let names: Vec<String> = (0..SERVICES).map(|at| format!("shop/s{at}")).collect();
    let mut source = files(&east, names.iter().map(|name| direct(name, "a")).collect()).await;
    let exports: String = (0..SERVICES)
        .map(|at| {
            format!(
                "---\napiVersion: meshfed.dev/v1alpha1\nkind: ServiceExport\nmetadata: {{name: s{at}, namespace: shop}}\n"
            )
        })
        .collect();
    let request = json!({"files": [{"name": "exports.yaml", "text": exports}]});
    east.ask::<api::rest::change::ApplyReply>(Method::POST, "/v1/apply", &request).await.expect("applies");
    for name in &names {
        import(&mut west_gateway, name, |import| import.groups.len() == 1).await;
    }
    let mut took = Vec::new();
    for change in 0..CHANGES {
        let name = &names[change % SERVICES];
        let mut instance = direct(name, "a");
        instance.endpoint.weight = 2 + change as u32;
        let capacity = u64::from(instance.endpoint.weight);
        let began = std::time::Instant::now();
        source.send(SourceChange::Apply(instance)).await.expect("taken");
        import(&mut west_gateway, name, |import| {
            import.groups.iter().any(|group| group.capacity == capacity)
        })
        .await;
        took.push(began.elapsed());
    }
    took.sort();
    println!("{CHANGES} changes: median {:?}, worst {:?}", took[CHANGES / 2], took[CHANGES - 1]);
}

#[tokio::test]
async fn an_inviter_that_cannot_be_reached_is_named_with_what_was_tried() {
    let east = Site::start("east", &Roads::default()).await;
    let west = Site::start("west", &Roads::default()).await;
    let error =
        west.ask::<InviteReply>(Method::POST, "/v1/invites", &json!({})).await.expect_err("no gateway");
    assert!(error.contains("no gateway that another site could dial"), "{error}");
    let _gateways = (east.gateway("gw-0", &[]).await, west.gateway("gw-0", &[]).await);
    let error = accept(&west, &invite(&east, json!({})).await).await.expect_err("no road");
    assert!(error.contains("west cannot reach any gateway of east"), "{error}");
    assert!(error.contains("127.0.0.1:4430/udp from west gateway gw-0"), "{error}");
    assert!(west.get::<LinkList>("/v1/links").await.links.is_empty());
}

#[tokio::test]
async fn a_partner_cannot_join_a_name_without_a_line() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let mut east_gateway = east.gateway("gw-0", &["west"]).await;
    let _west_gateway = west.gateway("gw-0", &["east"]).await;
    let _sources = (
        files(&east, vec![direct("payments/api", "a")]).await,
        files(&west, vec![direct("payments/api", "x"), direct("west/new", "x")]).await,
    );
    import(&mut east_gateway, "payments/api", |_| true).await;
    for service in ["payments/api", "west/new"] {
        eventually("it is there", || async {
            let path = format!("/v1/exports/{service}");
            west.ask::<ChangeReply>(Method::PUT, &path, &()).await.ok()
        })
        .await;
    }
    // Invite and accept between two teams: both accept new names only.
    let text = invite(&east, json!({})).await;
    west.ask::<LinkView>(Method::POST, "/v1/links", &json!({"invite": text})).await.expect("links");
    import(&mut east_gateway, "west/new", |import| !import.groups.is_empty()).await;
    let view: ServiceView = east.get("/v1/services/payments/api").await;
    assert_eq!(view.sites.len(), 1, "{view:?}");
    assert!(view.notes.iter().any(|note| note.contains("NotAccepted of west")), "{:?}", view.notes);

    let line = "apiVersion: meshfed.dev/v1alpha1\nkind: Link\nmetadata: {name: west}\n\
                spec: {accept: {newNames: true, services: [payments/api]}}\n";
    let request = json!({"files": [{"name": "link.yaml", "text": line}]});
    east.ask::<api::rest::change::ApplyReply>(Method::POST, "/v1/apply", &request).await.expect("applies");
    import(&mut east_gateway, "payments/api", |import| import.groups.len() == 2).await;
}

#[tokio::test]
async fn a_second_accept_does_not_change_what_a_link_opens() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let _gateways = (east.gateway("gw-0", &["west"]).await, west.gateway("gw-0", &["east"]).await);
    let all = json!({"all": true});
    accept(&west, &invite(&east, json!({"offer": all, "accept": all})).await).await.expect("links");
    linked(&west, "east", "connected").await;
    let before = (linked(&west, "east", "connected").await, linked(&east, "west", "connected").await);
    let scopes = |link: &LinkView| (link.offer.clone(), link.accept.clone());

    // The accepter asks for something else.
    let text = invite(&east, json!({"offer": all, "accept": all})).await;
    let narrow = json!({"invite": text, "offer": {"services": ["shop/cart"]}, "accept": all});
    let error = west.ask::<LinkView>(Method::POST, "/v1/links", &narrow).await.expect_err("another scope");
    for says in [
        "west and east are linked already, and this would change what the link opens",
        "it now offers all and accepts all; this asks that it offers shop/cart and accepts all",
        "meshfed apply -f FILE",
        "meshfed unlink east",
    ] {
        assert!(error.contains(says), "{error}");
    }
    // The inviter meant something else.
    let other = invite(&east, json!({"offer": {"namespaces": ["shop"]}, "accept": all})).await;
    let error = accept(&west, &other).await.expect_err("another scope");
    assert!(error.contains("east refused the link: east and west are linked already"), "{error}");
    assert!(error.contains("this asks that it offers shop and accepts all"), "{error}");
    let after = (linked(&west, "east", "connected").await, linked(&east, "west", "connected").await);
    assert_eq!((scopes(&before.0), scopes(&before.1)), (scopes(&after.0), scopes(&after.1)));
    // What is equal is no change.
    accept(&west, &text).await.expect("the same again");
}

#[tokio::test]
async fn status_says_that_a_gateway_of_the_peer_drains_and_counts_only_streams_of_callers() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let (gateway, _other) = (east.gateway("gw-0", &["west"]).await, west.gateway("gw-0", &["east"]).await);
    accept(&west, &invite(&east, json!({})).await).await.expect("links");
    linked(&east, "west", "connected").await;
    let path = |name: &str, state: PathState, streams: u32| PathReport {
        gateway: name.parse().expect("valid"),
        state,
        streams,
        ..crate::support::path("west")
    };
    // Idle: the one stream is that of the session between the federations.
    for (paths, live, total, streams, note) in [
        (vec![path("gw-0", PathState::Live, 1)], 1, 1, 0, ""),
        (vec![path("gw-0", PathState::Live, 3), path("gw-1", PathState::Live, 2)], 2, 2, 4, ""),
        (
            vec![path("gw-0", PathState::Draining, 1)],
            1,
            1,
            0,
            "its gateway gw-0 drains and no other one answers: it takes no new streams",
        ),
        (
            vec![path("gw-0", PathState::Live, 1), path("gw-1", PathState::Draining, 0)],
            2,
            2,
            0,
            "its gateway gw-1 drains: new streams take the others",
        ),
    ] {
        gateway.say(NodeMessage::Paths(paths)).await;
        let seen = eventually("the paths", || async {
            let status: api::rest::status::StatusView = east.get("/v1/status").await;
            let peer = status.peers.into_iter().next()?;
            (peer.note == note && peer.streams == streams && peer.paths_total == total).then_some(peer)
        })
        .await;
        assert_eq!((seen.state.as_str(), seen.paths_live), ("connected", live), "{seen:?}");
    }
}
