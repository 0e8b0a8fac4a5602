//! One link: what it does to datagrams each way, and the handle that changes it while it runs.

use crate::courier::Lane;
use crate::shape::Shape;
use crate::shaper::{Reason, Shaper, Verdict};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// A way through a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the first end to the second.
    Forth,
    /// From the second end to the first.
    Back,
}

impl Direction {
    /// Both, forth first.
    pub const BOTH: [Self; 2] = [Self::Forth, Self::Back];

    /// The other way.
    pub fn reverse(self) -> Self {
        match self {
            Self::Forth => Self::Back,
            Self::Back => Self::Forth,
        }
    }
}

/// Handle of a link between two ends. Clones are the same link; relays for both directions of dialling share one.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    ways: [Way; 2],
}

#[derive(Debug)]
struct Way {
    state: Mutex<State>,
    counters: Counters,
}

#[derive(Debug)]
struct State {
    shaper: Shaper,
    /// What it does without what is imposed.
    base: Shape,
    /// In the order in which they were imposed. As many as the holder of the link has guards.
    imposed: Vec<(u64, Change)>,
    /// Number of the next one.
    next: u64,
    /// Where packets of this way are under way: one for each relay that carries them.
    lanes: Vec<Weak<Lane>>,
}

struct Change(Box<dyn Fn(&mut Shape) + Send>);

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Change")
    }
}

#[derive(Debug, Default)]
struct Counters {
    passed: AtomicU64,
    bytes: AtomicU64,
    copies: AtomicU64,
    cut: AtomicU64,
    mtu: AtomicU64,
    loss: AtomicU64,
    queue: AtomicU64,
    refused: AtomicU64,
}

/// What has gone over a link one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Datagrams passed on, without second copies.
    pub passed: u64,
    /// Bytes within them.
    pub bytes: u64,
    /// Second copies passed on.
    pub copies: u64,
    /// Dropped because the way was cut.
    pub cut: u64,
    /// Dropped because they were longer than the MTU.
    pub mtu: u64,
    /// Dropped by chance.
    pub loss: u64,
    /// Dropped because there was no room: in front of the narrow place, or for what is under way.
    pub queue: u64,
    /// Not taken by this host, without second copies. None on a healthy one.
    pub refused: u64,
}

impl Count {
    /// Datagrams dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.cut + self.mtu + self.loss + self.queue + self.refused
    }
}

/// A change of one way of a link, as long as this is held.
///
/// Several may hold at a time, in any order of beginning and end: each is applied to the shape that the earlier ones
/// leave, and the end of one leaves the others as they are.
#[derive(Debug)]
#[must_use = "the change ends when this is dropped"]
pub struct Imposed {
    link: Link,
    direction: Direction,
    number: u64,
}

impl Drop for Imposed {
    fn drop(&mut self) {
        self.link.reshape(self.direction, |state| state.imposed.retain(|(number, _)| *number != self.number));
    }
}

impl Link {
    /// A link. `name` is for people; `shapes` are forth and back; `seed` fixes what becomes of which datagram, as a
    /// function of their order in each direction.
    pub fn new(name: impl Into<String>, shapes: [Shape; 2], seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let ways = shapes.map(|shape| Way {
            state: Mutex::new(State {
                shaper: Shaper::new(shape, seeds.u64(..)),
                base: shape.within_range(),
                imposed: Vec::new(),
                next: 0,
                lanes: Vec::new(),
            }),
            counters: Counters::default(),
        });
        Self { shared: Arc::new(Shared { name: name.into(), ways }) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it does one way, with what is imposed.
    pub fn shape(&self, direction: Direction) -> Shape {
        self.state(direction, |state| state.shaper.shape())
    }

    /// Changes what it does one way, from the next datagram on; what is imposed stays on top. Values out of range are
    /// set to the nearest within. Answers what was set before.
    pub fn set_shape(&self, direction: Direction, shape: Shape) -> Shape {
        self.reshape(direction, |state| std::mem::replace(&mut state.base, shape.within_range()))
    }

    /// Changes what it does one way until the answer is dropped.
    pub fn impose(&self, direction: Direction, change: impl Fn(&mut Shape) + Send + 'static) -> Imposed {
        let number = self.reshape(direction, |state| {
            state.next += 1;
            state.imposed.push((state.next, Change(Box::new(change))));
            state.next
        });
        Imposed { link: self.clone(), direction, number }
    }

    /// Lets nothing through. What is already on its way arrives.
    pub fn cut(&self) {
        Direction::BOTH.into_iter().for_each(|direction| self.cut_one_way(direction));
    }

    /// Lets nothing through in one direction.
    pub fn cut_one_way(&self, direction: Direction) {
        self.reshape(direction, |state| state.base.cut = true);
    }

    /// Ends [`Link::cut`] and [`Link::cut_one_way`].
    pub fn heal(&self) {
        for direction in Direction::BOTH {
            self.reshape(direction, |state| state.base.cut = false);
        }
    }

    /// Whether datagrams in this direction are dropped.
    pub fn is_cut(&self, direction: Direction) -> bool {
        self.shape(direction).cut
    }

    /// What has gone over it.
    pub fn count(&self, direction: Direction) -> Count {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = &self.way(direction).counters;
        Count {
            passed: read(&of.passed),
            bytes: read(&of.bytes),
            copies: read(&of.copies),
            cut: read(&of.cut),
            mtu: read(&of.mtu),
            loss: read(&of.loss),
            queue: read(&of.queue),
            refused: read(&of.refused),
        }
    }

    /// Decides about an IP packet of `size` bytes and does what follows before it decides about another, so that no
    /// change of rate comes between.
    pub(crate) fn admit<R>(
        &self,
        direction: Direction,
        size: usize,
        then: impl FnOnce(Verdict, Instant) -> R,
    ) -> R {
        self.state(direction, |state| {
            let now = Instant::now();
            then(state.shaper.admit(size, now), now)
        })
    }

    /// Packets of this way are under way on `lane` too.
    pub(crate) fn runs_over(&self, direction: Direction, lane: &Arc<Lane>) {
        self.state(direction, |state| {
            state.lanes.retain(|lane| lane.strong_count() > 0);
            state.lanes.push(Arc::downgrade(lane));
        });
    }

    pub(crate) fn passed(&self, direction: Direction, length: usize) {
        let of = &self.way(direction).counters;
        of.passed.fetch_add(1, Ordering::Relaxed);
        of.bytes.fetch_add(length as u64, Ordering::Relaxed);
    }

    pub(crate) fn copied(&self, direction: Direction) {
        self.way(direction).counters.copies.fetch_add(1, Ordering::Relaxed);
    }

    /// This host did not take what was counted as passed or copied.
    pub(crate) fn refused(&self, direction: Direction, length: usize, is_copy: bool) {
        let of = &self.way(direction).counters;
        if is_copy {
            of.copies.fetch_sub(1, Ordering::Relaxed);
        } else {
            of.passed.fetch_sub(1, Ordering::Relaxed);
            of.bytes.fetch_sub(length as u64, Ordering::Relaxed);
            of.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self, direction: Direction, reason: Reason) {
        let of = &self.way(direction).counters;
        let counter = match reason {
            Reason::Cut => &of.cut,
            Reason::Mtu => &of.mtu,
            Reason::Loss => &of.loss,
            Reason::Queue => &of.queue,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn reshape<R>(&self, direction: Direction, change: impl FnOnce(&mut State) -> R) -> R {
        self.state(direction, |state| {
            let answer = change(state);
            let mut shape = state.base;
            state.imposed.iter().for_each(|(_, change)| (change.0)(&mut shape));
            if let Some(retime) = state.shaper.reshape(shape, Instant::now()) {
                let lanes = state.lanes.iter().filter_map(Weak::upgrade);
                if let Some(last) = lanes.filter_map(|lane| lane.retime(retime)).max() {
                    state.shaper.not_before(last);
                }
            }
            answer
        })
    }

    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::Forth => &self.shared.ways[0],
            Direction::Back => &self.shared.ways[1],
        }
    }

    fn state<T>(&self, direction: Direction, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.way(direction).state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Loss;
    use std::time::Duration;

    fn lossy() -> Shape {
        Shape { loss: Loss::uniform(0.3), ..Shape::default() }
    }

    fn passes(link: &Link, direction: Direction) -> bool {
        link.admit(direction, 100, |verdict, _| matches!(verdict, Verdict::Pass { .. }))
    }

    fn losses(seed: u64, back_first: bool) -> Vec<bool> {
        let link = Link::new("a-b", [lossy(); 2], seed);
        if back_first {
            assert!((0..100).any(|_| passes(&link, Direction::Back)));
        }
        (0..1000).map(|_| passes(&link, Direction::Forth)).collect()
    }

    #[test]
    fn traffic_one_way_does_not_shift_what_happens_the_other_way() {
        assert_eq!(losses(7, false), losses(7, true));
        assert_ne!(losses(7, false), losses(8, false));
    }

    #[test]
    fn both_ways_draw_apart() {
        let link = Link::new("a-b", [lossy(); 2], 7);
        let [forth, back] =
            Direction::BOTH.map(|way| (0..100).map(|_| passes(&link, way)).collect::<Vec<_>>());
        assert_ne!(forth, back);
    }

    #[test]
    fn a_cut_stops_the_ways_that_it_names() {
        let link = Link::new("a-b", [Shape::default(); 2], 1);
        link.cut_one_way(Direction::Back);
        assert!(passes(&link, Direction::Forth) && !passes(&link, Direction::Back));
        link.cut();
        assert!(!passes(&link, Direction::Forth) && link.is_cut(Direction::Forth));
        link.heal();
        assert!(passes(&link, Direction::Forth) && passes(&link, Direction::Back));
    }

    #[test]
    fn what_was_set_before_can_be_put_back() {
        let link = Link::new("a-b", [lossy(), Shape::default()], 1);
        let other = Shape { delay: Duration::from_millis(9), ..Shape::default() };
        let before = link.set_shape(Direction::Forth, other);
        assert_eq!((before, link.shape(Direction::Forth)), (lossy(), other));
        assert_eq!(link.shape(Direction::Back), Shape::default(), "each way has a shape of its own");
        link.set_shape(Direction::Forth, before);
        assert_eq!(link.shape(Direction::Forth), lossy());
    }

    #[test]
    fn changes_that_overlap_end_in_any_order() {
        let link = Link::new("a-b", [lossy(); 2], 1);
        let way = Direction::Forth;
        let slow = link.impose(way, |shape| shape.delay = Duration::from_millis(9));
        let cut = link.impose(way, |shape| shape.cut = true);
        drop(slow);
        assert_eq!(link.shape(way), Shape { cut: true, ..lossy() });
        link.set_shape(way, Shape::default());
        assert!(link.is_cut(way), "what is imposed stays on top");
        drop(cut);
        assert_eq!(link.shape(way), Shape::default());
    }
}
