//! Decisions, and what is said on tunnel streams.

use super::*;
use model::decision::*;
use model::ids::StreamId;
use model::node::PeerViews;
use model::tunnel::*;

pub fn refusal() -> impl Strategy<Value = Refusal> {
    let code = prop_oneof![
        Just(RefusalCode::UnknownService),
        Just(RefusalCode::UnknownPort),
        Just(RefusalCode::Denied),
        Just(RefusalCode::NoEndpoint),
        Just(RefusalCode::EndpointFailed),
        Just(RefusalCode::NoPath),
        Just(RefusalCode::Draining),
        Just(RefusalCode::Overloaded),
        Just(RefusalCode::BadHeader),
        Just(RefusalCode::TooManyHops),
    ];
    (code, any::<bool>(), reason()).prop_map(|(code, retryable, detail)| Refusal { code, retryable, detail })
}

prop_compose! {
    fn group()(
        id in group_id(),
        healthy in any::<u32>(),
        total in any::<u32>(),
        capacity in any::<u64>(),
        peer in option::of(peer_state()),
        rtt in option::of(duration()),
        outliers in any::<u32>(),
    ) -> GroupReason {
        GroupReason { id, healthy, total, capacity, peer, rtt, outliers }
    }
}

prop_compose! {
    fn tier()(
        groups in vec(group(), 0..3),
        distance in proptest::sample::select(&distance::ALL[..]),
        healthy in any::<u32>(),
        total in any::<u32>(),
        share in 0.0_f64..=1.0,
        note in reason(),
    ) -> TierReason {
        TierReason { groups, distance, healthy, total, share, note }
    }
}

prop_compose! {
    fn why()(
        permit in reason(),
        tiers in vec(tier(), 0..3),
        chosen in option::of(any::<proptest::sample::Index>()),
        panic in any::<bool>(),
        isolated in any::<bool>(),
        pick in reason(),
    ) -> Reason {
        let chosen = chosen.filter(|_| !tiers.is_empty()).map(|at| at.index(tiers.len()));
        Reason { permit, tiers, chosen, panic, isolated, pick }
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        (group_id(), id()).prop_map(|(group, endpoint)| Verdict::Endpoint { group, endpoint }),
        group_id().prop_map(|group| Verdict::Site { group }),
        refusal().prop_map(Verdict::Refused),
    ]
}

prop_compose! {
    pub fn explanation()(
        node in reason(),
        locality in locality(),
        port in option::of(port_key()),
        verdict in verdict(),
        reason in why(),
        now in vec((id(), any::<u32>()), 0..3),
        then in option::of(tier()),
    ) -> Explanation {
        let decision = Decision { verdict, reason };
        Explanation { node, locality, port, decision, now, then: then.map(Box::new) }
    }
}

prop_compose! {
    pub fn explain_request()(
        service in service(),
        port in option::of(port_key()),
        caller in caller(),
        without in btree_set(label(), 0..4),
    ) -> ExplainRequest {
        ExplainRequest { service, port, caller, without }
    }
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        label().prop_map(Target::Site),
        (label(), locality()).prop_map(|(site, locality)| Target::Locality(site, locality)),
        (label(), id()).prop_map(|(site, endpoint)| Target::Endpoint(site, endpoint)),
    ]
}

prop_compose! {
    fn service_stream()(
        service in service(),
        port in port_key(),
        caller in caller(),
        target in target(),
        bytes_ahead in any::<bool>(),
    ) -> ServiceStream {
        ServiceStream { service, port, caller, target, bytes_ahead }
    }
}

pub fn header() -> impl Strategy<Value = StreamHeader> {
    let kind = prop_oneof![
        5 => service_stream().prop_map(StreamKind::Service),
        1 => Just(StreamKind::Federation),
        1 => Just(StreamKind::Config),
        1 => Just(StreamKind::Views),
    ];
    (kind, any::<[u8; 16]>(), any::<u8>(), "[ -~]{0,64}").prop_map(|(kind, stream, hops, traceparent)| {
        StreamHeader { kind, stream: StreamId(stream), hops, traceparent }
    })
}

pub fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        (id(), locality()).prop_map(|(endpoint, locality)| Answer::Accepted { endpoint, locality }),
        refusal().prop_map(Answer::Refused),
    ]
}

pub fn views() -> impl Strategy<Value = PeerViews> {
    (btree_map(label(), peer_view(), 0..5), any::<bool>())
        .prop_map(|(peers, draining)| PeerViews { peers: peers.into_iter().collect(), draining })
}
