//! Whatever the model can say arrives as it was said, over real bytes.

mod arbitrary;

use arbitrary::*;
use model::config::VipRange;
use model::exchange::PeerMessage;
use model::node::{FederationMessage, NodeKind, NodeMessage};
use model::tunnel::Probe;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use wire::convert::WireError;
use wire::enroll::*;
use wire::{frame, pb, probe, snapshot};

/// Through a message's bytes and back.
fn travel<P, M>(value: &M) -> Result<M, WireError>
where
    P: Message + Default + for<'a> From<&'a M>,
    M: TryFrom<P, Error = WireError>,
{
    let bytes = P::from(value).encode_to_vec();
    P::decode(bytes.as_slice()).expect("own bytes").try_into()
}

prop_compose! {
    fn join_reply()(
        chain in vec(vec(any::<u8>(), 1..50), 1..4),
        bundle in bundle(),
        site in site(),
        locality in locality(),
        second in option::of(64_u8..128),
    ) -> JoinReply {
        let trust_domain = bundle.trust_domain.clone();
        let vip_range = second.map(|second| VipRange { base: [127, second, 0, 0].into() });
        JoinReply { chain, bundle, site: model::catalog::SiteInfo { trust_domain, ..site }, locality, vip_range }
    }
}

prop_compose! {
    fn redeem()(
        invite in any::<[u8; 16]>(),
        proof in any::<[u8; 32]>(),
        site in site(),
        bundle in bundle(),
        offer in scope(),
        confirm in any::<bool>(),
    ) -> RedeemRequest {
        let trust_domain = bundle.trust_domain.clone();
        RedeemRequest { invite, proof, site: model::catalog::SiteInfo { trust_domain, ..site }, bundle, offer, confirm }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_peer_message(message in peer_message()) {
        prop_assert_eq!(travel::<pb::PeerMessage, PeerMessage>(&message), Ok(message));
    }

    #[test]
    fn a_node_message(message in node_message()) {
        prop_assert_eq!(travel::<pb::NodeMessage, NodeMessage>(&message), Ok(message));
    }

    #[test]
    fn a_federation_message(message in federation_message()) {
        prop_assert_eq!(travel::<pb::FederationMessage, FederationMessage>(&message), Ok(message));
    }

    #[test]
    fn a_header(header in header()) {
        let bytes = frame::encode_header(&header).expect("names of these lengths fit");
        let (length, body) = bytes.split_first_chunk().expect("a length");
        prop_assert_eq!(frame::short_length(*length), Ok(body.len()));
        prop_assert_eq!(frame::decode_header(body), Ok(header));
    }

    #[test]
    fn an_answer(answer in answer()) {
        let bytes = frame::encode_answer(&answer);
        let (length, body) = bytes.split_first_chunk().expect("a length");
        prop_assert_eq!(frame::short_length(*length), Ok(body.len()));
        prop_assert_eq!(frame::decode_answer(body), Ok(answer));
    }

    #[test]
    fn peer_views(views in views()) {
        let bytes = frame::encode_views(&views).expect("they fit");
        let (length, body) = bytes.split_first_chunk().expect("a length");
        prop_assert_eq!(frame::views_length(*length), Ok(body.len()));
        prop_assert_eq!(frame::decode_views(body), Ok(views));
    }

    #[test]
    fn a_probe(
        sequence in 1..=u64::MAX,
        heard in any::<u64>(),
        held_us in any::<u32>(),
        heard_count in any::<u64>(),
        draining in any::<bool>(),
        asks in any::<bool>(),
        size in 0_usize..1500,
    ) {
        let sent = Probe { sequence, heard, held_us, heard_count, draining, asks };
        prop_assert_eq!(probe::decode(&probe::encode(&sent, size)), Ok(sent));
    }

    #[test]
    fn a_snapshot(version in config_version(), entries in config_entries()) {
        let file = snapshot::encode(version, &entries);
        prop_assert_eq!(snapshot::decode(&file), Ok(snapshot::Snapshot { version, entries }));
    }

    #[test]
    fn a_join(
        token in any::<[u8; 16]>(),
        proof in any::<[u8; 32]>(),
        csr in vec(any::<u8>(), 1..200),
        agent in any::<bool>(),
        name in label(),
        tunnel_address in option::of(socket()),
        reply in join_reply(),
    ) {
        let kind = if agent { NodeKind::Agent } else { NodeKind::Gateway };
        let renew = RenewRequest { csr: csr.clone() };
        let request = JoinRequest { token, proof, csr, kind, name, tunnel_address };
        prop_assert_eq!(travel::<pb::JoinRequest, JoinRequest>(&request), Ok(request));
        prop_assert_eq!(travel::<pb::RenewRequest, RenewRequest>(&renew), Ok(renew));
        let renewed = RenewReply { chain: reply.chain.clone() };
        prop_assert_eq!(travel::<pb::RenewReply, RenewReply>(&renewed), Ok(renewed));
        prop_assert_eq!(travel::<pb::JoinReply, JoinReply>(&reply), Ok(reply));
    }

    #[test]
    fn a_redemption(request in redeem()) {
        let RedeemRequest { site, bundle, offer, confirm, .. } = request.clone();
        let reply = RedeemReply { site, bundle, offer, active: confirm };
        prop_assert_eq!(travel::<pb::RedeemReply, RedeemReply>(&reply), Ok(reply));
        prop_assert_eq!(travel::<pb::RedeemRequest, RedeemRequest>(&request), Ok(request));
    }
}

/// Messages as an older release knows them.
#[derive(Clone, PartialEq, Message)]
struct OlderPeerMessage {
    #[prost(message, optional, tag = "7")]
    keep_alive: Option<OlderKeepAlive>,
}

#[derive(Clone, PartialEq, Message)]
struct OlderKeepAlive {}

#[test]
fn a_peer_that_knows_nothing_of_roots_hears_that_the_other_is_alive_and_is_heard_as_before() {
    let bundle = model::identity::Bundle {
        trust_domain: "east.mesh".parse().expect("valid"),
        sequence: 2,
        anchors: vec![vec![1], vec![2]],
    };
    let trust = PeerMessage::Trust { bundle, vouchers: vec![vec![3]], holds: 7 };
    let bytes = pb::PeerMessage::from(&trust).encode_to_vec();
    let heard = OlderPeerMessage::decode(bytes.as_slice()).expect("it leaves out what it does not know");
    assert_eq!(heard.keep_alive, Some(OlderKeepAlive {}));
    let bytes = heard.encode_to_vec();
    let said = pb::PeerMessage::decode(bytes.as_slice()).expect("well formed").try_into();
    assert_eq!(said, Ok(PeerMessage::KeepAlive));
}
