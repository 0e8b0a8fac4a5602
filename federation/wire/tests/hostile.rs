//! Whatever bytes come, the answer is a value or an error that names the field; never a panic.

mod arbitrary;

use arbitrary::*;
use model::exchange::PeerMessage;
use model::node::{FederationMessage, NodeMessage};
use model::tunnel::{Answer, HEADER_MAX, StreamHeader};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use wire::convert::{Cause, WireError, limits};
use wire::enroll::*;
use wire::frame::{self, FrameError};
use wire::snapshot::{self, SnapshotError};
use wire::{pb, probe};

fn read<P: Message + Default, M: TryFrom<P, Error = WireError>>(
    bytes: &[u8],
) -> Option<Result<M, WireError>> {
    P::decode(bytes).ok().map(M::try_from)
}

fn read_all(bytes: &[u8]) {
    let _ = read::<pb::PeerMessage, PeerMessage>(bytes);
    let _ = read::<pb::NodeMessage, NodeMessage>(bytes);
    let _ = read::<pb::FederationMessage, FederationMessage>(bytes);
    let _ = read::<pb::JoinRequest, JoinRequest>(bytes);
    let _ = read::<pb::JoinReply, JoinReply>(bytes);
    let _ = read::<pb::RedeemRequest, RedeemRequest>(bytes);
    let _ = read::<pb::RedeemReply, RedeemReply>(bytes);
    let _ = read::<pb::RenewRequest, RenewRequest>(bytes);
    let _ = read::<pb::RenewReply, RenewReply>(bytes);
    let _ = frame::decode_header(bytes);
    let _ = frame::decode_answer(bytes);
    let _ = frame::decode_views(bytes);
    let _ = probe::decode(bytes);
    let _ = snapshot::decode(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Bytes that are nearly right reach deeper than random ones.
    #[test]
    fn changed_bytes_of_a_message_never_panic(
        peer in peer_message(),
        node in node_message(),
        federation in federation_message(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        for mut bytes in [
            pb::PeerMessage::from(&peer).encode_to_vec(),
            pb::NodeMessage::from(&node).encode_to_vec(),
            pb::FederationMessage::from(&federation).encode_to_vec(),
        ] {
            if bytes.is_empty() {
                continue;
            }
            read_all(&bytes[..cut.index(bytes.len())]);
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
                read_all(&bytes);
            }
        }
    }

    /// What is taken from a peer keeps the promises of the model, so it can be told on.
    #[test]
    fn what_was_taken_can_be_sent_again(message in peer_message(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = pb::PeerMessage::from(&message).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Some(Ok(taken)) = read::<pb::PeerMessage, PeerMessage>(&bytes) {
            let again = pb::PeerMessage::from(&taken).encode_to_vec();
            prop_assert_eq!(read::<pb::PeerMessage, PeerMessage>(&again), Some(Ok(taken)));
        }
    }

    #[test]
    fn a_damaged_snapshot_is_found(
        version in config_version(),
        entries in config_entries(),
        at in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let mut file = snapshot::encode(version, &entries);
        let at = at.index(file.len());
        prop_assert!(snapshot::decode(&file[..at]).is_err());
        file[at] ^= 1 << bit;
        prop_assert!(snapshot::decode(&file).is_err());
        file[at] ^= 1 << bit;
        file.push(0);
        let longer = matches!(snapshot::decode(&file), Err(SnapshotError::Size { .. }));
        prop_assert!(longer);
    }
}

#[test]
fn a_snapshot_of_another_format_says_so() {
    let mut file = snapshot::encode(model::config::ConfigVersion { incarnation: 1, revision: 1 }, &[]);
    file[9] = 2;
    assert_eq!(snapshot::decode(&file), Err(SnapshotError::Format(2)));
    assert_eq!(snapshot::decode(b"{}"), Err(SnapshotError::NotOne));
    assert_eq!(snapshot::decode(b""), Err(SnapshotError::NotOne));
}

#[test]
fn frames_have_bounds() {
    assert!(matches!(frame::short_length([0, 0]), Err(FrameError::Length { found: 0, .. })));
    assert_eq!(frame::short_length([4, 0]), Ok(HEADER_MAX));
    assert!(matches!(frame::short_length([4, 1]), Err(FrameError::Length { found: 1025, .. })));
    assert_eq!(frame::views_length([0; 4]), Ok(0));
    assert!(frame::views_length([255; 4]).is_err());
    assert!(frame::decode_header(&[0; HEADER_MAX + 1]).is_err());
    let Err(FrameError::Content { source, .. }) = frame::decode_header(&[255]) else { panic!("no header") };
    assert!(source.to_string().starts_with("the bytes are not such a message"), "{source}");
}

#[test]
fn a_header_that_does_not_fit_is_an_error_of_its_sender() {
    let label = "x".repeat(63);
    let domain = "d".repeat(255);
    let place = format!("{label}/{label}/{label}");
    let caller = model::routing::Caller {
        identity: Some(format!("spiffe://{domain}/ns/{label}/sa/{label}").parse().expect("valid")),
        proof: model::identity::Proof::Mtls,
        site: label.parse().expect("valid"),
        locality: place.parse().expect("valid"),
        affinity: Some(1),
    };
    let stream = model::tunnel::ServiceStream {
        service: format!("{label}/{label}").parse().expect("valid"),
        port: model::service::PortKey::tcp(1),
        caller,
        target: model::tunnel::Target::Locality(label.parse().expect("valid"), place.parse().expect("valid")),
        bytes_ahead: false,
    };
    let header = StreamHeader {
        kind: model::tunnel::StreamKind::Service(stream),
        stream: model::ids::StreamId([0; 16]),
        hops: 0,
        traceparent: "t".repeat(64),
    };
    assert!(matches!(frame::encode_header(&header), Err(FrameError::Length { max: HEADER_MAX, .. })));
}

#[test]
fn the_longest_answer_fits() {
    let refusal = model::decision::Refusal {
        code: model::decision::RefusalCode::Denied,
        retryable: true,
        detail: "😀".repeat(300),
    };
    let bytes = frame::encode_answer(&Answer::Refused(refusal));
    let Ok(Answer::Refused(refusal)) = frame::decode_answer(&bytes[2..]) else { panic!("refused") };
    assert_eq!(refusal.detail.chars().count(), limits::REASON_MAX, "it was cut");
}

fn endpoint() -> pb::Endpoint {
    pb::Endpoint {
        id: "vm-1".into(),
        network: "default".into(),
        weight: 1,
        health: 1,
        reach: Some(pb::endpoint::Reach::Direct("10.0.0.1".into())),
        ..Default::default()
    }
}

fn refused(change: impl FnOnce(&mut pb::Endpoint)) -> WireError {
    let mut endpoint = endpoint();
    change(&mut endpoint);
    model::endpoint::Endpoint::try_from(endpoint).expect_err("refused")
}

#[test]
fn every_rule_of_an_endpoint_names_its_field() {
    assert!(model::endpoint::Endpoint::try_from(endpoint()).is_ok());
    let port = |number| pb::TargetPort { key: Some(pb::PortKey { protocol: 1, number }), target: 1 };
    for (field, error) in [
        ("id", refused(|e| e.id = "a b".into())),
        ("locality", refused(|e| e.locality = "eu/".into())),
        ("network", refused(|e| e.network = String::new())),
        ("subset", refused(|e| e.subset = "x".repeat(64))),
        ("subset", refused(|e| e.subset = "\u{1b}[2J".into())),
        ("weight", refused(|e| e.weight = 0)),
        ("weight", refused(|e| e.weight = 1001)),
        ("health", refused(|e| e.health = 0)),
        ("health", refused(|e| e.health = 99)),
        ("reach", refused(|e| e.reach = None)),
        ("direct", refused(|e| e.reach = Some(pb::endpoint::Reach::Direct("vm".into())))),
        ("agent", refused(|e| e.reach = Some(pb::endpoint::Reach::Agent("VM".into())))),
        ("ports[0].key.number", refused(|e| e.ports = vec![port(0)])),
        ("ports[0].key.number", refused(|e| e.ports = vec![port(65_536)])),
        ("ports[1]", refused(|e| e.ports = vec![port(2), port(1)])),
        ("ports[1]", refused(|e| e.ports = vec![port(1), port(1)])),
        ("ports", refused(|e| e.ports = vec![port(1); 65])),
        ("hostname", refused(|e| e.hostname = "-".into())),
    ] {
        assert_eq!(error.field, field, "{error}");
    }
}

fn entry(service: &str, value: Option<pb::entry::Value>) -> pb::Entry {
    let name = pb::ServiceName { namespace: "shop".into(), name: service.into() };
    pb::Entry { key: Some(pb::EntryKey { key: Some(pb::entry_key::Key::Export(name)) }), value }
}

fn batch(entries: Vec<pb::Entry>) -> WireError {
    let version = Some(pb::Version { epoch: 1, revision: 1 });
    let batch = pb::Batch { base: version, version, snapshot: false, complete: true, entries };
    let message = pb::PeerMessage { message: Some(pb::peer_message::Message::Batch(batch)) };
    PeerMessage::try_from(message).expect_err("refused")
}

#[test]
fn a_value_belongs_to_its_key_and_keys_are_ordered() {
    let error = batch(vec![entry("a", None), entry("b", Some(pb::entry::Value::Endpoint(endpoint())))]);
    assert_eq!(error.field, "batch.entries[1].value");
    assert_eq!(batch(vec![entry("b", None), entry("a", None)]).field, "batch.entries[1]");
    assert_eq!(batch(vec![entry("a", None), entry("a", None)]).field, "batch.entries[1]");
    let nameless = pb::Entry { key: None, value: None };
    assert_eq!(batch(vec![nameless]), WireError::new("batch.entries[0].key", Cause::Missing));
}

#[test]
fn a_group_cannot_have_more_healthy_endpoints_than_endpoints() {
    let summary = |healthy, total, capacity| {
        let group = pb::GroupSummary { healthy, total, capacity };
        model::catalog::GroupSummary::try_from(group).map_err(|error| error.field)
    };
    assert!(summary(1, 2, 1000).is_ok());
    assert_eq!(summary(3, 2, 0), Err("healthy".to_owned()));
    assert_eq!(summary(1, 2, 1001), Err("capacity".to_owned()));
    assert_eq!(summary(1, u32::MAX, 1), Err("total".to_owned()));
}

#[test]
fn a_site_cannot_bring_the_bundle_of_another() {
    let site = pb::SiteInfo {
        id: "east".into(),
        uid: vec![0; 16],
        trust_domain: "east.mesh".into(),
        clusterset: "meshfed".into(),
        ..Default::default()
    };
    let bundle = pb::Bundle { trust_domain: "west.mesh".into(), sequence: 1, anchors: vec![vec![1]] };
    let request = pb::RedeemRequest {
        invite: vec![0; 16],
        proof: vec![0; 32],
        site: Some(site),
        bundle: Some(bundle),
        offer: Some(pb::Scope { all: true, ..Default::default() }),
        confirm: false,
    };
    assert_eq!(RedeemRequest::try_from(request).expect_err("refused").field, "bundle.trust_domain");
}

#[test]
fn an_error_does_not_repeat_what_a_peer_sent_at_length() {
    let error = refused(|e| e.id = "ä".repeat(100_000));
    assert!(error.to_string().len() < 400);
    let error = refused(|e| e.reach = Some(pb::endpoint::Reach::Direct("y".repeat(100_000))));
    assert!(error.to_string().len() < 400);
}
