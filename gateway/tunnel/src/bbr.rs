//! A congestion controller that models the path: how fast it delivers, and its round trip without a queue. What may be
//! in flight is the product of the two and a little more, so random loss does not slow it down, and it keeps the queue
//! at the narrow place short, in which small requests of all connections wait.
//!
//! After BBR (draft-cardwell-iccrg-bbr-congestion-control) and its delivery rate samples
//! (draft-cheng-iccrg-delivery-rate-estimation). The transport has a BBR of its own, which takes the time between two
//! acknowledgements for a rate and never lowers its estimate: over a narrow place of 100 Mbit/s with 50 ms it lost more
//! than half of what it sent. Unlike BBR this one does not pace by its model, since the transport paces by the window
//! alone (1.25 windows in a round trip); so it keeps the window near what the path holds, and needs no cycle of
//! probing: a quarter above it shows within a round trip whether the path has become faster.

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What may be in flight, in parts of what the path holds. The part above 1 stands as a queue while data waits.
const GAIN: f64 = 1.25;
/// Loss in one round trip above which the queue counts as too short for that ...
const LOSS_MAX: f64 = 0.02;
/// ... if it is more than so many packets: of a few packets, one lost one is chance.
const LOST_MIN: u64 = 3;
/// After such a round trip the limit is so much lower, ...
const LIMIT_DOWN: f64 = 0.85;
/// ... but in no case below so many parts of what the last round trip has carried. Above 1, so that loss of up to 9 %
/// that is no sign of a queue does not lower the rate step by step.
const LIMIT_GAIN: f64 = 1.1;
/// After a round trip with less loss it is so much higher.
const LIMIT_UP: f64 = 1.005;
/// ... and by so many packets, by which the slower ones of several gain.
const LIMIT_UP_PACKETS: u64 = 4;
/// Packets on top, the same for all connections: of several at one narrow place, the slower ones gain by it.
const EXTRA_PACKETS: u64 = 3;
/// While the rate is being found: enough to see twice the rate in the next round trip.
const STARTUP_GAIN: f64 = 3.0;
/// The rate is found when it has grown by less than a quarter for so many round trips ...
const STARTUP_ROUNDS: u32 = 3;
/// ... or when so much is lost that it must be passed already.
const STARTUP_LOSS: f64 = 0.1;
/// Round trips for which the highest rate counts.
const RATE_ROUNDS: u64 = 10;
/// How often the round trip without a queue is looked for. All connections of a process do so at the same time, or each
/// would see the queue of the others.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// ... with so much in flight, in parts of what the path holds, for at least so long.
const PROBE_GAIN: f64 = 0.5;
const PROBE_FOR: Duration = Duration::from_millis(100);
/// ... and given up after so long, where the queue is not ours.
const PROBE_MAX: Duration = Duration::from_secs(1);
/// Bursts of acknowledgements are made up for up to so much time.
const BURSTS_MAX: Duration = Duration::from_millis(20);
/// Packets that may always be in flight.
const WINDOW_MIN: u64 = 4;
/// Sends that are remembered until they are acknowledged; those within a hundredth of a round trip are one.
const SENT_MAX: usize = 1_024;
const SENT_PER_RTT: u32 = 100;
/// A smaller send is a probe or an acknowledgement and says nothing about the rate.
const SENT_MIN: u64 = 600;

/// Makes controllers.
#[derive(Debug)]
pub(crate) struct BbrConfig {
    pub(crate) initial_window: u64,
}

impl ControllerFactory for BbrConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        let began = *BEGAN.get_or_init(|| now);
        Box::new(Bbr::new(self.initial_window, current_mtu, began, now))
    }
}

#[derive(Debug, Clone)]
struct Bbr {
    initial_window: u64,
    mtu: u64,
    window: u64,
    mode: Mode,
    /// Most that may be in flight, since more was lost; none: as much as the model says.
    limit: Option<f64>,
    path: Path,
    /// Of the newest sample.
    last_rate: f64,
    delivered: Delivered,
    round: Round,
    bursts: Bursts,
    /// Acknowledged since the last `on_end_acks`, and when the newest of it was sent.
    acked: u64,
    newest: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// Finding the rate: the best one yet, and round trips without a better one.
    Startup { rate: f64, rounds: u32 },
    /// It is known.
    Steady,
    /// Little is in flight, to see the round trip without a queue: since when, since when so little, shortest one seen.
    Probe { since: Instant, low_since: Option<Instant>, shortest: Duration },
}

/// What is known of the path.
#[derive(Debug, Clone)]
struct Path {
    /// Bytes per second.
    rate: Highest,
    /// None: not measured yet.
    min_rtt: Option<Duration>,
    /// Shortest ever.
    floor: Duration,
    began: Instant,
    /// In which [`PROBE_EVERY`] it was looked for last.
    probed: u64,
}

impl Path {
    /// Bytes in flight that keep it busy without a queue; none: not known yet.
    fn holds(&self) -> Option<f64> {
        let rate = self.rate.get().filter(|rate| *rate > 0.0)?;
        Some(rate * self.min_rtt?.as_secs_f64())
    }
}

/// The highest value of the last [`RATE_ROUNDS`] round trips.
#[derive(Debug, Clone, Default)]
struct Highest {
    /// Falling values of rising rounds, so at most one for each.
    values: VecDeque<(u64, f64)>,
}

impl Highest {
    fn get(&self) -> Option<f64> {
        self.values.front().map(|(_, value)| *value)
    }

    fn note(&mut self, round: u64, value: f64) {
        while self.values.back().is_some_and(|(at, least)| *least <= value || *at == round && *least < value)
        {
            self.values.pop_back();
        }
        if self.values.back().is_none_or(|(at, _)| *at < round) {
            self.values.push_back((round, value));
        }
        while self.values.front().is_some_and(|(at, _)| at + RATE_ROUNDS < round) {
            self.values.pop_front();
        }
    }
}

/// What the other side has acknowledged, as seen at each send.
#[derive(Debug, Clone)]
struct Delivered {
    bytes: u64,
    at: Instant,
    /// When the newest acknowledged packet was sent.
    newest_sent: Instant,
    /// Sends before this much is delivered had less to send than they might have.
    limited_until: u64,
    /// Nothing is in flight: time that passes says nothing about the rate.
    idle: bool,
    /// In order of time, at most [`SENT_MAX`].
    sent: VecDeque<Sent>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    newest_sent: Instant,
    limited: bool,
}

impl Delivered {
    fn note_sent(&mut self, now: Instant, min_rtt: Duration) {
        if std::mem::take(&mut self.idle) {
            self.at = now;
            self.newest_sent = now;
        }
        if self.sent.back().is_some_and(|sent| now < sent.at + min_rtt / SENT_PER_RTT) {
            return;
        }
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            at: now,
            delivered: self.bytes,
            delivered_at: self.at,
            newest_sent: self.newest_sent,
            limited: self.limited_until > self.bytes,
        });
    }

    /// What was known when this packet was sent. Forgets what was sent before it.
    fn take(&mut self, sent_at: Instant) -> Option<Sent> {
        let at = self.sent.partition_point(|sent| sent.at <= sent_at).checked_sub(1)?;
        // This one stays: others of its packets may be acknowledged later.
        self.sent.drain(..at);
        self.sent.front().copied()
    }

    /// Bytes per second between the send of a packet and its acknowledgement.
    fn rate(&self, sent: &Sent, min_rtt: Duration) -> Option<f64> {
        let sending = sent.at.saturating_duration_since(sent.newest_sent);
        let acknowledging = self.at.saturating_duration_since(sent.delivered_at);
        let time = sending.max(acknowledging);
        // Within less than a round trip acknowledgements only come in a bunch.
        let whole = time >= min_rtt && !time.is_zero();
        whole.then(|| (self.bytes - sent.delivered) as f64 / time.as_secs_f64())
    }
}

/// A round trip in packets: from a send to the acknowledgement of the first send after it.
#[derive(Debug, Clone, Default)]
struct Round {
    number: u64,
    ends_at: u64,
    acked: u64,
    lost: u64,
}

impl Round {
    fn loss(&self, mtu: u64) -> f64 {
        if self.lost < LOST_MIN * mtu { 0.0 } else { self.lost as f64 / (self.lost + self.acked) as f64 }
    }
}

/// How far acknowledgements run ahead of the rate when they come in bursts: so much more must be in flight, or the path
/// would run empty between two bursts.
#[derive(Debug, Clone)]
struct Bursts {
    began: Instant,
    acked: u64,
    most: Highest,
}

impl Bursts {
    fn note(&mut self, acked: u64, rate: f64, round: u64, now: Instant) {
        let expected = rate * now.saturating_duration_since(self.began).as_secs_f64();
        if self.acked as f64 <= expected {
            self.began = now;
            self.acked = acked;
            self.most.note(round, acked as f64);
        } else {
            self.acked += acked;
            self.most.note(round, self.acked as f64 - expected);
        }
    }
}

/// In which [`PROBE_EVERY`] a time lies.
fn probe_number(began: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(began).as_secs() / PROBE_EVERY.as_secs()
}

impl Bbr {
    /// `began`: the same for all connections of this process.
    fn new(initial_window: u64, mtu: u16, began: Instant, now: Instant) -> Self {
        Self {
            initial_window,
            mtu: mtu.into(),
            window: initial_window,
            mode: Mode::Startup { rate: 0.0, rounds: 0 },
            limit: None,
            path: Path {
                rate: Highest::default(),
                min_rtt: None,
                floor: Duration::MAX,
                began,
                probed: probe_number(began, now),
            },
            last_rate: 0.0,
            delivered: Delivered {
                bytes: 0,
                at: now,
                newest_sent: now,
                limited_until: 0,
                idle: true,
                sent: VecDeque::new(),
            },
            round: Round::default(),
            bursts: Bursts { began: now, acked: 0, most: Highest::default() },
            acked: 0,
            newest: None,
        }
    }

    fn sent(&mut self, bytes: u64, now: Instant) {
        if bytes >= SENT_MIN {
            self.delivered.note_sent(now, self.path.min_rtt.unwrap_or_default());
        }
    }

    fn acked(&mut self, sent_at: Instant, bytes: u64, now: Instant) {
        self.acked += bytes;
        self.delivered.bytes += bytes;
        self.delivered.at = now;
        self.newest = self.newest.max(Some(sent_at));
    }

    fn end_acks(&mut self, in_flight: u64, limited: bool, now: Instant) {
        let acked = std::mem::take(&mut self.acked);
        self.round.acked += acked;
        if let Some(sent_at) = self.newest.take()
            && let Some(sent) = self.delivered.take(sent_at)
        {
            self.note_round_trip(now.saturating_duration_since(sent_at), in_flight, limited, now);
            self.note_rate(&sent);
            self.delivered.newest_sent = sent_at;
            if sent.delivered >= self.round.ends_at {
                self.end_round(sent.limited);
            }
        }
        if limited {
            self.delivered.limited_until = self.delivered.bytes + in_flight + 1;
        }
        self.delivered.idle = in_flight == 0;
        if let Some(rate) = self.path.rate.get() {
            self.bursts.note(acked, rate, self.round.number, now);
        }
        self.set_window(acked, limited);
    }

    fn note_rate(&mut self, sent: &Sent) {
        let Some(rate) = self.delivered.rate(sent, self.path.min_rtt.unwrap_or_default()) else { return };
        self.last_rate = rate;
        // Who had little to send has shown only that the path is at least so fast.
        if !sent.limited || self.path.rate.get().is_none_or(|known| rate > known) {
            self.path.rate.note(self.round.number, rate);
        }
    }

    fn note_round_trip(&mut self, rtt: Duration, in_flight: u64, limited: bool, now: Instant) {
        self.path.floor = self.path.floor.min(rtt);
        let number = probe_number(self.path.began, now);
        let due = number != self.path.probed;
        let low = self.probe_target();
        let idle = limited && in_flight <= low;
        if self.path.min_rtt.is_none_or(|known| rtt <= known) || due && idle {
            // With little to send there is no queue of ours.
            self.path.min_rtt = Some(rtt);
            self.path.probed = if idle { number } else { self.path.probed };
        }
        match &mut self.mode {
            Mode::Startup { .. } => {}
            Mode::Steady if due && !limited => {
                self.path.probed = number;
                self.mode = Mode::Probe { since: now, low_since: None, shortest: rtt };
            }
            Mode::Steady => {}
            Mode::Probe { since, low_since, shortest } => {
                *shortest = rtt.min(*shortest);
                if low_since.is_none() && in_flight <= low {
                    *low_since = Some(now);
                }
                let for_long = low_since.is_some_and(|at| now >= at + PROBE_FOR.max(rtt));
                if for_long || limited || now >= *since + PROBE_MAX {
                    self.path.min_rtt = Some(*shortest);
                    self.mode = Mode::Steady;
                }
            }
        }
    }

    fn end_round(&mut self, limited: bool) {
        let loss = self.round.loss(self.mtu);
        self.set_limit(loss > LOSS_MAX);
        if let Mode::Startup { rate, rounds } = &mut self.mode
            && !limited
        {
            let found = self.path.rate.get().unwrap_or(0.0);
            if found >= *rate * 1.25 {
                (*rate, *rounds) = (found, 0);
            } else {
                *rounds += 1;
            }
            if *rounds >= STARTUP_ROUNDS || loss > STARTUP_LOSS {
                self.mode = Mode::Steady;
            }
        }
        self.round =
            Round { number: self.round.number + 1, ends_at: self.delivered.bytes, acked: 0, lost: 0 };
    }

    /// Lowers the limit after a round trip with much loss, and raises it after another, until it is none.
    fn set_limit(&mut self, lossy: bool) {
        let usual = self.target(GAIN) as f64;
        self.limit = if lossy {
            let carried = self.last_rate * self.path.min_rtt.unwrap_or_default().as_secs_f64();
            Some((self.limit.unwrap_or(usual).min(usual) * LIMIT_DOWN).max(carried * LIMIT_GAIN))
        } else {
            self.limit
                .map(|limit| limit * LIMIT_UP + (LIMIT_UP_PACKETS * self.mtu) as f64)
                .filter(|limit| *limit < usual)
        };
    }

    /// Bytes in flight with this gain.
    fn target(&self, gain: f64) -> u64 {
        match self.path.holds() {
            None => self.initial_window,
            Some(holds) => {
                let most = self.path.rate.get().unwrap_or(0.0) * BURSTS_MAX.as_secs_f64();
                let bursts = self.bursts.most.get().unwrap_or(0.0).min(most);
                ((holds * gain).max(holds + bursts) as u64 + EXTRA_PACKETS * self.mtu)
                    .max(WINDOW_MIN * self.mtu)
            }
        }
    }

    /// Bytes in flight at which a queue of ours is gone, even if what is known holds one.
    fn probe_target(&self) -> u64 {
        let rate = self.path.rate.get().unwrap_or(0.0);
        ((rate * self.path.floor.as_secs_f64() * PROBE_GAIN) as u64).max(WINDOW_MIN * self.mtu)
    }

    fn set_window(&mut self, acked: u64, limited: bool) {
        let target = match self.mode {
            // Whoever has little to send learns nothing about how much would fit.
            Mode::Startup { .. } if limited => return,
            Mode::Startup { .. } => self.target(STARTUP_GAIN).max(self.initial_window),
            Mode::Steady => {
                let target = self.target(GAIN);
                self.limit.map_or(target, |limit| target.min(limit as u64)).max(WINDOW_MIN * self.mtu)
            }
            Mode::Probe { .. } => self.probe_target(),
        };
        self.window = if self.window < target {
            target.min(self.window + acked)
        } else {
            // By half of what was acknowledged, so that sending never stops: what is urgent goes first.
            target.max(self.window.saturating_sub(acked / 2))
        };
    }

    fn lost(&mut self, bytes: u64, persistent: bool) {
        self.round.lost += bytes;
        if persistent {
            // Nothing got through for a while. It grows again as fast as anything is acknowledged.
            self.window = WINDOW_MIN * self.mtu;
        }
    }
}

impl Controller for Bbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.sent(bytes, now);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.acked(sent, bytes, now);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.end_acks(in_flight, app_limited, now);
    }

    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.lost(lost_bytes, is_persistent);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.window = self.window.max(WINDOW_MIN * self.mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;
