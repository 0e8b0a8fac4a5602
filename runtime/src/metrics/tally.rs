//! Where things are counted: plain numbers that only grow, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often something happened, or how much there was of it.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// So much more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// So far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The same by one of a few words, all of which are known beforehand: so they can be the values of a label.
#[derive(Debug)]
pub struct Counts(Vec<(String, Count)>);

impl Counts {
    /// Counts these words.
    pub fn new(words: impl IntoIterator<Item = impl ToString>) -> Self {
        Self(words.into_iter().map(|word| (word.to_string(), Count::default())).collect())
    }

    /// One more.
    pub fn add(&self, word: &str) {
        self.add_many(word, 1);
    }

    /// So many more. A word that is none of the set is a mistake of the caller, and is not counted.
    pub fn add_many(&self, word: &str, more: u64) {
        let found = self.0.iter().find(|(known, _)| known == word);
        debug_assert!(found.is_some(), "`{word}` is none of the words that are counted");
        if let Some((_, count)) = found {
            count.add(more);
        }
    }

    /// So far, by the word as a label has it.
    pub fn iter(&self) -> impl Iterator<Item = (String, u64)> {
        self.0.iter().map(|(word, count)| (label(word), count.get()))
    }
}

/// Words as the value of a label.
pub fn label(words: &str) -> String {
    words.replace([' ', '-'], "_")
}

/// Upper bounds of the buckets of durations, seconds: from what a change takes within a process to what a person waits.
pub const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How long things took, in buckets.
#[derive(Debug, Default)]
pub struct Durations {
    /// One for each bound, and one for what is beyond the last.
    counts: [Count; BOUNDS.len() + 1],
    sum_us: Count,
}

impl Durations {
    /// One more.
    pub fn note(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[at].add(1);
        self.sum_us.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// So far.
    pub fn read(&self) -> Elapsed {
        Elapsed {
            counts: std::array::from_fn(|at| self.counts[at].get()),
            sum_s: Duration::from_micros(self.sum_us.get()).as_secs_f64(),
        }
    }
}

/// Durations, as they were read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Elapsed {
    /// By bucket, not summed up.
    pub counts: [u64; BOUNDS.len() + 1],
    /// All together, seconds.
    pub sum_s: f64,
}

impl Elapsed {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
