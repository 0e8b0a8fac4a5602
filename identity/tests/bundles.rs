//! Bundles in the SPIFFE format.

mod bench;

use bench::*;
use identity::bundle::{BundleError, check, digest, from_jwks, shares_anchor_key, to_jwks};
use identity::trust::TrustStore;
use model::identity::Bundle;
use proptest::prelude::*;

fn two_anchors() -> Bundle {
    let (one, two) = (Site::new("east.mesh"), Site::new("east.mesh"));
    let anchors = vec![one.ca.cert_der().to_vec(), two.ca.cert_der().to_vec()];
    Bundle { trust_domain: domain("east.mesh"), sequence: 7, anchors }
}

#[test]
fn a_bundle_survives_the_spiffe_format() {
    let bundle = two_anchors();
    let text = to_jwks(&bundle).expect("written");
    assert_eq!(from_jwks(&bundle.trust_domain, &text).expect("read"), bundle);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["spiffe_sequence"], 7);
    let key = &json["keys"][0];
    assert_eq!((&key["kty"], &key["use"], &key["crv"]), (&"EC".into(), &"x509-svid".into(), &"P-256".into()));
    assert!(key["x"].as_str().is_some_and(|x| x.len() == 43) && key["y"].is_string());
    assert_eq!(key["x5c"].as_array().map(Vec::len), Some(1));
}

#[test]
fn anchors_of_every_kind_of_key_survive_the_format() {
    for (algorithm, kty, crv) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "EC", "P-256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC", "P-384"),
        (&rcgen::PKCS_ED25519, "OKP", "Ed25519"),
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("made");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let anchors = vec![params.self_signed(&key).expect("signed").der().to_vec()];
        let bundle = Bundle { trust_domain: domain("east.mesh"), sequence: 1, anchors };
        let text = to_jwks(&bundle).expect("written");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&json["keys"][0]["kty"], &json["keys"][0]["crv"]), (&kty.into(), &crv.into()));
        assert_eq!(from_jwks(&bundle.trust_domain, &text).expect("read"), bundle);
    }
}

#[test]
fn keys_of_other_uses_and_unknown_fields_are_skipped() {
    let bundle = two_anchors();
    let mut json: serde_json::Value =
        serde_json::from_str(&to_jwks(&bundle).expect("written")).expect("JSON");
    let keys = json["keys"].as_array_mut().expect("a list");
    keys.push(
        serde_json::json!({"kty": "EC", "use": "jwt-svid", "kid": "x", "crv": "P-256", "x": "", "y": ""}),
    );
    keys[0]["alg"] = "ES256".into();
    assert_eq!(from_jwks(&bundle.trust_domain, &json.to_string()).expect("read"), bundle);
}

#[test]
fn a_bad_bundle_is_refused_with_its_cause() {
    let east = Site::new("east.mesh");
    let of = |anchors: Vec<Vec<u8>>| Bundle { trust_domain: domain("east.mesh"), sequence: 1, anchors };
    let anchor = || east.ca.cert_der().to_vec();
    assert!(matches!(check(&of(vec![])), Err(BundleError::Count { found: 0, .. })));
    assert!(matches!(check(&of(vec![anchor(); 17])), Err(BundleError::Count { found: 17, .. })));
    assert!(matches!(check(&of(vec![b"x".to_vec()])), Err(BundleError::NotACertificate { .. })));
    let trailing = [anchor(), vec![0]].concat();
    assert!(matches!(check(&of(vec![trailing])), Err(BundleError::NotACertificate { .. })));
    let leaf = east.credentials("/agent/vm-1").current().chain()[0].clone();
    assert!(matches!(check(&of(vec![leaf])), Err(BundleError::NotACa { .. })));
    let west = Site::new("west.mesh").ca.cert_der().to_vec();
    assert!(matches!(check(&of(vec![anchor(), west])), Err(BundleError::OtherDomain { .. })));

    for text in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"use\":\"x509-svid\"}]}", "[]"] {
        assert!(from_jwks(&domain("east.mesh"), text).is_err(), "{text}");
    }
}

#[test]
fn a_bad_bundle_changes_nothing() {
    let (east, west) = east_and_west();
    let bad = Bundle { trust_domain: domain("dc.mesh"), sequence: 1, anchors: vec![] };
    assert!(east.trust.set_linked(vec![bad.clone()]).is_err());
    assert_eq!(east.trust.linked(), [west.ca.trust_domain().clone()]);
    assert!(east.trust.set_own(bad.clone()).is_err());
    assert_eq!(east.trust.own(), east.ca.bundle(1));
    assert!(TrustStore::new(bad).is_err());
}

#[test]
fn nobody_else_speaks_for_the_own_trust_domain() {
    let (east, impostor) = (Site::new("east.mesh"), Site::new("east.mesh"));
    east.link(&[&impostor]);
    assert_eq!(east.trust.find(&domain("east.mesh")), Some(east.ca.bundle(1)));
    assert!(east.trust.linked().is_empty());
}

#[test]
fn a_digest_names_the_anchors_and_their_trust_domain() {
    let bundle = two_anchors();
    let mut turned = Bundle { sequence: 8, ..bundle.clone() };
    turned.anchors.reverse();
    assert_eq!(digest(&bundle), digest(&turned), "neither order nor sequence counts");
    let fewer = Bundle { anchors: bundle.anchors[..1].to_vec(), ..bundle.clone() };
    assert_ne!(digest(&bundle), digest(&fewer));
    let other = Bundle { trust_domain: domain("west.mesh"), ..bundle.clone() };
    assert_ne!(digest(&bundle), digest(&other));
}

#[test]
fn bundles_that_share_an_anchor_key_are_found() {
    let (east, west) = (Site::new("east.mesh"), Site::new("west.mesh"));
    assert!(!shares_anchor_key(&east.ca.bundle(1), &west.ca.bundle(1)));
    assert!(shares_anchor_key(&east.ca.bundle(1), &east.ca.bundle(2)));
    // Another certificate for the same key: a root that two sites share.
    let key = rcgen::KeyPair::from_pem(&east.ca.key_pem()).expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let anchors = vec![params.self_signed(&key).expect("signed").der().to_vec()];
    let twin = Bundle { trust_domain: domain("west.mesh"), sequence: 1, anchors };
    check(&twin).expect("a CA that names nobody may be an anchor");
    assert!(shares_anchor_key(&east.ca.bundle(1), &twin));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_panic_as_an_anchor_or_a_text(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,300}") {
        let bundle = Bundle { trust_domain: domain("east.mesh"), sequence: 1, anchors: vec![bytes.clone(), bytes] };
        prop_assert!(check(&bundle).is_err());
        prop_assert!(from_jwks(&domain("east.mesh"), &text).is_err());
        let _ = (digest(&bundle), shares_anchor_key(&bundle, &bundle));
    }

    #[test]
    fn a_changed_byte_of_an_anchor_never_panics(at in 0_usize..400, bit in 0_u8..8) {
        let east = Site::new("east.mesh");
        let mut anchor = east.ca.cert_der().to_vec();
        let at = at % anchor.len();
        anchor[at] ^= 1 << bit;
        let _ = to_jwks(&Bundle { trust_domain: domain("east.mesh"), sequence: 1, anchors: vec![anchor] });
    }
}
