//! Datagrams of the tunnel.
//!
//! The first byte is the kind. A probe has kind 1 and a fixed size of 30 bytes, numbers big endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | kind: 1 |
//! | 1 | flags: bit 0 draining, bit 1 asks; the others are 0, and ignored |
//! | 2..10 | sequence |
//! | 10..18 | heard |
//! | 18..22 | held, in microseconds |
//! | 22..30 | count of all heard |
//!
//! Anything behind it is padding, of any content.

use bytes::Bytes;
use model::tunnel::Probe;

/// First byte of a probe.
pub const KIND_PROBE: u8 = 1;
/// Size of a probe without padding.
pub const PROBE_SIZE: usize = 30;

const FLAG_DRAINING: u8 = 1;
const FLAG_ASKS: u8 = 2;

/// Why a datagram is no probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It has no bytes, or too few for its kind.
    #[error("a datagram of {0} bytes is too short for a probe")]
    Short(usize),
    /// Of a kind that is not known here; a newer peer may send it, so it is ignored and not an offence.
    #[error("a datagram of kind {0} is not known")]
    Kind(u8),
    /// Sequences begin at 1.
    #[error("a probe has sequence 0")]
    Sequence,
}

/// Writes a probe, padded with zeroes up to `size` bytes; never shorter than [`PROBE_SIZE`].
pub fn encode(probe: &Probe, size: usize) -> Bytes {
    let mut datagram = Vec::with_capacity(size.max(PROBE_SIZE));
    datagram.push(KIND_PROBE);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    datagram.push(flag(probe.draining, FLAG_DRAINING) | flag(probe.asks, FLAG_ASKS));
    datagram.extend(probe.sequence.to_be_bytes());
    datagram.extend(probe.heard.to_be_bytes());
    datagram.extend(probe.held_us.to_be_bytes());
    datagram.extend(probe.heard_count.to_be_bytes());
    datagram.resize(size.max(PROBE_SIZE), 0);
    datagram.into()
}

/// Reads a probe.
///
/// # Errors
/// It is of another kind, or too short.
pub fn decode(datagram: &[u8]) -> Result<Probe, ProbeError> {
    let short = ProbeError::Short(datagram.len());
    let (kind, rest) = datagram.split_first().ok_or(short)?;
    if *kind != KIND_PROBE {
        return Err(ProbeError::Kind(*kind));
    }
    let (flags, rest) = rest.split_first().ok_or(short)?;
    let (sequence, rest) = rest.split_first_chunk().ok_or(short)?;
    let (heard, rest) = rest.split_first_chunk().ok_or(short)?;
    let (held_us, rest) = rest.split_first_chunk().ok_or(short)?;
    let (heard_count, _padding) = rest.split_first_chunk().ok_or(short)?;
    let sequence = u64::from_be_bytes(*sequence);
    if sequence == 0 {
        return Err(ProbeError::Sequence);
    }
    Ok(Probe {
        sequence,
        heard: u64::from_be_bytes(*heard),
        held_us: u32::from_be_bytes(*held_us),
        heard_count: u64::from_be_bytes(*heard_count),
        draining: flags & FLAG_DRAINING != 0,
        asks: flags & FLAG_ASKS != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Probe =
        Probe { sequence: 1, heard: 2, held_us: 3, heard_count: 4, draining: true, asks: false };

    #[test]
    fn padding_does_not_matter() {
        for size in [0, PROBE_SIZE, 1200] {
            let datagram = encode(&PROBE, size);
            assert_eq!(datagram.len(), size.max(PROBE_SIZE));
            assert_eq!(decode(&datagram), Ok(PROBE));
        }
    }

    #[test]
    fn a_short_or_foreign_datagram_is_refused() {
        let datagram = encode(&PROBE, 0);
        for length in 0..PROBE_SIZE {
            assert_eq!(decode(&datagram[..length]), Err(ProbeError::Short(length)));
        }
        assert_eq!(decode(&[9; 100]), Err(ProbeError::Kind(9)));
        assert_eq!(decode(&encode(&Probe { sequence: 0, ..PROBE }, 0)), Err(ProbeError::Sequence));
    }
}
