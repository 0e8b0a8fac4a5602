//! What one direction of a link does to packets.

use std::time::Duration;

/// Longest delay, widest jitter and longest time that a packet can be held back.
pub const TIME_MAX: Duration = Duration::from_secs(10);
/// Slowest rate: a full-size packet takes 12 s.
pub const RATE_MIN: u64 = 1_000;
/// Most bytes that the queue in front of a narrow place can be given.
pub const QUEUE_MAX: usize = 16 << 20;

/// What one direction of a link does to packets. By default: nothing.
///
/// A packet meets them in this order: cut, MTU, loss, the queue of the rate, delay with its jitter, reordering,
/// duplication. A packet that is lost therefore takes nothing of the rate, and a copy neither.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shape {
    /// Nothing gets through. What is under way arrives.
    pub cut: bool,
    /// Longest IP packet, in bytes. Longer ones vanish without a word (a black hole), whether or not they may be
    /// fragmented. None: any length.
    pub mtu: Option<usize>,
    /// What is lost.
    pub loss: Loss,
    /// The narrow place. None: as fast as it goes.
    pub rate: Option<Rate>,
    /// Time from one end to the other, at most [`TIME_MAX`].
    pub delay: Duration,
    /// How the delay differs from packet to packet.
    pub jitter: Jitter,
    /// Packets that later ones overtake.
    pub reorder: Reorder,
    /// Share of packets that arrive twice, the copy right behind the first; 0 to 1.
    pub duplicate: f64,
}

/// How packets are lost: a chain of two states (Gilbert and Elliott), one that loses every packet and one that loses none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Share of packets that are lost in the long run, 0 to 1.
    pub share: f64,
    /// How many packets in a row a loss takes, on average. Up to `1 / (1 - share)`, so also at 0, each packet is lost
    /// or not whatever became of the one before.
    pub burst: f64,
}

/// How fast packets leave, and how many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits of IP packets per second, at least [`RATE_MIN`].
    pub bits_per_second: u64,
    /// Bytes of IP packets that may wait, that which is leaving included; at most [`QUEUE_MAX`]. One that finds no room
    /// is dropped (at the tail). One that finds the place idle needs no room.
    pub queue_bytes: usize,
}

/// How the delay differs from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Jitter {
    /// How widely, as `distribution` says; at most [`TIME_MAX`]. A delay is never shorter than nothing.
    pub spread: Duration,
    /// In what way.
    pub distribution: Distribution,
    /// A packet with a shorter delay overtakes. Without: it waits for those before it, so that the order stays.
    pub reorders: bool,
}

/// Distribution of a jitter around the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distribution {
    /// All values from the delay less `spread` to the delay and `spread` are as likely.
    #[default]
    Uniform,
    /// Bell-shaped, with `spread` as its standard deviation.
    Normal,
}

/// Packets that later ones overtake.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reorder {
    /// Share of packets that are held back, 0 to 1.
    pub share: f64,
    /// By how much, at most [`TIME_MAX`].
    pub by: Duration,
}

impl Loss {
    /// Each packet is lost or not whatever became of the one before.
    pub fn uniform(share: f64) -> Self {
        Self { share, burst: 0.0 }
    }
}

impl Shape {
    /// The same with every value in its range: those outside are set to the nearest within.
    #[must_use]
    pub fn within_range(self) -> Self {
        let rate = self.rate.map(|rate| Rate {
            bits_per_second: rate.bits_per_second.max(RATE_MIN),
            queue_bytes: rate.queue_bytes.min(QUEUE_MAX),
        });
        // Not a number is no burst.
        let burst = if self.loss.burst >= 0.0 { self.loss.burst } else { 0.0 };
        Self {
            loss: Loss { share: share(self.loss.share), burst },
            rate,
            delay: self.delay.min(TIME_MAX),
            jitter: Jitter { spread: self.jitter.spread.min(TIME_MAX), ..self.jitter },
            reorder: Reorder { share: share(self.reorder.share), by: self.reorder.by.min(TIME_MAX) },
            duplicate: share(self.duplicate),
            ..self
        }
    }
}

fn share(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_brought_into_it() {
        let shape = Shape {
            loss: Loss { share: f64::NAN, burst: f64::NAN },
            rate: Some(Rate { bits_per_second: 0, queue_bytes: usize::MAX }),
            delay: Duration::MAX,
            jitter: Jitter { spread: Duration::MAX, ..Jitter::default() },
            reorder: Reorder { share: 7.0, by: Duration::MAX },
            duplicate: -1.0,
            ..Shape::default()
        };
        let shape = shape.within_range();
        assert_eq!(shape.loss, Loss::default());
        assert_eq!(shape.rate, Some(Rate { bits_per_second: RATE_MIN, queue_bytes: QUEUE_MAX }));
        assert_eq!((shape.delay, shape.jitter.spread, shape.reorder.by), (TIME_MAX, TIME_MAX, TIME_MAX));
        assert_eq!((shape.reorder.share, shape.duplicate), (1.0, 0.0));
        assert_eq!(shape, shape.within_range());
    }
}
