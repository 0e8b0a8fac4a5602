//! Invites and join tokens as text.

mod bench;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bench::*;
use identity::bundle;
use identity::invite::{Invite, InviteError, JoinToken};
use identity::secret::{Secret, random_id};
use model::ids::SiteUid;
use model::node::NodeKind;
use proptest::prelude::*;

const NOW: u64 = 1_000_000;

fn invite() -> Invite {
    Invite {
        id: random_id().expect("random"),
        secret: Secret::random().expect("random"),
        expires_ms: NOW + 1,
        site: "east".parse().expect("valid"),
        uid: SiteUid([7; 16]),
        clusterset: "meshfed".parse().expect("valid"),
        bundle: Site::new("east.mesh").ca.bundle(3),
        gateways: vec!["127.0.1.1:4430".parse().expect("valid"), "[::1]:4430".parse().expect("valid")],
        to: Some(domain("west.mesh")),
    }
}

fn token() -> JoinToken {
    JoinToken {
        id: random_id().expect("random"),
        secret: Secret::random().expect("random"),
        expires_ms: NOW + 1,
        site: "east".parse().expect("valid"),
        trust_domain: domain("east.mesh"),
        digest: bundle::digest(&Site::new("east.mesh").ca.bundle(1)),
        kind: NodeKind::Agent,
        name: "vm-1".parse().expect("valid"),
        namespaces: vec!["shop".parse().expect("valid")],
        accounts: vec![],
        addresses: vec!["127.0.1.1:4430".parse().expect("valid")],
    }
}

fn reencode(text: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let (prefix, body) = text.split_once('.').expect("a prefix");
    let mut json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).expect("base64")).expect("JSON");
    change(&mut json);
    format!("{prefix}.{}", URL_SAFE_NO_PAD.encode(json.to_string()))
}

#[test]
fn an_invite_survives_its_text() {
    let invite = invite();
    let text = invite.encode();
    assert!(text.starts_with("meshfed-invite-1.") && !text.contains(char::is_whitespace));
    let again = Invite::decode(&format!("  {text}\n"), NOW).expect("read");
    assert_eq!((again.id, again.secret.expose()), (invite.id, invite.secret.expose()));
    assert_eq!((again.site, again.uid, again.clusterset), (invite.site, invite.uid, invite.clusterset));
    assert_eq!((again.bundle, again.gateways, again.to), (invite.bundle, invite.gateways, invite.to));
    assert_eq!(again.expires_ms, invite.expires_ms);
}

#[test]
fn a_token_survives_its_text() {
    let token = token();
    let again = JoinToken::decode(&token.encode(), NOW).expect("read");
    assert_eq!((again.id, again.secret.expose()), (token.id, token.secret.expose()));
    assert_eq!(
        (again.site, again.trust_domain, again.digest),
        (token.site, token.trust_domain, token.digest)
    );
    assert_eq!((again.kind, again.name, again.namespaces), (token.kind, token.name, token.namespaces));
    assert_eq!((again.accounts, again.addresses), (token.accounts, token.addresses));
}

#[test]
fn what_has_ended_is_refused_before_anything_is_dialled() {
    let error = Invite::decode(&invite().encode(), NOW + 61_001).expect_err("over");
    assert!(error.to_string().contains("ended 61 s ago"), "{error}");
    assert!(matches!(JoinToken::decode(&token().encode(), NOW + 1), Err(InviteError::Expired { .. })));
}

#[test]
fn one_is_not_taken_for_the_other() {
    assert!(matches!(Invite::decode(&token().encode(), NOW), Err(InviteError::Other { .. })));
    assert!(matches!(JoinToken::decode(&invite().encode(), NOW), Err(InviteError::Other { .. })));
    assert!(matches!(Invite::decode("hello", NOW), Err(InviteError::NotOne { .. })));
    assert!(matches!(Invite::decode(&"x".repeat(100_000), NOW), Err(InviteError::TooLong { .. })));
}

#[test]
fn every_bound_is_checked() {
    let text = invite().encode();
    let with = |field: &str, value: serde_json::Value| {
        Invite::decode(&reencode(&text, |json| json[field] = value), NOW).expect_err(field)
    };
    assert!(matches!(with("gateways", serde_json::json!([])), InviteError::Count { .. }));
    let many = vec!["127.0.0.1:1"; 65];
    assert!(matches!(with("gateways", many.into()), InviteError::Count { found: 65, .. }));
    assert!(matches!(with("anchors", serde_json::json!([])), InviteError::Count { .. }));
    assert!(matches!(with("anchors", serde_json::json!(["AAAA"])), InviteError::Bundle(_)));
    assert!(matches!(with("site", "EAST".into()), InviteError::Name { .. }));
    assert!(matches!(with("trust_domain", "west.mesh".into()), InviteError::Bundle(_)));
    assert!(matches!(with("id", "AAAA".into()), InviteError::Damaged { .. }));
    assert!(matches!(with("secret", "AAAA".into()), InviteError::Damaged { .. }));
    assert!(matches!(with("surplus", 1.into()), InviteError::Damaged { .. }));

    let text = token().encode();
    let with = |field: &str, value: serde_json::Value| {
        JoinToken::decode(&reencode(&text, |json| json[field] = value), NOW).expect_err(field)
    };
    assert!(matches!(with("addresses", serde_json::json!([])), InviteError::Count { .. }));
    assert!(matches!(with("namespaces", vec!["a"; 257].into()), InviteError::Count { .. }));
    assert!(matches!(with("kind", "admin".into()), InviteError::Damaged { .. }));
}

#[test]
fn secrets_are_hidden_in_debug_output_and_in_errors() {
    let (invite, token) = (invite(), token());
    assert!(format!("{invite:?}{token:?}").contains("Secret(hidden)"));
    let secret = URL_SAFE_NO_PAD.encode(invite.secret.expose());
    assert!(!format!("{invite:?}").contains(&secret));
    let broken = reencode(&invite.encode(), |json| json["expires_ms"] = json["secret"].clone());
    let error = Invite::decode(&broken, NOW).expect_err("broken");
    assert!(!format!("{error} {error:?}").contains(&secret), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics(prefix in prop_oneof![Just(""), Just("meshfed-invite-1."), Just("meshfed-token-1.")], body in ".{0,200}") {
        let text = format!("{prefix}{body}");
        prop_assert!(Invite::decode(&text, NOW).is_err());
        prop_assert!(JoinToken::decode(&text, NOW).is_err());
    }

    #[test]
    fn a_cut_or_changed_text_never_panics(at in 0_usize..1000, byte in any::<u8>()) {
        let mut text = token().encode().into_bytes();
        let at = at % text.len();
        prop_assert!(JoinToken::decode(std::str::from_utf8(&text[..at]).expect("ASCII"), NOW).is_err());
        text[at] = byte & 0x7f;
        let _ = JoinToken::decode(std::str::from_utf8(&text).expect("ASCII"), NOW);
    }
}
