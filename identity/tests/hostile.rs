//! Bundles, invites, tokens, PEM, requests and certificates from strangers: each is taken as it says, or refused with an
//! error that says what is wrong; none is a panic, and nobody gets in by a damaged certificate.

mod bench;
mod decoders;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bench::*;
use decoders::*;
use hostile::{Change, any_bytes, changed, changed_text, changes, is_readable, within};
use identity::bundle;
use identity::key::NodeKey;
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, LazyLock};

/// Made once: keys take their time.
static EAST: LazyLock<Site> = LazyLock::new(|| Site::new("east.mesh"));
static WEST: LazyLock<Site> = LazyLock::new(|| {
    let west = Site::new("west.mesh");
    west.link(&[&EAST]);
    EAST.link(&[&west]);
    west
});

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The JSON within an invite or a token, changed and sealed again.
fn inside(text: &str, changes: &[Change]) -> String {
    let (prefix, body) = text.split_once('.').expect("a prefix");
    let json = URL_SAFE_NO_PAD.decode(body).expect("base64");
    format!("{prefix}.{}", URL_SAFE_NO_PAD.encode(changed(&json, &json, changes)))
}

/// Texts that a person or a peer may hand over: an invite, a token, a bundle, PEM.
fn texts() -> Vec<String> {
    let jwks = bundle::to_jwks(&EAST.ca.bundle(3)).expect("good");
    vec![invite(&EAST).encode(), token(&EAST).encode(), jwks, EAST.ca.cert_pem()]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_bytes_are_refused_with_words(bytes in any_bytes()) {
        let text = String::from_utf8_lossy(&bytes);
        read_invite(&text);
        read_invite(&format!("meshfed-invite-1.{}", URL_SAFE_NO_PAD.encode(&bytes)));
        read_token(&format!("meshfed-token-1.{}", URL_SAFE_NO_PAD.encode(&bytes)));
        read_bundle(&text);
        read_der(&EAST, &bytes);
        read_pem(&text, &text);
    }

    #[test]
    fn changed_texts_are_taken_as_they_say_or_refused_with_words(
        which in any::<(prop::sample::Index, prop::sample::Index)>(),
        changes in changes(),
    ) {
        let texts = texts();
        let text = changed_text(which.0.get::<String>(&texts), which.1.get::<String>(&texts), &changes);
        read_invite(&text);
        read_token(&text);
        read_bundle(&text);
        read_pem(&text, &EAST.ca.key_pem());
        read_pem(&EAST.ca.cert_pem(), &changed_text(&EAST.ca.key_pem(), &text, &changes));
    }

    #[test]
    fn changed_json_within_invites_and_tokens_is_taken_as_it_says_or_refused_with_words(changes in changes()) {
        read_invite(&inside(&invite(&EAST).encode(), &changes));
        read_token(&inside(&token(&EAST).encode(), &changes));
    }

    #[test]
    fn changed_certificates_and_requests_are_refused_with_words(changes in changes(), of in 0..3) {
        let valid = match of {
            0 => EAST.ca.cert_der().to_vec(),
            1 => EAST.credentials("/gateway/gw-0").current_chain(),
            _ => NodeKey::generate().expect("made").csr_der(),
        };
        let der = changed(&valid, EAST.ca.cert_der(), &changes);
        read_der(&EAST, &der);
        let anchor = STANDARD.encode(&der);
        read_bundle(&format!(r#"{{"keys": [{{"use": "x509-svid", "x5c": ["{anchor}"]}}], "spiffe_sequence": 1}}"#));
    }
}

/// The leaf of credentials.
trait Leaf {
    fn current_chain(&self) -> Vec<u8>;
}

impl Leaf for identity::live::LiveCredentials {
    fn current_chain(&self) -> Vec<u8> {
        self.current().chain()[0].clone()
    }
}

/// Shows what it is told to show, with a key that signs well.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A leaf of the site with its key, DER.
fn leaf(site: &Site) -> (Vec<u8>, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().expect("made");
    let request = NodeKey::from_pem(&key.serialize_pem()).expect("a key").csr_der();
    let chain = site.ca.issue(&request, &site.id("/gateway/gw-0"), WEEK, now_ms()).expect("issued");
    (chain[0].clone(), key)
}

fn certified(chain: Vec<Vec<u8>>, key: &rcgen::KeyPair) -> Arc<CertifiedKey> {
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = identity::provider().key_provider.load_private_key(key).expect("a key");
    // Not checked to be a pair, as a hostile peer would not.
    Arc::new(CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), key))
}

proptest! {
    #![proptest_config(cases(120))]

    /// Real handshakes, in which one side shows a leaf that is not as it was signed.
    #[test]
    fn nobody_gets_in_with_a_changed_certificate(
        changes in changes(),
        behind in proptest::collection::vec(any_bytes(), 0..3),
        dialler in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
        let (valid, key) = leaf(if dialler { &WEST } else { &EAST });
        let shown = changed(&valid, EAST.ca.cert_der(), &changes);
        prop_assume!(shown != valid);
        let shown = certified([vec![shown], behind].concat(), &key);
        let (mut server, mut client) = (EAST.server(), WEST.client(&EAST));
        if dialler {
            client.client_auth_cert_resolver = Arc::new(Raw(shown));
        } else {
            server.cert_resolver = Arc::new(Shows(shown));
        }
        let (server, client) = runtime.block_on(shake(server, client));
        let refused = if dialler { server } else { client };
        let error = refused.expect_err("nobody signed that");
        is_readable(&error.to_string());
    }
}

#[test]
fn the_leaf_as_it_was_signed_gets_in() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let (valid, key) = leaf(&WEST);
    let mut client = WEST.client(&EAST);
    client.client_auth_cert_resolver = Arc::new(Raw(certified(vec![valid.clone()], &key)));
    let (server, _) = runtime.block_on(shake(EAST.server(), client));
    server.expect("a good leaf gets in, so the test above refuses for the changes");
}

#[test]
fn a_name_in_a_damaged_invite_is_not_shown_since_it_may_be_the_secret() {
    for (text, prefix) in
        [(invite(&EAST).encode(), "meshfed-invite-1."), (token(&EAST).encode(), "meshfed-token-1.")]
    {
        let json = URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix).expect("its prefix")).expect("base64");
        let mut json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        json["site"] = json["secret"].clone();
        let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(json.to_string()));
        read_invite(&text);
        read_token(&text);
    }
}

#[test]
fn the_error_of_a_damaged_key_does_not_repeat_the_key() {
    // Without the end of its first line the whole key stands where the name of the block should be.
    let key = EAST.ca.key_pem();
    let secret = key.lines().nth(1).expect("a line of the key");
    for damaged in
        [key.replacen("KEY-----", "KEY", 1), key.replace("-----END ", "-----END\n"), key[..60].to_owned()]
    {
        let error = NodeKey::from_pem(&damaged).expect_err("damaged");
        let text = hostile::chain(&error);
        is_readable(&text);
        assert!(!text.contains(&secret[..16]), "{text}");
    }
}

#[test]
fn long_texts_are_refused_before_they_are_read() {
    within("the longest texts", || {
        let long = "A".repeat(4 << 20);
        read_invite(&long);
        read_invite(&format!("meshfed-invite-1.{long}"));
        read_token(&format!("meshfed-token-1.{long}"));
        read_bundle(&long);
        // Within the bound of a bundle, and one text of it: the error does not repeat it.
        let long = "A".repeat(bundle::TEXT_MAX - 100);
        read_bundle(&format!(r#"{{"keys": "{long}"}}"#));
        read_bundle(&format!(r#"{{"keys": [{{"use": "x509-svid", "x5c": "{long}"}}]}}"#));
        read_bundle(&"[".repeat(bundle::TEXT_MAX));
        read_bundle(&format!(r#"{{"x": {}"#, "[".repeat(100_000)));
        let many = "{\"use\":\"x509-svid\",\"x5c\":[\"AAAA\"]},".repeat(10_000);
        read_bundle(&format!(r#"{{"keys": [{}{{}}]}}"#, many));
        let blocks = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".repeat(100_000);
        read_pem(&blocks, &EAST.ca.key_pem());
        read_pem(&"-----BEGIN CERTIFICATE-----\n".repeat(100_000), &blocks);
    });
}

/// Found by the fuzz target `pem`: its validity is turned round.
#[test]
fn a_leaf_that_ends_before_it_begins_is_due_at_its_end() {
    let certificate = include_str!("found/ends-before-it-begins.crt");
    let key = include_str!("found/ends-before-it-begins.key");
    let taken = identity::credentials::Credentials::from_pem(certificate, key).expect("it can be read");
    assert_eq!(taken.renew_at_ms(), taken.not_after_ms());
    decoders::read_pem(certificate, key);
}
