//! Whether a live connection is a poor one: loss, or a round trip far above what it has been.

use super::{Health, Settings};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Parts in which the memory of the minimum round trip is kept.
const PARTS: u32 = 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Quality {
    /// Minimum round trip of each part of the memory, with when it began. Bound: [`PARTS`] + 1.
    minima: VecDeque<(Instant, Duration)>,
    /// What it looks like, and since when it has looked so.
    looks_poor: bool,
    since: Instant,
    poor: bool,
    rtt: Option<Duration>,
    loss_permille: u32,
}

impl Quality {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            minima: VecDeque::new(),
            looks_poor: false,
            since: now,
            poor: false,
            rtt: None,
            loss_permille: 0,
        }
    }

    pub(super) fn note(&mut self, health: &Health, settings: &Settings, now: Instant) {
        self.rtt = health.rtt;
        self.loss_permille = health.loss_permille;
        if let Some(rtt) = health.rtt {
            self.remember(rtt, settings, now);
        }
        let looks_poor = self.has_loss(settings) || self.is_slow(settings);
        if looks_poor != self.looks_poor {
            self.looks_poor = looks_poor;
            self.since = now;
        }
        // It also takes as long to become good again, so that it does not flap.
        if now.saturating_duration_since(self.since) >= settings.poor_for {
            self.poor = looks_poor;
        }
    }

    pub(super) fn is_poor(&self) -> bool {
        self.poor
    }

    /// What is wrong, in words.
    pub(super) fn problem(&self, settings: &Settings) -> Option<String> {
        if !self.poor {
            return None;
        }
        if self.has_loss(settings) {
            return Some(format!("loss of {}.{} %", self.loss_permille / 10, self.loss_permille % 10));
        }
        let (rtt, least) = self.rtt.zip(self.minimum())?;
        Some(format!("round trip of {} ms, least {} ms", rtt.as_millis(), least.as_millis()))
    }

    fn has_loss(&self, settings: &Settings) -> bool {
        self.loss_permille > settings.poor_loss_permille
    }

    fn is_slow(&self, settings: &Settings) -> bool {
        let Some((rtt, least)) = self.rtt.zip(self.minimum()) else { return false };
        rtt > least * settings.poor_rtt_factor && rtt > least + settings.poor_rtt_floor
    }

    fn minimum(&self) -> Option<Duration> {
        self.minima.iter().map(|(_, rtt)| *rtt).min()
    }

    fn remember(&mut self, rtt: Duration, settings: &Settings, now: Instant) {
        let part = settings.rtt_memory / PARTS;
        self.minima.retain(|(began, _)| now.saturating_duration_since(*began) < settings.rtt_memory);
        match self.minima.back_mut() {
            Some((began, least)) if now.saturating_duration_since(*began) < part => *least = rtt.min(*least),
            _ => self.minima.push_back((now, rtt)),
        }
    }
}
