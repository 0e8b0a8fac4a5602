//! What a CA issues, and what it does not.

mod bench;

use bench::*;
use identity::ca::{BACKDATE, Ca, CaError, IssueError};
use identity::credentials::{Credentials, CredentialsError};
use identity::key::NodeKey;
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

#[test]
fn a_leaf_has_one_uri_both_purposes_and_is_no_ca() {
    let east = Site::new("east.mesh");
    let key = NodeKey::generate().expect("made");
    let (now, id) = (now_ms(), east.id("/ns/shop/sa/cart"));
    let chain = east.ca.issue(&key.csr_der(), &id, WEEK, now).expect("issued");
    let (rest, leaf) = X509Certificate::from_der(&chain[0]).expect("a certificate");
    assert!(rest.is_empty());
    let names = leaf.subject_alternative_name().expect("once").expect("there");
    assert!(names.critical, "RFC 5280, section 4.1.2.6: critical, since the subject is empty");
    assert_eq!(names.value.general_names.len(), 1);
    let usage = leaf.extended_key_usage().expect("once").expect("there").value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    assert!(!leaf.basic_constraints().expect("once").expect("there").value.ca);
    let now_s = (now / 1000) as i64;
    assert_eq!(leaf.validity().not_before.timestamp(), now_s - BACKDATE.as_secs() as i64);
    assert_eq!(leaf.validity().not_after.timestamp(), now_s + WEEK.as_secs() as i64);
}

#[test]
fn names_in_a_request_are_ignored() {
    let east = Site::new("east.mesh");
    let key = rcgen::KeyPair::generate().expect("made");
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![uri("spiffe://east.mesh/federation/fed-0")];
    let csr = params.serialize_request(&key).expect("signed");
    let chain = east.ca.issue(csr.der(), &east.id("/agent/vm-1"), WEEK, now_ms()).expect("issued");
    let key = NodeKey::from_pem(&key.serialize_pem()).expect("a key");
    assert_eq!(*Credentials::new(chain, &key).expect("a pair").id(), east.id("/agent/vm-1"));
}

#[test]
fn a_request_proves_that_its_sender_has_the_key() {
    let east = Site::new("east.mesh");
    let mut csr = NodeKey::generate().expect("made").csr_der();
    let last = csr.len() - 1;
    csr[last] ^= 1;
    let issue = |csr: &[u8]| east.ca.issue(csr, &east.id("/agent/vm-1"), WEEK, now_ms());
    assert!(matches!(issue(&csr), Err(IssueError::Request(_))));
    assert!(matches!(issue(b""), Err(IssueError::Request(_))));
    assert!(matches!(issue(&[0; 100_000]), Err(IssueError::Request(_))));
}

#[test]
fn two_leaves_of_one_key_have_different_serials() {
    let east = Site::new("east.mesh");
    let csr = NodeKey::generate().expect("made").csr_der();
    let issue = || east.ca.issue(&csr, &east.id("/agent/vm-1"), WEEK, now_ms()).expect("issued").remove(0);
    let (one, two) = (issue(), issue());
    let serial = |der: &[u8]| X509Certificate::from_der(der).expect("a certificate").1.raw_serial().to_vec();
    assert_ne!(serial(&one), serial(&two));
}

#[test]
fn a_ca_issues_for_its_own_trust_domain_only() {
    let (east, west) = (Site::new("east.mesh"), Site::new("west.mesh"));
    let csr = NodeKey::generate().expect("made").csr_der();
    let refused = east.ca.issue(&csr, &west.id("/agent/vm-1"), WEEK, now_ms());
    assert!(matches!(refused, Err(IssueError::Foreign { .. })));
}

#[test]
fn no_leaf_outlives_its_ca_and_a_dead_ca_issues_nothing() {
    let east = Site::new("east.mesh");
    let csr = NodeKey::generate().expect("made").csr_der();
    let end_ms = east.ca.not_after_ms();
    let issue = |now_ms| east.ca.issue(&csr, &east.id("/agent/vm-1"), WEEK, now_ms);
    let leaf = issue(end_ms - 3_600_000).expect("issued").remove(0);
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
    assert_eq!(leaf.validity().not_after.timestamp() as u64 * 1000, end_ms);
    assert!(matches!(issue(end_ms), Err(IssueError::CaExpired { .. })));
    assert!(matches!(issue(0), Err(IssueError::CaExpired { .. })));
}

#[test]
fn a_ca_survives_its_files() {
    let east = Site::new("east.mesh");
    let (certificate, key) = (east.ca.cert_pem(), east.ca.key_pem());
    let again = Ca::from_pem(&domain("east.mesh"), &certificate, &key).expect("read");
    assert_eq!(again.bundle(1), east.ca.bundle(1));

    let west = Site::new("west.mesh");
    let read = |domain_name: &str, certificate: &str, key: &str| {
        Ca::from_pem(&domain(domain_name), certificate, key).expect_err("refused")
    };
    assert!(matches!(read("east.mesh", &certificate, &west.ca.key_pem()), CaError::Mismatch));
    assert!(matches!(read("west.mesh", &certificate, &key), CaError::Certificate(_)));
    assert!(matches!(read("east.mesh", "", &key), CaError::Count(0)));
    assert!(matches!(read("east.mesh", &certificate.repeat(2), &key), CaError::Count(2)));
    assert!(matches!(read("east.mesh", &certificate, "no key"), CaError::Key(_)));
    let leaf = east.credentials("/agent/vm-1").current();
    assert!(matches!(read("east.mesh", &leaf.chain_pem(), &leaf.key_pem()), CaError::Certificate(_)));
}

#[test]
fn credentials_survive_their_files_and_must_be_a_pair() {
    let east = Site::new("east.mesh");
    let one = east.credentials("/agent/vm-1").current();
    let again = Credentials::from_pem(&one.chain_pem(), &one.key_pem()).expect("read");
    assert_eq!((again.id(), again.chain()), (one.id(), one.chain()));
    let other = east.credentials("/agent/vm-1").current();
    let mixed = Credentials::from_pem(&one.chain_pem(), &other.key_pem());
    assert!(matches!(mixed, Err(CredentialsError::Mismatch(_))));
    assert!(matches!(Credentials::from_pem("", &one.key_pem()), Err(CredentialsError::Chain)));
}

#[test]
fn a_leaf_is_renewed_at_half_its_life() {
    let now = now_ms() / 1000 * 1000;
    for seconds in [2, 60, 3600, 7 * 24 * 3600] {
        let life = Duration::from_secs(seconds);
        let leaf = Site::new("east.mesh").credentials_at("/agent/vm-1", now, life).current();
        let (half, end) = (now + seconds * 500, now + seconds * 1000);
        assert_eq!((leaf.renew_at_ms(), leaf.not_after_ms()), (half, end), "counted from when it is issued");
    }
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let east = Site::new("east.mesh");
    let key = NodeKey::generate().expect("made");
    let shown = format!("{:?} {:?} {:?}", east.ca, key, east.credentials("/agent/vm-1"));
    assert!(shown.contains("east.mesh") && shown.len() < 600, "{shown}");
    for secret in [east.ca.key_pem(), key.to_pem()] {
        let line = secret.lines().nth(1).expect("base64").to_owned();
        assert!(!shown.contains(&line));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_leaf_names_whom_it_was_issued_to(path in prop_oneof![
        "/(gateway|federation|agent|admin)/[a-z0-9]{1,63}",
        "/ns/[a-z0-9]{1,63}/sa/[a-z0-9]{1,63}",
    ]) {
        let east = Site::new("east.mesh");
        let id = east.id(&path);
        let csr = NodeKey::generate().expect("made").csr_der();
        let chain = east.ca.issue(&csr, &id, WEEK, now_ms()).expect("issued");
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        prop_assert_eq!(identity::peer::peer_id(&chain), Ok(id));
    }

    #[test]
    fn no_bytes_panic_as_a_request_a_chain_or_a_key(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        let east = Site::new("east.mesh");
        prop_assert!(east.ca.issue(&bytes, &east.id("/agent/vm-1"), WEEK, now_ms()).is_err());
        prop_assert!(identity::peer::peer_id(&[CertificateDer::from(bytes)]).is_err());
        prop_assert!(Credentials::from_pem(&text, &text).is_err());
        let broken = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        prop_assert!(Ca::from_pem(&domain("east.mesh"), &broken, &east.ca.key_pem()).is_err());
    }
}

/// A few bits of a request are outside what its signature covers, and its reader does not look at them.
#[test]
fn a_changed_request_never_gets_a_certificate_for_another_key() {
    let east = Site::new("east.mesh");
    let key = NodeKey::generate().expect("made");
    let csr = key.csr_der();
    for bit in 0..csr.len() * 8 {
        let mut changed = csr.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(chain) = east.ca.issue(&changed, &east.id("/agent/vm-1"), WEEK, now_ms()) {
            Credentials::new(chain, &key).expect("a pair");
        }
    }
}
