//! A root that is rotated: at each step, and for peers that were away, on real handshakes.

mod bench;

use bench::*;
use identity::ca::{CROSSES_MAX, Ca, CrossError};
use identity::credentials::Credentials;
use identity::key::NodeKey;
use identity::live::LiveCredentials;
use identity::peer::PeerError;
use identity::rotation::{Authority, Phase, RefusedBundle, RotationError, successor};
use identity::tls::client_config;
use identity::trust::TrustStore;
use model::identity::{Bundle, SpiffeId};
use std::collections::BTreeMap;

fn ca() -> Ca {
    Ca::generate(&domain("west.mesh"), now_ms()).expect("made")
}

fn west() -> Authority {
    Authority::settled(ca(), 1)
}

fn nobody() -> BTreeMap<String, u64> {
    BTreeMap::new()
}

/// Through all steps.
fn rotate(authority: &mut Authority) {
    authority.publish(ca(), now_ms()).expect("published");
    authority.switch(now_ms()).expect("switched");
    authority.retire(&nobody(), &[], false).expect("retired");
}

/// A leaf of west's gateway, by the CA that signs now.
fn leaf(authority: &Authority) -> LiveCredentials {
    let key = NodeKey::generate().expect("made");
    let id: SpiffeId = "spiffe://west.mesh/gateway/gw-0".parse().expect("valid");
    let chain = authority.signing().issue(&key.csr_der(), &id, WEEK, now_ms()).expect("issued");
    LiveCredentials::new(Credentials::new(chain, &key).expect("a pair"))
}

/// East, which holds this bundle of west, is dialled by west's gateway.
async fn dials(held: &Bundle, leaf: &LiveCredentials) -> Result<(), PeerError> {
    let east = Site::new("east.mesh");
    east.trust.set_linked(vec![held.clone()]).expect("good");
    let trust = TrustStore::new(held.clone()).expect("good");
    trust.set_linked(vec![east.ca.bundle(1)]).expect("good");
    let expect =
        identity::tls::Expect::trusted(&trust, domain("east.mesh"), identity::peer::RoleKind::Gateway);
    let (server, client) = shake(east.server(), client_config(Some(leaf), &expect, &[b"meshfed/1"])).await;
    match server {
        Ok((id, _)) => {
            client.expect("both ends agree");
            assert_eq!(id.expect("an id").to_string(), "spiffe://west.mesh/gateway/gw-0");
            Ok(())
        }
        Err(_) => Err(refusal(&server)),
    }
}

#[tokio::test]
async fn at_each_step_every_leaf_that_may_be_in_use_is_accepted_by_every_bundle_that_may_be_held() {
    let mut west = west();
    let (old, first) = (leaf(&west), west.bundle());
    west.publish(ca(), now_ms()).expect("published");
    let both = west.bundle();
    assert_eq!((both.sequence, both.anchors.len(), west.phase()), (2, 2, Phase::Published));
    for held in [&first, &both] {
        dials(held, &old).await.expect("an old leaf");
        dials(held, &leaf(&west)).await.expect("the old CA still signs");
    }
    west.switch(now_ms()).expect("switched");
    let new = leaf(&west);
    assert_eq!(west.bundle(), both, "nobody needs to hear of this step");
    for held in [&first, &both] {
        dials(held, &old).await.expect("an old leaf");
        dials(held, &new).await.expect("a new leaf, also where the new anchor is not known yet");
    }
    west.retire(&nobody(), &[], false).expect("retired");
    let last = west.bundle();
    assert_eq!((last.sequence, last.anchors.len(), west.phase()), (3, 1, Phase::Settled));
    for held in [&first, &both, &last] {
        dials(held, &new).await.expect("a new leaf");
    }
    assert!(matches!(dials(&last, &old).await, Err(PeerError::Chain { .. })), "the old CA counts no more");
}

#[tokio::test]
async fn a_peer_that_was_away_for_several_rotations_is_not_locked_out() {
    let mut west = west();
    let mut held = vec![west.bundle()];
    for _ in 0..CROSSES_MAX {
        rotate(&mut west);
        held.push(west.bundle());
    }
    for held in &held {
        dials(held, &leaf(&west)).await.expect("accepted");
    }
    // Once more, and the first is too old; the chain does not grow for ever.
    rotate(&mut west);
    assert!(matches!(dials(&held[0], &leaf(&west)).await, Err(PeerError::Chain { .. })));
    dials(&held[1], &leaf(&west)).await.expect("accepted");
    assert_eq!(leaf(&west).current().chain().len(), 1 + CROSSES_MAX);
}

#[tokio::test]
async fn nobody_but_the_old_ca_can_vouch_for_a_new_one() {
    let (west, stranger, next) = (west(), ca(), ca());
    let cross = stranger.cross(&next, now_ms()).expect("signed");
    let impostor = Authority::settled(next.with_crosses(vec![cross]).expect("of its key"), 9);
    assert!(matches!(dials(&west.bundle(), &leaf(&impostor)).await, Err(PeerError::Chain { .. })));

    // Nor can a leaf of the old CA: it is none.
    let east = Ca::generate(&domain("east.mesh"), now_ms()).expect("made");
    let refused = west.signing().cross(&east, now_ms()).expect_err("another site's");
    assert!(matches!(refused, CrossError::Foreign { .. }));
}

#[tokio::test]
async fn what_vouches_for_a_ca_runs_out_with_the_one_that_signed_it() {
    let old = ca();
    let late = old.not_after_ms() - 3_600_000;
    let next = Ca::generate(&domain("west.mesh"), late).expect("made");
    let cross = old.cross(&next, late).expect("signed");
    let (_, read) = x509_parser::parse_x509_certificate(&cross).expect("a certificate");
    assert_eq!(read.validity().not_after.timestamp() as u64 * 1000, old.not_after_ms());
    assert_eq!(old.cross(&next, old.not_after_ms()), Err(CrossError::NoTime));
}

#[test]
fn the_old_root_is_retired_when_nobody_needs_it_or_by_force() {
    let mut west = west();
    west.publish(ca(), now_ms()).expect("published");
    west.switch(now_ms()).expect("switched");
    let holders = BTreeMap::from([("east".to_owned(), 2), ("dc".to_owned(), 1), ("lab".to_owned(), 0)]);
    let leaves = ["agent vm-1".to_owned()];
    let names: Vec<String> = ["agent vm-1", "dc", "lab"].map(str::to_owned).to_vec();
    assert_eq!(west.held_up_by(&holders, &leaves), names);
    let refused = west.retire(&holders, &leaves, false).expect_err("held up");
    assert!(refused.to_string().contains("agent vm-1, dc, lab"), "{refused}");
    assert_eq!((west.phase(), west.bundle().sequence), (Phase::Switched, 2), "nothing was changed");
    west.retire(&holders, &leaves, true).expect("forced");
    assert_eq!(west.phase(), Phase::Settled);
    assert!(west.held_up_by(&holders, &leaves).is_empty());
}

#[test]
fn steps_out_of_order_change_nothing() {
    let mut west = west();
    let is_phase = |error| matches!(error, Err(RotationError::Phase { .. }));
    assert!(is_phase(west.switch(now_ms())) && is_phase(west.withdraw()));
    assert!(is_phase(west.retire(&nobody(), &[], true)));
    west.publish(ca(), now_ms()).expect("published");
    assert!(is_phase(west.publish(ca(), now_ms())) && is_phase(west.retire(&nobody(), &[], true)));
    west.withdraw().expect("nothing was signed with it");
    assert_eq!((west.phase(), west.bundle().sequence), (Phase::Settled, 3), "a number is not used twice");
    west.publish(ca(), now_ms()).expect("published");
    west.switch(now_ms()).expect("switched");
    assert!(is_phase(west.publish(ca(), now_ms())) && is_phase(west.withdraw()));

    let same = Ca::from_pem(west.trust_domain(), &west.signing().cert_pem(), &west.signing().key_pem());
    let mut settled = Authority::settled(ca(), 1);
    rotate(&mut settled);
    let copy =
        Ca::from_pem(settled.trust_domain(), &settled.signing().cert_pem(), &settled.signing().key_pem());
    let refused = settled.publish(copy.expect("read"), now_ms());
    assert_eq!(refused, Err(RotationError::Cross(CrossError::SameKey)));
    drop(same);
}

#[tokio::test]
async fn a_rotation_goes_on_after_a_restart() {
    let mut west = west();
    let first = west.bundle();
    let again = |authority: &Authority| {
        let copy = |ca: &Ca| {
            let read = Ca::from_pem(ca.trust_domain(), &ca.cert_pem(), &ca.key_pem()).expect("read");
            read.with_crosses(ca.crosses().to_vec()).expect("they vouch for it")
        };
        let going = authority.going().map(<[u8]>::to_vec);
        let sequence = authority.bundle().sequence;
        Authority::stored(copy(authority.signing()), authority.coming().map(copy), going, sequence)
            .expect("fits")
    };
    west.publish(ca(), now_ms()).expect("published");
    let mut west = again(&west);
    assert_eq!(west.phase(), Phase::Published);
    west.switch(now_ms()).expect("switched");
    let mut west = again(&west);
    assert_eq!(west.phase(), Phase::Switched);
    dials(&first, &leaf(&west)).await.expect("it still shows what vouches for it");
    west.retire(&nobody(), &[], false).expect("retired");
    dials(&first, &leaf(&again(&west))).await.expect("also afterwards");

    let other = ca().with_crosses(west.signing().crosses().to_vec()).expect_err("not of its key");
    assert_eq!(other, CrossError::NotOne { at: 0 });
    let (one, two) = (ca(), ca());
    let going = Some(two.cert_der().to_vec());
    assert!(Authority::stored(one, Some(two), going, 2).is_err(), "two at once");
}

#[test]
fn a_newer_bundle_replaces_an_older_one_and_never_the_reverse() {
    let mut west = west();
    let first = west.bundle();
    west.publish(ca(), now_ms()).expect("published");
    let both = west.bundle();
    let vouchers = west.vouchers(now_ms());
    assert_eq!(successor(&first, &both, &vouchers), Ok(Some(both.clone())));
    assert_eq!(successor(&both, &both, &vouchers), Ok(None));
    let older = Err(RefusedBundle::Older { offered: 1, held: 2 });
    assert_eq!(successor(&both, &first, &vouchers), older);
    let other = Bundle { sequence: both.sequence, ..first.clone() };
    assert_eq!(successor(&both, &other, &vouchers), Err(RefusedBundle::Differs { sequence: 2 }));
    let foreign = Site::new("east.mesh").ca.bundle(9);
    assert!(matches!(successor(&first, &foreign, &vouchers), Err(RefusedBundle::Foreign { .. })));
    let empty = Bundle { sequence: 9, anchors: Vec::new(), ..first.clone() };
    assert!(matches!(successor(&first, &empty, &vouchers), Err(RefusedBundle::Bad(_))));
}

#[test]
fn a_bundle_is_taken_through_all_rotations_that_were_missed_and_never_with_an_anchor_that_nobody_vouches_for()
{
    let mut west = west();
    let mut held = vec![west.bundle()];
    for _ in 0..CROSSES_MAX {
        rotate(&mut west);
        held.push(west.bundle());
    }
    let (last, vouchers) = (west.bundle(), west.vouchers(now_ms()));
    for held in &held[..CROSSES_MAX] {
        assert_eq!(successor(held, &last, &vouchers), Ok(Some(last.clone())));
    }
    // Neither the number nor an anchor that is known makes up for one that is not.
    let evil = ca();
    let stranger = |at| Err(RefusedBundle::Stranger { at });
    let mut forged = last.clone();
    forged.sequence = 99;
    forged.anchors.push(evil.cert_der().to_vec());
    assert_eq!(successor(&last, &forged, &vouchers), stranger(1));
    let alone = evil.bundle(99);
    assert_eq!(successor(&last, &alone, &[]), stranger(0));
    // What vouches for it is signed by itself, by a leaf's key, or is a leaf.
    let own = ca().cross(&evil, now_ms()).expect("signed");
    assert_eq!(successor(&last, &alone, &[own, evil.cert_der().to_vec()]), stranger(0));
    let leaf = leaf(&west);
    assert_eq!(successor(&last, &alone, leaf.current().chain()), stranger(0));
    // One that is missing on the way.
    assert_eq!(successor(&held[0], &last, &vouchers[..CROSSES_MAX - 1]), stranger(0));
}

#[test]
fn a_token_that_was_made_before_a_root_was_published_is_good_until_the_old_one_is_retired() {
    let mut west = west();
    let site = |authority: &Authority| {
        let trust = TrustStore::new(authority.bundle()).expect("good");
        let accept = identity::tls::Accept { own: &[], linked: &[], anonymous: true };
        identity::tls::server_config(&leaf(authority), &trust, accept, &[b"meshfed/1"])
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let joins = |digest, server| {
        let expect =
            identity::tls::Expect::digest(domain("west.mesh"), digest, identity::peer::RoleKind::Gateway);
        runtime.block_on(shake(server, client_config(None, &expect, &[b"meshfed/1"]))).1.is_ok()
    };
    let before = identity::bundle::digest(&west.bundle());
    west.publish(ca(), now_ms()).expect("published");
    let during = identity::bundle::digest(&west.bundle());
    for _ in 0..2 {
        assert!(joins(before, site(&west)) && joins(during, site(&west)));
        let _ = west.switch(now_ms());
    }
    west.retire(&nobody(), &[], false).expect("retired");
    assert!(!joins(before, site(&west)) && !joins(during, site(&west)));
    assert!(joins(identity::bundle::digest(&west.bundle()), site(&west)));
}
