//! What strangers show and hand over: invites, tokens, bundles, certificates, PEM.

#[path = "../../identity/tests/bench/mod.rs"]
mod bench;
#[path = "../../identity/tests/decoders/mod.rs"]
mod decoders;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bench::Site;
use decoders::*;
use identity::bundle as bundles;
use identity::key::NodeKey;
use std::sync::LazyLock;

static EAST: LazyLock<Site> = LazyLock::new(|| Site::new("east.mesh"));

/// As text, and as the JSON within one.
pub fn invite(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    read_invite(&text);
    read_token(&text);
    let inside = URL_SAFE_NO_PAD.encode(bytes);
    read_invite(&format!("meshfed-invite-1.{inside}"));
    read_token(&format!("meshfed-token-1.{inside}"));
}

pub fn invite_seeds() -> Vec<Vec<u8>> {
    let texts = [decoders::invite(&EAST).encode(), token(&EAST).encode()];
    let inside = texts.iter().map(|text| {
        let (_, body) = text.split_once('.').expect("a prefix");
        URL_SAFE_NO_PAD.decode(body).expect("base64")
    });
    inside.chain(texts.iter().map(|text| text.clone().into_bytes())).collect()
}

pub fn bundle(bytes: &[u8]) {
    read_bundle(&String::from_utf8_lossy(bytes));
}

pub fn bundle_seeds() -> Vec<Vec<u8>> {
    vec![bundles::to_jwks(&EAST.ca.bundle(3)).expect("good").into_bytes()]
}

pub fn certificate(bytes: &[u8]) {
    read_der(&EAST, bytes);
    let anchor = STANDARD.encode(bytes);
    read_bundle(&format!(r#"{{"keys": [{{"use": "x509-svid", "x5c": ["{anchor}"]}}]}}"#));
}

pub fn certificate_seeds() -> Vec<Vec<u8>> {
    let leaves = ["/gateway/gw-0", "/agent/vm-1", "/ns/shop/sa/web"];
    let mut seeds: Vec<Vec<u8>> =
        leaves.iter().map(|path| EAST.credentials(path).current().chain()[0].clone()).collect();
    seeds.push(EAST.ca.cert_der().to_vec());
    seeds.push(NodeKey::generate().expect("made").csr_der());
    seeds
}

/// The certificate stands before the first empty line, the key behind it.
pub fn pem(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (certificate, key) = text.split_once("\n\n").unwrap_or((&text, &text));
    read_pem(certificate, key);
}

pub fn pem_seeds() -> Vec<Vec<u8>> {
    let leaf = EAST.credentials("/gateway/gw-0").current();
    let pairs =
        [(leaf.chain_pem(), leaf.key_pem().to_string()), (EAST.ca.cert_pem(), EAST.ca.key_pem().to_string())];
    pairs.iter().map(|(certificate, key)| format!("{certificate}\n{key}").into_bytes()).collect()
}
