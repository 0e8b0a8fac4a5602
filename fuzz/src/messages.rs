//! Messages on the wire, and the config of a node on disk.

#[path = "../../federation/wire/tests/arbitrary/mod.rs"]
mod arbitrary;
#[path = "../../federation/wire/tests/decoders/mod.rs"]
mod decoders;

use crate::some;
use arbitrary::*;
use decoders::*;
use model::exchange::PeerMessage;
use model::node::{FederationMessage, NodeMessage};
use prost::Message;
use wire::enroll::*;
use wire::{codec, pb};

const SEEDS: usize = 60;

pub fn frame(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    match which % 3 {
        0 => drop(read_header(body)),
        1 => read_answer(body),
        _ => read_views(body),
    }
}

pub fn frame_seeds() -> Vec<Vec<u8>> {
    let with = |which: u8, body: Vec<u8>| [vec![which], body].concat();
    let headers =
        some(SEEDS, header()).into_iter().map(|of| with(0, pb::StreamHeader::from(&of).encode_to_vec()));
    let answers = some(SEEDS, answer()).into_iter().map(|of| with(1, pb::Answer::from(&of).encode_to_vec()));
    let views = some(SEEDS, views()).into_iter().map(|of| with(2, pb::PeerViews::from(&of).encode_to_vec()));
    headers.chain(answers).chain(views).collect()
}

pub fn probe(bytes: &[u8]) {
    read_probe(bytes);
}

pub fn probe_seeds() -> Vec<Vec<u8>> {
    let probe = model::tunnel::Probe {
        sequence: 1,
        heard: 2,
        held_us: 3,
        heard_count: 4,
        draining: true,
        asks: true,
    };
    vec![wire::probe::encode(&probe, 0).to_vec(), wire::probe::encode(&probe, 100).to_vec()]
}

/// Whether a message would come as far as its conversion.
fn passes(bytes: &[u8]) -> bool {
    codec::check(bytes).is_ok()
}

pub fn peer_message(bytes: &[u8]) {
    if passes(bytes) {
        read::<pb::PeerMessage, PeerMessage>(bytes);
    }
}

pub fn peer_message_seeds() -> Vec<Vec<u8>> {
    some(2 * SEEDS, self::arbitrary::peer_message())
        .iter()
        .map(|of| pb::PeerMessage::from(of).encode_to_vec())
        .collect()
}

pub fn node_message(bytes: &[u8]) {
    if passes(bytes) {
        read::<pb::NodeMessage, NodeMessage>(bytes);
    }
}

pub fn node_message_seeds() -> Vec<Vec<u8>> {
    some(2 * SEEDS, self::arbitrary::node_message())
        .iter()
        .map(|of| pb::NodeMessage::from(of).encode_to_vec())
        .collect()
}

pub fn federation_message(bytes: &[u8]) {
    if passes(bytes) {
        read::<pb::FederationMessage, FederationMessage>(bytes);
    }
}

pub fn federation_message_seeds() -> Vec<Vec<u8>> {
    some(2 * SEEDS, self::arbitrary::federation_message())
        .iter()
        .map(|of| pb::FederationMessage::from(of).encode_to_vec())
        .collect()
}

pub fn enrol(bytes: &[u8]) {
    if !passes(bytes) {
        return;
    }
    read_enrolment(bytes);
}

pub fn enrol_seeds() -> Vec<Vec<u8>> {
    some(2 * SEEDS, enrolment())
}

/// A file as it is, and one whose head fits its content.
pub fn snapshot(bytes: &[u8]) {
    read_snapshot(bytes);
    read_snapshot(&sealed(bytes));
}

pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    let files: Vec<Vec<u8>> = some(SEEDS, (config_version(), config_entries()))
        .into_iter()
        .map(|(version, entries)| wire::snapshot::encode(version, &entries))
        .collect();
    let contents = files.iter().map(|file| file[8 + 2 + 8 + 32..].to_vec());
    contents.chain(files.iter().cloned()).collect()
}
