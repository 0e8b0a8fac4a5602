//! Addresses that nobody else uses: a /16 of 127.0.0.0/8 for each run, and a /16 of virtual IPs for each of its sites.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Blocks that are tried: 127.16 to 127.63. Below are the addresses that people choose by hand and those of `init`,
/// above are the virtual IPs (127.64.0.0/10).
const BLOCKS: std::ops::Range<u8> = 16..64;
/// Port that marks a block as taken: the holder listens on it at 127.BLOCK.255.254.
const MARK_PORT: u16 = 4430;

/// A block of loopback addresses. It is free again when this is dropped.
#[derive(Debug)]
pub struct Block {
    number: u8,
    _mark: UdpSocket,
}

/// Ranges of virtual IPs: 127.64.0.0/10 in parts of a /16 each.
const RANGES: std::ops::Range<u8> = 64..128;

/// A range of virtual IPs. It is free again when this is dropped.
#[derive(Debug)]
pub struct Range {
    number: u8,
    _mark: UdpSocket,
}

impl Range {
    /// Takes a range that no other run has; none when all are taken, and the site must share.
    pub fn take() -> Option<Self> {
        let count = u32::from(RANGES.end - RANGES.start);
        let first = std::process::id().wrapping_mul(7) % count;
        (0..count)
            .map(|step| RANGES.start + u8::try_from((first + step) % count).expect("less than the range"))
            .find_map(|number| {
                let mark = UdpSocket::bind((Ipv4Addr::new(127, number, 255, 254), MARK_PORT)).ok()?;
                Some(Self { number, _mark: mark })
            })
    }

    /// As the command line takes it: `127.71.0.0/16`.
    pub fn cidr(&self) -> String {
        format!("127.{}.0.0/16", self.number)
    }
}

/// No block is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no block of loopback addresses is free: 127.16 to 127.63 are in use; end another `demo` or `up` first"
)]
pub struct NoBlock;

impl Block {
    /// Takes a free block. Where the search begins differs from process to process.
    ///
    /// # Errors
    /// [`NoBlock`].
    pub fn take() -> Result<Self, NoBlock> {
        let count = u32::from(BLOCKS.end - BLOCKS.start);
        let first = std::process::id() % count;
        (0..count)
            .map(|step| BLOCKS.start + u8::try_from((first + step) % count).expect("less than the range"))
            .find_map(Self::try_take)
            .ok_or(NoBlock)
    }

    fn try_take(number: u8) -> Option<Self> {
        // The first site's API port shows a mesh that somebody started there by hand.
        TcpListener::bind((Ipv4Addr::new(127, number, 1, 1), topologies::plan::API_PORT)).ok()?;
        let mark = UdpSocket::bind((Ipv4Addr::new(127, number, 255, 254), MARK_PORT)).ok()?;
        Some(Self { number, _mark: mark })
    }

    /// The second number of its addresses.
    pub fn number(&self) -> u8 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sites_have_two_ranges() {
        let (one, two) = (Range::take().expect("a free range"), Range::take().expect("a free range"));
        assert_ne!(one.cidr(), two.cidr());
        assert!(one.cidr().parse::<api::resource::site::VipCidr>().is_ok());
    }

    #[test]
    fn two_runs_have_two_blocks() {
        let one = Block::take().expect("a free block");
        let two = Block::take().expect("a free block");
        assert_ne!(one.number(), two.number());
        let number = one.number();
        assert!(Block::try_take(number).is_none());
        drop(one);
        assert!(Block::try_take(number).is_some());
    }
}
