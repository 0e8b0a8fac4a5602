//! One link: what it does to datagrams, and the handle that changes it while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest round trip that can be set.
pub const RTT_MAX: Duration = Duration::from_secs(10);

/// What a link does to datagrams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Delay of both ways together; half of it each way. At most [`RTT_MAX`]. Default 0.
    pub rtt: Duration,
    /// Share of datagrams that are lost, each way, 0 to 1. Default 0.
    pub loss: f64,
}

impl Default for Profile {
    fn default() -> Self {
        Self { rtt: Duration::ZERO, loss: 0.0 }
    }
}

/// A way through a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the first end to the second.
    Forth,
    /// From the second end to the first.
    Back,
}

impl Direction {
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
    state: Mutex<State>,
    ways: [Way; 2],
}

#[derive(Debug)]
struct State {
    profile: Profile,
    cut: [bool; 2],
    /// One stream of draws for each way, so that traffic one way does not shift the losses of the other.
    draws: [fastrand::Rng; 2],
}

#[derive(Debug, Default)]
struct Way {
    passed: AtomicU64,
    dropped: AtomicU64,
}

/// What has gone over a link one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Datagrams passed on.
    pub passed: u64,
    /// Datagrams dropped: by a cut, by loss, or because the queue was full.
    pub dropped: u64,
}

impl Link {
    /// A link. `name` is for people; `seed` fixes which datagrams are lost, as a function of their order.
    pub fn new(name: impl Into<String>, profile: Profile, seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let draws = [seeds.fork(), seeds.fork()];
        let link = Self {
            shared: Arc::new(Shared {
                name: name.into(),
                state: Mutex::new(State { profile: Profile::default(), cut: [false; 2], draws }),
                ways: [Way::default(), Way::default()],
            }),
        };
        link.set_profile(profile);
        link
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it does now.
    pub fn profile(&self) -> Profile {
        self.state(|state| state.profile)
    }

    /// Changes what it does, from the next datagram on. Values out of range are set to the nearest in it.
    pub fn set_profile(&self, profile: Profile) {
        let loss = if profile.loss.is_finite() { profile.loss.clamp(0.0, 1.0) } else { 0.0 };
        let profile = Profile { rtt: profile.rtt.min(RTT_MAX), loss };
        self.state(|state| state.profile = profile);
    }

    /// Lets nothing through. What is already on its way arrives.
    pub fn cut(&self) {
        self.state(|state| state.cut = [true; 2]);
    }

    /// Lets nothing through in one direction.
    pub fn cut_one_way(&self, direction: Direction) {
        self.state(|state| state.cut[at(direction)] = true);
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.state(|state| state.cut = [false; 2]);
    }

    /// Whether datagrams in this direction are dropped.
    pub fn is_cut(&self, direction: Direction) -> bool {
        self.state(|state| state.cut[at(direction)])
    }

    /// What has gone over it.
    pub fn count(&self, direction: Direction) -> Count {
        let way = &self.shared.ways[at(direction)];
        Count { passed: way.passed.load(Ordering::Relaxed), dropped: way.dropped.load(Ordering::Relaxed) }
    }

    /// Decides about one datagram: the delay after which it arrives, or none when it is lost.
    pub(crate) fn admit(&self, direction: Direction) -> Option<Duration> {
        let at = at(direction);
        let delay = self.state(|state| {
            if state.cut[at] {
                return None;
            }
            let lost = state.profile.loss > 0.0 && state.draws[at].f64() < state.profile.loss;
            (!lost).then_some(state.profile.rtt / 2)
        });
        if delay.is_none() {
            self.dropped(direction);
        }
        delay
    }

    pub(crate) fn passed(&self, direction: Direction) {
        self.shared.ways[at(direction)].passed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, direction: Direction) {
        self.shared.ways[at(direction)].dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn at(direction: Direction) -> usize {
    match direction {
        Direction::Forth => 0,
        Direction::Back => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(seed: u64, back_first: bool) -> Vec<bool> {
        let link = Link::new("a-b", Profile { loss: 0.3, ..Profile::default() }, seed);
        if back_first {
            for _ in 0..100 {
                link.admit(Direction::Back);
            }
        }
        (0..1000).map(|_| link.admit(Direction::Forth).is_none()).collect()
    }

    #[test]
    fn one_seed_loses_the_same_datagrams() {
        assert_eq!(losses(7, false), losses(7, true));
        assert_ne!(losses(7, false), losses(8, false));
        let lost = losses(7, false).iter().filter(|lost| **lost).count();
        assert!((250..350).contains(&lost), "{lost} of 1000 at 30 %");
    }

    #[test]
    fn a_cut_stops_the_ways_that_it_names() {
        let link = Link::new("a-b", Profile { rtt: Duration::from_millis(60), loss: 0.0 }, 1);
        assert_eq!(link.admit(Direction::Forth), Some(Duration::from_millis(30)));
        link.cut_one_way(Direction::Back);
        assert!(link.admit(Direction::Forth).is_some());
        assert_eq!(link.admit(Direction::Back), None);
        link.cut();
        assert_eq!(link.admit(Direction::Forth), None);
        link.heal();
        assert!(link.admit(Direction::Forth).is_some() && link.admit(Direction::Back).is_some());
        assert_eq!(link.count(Direction::Back).dropped, 1);
    }

    #[test]
    fn values_out_of_range_are_brought_into_it() {
        let link = Link::new("a-b", Profile { rtt: Duration::from_secs(99), loss: f64::NAN }, 1);
        assert_eq!(link.profile(), Profile { rtt: RTT_MAX, loss: 0.0 });
        link.set_profile(Profile { rtt: Duration::ZERO, loss: 7.0 });
        assert_eq!(link.profile().loss, 1.0);
    }
}
