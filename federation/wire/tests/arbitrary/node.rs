//! Messages between nodes and their federation.

use super::*;
use model::node::*;

pub fn source_event() -> impl Strategy<Value = SourceEvent> {
    let instance = || {
        (service(), spec(), endpoint()).prop_map(|(service, spec, endpoint)| Instance {
            service,
            spec,
            endpoint,
        })
    };
    let change = prop_oneof![
        Just(SourceChange::Init),
        instance().prop_map(SourceChange::InitApply),
        Just(SourceChange::InitDone),
        instance().prop_map(SourceChange::Apply),
        (service(), id()).prop_map(|(service, id)| SourceChange::Delete(service, id)),
        Just(SourceChange::Renew),
    ];
    (any::<u64>(), change).prop_map(|(sequence, change)| SourceEvent { sequence, change })
}

prop_compose! {
    fn path()(
        site in label(),
        gateway in label(),
        address in socket(),
        state in prop_oneof![
            Just(PathState::Dialling), Just(PathState::Live), Just(PathState::Suspect), Just(PathState::Dead),
            Just(PathState::Draining),
        ],
        rtt in option::of(duration()),
        loss_permille in 0_u32..=1000,
        streams in any::<u32>(),
        mtu in option::of(1_u16..),
        problem in reason(),
    ) -> PathReport {
        PathReport { site, gateway, address, state, rtt, loss_permille, streams, mtu, problem }
    }
}

pub fn node_message() -> impl Strategy<Value = NodeMessage> {
    let kind = prop_oneof![Just(NodeKind::Gateway), Just(NodeKind::Agent)];
    let hello = (kind, option::of(config_version()), option::of(socket()), option::of(locality())).prop_map(
        |(kind, holds, tunnel_address, locality)| NodeMessage::Hello {
            kind,
            holds,
            tunnel_address,
            locality,
        },
    );
    prop_oneof![
        hello,
        config_version().prop_map(NodeMessage::Ack),
        vec(path(), 0..4).prop_map(NodeMessage::Paths),
        source_event().prop_map(NodeMessage::Source),
        (any::<u64>(), reason()).prop_map(|(carrier, reason)| NodeMessage::CarrierFailed { carrier, reason }),
        (any::<u64>(), explanation())
            .prop_map(|(id, of)| NodeMessage::Explained { id, explanation: Box::new(of) }),
        vec((service(), label(), any::<u32>()), 0..4).prop_map(|open| NodeMessage::Streams { open }),
        vec(reason(), 0..4).prop_map(NodeMessage::Problems),
        (reason(), reason()).prop_map(|(what, why)| NodeMessage::Event(NodeEvent { what, why })),
        Just(NodeMessage::Leaving),
    ]
}

pub fn federation_message() -> impl Strategy<Value = FederationMessage> {
    let invite = (vec(socket(), 1..4), bundle()).prop_map(|(addresses, bundle)| CarrierTarget::Invite {
        addresses,
        trust_domain: bundle.trust_domain,
        anchors: bundle.anchors,
    });
    let target = prop_oneof![label().prop_map(CarrierTarget::Peer), invite];
    prop_oneof![
        config_update().prop_map(FederationMessage::Config),
        (any::<u64>(), target)
            .prop_map(|(carrier, target)| FederationMessage::OpenCarrier { carrier, target }),
        (any::<u64>(), explain_request())
            .prop_map(|(id, request)| FederationMessage::Explain { id, request }),
        (any::<u64>(), option::of(reason()))
            .prop_map(|(sequence, refused)| FederationMessage::SourceTaken { sequence, refused }),
        any::<bool>().prop_map(FederationMessage::Drain),
    ]
}
