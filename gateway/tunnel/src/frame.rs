//! The length-prefixed header and answer of a stream, read so that an interrupted read loses nothing.

use crate::codes::StreamCode;
use bytes::Bytes;
use model::tunnel::HEADER_MAX;
use quinn::{ReadError, RecvStream};

/// Why no whole frame came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It says that it is longer than allowed. The peer broke the protocol.
    #[error("the frame has {length} bytes, at most {HEADER_MAX} are allowed")]
    Oversized {
        /// What its prefix says.
        length: usize,
    },
    /// The stream ended within it. The peer broke the protocol.
    #[error("the stream ended after {got} bytes of its first frame")]
    Truncated {
        /// Bytes that came, with the prefix.
        got: usize,
    },
    /// It was not complete in time. The peer is slow, or the path loses much.
    #[error("the first frame of the stream was not complete in time")]
    TimedOut,
    /// It is no message of this protocol.
    #[error("the frame cannot be understood")]
    Malformed(#[source] wire::frame::FrameError),
    /// The peer gave the stream up.
    #[error("the peer gave the stream up: {0}")]
    Reset(StreamCode),
    /// The connection is gone.
    #[error("the connection was lost")]
    Lost,
}

/// A frame, as far as it has been read.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// Prefix and body; at most `2 + HEADER_MAX` bytes.
    bytes: Vec<u8>,
}

impl FrameReader {
    /// Reads the body of one frame and not a byte more. May be dropped and called again.
    pub(crate) async fn read(&mut self, recv: &mut RecvStream) -> Result<Bytes, FrameError> {
        loop {
            let end = match self.bytes.first_chunk::<2>() {
                // Never 0 missing: the prefix is not there yet.
                None => 2,
                Some(prefix) => {
                    let length = usize::from(u16::from_be_bytes(*prefix));
                    if length > HEADER_MAX {
                        return Err(FrameError::Oversized { length });
                    }
                    2 + length
                }
            };
            let missing = end - self.bytes.len();
            if missing == 0 {
                return Ok(Bytes::from(std::mem::take(&mut self.bytes)).slice(2..));
            }
            match recv.read_chunk(missing, true).await {
                Ok(Some(chunk)) => self.bytes.extend_from_slice(&chunk.bytes),
                Ok(None) => return Err(FrameError::Truncated { got: self.bytes.len() }),
                Err(ReadError::Reset(code)) => return Err(FrameError::Reset(StreamCode::from_number(code))),
                Err(_) => return Err(FrameError::Lost),
            }
        }
    }
}
