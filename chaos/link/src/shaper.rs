//! The decisions of one direction of a link: which packet arrives, and when. Pure: it is told the time and given a seed.

use crate::shape::{Distribution, Loss, Rate, Shape};
use std::time::{Duration, Instant};

const NANOS: u64 = 1_000_000_000;

/// One direction of a link.
///
/// What becomes of a packet depends on the seed, on how many came before, and on the [`Shape`]. Each kind of chance has a
/// stream of draws of its own, and each packet takes one draw of each, whatever is set: a change of one never shifts
/// what another does to the packets after it.
#[derive(Debug, Clone)]
pub struct Shaper {
    shape: Shape,
    draws: Draws,
    chain: Chain,
    /// When the narrow place has sent what it was given, and what it owes to the nanosecond.
    busy_until: Option<Instant>,
    owed: u64,
    /// No packet of the order is due before.
    floor: Option<Instant>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives.
    Pass {
        /// Its way.
        passage: Passage,
        /// That of a second copy.
        copy: Option<Passage>,
    },
    /// It never arrives.
    Dropped(Reason),
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The direction is cut.
    Cut,
    /// It is longer than the MTU.
    Mtu,
    /// By chance.
    Loss,
    /// No room: in front of the narrow place, or for what is under way.
    Queue,
}

/// When a packet is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// It has left the narrow place.
    pub leaves: Instant,
    /// It arrives.
    pub due: Instant,
    /// It arrives after those before it that keep the order too; otherwise, whenever it is due.
    pub ordered: bool,
}

/// How packets that wait in front of a narrow place leave after its rate changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retime {
    at: Instant,
    /// Old rate over new rate.
    factor: f64,
}

impl Shaper {
    /// A direction that does what `shape` says, brought into range.
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape: shape.within_range(),
            draws: Draws::new(seed),
            chain: Chain::default(),
            busy_until: None,
            owed: 0,
            floor: None,
        }
    }

    /// What it does.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Changes what it does, from the next packet on. What is under way keeps its time, but what still waits in front
    /// of a narrow place leaves at the new rate: whoever holds those packets applies the answer to their passages, and
    /// then says with [`Shaper::not_before`] when the last of them is due.
    #[must_use = "packets that wait leave at another time"]
    pub fn reshape(&mut self, shape: Shape, now: Instant) -> Option<Retime> {
        let (old, new) = (self.shape, shape.within_range());
        self.shape = new;
        if new.loss != old.loss {
            self.chain = Chain::default();
        }
        let old = old.rate?.bits_per_second;
        let factor = new.rate.map_or(0.0, |rate| old as f64 / rate.bits_per_second as f64);
        let busy_until = self.busy_until.filter(|until| *until > now && factor != 1.0)?;
        let retime = Retime { at: now, factor };
        self.busy_until = Some(retime.instant(busy_until));
        self.floor = None;
        Some(retime)
    }

    /// Keeps the order with packets that are due by then.
    pub fn not_before(&mut self, due: Instant) {
        self.floor = self.floor.max(Some(due));
    }

    /// Decides about an IP packet of `size` bytes that is sent now.
    pub fn admit(&mut self, size: usize, now: Instant) -> Verdict {
        let draws = self.draws.next();
        let lost = self.chain.loses(self.shape.loss, draws.loss);
        if self.shape.cut {
            return Verdict::Dropped(Reason::Cut);
        }
        if self.shape.mtu.is_some_and(|mtu| size > mtu) {
            return Verdict::Dropped(Reason::Mtu);
        }
        if lost {
            return Verdict::Dropped(Reason::Loss);
        }
        let Some(leaves) = self.leave(size, now) else { return Verdict::Dropped(Reason::Queue) };
        let due = leaves + self.delay(draws.jitter);
        let passage = if draws.reorder < self.shape.reorder.share {
            Passage { leaves, due: due + self.shape.reorder.by, ordered: false }
        } else if self.shape.jitter.reorders {
            Passage { leaves, due, ordered: false }
        } else {
            // A shorter delay set meanwhile must not overtake what is under way either.
            let due = self.floor.map_or(due, |floor| due.max(floor));
            self.floor = Some(due);
            Passage { leaves, due, ordered: true }
        };
        let copy = (draws.duplicate < self.shape.duplicate).then_some(passage);
        Verdict::Pass { passage, copy }
    }

    /// When a packet has left the narrow place; none when there is no room to wait.
    fn leave(&mut self, size: usize, now: Instant) -> Option<Instant> {
        let Some(Rate { bits_per_second, queue_bytes }) = self.shape.rate else { return Some(now) };
        let begin = match self.busy_until {
            Some(until) if until > now => {
                let waiting = (until - now).as_secs_f64() * bits_per_second as f64 / 8.0;
                if waiting + size as f64 > queue_bytes as f64 {
                    return None;
                }
                until
            }
            Some(_) | None => {
                self.owed = 0;
                now
            }
        };
        let work = size as u64 * 8 * NANOS + self.owed;
        self.owed = work % bits_per_second;
        let leaves = begin + Duration::from_nanos(work / bits_per_second);
        self.busy_until = Some(leaves);
        Some(leaves)
    }

    fn delay(&self, draw: u64) -> Duration {
        let jitter = self.shape.jitter;
        if jitter.spread.is_zero() {
            return self.shape.delay;
        }
        let offset = match jitter.distribution {
            Distribution::Uniform => 2.0 * unit(draw) - 1.0,
            Distribution::Normal => {
                // Box and Muller, with the halves of the draw; the first is above 0.
                let (radius, angle) = (((draw >> 32) + 1) as f64, (draw & u64::from(u32::MAX)) as f64);
                let scale = f64::from(u32::MAX) + 1.0;
                (-2.0 * (radius / scale).ln()).sqrt() * (std::f64::consts::TAU * angle / scale).cos()
            }
        };
        let change = jitter.spread.mul_f64(offset.abs());
        if offset < 0.0 { self.shape.delay.saturating_sub(change) } else { self.shape.delay + change }
    }
}

impl Retime {
    /// The passage of a packet that was admitted before the change.
    #[must_use]
    pub fn passage(&self, passage: Passage) -> Passage {
        let leaves = self.instant(passage.leaves);
        Passage { leaves, due: leaves + (passage.due - passage.leaves), ..passage }
    }

    fn instant(&self, leaves: Instant) -> Instant {
        if leaves <= self.at { leaves } else { self.at + (leaves - self.at).mul_f64(self.factor) }
    }
}

/// Whether the next packet is lost, after what became of the last one.
#[derive(Debug, Clone, Copy, Default)]
struct Chain {
    /// The last packet was lost. None: there was none since the loss was set.
    lost: Option<bool>,
}

impl Chain {
    fn loses(&mut self, loss: Loss, draw: f64) -> bool {
        let Loss { share, burst } = loss;
        let keeps = 1.0 - share;
        let chance = if share == 0.0 || share == 1.0 {
            share
        } else {
            // With bursts as short as those of independent draws, both ways to lose a packet are as likely.
            let burst = burst.max(1.0 / keeps);
            match self.lost {
                None => share,
                Some(true) => 1.0 - 1.0 / burst,
                Some(false) => share / (keeps * burst),
            }
        };
        let lost = draw < chance;
        self.lost = Some(lost);
        lost
    }
}

/// A stream of draws for each kind of chance.
#[derive(Debug, Clone)]
struct Draws {
    loss: fastrand::Rng,
    jitter: fastrand::Rng,
    reorder: fastrand::Rng,
    duplicate: fastrand::Rng,
}

/// The draws of one packet.
struct Drawn {
    loss: f64,
    jitter: u64,
    reorder: f64,
    duplicate: f64,
}

impl Draws {
    fn new(seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        Self { loss: seeds.fork(), jitter: seeds.fork(), reorder: seeds.fork(), duplicate: seeds.fork() }
    }

    fn next(&mut self) -> Drawn {
        Drawn {
            loss: self.loss.f64(),
            jitter: self.jitter.u64(..),
            reorder: self.reorder.f64(),
            duplicate: self.duplicate.f64(),
        }
    }
}

/// A draw as a number from 0 to below 1.
fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}
