//! What is asked of every decoder, whatever it is given: a value that is as it says, or an error that can be read and tells
//! no secret. The fuzz targets ask the same.

use super::bench::{Site, WEEK, domain, now_ms};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hostile::{chain, is_readable};
use identity::bundle;
use identity::ca::Ca;
use identity::credentials::Credentials;
use identity::invite::{Invite, InviteError, JoinToken};
use identity::peer::peer_id;
use identity::secret::Secret;
use identity::trust::TrustStore;
use model::identity::{Bundle, TrustDomain};
use model::ids::SiteUid;
use model::node::NodeKind;
use rustls::pki_types::CertificateDer;

/// When invites are read.
pub const NOW: u64 = 1_000_000;

pub fn east() -> TrustDomain {
    domain("east.mesh")
}

/// An invite of east.
pub fn invite(east: &Site) -> Invite {
    Invite {
        id: [5; 16],
        secret: Secret::from_bytes([6; 32]),
        expires_ms: NOW + 1,
        site: "east".parse().expect("valid"),
        uid: SiteUid([7; 16]),
        clusterset: "meshfed".parse().expect("valid"),
        bundle: east.ca.bundle(3),
        gateways: vec!["127.0.1.1:4430".parse().expect("valid")],
        to: Some(domain("west.mesh")),
    }
}

/// A token of east.
pub fn token(east: &Site) -> JoinToken {
    JoinToken {
        id: [5; 16],
        secret: Secret::from_bytes([6; 32]),
        expires_ms: NOW + 1,
        site: "east".parse().expect("valid"),
        trust_domain: domain("east.mesh"),
        digest: bundle::digest(&east.ca.bundle(1)),
        kind: NodeKind::Agent,
        name: "vm-1".parse().expect("valid"),
        namespaces: vec!["shop".parse().expect("valid")],
        accounts: vec!["web".parse().expect("valid")],
        addresses: vec!["127.0.1.1:4430".parse().expect("valid")],
    }
}

/// An invite, as a person hands it over.
pub fn read_invite(text: &str) {
    match Invite::decode(text, NOW) {
        Ok(invite) => {
            let again = invite.encode();
            assert_eq!(Invite::decode(&again, NOW).expect("own text").encode(), again);
            bundle::check(&invite.bundle).expect("a good bundle");
        }
        Err(error) => no_secret(&error),
    }
}

/// A join token.
pub fn read_token(text: &str) {
    match JoinToken::decode(text, NOW) {
        Ok(token) => {
            let again = token.encode();
            assert_eq!(JoinToken::decode(&again, NOW).expect("own text").encode(), again);
        }
        Err(error) => no_secret(&error),
    }
}

/// An error is shown on screens and in logs, so it can be read and has no part of the secret.
pub fn no_secret(error: &InviteError) {
    let text = chain(error);
    is_readable(&text);
    assert!(!text.contains(&URL_SAFE_NO_PAD.encode([6; 32])[..12]), "{text}");
}

/// A bundle in the SPIFFE format.
pub fn read_bundle(text: &str) {
    match bundle::from_jwks(&east(), text) {
        Ok(taken) => {
            assert!((1..=bundle::ANCHORS_MAX).contains(&taken.anchors.len()));
            TrustStore::new(taken.clone()).expect("a bundle that was taken is good");
            if let Ok(again) = bundle::to_jwks(&taken) {
                assert_eq!(bundle::from_jwks(&east(), &again), Ok(taken));
            }
        }
        Err(error) => is_readable(&chain(&error)),
    }
}

/// Certificates and requests, DER.
pub fn read_der(site: &Site, der: &[u8]) {
    if let Err(error) = peer_id(&[CertificateDer::from(der)]) {
        is_readable(&chain(&error));
    }
    let given = Bundle { trust_domain: east(), sequence: 1, anchors: vec![der.to_vec()] };
    match bundle::check(&given) {
        // Good enough to be an anchor: then everything that reads anchors takes it.
        Ok(()) => {
            TrustStore::new(given.clone()).expect("good");
            let _ = bundle::shares_anchor_key(&given, &site.ca.bundle(1));
            let _ = identity::rotation::successor(&site.ca.bundle(1), &given, &given.anchors);
        }
        Err(error) => is_readable(&chain(&error)),
    }
    match site.ca.issue(der, &site.id("/agent/vm-1"), WEEK, now_ms()) {
        Ok(issued) => {
            let leaf = issued.first().expect("a leaf");
            assert_eq!(peer_id(&[CertificateDer::from(leaf.as_slice())]), Ok(site.id("/agent/vm-1")));
        }
        Err(error) => is_readable(&chain(&error)),
    }
}

/// Credentials or a CA, PEM.
pub fn read_pem(certificate: &str, key: &str) {
    match Credentials::from_pem(certificate, key) {
        Ok(taken) => {
            Credentials::from_pem(&taken.chain_pem(), &taken.key_pem()).expect("own text");
            assert!(taken.renew_at_ms() <= taken.not_after_ms().max(1));
        }
        Err(error) => {
            let text = chain(&error);
            is_readable(&text);
            let secret = key.lines().nth(1).filter(|line| line.len() > 20 && !line.contains("-----"));
            assert!(secret.is_none_or(|secret| !text.contains(secret)), "{text}");
        }
    }
    if let Err(error) = Ca::from_pem(&east(), certificate, key) {
        is_readable(&chain(&error));
    }
}
