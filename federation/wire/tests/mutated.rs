//! Valid messages after changes, and messages that make much of little: every decoder gives a value that can be told on,
//! or an error that says what is wrong; and a small message never becomes a large one.

mod arbitrary;
mod decoders;

use arbitrary::*;
use decoders::*;
use hostile::{any_bytes, changed, changes, is_readable, within};
use model::config::ConfigVersion;
use model::exchange::PeerMessage;
use model::node::{FederationMessage, NodeMessage};
use model::tunnel::Answer;
use proptest::prelude::*;
use prost::Message;
use wire::codec::{self, FIELDS_MAX};
use wire::convert::limits;
use wire::snapshot::{self, SnapshotError};
use wire::{frame, pb};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_message_or_a_readable_error(bytes in any_bytes()) {
        read_all(&bytes);
        read_snapshot(&sealed(&bytes));
    }

    #[test]
    fn a_changed_message_is_a_message_or_a_readable_error(
        valid in encoded(),
        other in encoded(),
        changes in changes(),
    ) {
        read_all(&changed(&valid, &other, &changes));
    }

    #[test]
    fn a_changed_snapshot_with_a_right_checksum_is_a_config_or_a_readable_error(
        version in config_version(),
        entries in config_entries(),
        other in encoded(),
        changes in changes(),
    ) {
        let file = snapshot::encode(version, &entries);
        let content = &file[8 + 2 + 8 + 32..];
        prop_assert_eq!(&sealed(content), &file);
        read_snapshot(&sealed(&changed(content, &other, &changes)));
    }

    #[test]
    fn a_changed_frame_keeps_to_the_bound_that_its_length_says(valid in header(), changes in changes()) {
        let whole = frame::encode_header(&valid).expect("short names");
        let bytes = changed(&whole, &whole, &changes);
        let Some((length, body)) = bytes.split_first_chunk() else { return Ok(()) };
        match frame::short_length(*length) {
            Ok(length) => {
                prop_assert!((1..=model::tunnel::HEADER_MAX).contains(&length));
                read_header(&body[..length.min(body.len())]);
            }
            Err(error) => is_readable(&error.to_string()),
        }
    }
}

/// Lists of empty elements within the outermost message, as long as `bytes`.
fn empties(envelope: u8, element: u8, bytes: usize) -> Vec<u8> {
    let mut list = Vec::with_capacity(bytes);
    while list.len() + 2 <= bytes {
        list.extend([element << 3 | 2, 0]);
    }
    let mut message = vec![envelope << 3 | 2];
    prost::encoding::encode_varint(list.len() as u64, &mut message);
    message.extend(list);
    message
}

#[test]
fn a_small_message_does_not_become_a_large_one_in_memory() {
    // The greatest message that a server takes of a peer, all of it entries without anything in them.
    let entries = empties(2, 5, 6 << 20);
    let error = codec::check(&entries).expect_err("three million entries");
    assert_eq!(error.bytes, entries.len());
    is_readable(&error.to_string());
    // Paths and streams of a node, entries of a config, and the outermost message itself.
    for (envelope, element) in [(3, 1), (7, 1), (1, 4)] {
        codec::check(&empties(envelope, element, 2 * (FIELDS_MAX + 1))).expect_err("too many");
    }
    codec::check(&[2 << 3 | 2, 0].repeat(FIELDS_MAX + 1)).expect_err("too many");
    // What is taken is bounded by the number of elements.
    let element = [size_of::<pb::Entry>(), size_of::<pb::ConfigEntry>(), size_of::<pb::PathReport>()];
    let most = element.into_iter().max().expect("some") * FIELDS_MAX;
    assert!(most <= 160 << 20, "{element:?}: {} MiB", most >> 20);
}

#[test]
fn the_greatest_list_that_is_taken_is_read() {
    let holds = ConfigVersion { incarnation: 1, revision: 1 };
    codec::check(&pb::NodeMessage::from(&NodeMessage::Ack(holds)).encode_to_vec()).expect("one");
    let entries = empties(2, 5, 2 * limits::ENTRIES_MAX);
    codec::check(&entries).expect("as many as a list has");
    let message = pb::PeerMessage::decode(entries.as_slice()).expect("a message");
    let error = PeerMessage::try_from(message).expect_err("empty entries");
    assert_eq!(error.field, "batch.entries[0].key");
    // Bytes are no elements, whatever they look like.
    let chunk = pb::Chunk { data: [0x0a, 0x00].repeat(wire::CHUNK_MAX / 2).into() };
    codec::check(&chunk.encode_to_vec()).expect("a chunk of full size");
}

#[test]
fn messages_within_messages_to_any_depth_end() {
    // Unknown fields are skipped; groups within groups are the only nesting that costs a reader its stack.
    for byte in [0x0b, 0x0a, 0x13, 0x7b] {
        let deep = vec![byte; 200_000];
        within("a deep message", move || {
            let _ = codec::check(&deep);
            assert!(pb::PeerMessage::decode(deep.as_slice()).is_err());
            assert!(pb::FederationMessage::decode(deep.as_slice()).is_err());
        });
    }
}

#[test]
fn the_longest_texts_of_a_peer_do_not_come_back_in_an_error() {
    let long = "\u{1b}[2J".repeat(100_000);
    let target = pb::open_carrier::Target::Peer(long.clone());
    let open = pb::OpenCarrier { carrier: 1, target: Some(target) };
    let message = pb::FederationMessage { message: Some(pb::federation_message::Message::OpenCarrier(open)) };
    let error = FederationMessage::try_from(message).expect_err("no name of a site");
    is_readable(&error.to_string());
    let accepted = pb::Accepted { endpoint: long, locality: String::new() };
    let answer = pb::Answer { answer: Some(pb::answer::Answer::Accepted(accepted)) };
    is_readable(&Answer::try_from(answer).expect_err("no id").to_string());
    assert!(matches!(snapshot::decode(b"meshfed\n"), Err(SnapshotError::Size { .. })));
}
