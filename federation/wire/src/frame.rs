//! Headers, answers and peer views as they stand on a stream: a length, then the message.
//!
//! `StreamHeader` and `Answer` follow two bytes of length, big endian; `PeerViews` follow four. The shells read the
//! length, check it with [`short_length`] or [`views_length`], read that many bytes, and decode them.

use crate::convert::{Cause, WireError};
use crate::pb;
use model::node::PeerViews;
use model::tunnel::{Answer, HEADER_MAX, StreamHeader};
use prost::Message;

/// Bytes of the length before a header or an answer.
pub const SHORT_LENGTH: usize = 2;
/// Bytes of the length before peer views.
pub const VIEWS_LENGTH: usize = 4;
/// Longest peer views on the wire: 1 024 sites with names of full length.
pub const VIEWS_MAX: usize = 128 * 1024;

/// Why a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its length is zero, or beyond the bound.
    #[error("a {what} of {found} bytes is not taken: it has 1 to {max}")]
    Length {
        /// What it should be.
        what: &'static str,
        /// As announced, or as it would be.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Its content breaks the rules.
    #[error("a {what} breaks its rules")]
    Content {
        /// What it should be.
        what: &'static str,
        /// How.
        source: WireError,
    },
}

/// A header with its length before it.
///
/// # Errors
/// It is longer than [`HEADER_MAX`]; only names of extreme length make it so.
pub fn encode_header(header: &StreamHeader) -> Result<Vec<u8>, FrameError> {
    short("stream header", &pb::StreamHeader::from(header))
}

/// Reads a header, without its length.
///
/// # Errors
/// The bytes are no header, or it breaks a rule.
pub fn decode_header(body: &[u8]) -> Result<StreamHeader, FrameError> {
    decode::<pb::StreamHeader, _>("stream header", body, HEADER_MAX)
}

/// An answer with its length before it. It always fits.
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    // At worst 800 bytes of detail, or an id of 128 with a locality of 191.
    short("answer", &pb::Answer::from(answer)).expect("an answer is shorter than the bound")
}

/// Reads an answer, without its length.
///
/// # Errors
/// The bytes are no answer, or it breaks a rule.
pub fn decode_answer(body: &[u8]) -> Result<Answer, FrameError> {
    decode::<pb::Answer, _>("answer", body, HEADER_MAX)
}

/// Checks the length before a header or an answer.
///
/// # Errors
/// It is zero or over [`HEADER_MAX`].
pub fn short_length(bytes: [u8; SHORT_LENGTH]) -> Result<usize, FrameError> {
    length("header or answer", u16::from_be_bytes(bytes).into(), HEADER_MAX)
}

/// Peer views with their length before them.
///
/// # Errors
/// They are longer than [`VIEWS_MAX`].
pub fn encode_views(views: &PeerViews) -> Result<Vec<u8>, FrameError> {
    let message = pb::PeerViews::from(views);
    let found = message.encoded_len();
    if found > VIEWS_MAX {
        return Err(FrameError::Length { what: "peer views", found, max: VIEWS_MAX });
    }
    let mut frame = Vec::with_capacity(VIEWS_LENGTH + found);
    frame.extend((found as u32).to_be_bytes());
    frame.extend(message.encode_to_vec());
    Ok(frame)
}

/// Reads peer views, without their length.
///
/// # Errors
/// The bytes are no peer views, or they break a rule.
pub fn decode_views(body: &[u8]) -> Result<PeerViews, FrameError> {
    decode::<pb::PeerViews, _>("peer views", body, VIEWS_MAX)
}

/// Checks the length before peer views. Zero is a length: no site is linked.
///
/// # Errors
/// It is over [`VIEWS_MAX`].
pub fn views_length(bytes: [u8; VIEWS_LENGTH]) -> Result<usize, FrameError> {
    let found = u32::from_be_bytes(bytes) as usize;
    if found > VIEWS_MAX {
        return Err(FrameError::Length { what: "peer views", found, max: VIEWS_MAX });
    }
    Ok(found)
}

fn length(what: &'static str, found: usize, max: usize) -> Result<usize, FrameError> {
    if found == 0 || found > max {
        return Err(FrameError::Length { what, found, max });
    }
    Ok(found)
}

fn short(what: &'static str, message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let found = length(what, message.encoded_len(), HEADER_MAX)?;
    let mut frame = Vec::with_capacity(SHORT_LENGTH + found);
    frame.extend((found as u16).to_be_bytes());
    frame.extend(message.encode_to_vec());
    Ok(frame)
}

fn decode<P, M>(what: &'static str, body: &[u8], max: usize) -> Result<M, FrameError>
where
    P: Message + Default,
    M: TryFrom<P, Error = WireError>,
{
    if body.len() > max {
        return Err(FrameError::Length { what, found: body.len(), max });
    }
    let bad = |error: prost::DecodeError| WireError::new("", Cause::Bytes(error.to_string()));
    let decoded = P::decode(body).map_err(bad).and_then(M::try_from);
    decoded.map_err(|source| FrameError::Content { what, source })
}
