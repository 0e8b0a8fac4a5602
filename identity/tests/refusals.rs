//! Who is accepted, and a test per refusal, on real handshakes (design: identity and trust).

mod bench;

use bench::*;
use identity::bundle;
use identity::peer::{PeerError, RoleKind};
use identity::tls::{Accept, Expect, client_config, server_config};
use model::identity::Bundle;
use std::time::Duration;

const MINUTE_MS: u64 = 60_000;

#[tokio::test]
async fn gateways_of_linked_sites_know_each_other() {
    let (east, west) = east_and_west();
    let (server, client) = shake(east.server(), west.client(&east)).await;
    let (server, client) = (server.expect("accepted"), client.expect("accepted"));
    assert_eq!(server.0, Some(west.id("/gateway/gw-0")));
    assert_eq!(client.0, Some(east.id("/gateway/gw-0")));
    assert_eq!(server.1, client.1, "both ends have one exporter");
}

#[tokio::test]
async fn every_session_has_its_own_exporter() {
    let (east, west) = east_and_west();
    let (one, _) = shake(east.server(), west.client(&east)).await;
    let (two, _) = shake(east.server(), west.client(&east)).await;
    assert_ne!(one.expect("accepted").1, two.expect("accepted").1);
}

#[tokio::test]
async fn an_own_agent_is_accepted_and_a_foreign_one_is_not() {
    let (east, west) = east_and_west();
    let (server, _) = shake(east.server(), east.client_as("/agent/vm-1", &east)).await;
    assert_eq!(server.expect("accepted").0, Some(east.id("/agent/vm-1")));

    let (server, client) = shake(east.server(), west.client_as("/agent/vm-1", &east)).await;
    let found = Box::new(west.id("/agent/vm-1"));
    assert_eq!(refusal(&server), PeerError::WrongRole { found, expected: vec![RoleKind::Gateway] });
    assert!(told_by_alert(&client).contains("refuses our certificate"));
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused_unless_strangers_may_come() {
    let (east, west) = east_and_west();
    let nobody = || client_config(None, &west.expect_gateway(&east), &[b"meshfed/1"]);
    let (server, client) = shake(east.server(), nobody()).await;
    assert_eq!(refusal(&server), PeerError::NoCertificate);
    assert!(told_by_alert(&client).contains("none was shown"));

    let open = east.server_for(Accept { own: &[], linked: &[], anonymous: true });
    let (server, _) = shake(open, nobody()).await;
    assert_eq!(server.expect("accepted").0, None);
}

#[tokio::test]
async fn a_certificate_that_is_shown_is_verified_also_where_strangers_may_come() {
    let (east, west) = (Site::new("east.mesh"), Site::new("west.mesh"));
    west.link(&[&east]);
    let open = east.server_for(Accept { own: ALL, linked: ALL, anonymous: true });
    let (server, _) = shake(open, west.client(&east)).await;
    assert!(matches!(refusal(&server), PeerError::UnknownTrustDomain(_)));
}

#[tokio::test]
async fn a_trust_domain_that_is_not_linked_is_refused_at_both_ends() {
    let (east, west) = (Site::new("east.mesh"), Site::new("west.mesh"));
    west.link(&[&east]);
    let (server, client) = shake(east.server(), west.client(&east)).await;
    assert_eq!(refusal(&server), PeerError::UnknownTrustDomain(Box::new(west.id("/gateway/gw-0"))));
    assert!(client.is_err());

    let (server, client) = shake(west.server(), east.client(&west)).await;
    assert_eq!(refusal(&client), PeerError::UnknownTrustDomain(Box::new(west.id("/gateway/gw-0"))));
    assert!(server.is_err());
}

#[tokio::test]
async fn a_dialler_takes_only_the_site_that_it_meant() {
    let (east, west) = east_and_west();
    let dc = Site::new("dc.mesh");
    west.link(&[&east, &dc]);
    let (_, client) = shake(east.server(), west.client(&dc)).await;
    let expected = dc.ca.trust_domain().clone();
    assert_eq!(
        refusal(&client),
        PeerError::WrongTrustDomain { expected, found: Box::new(east.id("/gateway/gw-0")) }
    );
}

#[tokio::test]
async fn a_dialler_takes_only_the_role_that_it_meant() {
    let (east, west) = east_and_west();
    let expect = Expect::trusted(&west.trust, east.ca.trust_domain().clone(), RoleKind::Federation);
    let client = client_config(Some(&west.credentials("/gateway/gw-0")), &expect, &[b"meshfed/1"]);
    let (_, client) = shake(east.server(), client).await;
    let found = Box::new(east.id("/gateway/gw-0"));
    assert_eq!(refusal(&client), PeerError::WrongRole { found, expected: vec![RoleKind::Federation] });
}

#[tokio::test]
async fn a_ca_of_another_site_cannot_issue_in_our_name() {
    let (east, west) = east_and_west();
    // West's CA is known to east, but for west.mesh alone.
    let impostor = Site::new("west.mesh");
    impostor.link(&[&east]);
    let (server, _) = shake(east.server(), impostor.client(&east)).await;
    assert!(matches!(refusal(&server), PeerError::Chain { id, .. } if *id == impostor.id("/gateway/gw-0")));

    let mut client = west.client(&east);
    client.client_auth_cert_resolver = odd_leaf(&west, |params| {
        params.subject_alt_names = vec![uri("spiffe://east.mesh/agent/vm-1")];
    });
    let (server, _) = shake(east.server(), client).await;
    assert!(matches!(refusal(&server), PeerError::Chain { id, .. } if *id == east.id("/agent/vm-1")));
}

#[tokio::test]
async fn a_leaf_names_exactly_one_known_id() {
    let (east, west) = east_and_west();
    let gateway = "spiffe://west.mesh/gateway/gw-0";
    let check = async |uris: &[&str]| {
        let mut client = west.client(&east);
        client.client_auth_cert_resolver = odd_leaf(&west, |params| {
            params.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
            params.subject_alt_names.push(rcgen::SanType::DnsName("gw.west".try_into().expect("ASCII")));
        });
        shake(east.server(), client).await.0
    };
    assert!(check(&[gateway]).await.is_ok(), "a DNS name beside the URI does no harm");
    assert_eq!(refusal(&check(&[]).await), PeerError::Uris { found: 0 });
    let two = check(&[gateway, "spiffe://west.mesh/gateway/gw-1"]).await;
    assert_eq!(refusal(&two), PeerError::Uris { found: 2 });
    assert_eq!(refusal(&check(&[gateway, gateway]).await), PeerError::Uris { found: 2 });
    assert!(matches!(refusal(&check(&["spiffe://west.mesh/root/x"]).await), PeerError::Id(_)));
    assert!(matches!(refusal(&check(&["https://west.mesh/gateway/gw-0"]).await), PeerError::Id(_)));
}

#[tokio::test]
async fn a_leaf_is_no_ca_and_is_for_callers() {
    let (east, west) = east_and_west();
    let name = || vec![uri("spiffe://west.mesh/gateway/gw-0")];
    let mut client = west.client(&east);
    client.client_auth_cert_resolver = odd_leaf(&west, |params| {
        params.subject_alt_names = name();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let (server, _) = shake(east.server(), client).await;
    assert!(matches!(refusal(&server), PeerError::IsCa(_)));

    let mut client = west.client(&east);
    client.client_auth_cert_resolver = odd_leaf(&west, |params| {
        params.subject_alt_names = name();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let (server, _) = shake(east.server(), client).await;
    assert!(matches!(refusal(&server), PeerError::Chain { .. }));
}

#[tokio::test]
async fn a_leaf_cannot_issue_another_one() {
    let (east, west) = east_and_west();
    // A gateway of west signs an id for itself with its own leaf.
    let leaf = west.credentials("/gateway/gw-0").current();
    let leaf_key = rcgen::KeyPair::from_pem(&leaf.key_pem()).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&leaf.chain_pem(), leaf_key).expect("readable");
    let key = rcgen::KeyPair::generate().expect("made");
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![uri("spiffe://west.mesh/gateway/gw-9")];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let forged = params.signed_by(&key, &issuer).expect("signed");
    let mut client = west.client(&east);
    client.client_auth_cert_resolver = Raw::new(vec![forged.der().to_vec(), leaf.chain()[0].clone()], &key);
    let (server, _) = shake(east.server(), client).await;
    assert!(matches!(refusal(&server), PeerError::Chain { .. }));
}

#[tokio::test]
async fn expired_and_future_certificates_are_refused_and_both_ends_say_so() {
    let (east, west) = east_and_west();
    // The CA refuses to issue before its own time, so the leaves are made by hand.
    let hour = time::Duration::hours(1);
    let now = time::OffsetDateTime::now_utc();
    let check = async |begin: time::OffsetDateTime, end: time::OffsetDateTime| {
        let mut client = west.client(&east);
        client.client_auth_cert_resolver = odd_leaf(&west, |params| {
            params.subject_alt_names = vec![uri("spiffe://west.mesh/gateway/gw-0")];
            (params.not_before, params.not_after) = (begin, end);
        });
        shake(east.server(), client).await
    };
    let (server, client) = check(now - hour * 3, now - hour * 2).await;
    let PeerError::Expired { ago_s } = refusal(&server) else { panic!("{server:?}") };
    assert!((7_100..7_400).contains(&ago_s), "{ago_s}");
    assert!(told_by_alert(&client).contains("has expired"));

    let (server, client) = check(now + hour * 2, now + hour * 3).await;
    assert!(matches!(refusal(&server), PeerError::NotYetValid { in_s } if in_s > 7_000));
    assert!(told_by_alert(&client).contains("not yet valid"));
}

#[tokio::test]
async fn clocks_that_are_nearly_ten_minutes_apart_stop_no_handshake() {
    let (east, west) = east_and_west();
    let check = async |issued_at_ms: u64| {
        let leaf = west.credentials_at("/gateway/gw-0", issued_at_ms, WEEK);
        let client = client_config(Some(&leaf), &west.expect_gateway(&east), &[b"meshfed/1"]);
        shake(east.server(), client).await.0
    };
    // By a CA whose clock is ahead of that of the verifier, or behind it.
    check(now_ms() + 10 * MINUTE_MS - 5_000).await.expect("accepted");
    check(now_ms() - 10 * MINUTE_MS).await.expect("accepted");
    let refused = check(now_ms() + 11 * MINUTE_MS).await;
    assert!(matches!(refusal(&refused), PeerError::NotYetValid { .. }));
}

#[tokio::test]
async fn an_expired_server_is_refused_too() {
    let (east, west) = east_and_west();
    let expired = east.credentials_at("/gateway/gw-0", now_ms() - 5 * MINUTE_MS, Duration::from_secs(60));
    let accept = Accept { own: ALL, linked: ALL, anonymous: false };
    let server = server_config(&expired, &east.trust, accept, &[b"meshfed/1"]);
    let (_, client) = shake(server, west.client(&east)).await;
    assert!(matches!(refusal(&client), PeerError::Expired { .. }));
}

#[tokio::test]
async fn an_unlinked_site_is_refused_at_the_next_handshake_with_the_same_configs() {
    let (east, west) = east_and_west();
    let (server, client) = (east.server(), west.client(&east));
    assert!(shake(server.clone(), client.clone()).await.0.is_ok());
    east.link(&[]);
    let (refused, _) = shake(server.clone(), client.clone()).await;
    assert!(matches!(refusal(&refused), PeerError::UnknownTrustDomain(_)));
    east.link(&[&west]);
    assert!(shake(server, client).await.0.is_ok());
}

#[tokio::test]
async fn replaced_credentials_are_shown_at_the_next_handshake_with_the_same_configs() {
    let (east, west) = east_and_west();
    let (old, new) = (west.credentials("/gateway/gw-0"), west.credentials("/gateway/gw-1"));
    let client = client_config(Some(&old), &west.expect_gateway(&east), &[b"meshfed/1"]);
    let server = east.server();
    assert_eq!(
        shake(server.clone(), client.clone()).await.0.expect("accepted").0,
        Some(west.id("/gateway/gw-0"))
    );
    old.replace(new.current().as_ref().clone());
    assert_eq!(shake(server, client).await.0.expect("accepted").0, Some(west.id("/gateway/gw-1")));
}

#[tokio::test]
async fn both_anchors_count_while_a_ca_is_replaced() {
    let (east, west) = east_and_west();
    let west_anew = Site::new("west.mesh");
    west_anew.link(&[&east]);
    let anchors = vec![west.ca.cert_der().to_vec(), west_anew.ca.cert_der().to_vec()];
    let both = Bundle { trust_domain: domain("west.mesh"), sequence: 2, anchors };
    east.trust.set_linked(vec![both]).expect("good");
    assert!(shake(east.server(), west.client(&east)).await.0.is_ok());
    assert!(shake(east.server(), west_anew.client(&east)).await.0.is_ok());
}

#[tokio::test]
async fn a_joiner_knows_its_site_by_the_digest_of_the_bundle() {
    let east = Site::new("east.mesh");
    let federation = |site: &Site| {
        let accept = Accept { own: &[RoleKind::Gateway], linked: &[], anonymous: true };
        server_config(&site.credentials("/federation/fed-0"), &site.trust, accept, &[b"h2"])
    };
    let joiner = |digest| {
        let expect = Expect::digest(domain("east.mesh"), digest, RoleKind::Federation);
        client_config(None, &expect, &[b"h2"])
    };
    let digest = bundle::digest(&east.trust.own());
    let (server, client) = shake(federation(&east), joiner(digest)).await;
    assert_eq!(client.expect("accepted").0, Some(east.id("/federation/fed-0")));
    assert_eq!(server.expect("accepted").0, None);

    // A site of the same name with another CA.
    let impostor = Site::new("east.mesh");
    let (_, client) = shake(federation(&impostor), joiner(digest)).await;
    assert!(matches!(refusal(&client), PeerError::Digest { .. }));

    // Showing east's anchors does not help whoever is not signed by them.
    impostor.trust.set_own(east.trust.own()).expect("good");
    let (_, client) = shake(federation(&impostor), joiner(digest)).await;
    assert!(matches!(refusal(&client), PeerError::Chain { .. }));
}

#[tokio::test]
async fn a_gateway_shows_its_anchors_to_those_who_come_to_join_and_to_no_others() {
    let (east, west) = east_and_west();
    let accept = Accept { own: &[], linked: &[RoleKind::Gateway], anonymous: false };
    let server = server_config(
        &east.credentials("/gateway/gw-0"),
        &east.trust,
        accept,
        &[b"meshfed/1", b"meshfed-link/1"],
    );
    let expect = Expect::digest(domain("east.mesh"), bundle::digest(&east.trust.own()), RoleKind::Gateway);
    let west_gateway = west.credentials("/gateway/gw-0");
    let (_, client) =
        shake(server.clone(), client_config(Some(&west_gateway), &expect, &[b"meshfed-link/1"])).await;
    assert!(client.is_ok(), "{client:?}");
    let (_, client) = shake(server, client_config(Some(&west_gateway), &expect, &[b"meshfed/1"])).await;
    assert!(matches!(refusal(&client), PeerError::Digest { .. }));
}

#[tokio::test]
async fn an_accepter_knows_the_inviter_by_the_bundle_of_the_invite() {
    let (east, impostor) = (Site::new("east.mesh"), Site::new("east.mesh"));
    let expect = || Expect::bundle(east.ca.bundle(1), RoleKind::Gateway).expect("good");
    let accept = Accept { own: &[], linked: &[], anonymous: true };
    let (_, client) = shake(east.server_for(accept), client_config(None, &expect(), &[b"meshfed/1"])).await;
    assert!(client.is_ok(), "{client:?}");
    let (_, client) =
        shake(impostor.server_for(accept), client_config(None, &expect(), &[b"meshfed/1"])).await;
    assert!(matches!(refusal(&client), PeerError::Chain { .. }));
}

#[tokio::test]
async fn ends_that_share_no_alpn_do_not_talk() {
    let (east, west) = east_and_west();
    let expect = west.expect_gateway(&east);
    let client = client_config(Some(&west.credentials("/gateway/gw-0")), &expect, &[b"meshfed-link/1"]);
    let (server, client) = shake(east.server(), client).await;
    assert!(server.is_err());
    assert!(told_by_alert(&client).contains("does not take this kind of connection"));
}

#[test]
fn a_refusal_reads_as_a_sentence_also_through_rustls() {
    let east = Site::new("east.mesh");
    let error = PeerError::UnknownTrustDomain(Box::new(east.id("/gateway/gw-0")));
    let shown = rustls::Error::from(error.clone()).to_string();
    assert!(shown.contains(&error.to_string()), "{shown}");
}
