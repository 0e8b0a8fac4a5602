//! Addresses that nobody else uses: a /16 of 127.0.0.0/8 for each run, and ranges of virtual IPs for each of its sites.

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
/// Ranges of one block, from which a site gives its processes theirs, beginning behind its own and going round.
const RANGES_OF_BLOCK: u8 = 8;

/// Ranges of virtual IPs for the processes of one site. They are free again when this is dropped.
#[derive(Debug)]
pub struct Range {
    number: u8,
    _marks: Vec<UdpSocket>,
}

impl Range {
    /// Takes a range for a site, with those that its nodes will get, so that no other run has any of them; none when
    /// there is no such place, and the site must share.
    pub fn take(nodes: usize) -> Option<Self> {
        let count = u32::from(RANGES.end - RANGES.start);
        let first = std::process::id().wrapping_mul(7) % count;
        let processes = u8::try_from(nodes + 1).unwrap_or(u8::MAX).min(RANGES_OF_BLOCK);
        (0..count)
            .map(|step| RANGES.start + u8::try_from((first + step) % count).expect("less than the range"))
            .find_map(|number| {
                let marks = (0..processes).map(|step| mark(in_block(number, step))).collect::<Option<_>>()?;
                Some(Self { number, _marks: marks })
            })
    }

    /// As the command line takes it: `127.71.0.0/16`.
    pub fn cidr(&self) -> String {
        format!("127.{}.0.0/16", self.number)
    }
}

/// The range so many steps further in the same block, where the first one follows the last.
fn in_block(number: u8, steps: u8) -> u8 {
    number - number % RANGES_OF_BLOCK + (number + steps) % RANGES_OF_BLOCK
}

/// Marks a range as taken.
fn mark(number: u8) -> Option<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::new(127, number, 255, 254), MARK_PORT)).ok()
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
    fn the_processes_of_two_sites_have_different_ranges() {
        let of = |range: &Range, nodes: u8| {
            let site: api::resource::site::VipCidr = range.cidr().parse().expect("a range");
            // As the federation of the site gives them out.
            (0..=nodes).map(|slot| site.0.in_block(slot).base).collect::<std::collections::BTreeSet<_>>()
        };
        let (one, two) = (Range::take(3).expect("a free place"), Range::take(2).expect("a free place"));
        let (one, two) = (of(&one, 3), of(&two, 2));
        assert_eq!((one.len(), two.len()), (4, 3));
        assert!(one.is_disjoint(&two), "{one:?} {two:?}");
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
