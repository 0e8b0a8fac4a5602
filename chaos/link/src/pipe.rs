//! What is under way over several lanes, sorted by when it is due. Pure, and bounded for each lane.

use crate::shaper::{Passage, Retime};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Most packets under way on a lane.
pub const COUNT_MAX: usize = 32_768;
/// Most bytes under way on a lane: 300 ms of 850 Mbit/s.
pub const BYTES_MAX: usize = 32 << 20;

/// What is under way. A lane that is full takes no further packet; the other lanes do not feel it.
#[derive(Debug)]
pub struct Pipe<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    lanes: Vec<Load>,
    sequence: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    count: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    passage: Passage,
    sequence: u64,
    lane: usize,
    size: usize,
    item: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (Instant, u64) {
        (self.passage.due, self.sequence)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> Pipe<T> {
    /// An empty one with this many lanes, numbered from 0.
    pub fn new(lanes: usize) -> Self {
        Self { heap: BinaryHeap::new(), lanes: vec![Load::default(); lanes], sequence: 0 }
    }

    /// Takes a packet, or gives it back when its lane is full or there is no such lane.
    ///
    /// # Errors
    /// The packet.
    pub fn push(&mut self, lane: usize, passage: Passage, size: usize, item: T) -> Result<(), T> {
        let Some(load) = self.lanes.get_mut(lane) else { return Err(item) };
        if load.count >= COUNT_MAX || load.bytes + size > BYTES_MAX {
            return Err(item);
        }
        load.count += 1;
        load.bytes += size;
        self.heap.push(Reverse(Entry { passage, sequence: self.sequence, lane, size, item }));
        self.sequence += 1;
        Ok(())
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.passage.due)
    }

    /// A packet that is due by `now`: the one that is due first, and of several the one that came first.
    pub fn take(&mut self, now: Instant) -> Option<T> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        let load = &mut self.lanes[entry.lane];
        load.count -= 1;
        load.bytes -= entry.size;
        Some(entry.item)
    }

    /// Packets under way on a lane.
    pub fn count(&self, lane: usize) -> usize {
        self.lanes.get(lane).map_or(0, |load| load.count)
    }

    /// Applies a change of rate to a lane; those that keep the order keep it. Answers when the last of those is due.
    pub fn retime(&mut self, lane: usize, retime: Retime) -> Option<Instant> {
        let mut entries: Vec<_> =
            std::mem::take(&mut self.heap).into_iter().map(|Reverse(entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.sequence);
        let mut last = None;
        for entry in entries.iter_mut().filter(|entry| entry.lane == lane) {
            entry.passage = retime.passage(entry.passage);
            if entry.passage.ordered {
                entry.passage.due = last.map_or(entry.passage.due, |last| entry.passage.due.max(last));
                last = Some(entry.passage.due);
            }
        }
        self.heap = entries.into_iter().map(Reverse).collect();
        last
    }

    /// Forgets what is under way.
    pub fn clear(&mut self) {
        self.heap.clear();
        self.lanes.fill(Load::default());
    }
}
