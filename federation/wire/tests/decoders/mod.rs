//! What is asked of every decoder, whatever bytes it is given: a value that can be told on, or an error that can be read.
//! The fuzz targets ask the same.

#![allow(dead_code, reason = "each test file uses its part")]

use hostile::{chain, is_readable};
use model::exchange::PeerMessage;
use model::node::{FederationMessage, NodeMessage};
use model::tunnel::StreamHeader;
use prost::Message;
use std::fmt::Debug;
use wire::convert::{WireError, limits};
use wire::enroll::*;
use wire::{codec, frame, pb, probe, snapshot};

/// Reads bytes as a message. What was taken can be told on, and arrives as it was taken; an error can be read.
pub fn read<P, M>(bytes: &[u8]) -> Option<M>
where
    P: Message + Default + for<'a> From<&'a M>,
    M: TryFrom<P, Error = WireError> + PartialEq + Debug,
{
    codec::check(bytes).expect("these are few");
    let taken = match P::decode(bytes).ok().map(M::try_from)? {
        Ok(taken) => taken,
        Err(error) => {
            is_readable(&error.to_string());
            assert!(!error.field.is_empty(), "{error}");
            return None;
        }
    };
    let again = P::from(&taken).encode_to_vec();
    let again = P::decode(again.as_slice()).expect("own bytes");
    assert_eq!(M::try_from(again).as_ref(), Ok(&taken));
    Some(taken)
}

/// A header, without its length.
pub fn read_header(bytes: &[u8]) -> Option<StreamHeader> {
    match frame::decode_header(bytes) {
        Ok(header) => {
            // A header may be too long to be written again as it is written here; it was told in a shorter way then.
            if let Ok(again) = frame::encode_header(&header) {
                assert_eq!(frame::decode_header(&again[frame::SHORT_LENGTH..]).as_ref(), Ok(&header));
            }
            Some(header)
        }
        Err(error) => {
            is_readable(&chain(&error));
            None
        }
    }
}

/// An answer, without its length.
pub fn read_answer(bytes: &[u8]) {
    match frame::decode_answer(bytes) {
        Ok(answer) => {
            let again = frame::encode_answer(&answer);
            assert_eq!(frame::decode_answer(&again[frame::SHORT_LENGTH..]), Ok(answer));
        }
        Err(error) => is_readable(&chain(&error)),
    }
}

/// Peer views, without their length.
pub fn read_views(bytes: &[u8]) {
    match frame::decode_views(bytes) {
        Ok(views) => assert!(views.peers.len() <= limits::SITES_MAX),
        Err(error) => is_readable(&chain(&error)),
    }
}

/// A datagram.
pub fn read_probe(bytes: &[u8]) {
    match probe::decode(bytes) {
        Ok(probe) => assert_eq!(probe::decode(&probe::encode(&probe, bytes.len())), Ok(probe)),
        Err(error) => is_readable(&error.to_string()),
    }
}

/// The config of a node as a file.
pub fn read_snapshot(bytes: &[u8]) {
    match snapshot::decode(bytes) {
        Ok(taken) => {
            let again = snapshot::encode(taken.version, &taken.entries);
            assert_eq!(snapshot::decode(&again), Ok(taken));
        }
        Err(error) => is_readable(&chain(&error)),
    }
}

/// What strangers and nodes say to join, link and renew, and the answers to it.
pub fn read_enrolment(bytes: &[u8]) {
    read::<pb::JoinRequest, JoinRequest>(bytes);
    read::<pb::JoinReply, JoinReply>(bytes);
    read::<pb::RedeemRequest, RedeemRequest>(bytes);
    read::<pb::RedeemReply, RedeemReply>(bytes);
    read::<pb::RenewRequest, RenewRequest>(bytes);
    read::<pb::RenewReply, RenewReply>(bytes);
}

/// Bytes of a peer, whatever they are meant to be.
pub fn read_all(bytes: &[u8]) {
    read::<pb::PeerMessage, PeerMessage>(bytes);
    read::<pb::NodeMessage, NodeMessage>(bytes);
    read::<pb::FederationMessage, FederationMessage>(bytes);
    read_enrolment(bytes);
    read_header(bytes);
    read_answer(bytes);
    read_views(bytes);
    read_probe(bytes);
    read_snapshot(bytes);
}

/// A snapshot whose head fits its content, so that the content is looked at.
pub fn sealed(content: &[u8]) -> Vec<u8> {
    let sum = ring::digest::digest(&ring::digest::SHA256, content);
    let length = (content.len() as u64).to_be_bytes();
    [b"meshfed\n", &1_u16.to_be_bytes()[..], &length, sum.as_ref(), content].concat()
}
