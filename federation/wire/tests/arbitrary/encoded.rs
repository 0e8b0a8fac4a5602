//! Valid messages as bytes.

use super::*;
use model::node::NodeKind;
use model::tunnel::Probe;
use prost::Message;
use wire::enroll::*;
use wire::{pb, probe, snapshot};

/// Messages of `Enroll`, in all their kinds.
pub fn enrolment() -> impl Strategy<Value = Vec<u8>> {
    let bundle = (bundle(), site()).prop_map(|(bundle, mut site)| {
        site.trust_domain = bundle.trust_domain.clone();
        (bundle, site)
    });
    let ids = (any::<[u8; 16]>(), any::<[u8; 32]>());
    (ids, bundle, scope(), label(), locality(), vec(any::<u8>(), 1..60), 0_u8..5).prop_map(
        |((id, proof), (bundle, site), offer, name, locality, csr, which)| match which {
            0 => {
                let request =
                    JoinRequest { token: id, proof, csr, kind: NodeKind::Agent, name, tunnel_address: None };
                pb::JoinRequest::from(&request).encode_to_vec()
            }
            1 => {
                let reply = JoinReply { chain: vec![csr], bundle, site, locality, vip_range: None };
                pb::JoinReply::from(&reply).encode_to_vec()
            }
            2 => {
                let request = RedeemRequest { invite: id, proof, site, bundle, offer, confirm: true };
                pb::RedeemRequest::from(&request).encode_to_vec()
            }
            3 => pb::RedeemReply::from(&RedeemReply { site, bundle, offer, active: true }).encode_to_vec(),
            _ => pb::RenewReply::from(&RenewReply { chain: vec![csr] }).encode_to_vec(),
        },
    )
}

/// Any message of ours, as bytes. Boxed one by one: together they are too large for the stack of a test.
pub fn encoded() -> BoxedStrategy<Vec<u8>> {
    let probe =
        (1_u64.., any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(sequence, heard, held_us, n)| {
            let probe = Probe { sequence, heard, held_us, heard_count: n, draining: false, asks: true };
            probe::encode(&probe, 0).to_vec()
        });
    let snapshot = (config_version(), config_entries())
        .prop_map(|(version, entries)| snapshot::encode(version, &entries));
    prop_oneof![
        3 => peer_message().prop_map(|message| pb::PeerMessage::from(&message).encode_to_vec()).boxed(),
        2 => node_message().prop_map(|message| pb::NodeMessage::from(&message).encode_to_vec()).boxed(),
        2 => federation_message()
            .prop_map(|message| pb::FederationMessage::from(&message).encode_to_vec())
            .boxed(),
        3 => enrolment().boxed(),
        2 => header().prop_map(|header| pb::StreamHeader::from(&header).encode_to_vec()).boxed(),
        1 => answer().prop_map(|answer| pb::Answer::from(&answer).encode_to_vec()).boxed(),
        1 => views().prop_map(|views| pb::PeerViews::from(&views).encode_to_vec()).boxed(),
        1 => probe.boxed(),
        1 => snapshot.boxed(),
    ]
    .boxed()
}
