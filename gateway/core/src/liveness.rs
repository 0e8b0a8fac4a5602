//! Is this connection alive?
//!
//! One [`Liveness`] per connection. Both sides send probes on their own; each says what it heard of the other, so both
//! directions are judged: the way in by the age of the last packet, the way out by the oldest probe that the other side
//! should have heard and has not. Any authenticated packet counts as heard.
//!
//! A connection is `Live`; `Suspect` once it was silent for [`Timers::suspect_after`] (no new streams; streams without
//! an answer move on); `Dead` after [`Timers::dead_after`] (given up). Both limits grow with the round trip and with
//! the measured loss, so that loss is not taken for death. A dead connection that answers again is live again, unless
//! it was a black hole.

mod black_hole;
mod limits;
mod measure;
mod state;
mod timers;

pub use state::{Cause, Event, LossReport, ProbeOut, State};
pub use timers::Timers;

use black_hole::BlackHole;
use measure::{Loss, Rtt, Sent, SentProbes};
use model::ids::StreamId;
use model::tunnel::Probe;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Opens that wait for an answer and are watched; more are not, which only makes a miss show a little later.
const OPENS_MAX: usize = 4_096;
/// Events that wait to be polled. The oldest is dropped beyond; `state()` is always true.
const EVENTS_MAX: usize = 16;
/// A peer's sequence may jump by so many at most; a greater jump counts as this one.
const JUMP_MAX: u64 = 1_024;
/// The count begins again at most so often between two packets, so that a process that is always late still notices.
const RESTARTS_MAX: u32 = 5;
/// A dead connection is live again after so many probes without a miss.
const RECOVER_PROBES: u32 = 2;
/// Fewer lost probes in the window are no rate of loss: at the idle rate it has ten.
const LOST_MIN: u64 = 3;
/// Answers to probes that ask are not sent closer together than this.
const ANSWER_INTERVAL: Duration = Duration::from_millis(10);

/// Liveness of one connection. See the module.
#[derive(Debug)]
pub struct Liveness {
    timers: Timers,
    rng: fastrand::Rng,
    state: State,
    events: VecDeque<Event>,
    streams: u32,
    opens: BTreeMap<StreamId, Instant>,
    draining: bool,
    peer_draining: bool,

    // Sending.
    sequence: u64,
    sent: SentProbes,
    last_sent: Option<Instant>,
    next_send: Instant,
    ask_once: bool,
    out: Option<ProbeOut>,

    // Hearing.
    silent_since: Instant,
    missing_in: bool,
    refused: bool,
    restarts: u32,
    heard_since_worse: bool,
    heard: u64,
    heard_at: Instant,
    heard_count: u64,
    loss_in: Loss,
    recovered: u32,

    // Being heard.
    reported: u64,
    reported_count: u64,
    /// How long the oldest probe that the other side should have heard had gone unheard, by its last report.
    unheard: Option<Duration>,
    not_before: Instant,
    rtt: Rtt,
    loss_out: Loss,

    black_hole: BlackHole,
}

impl Liveness {
    /// A connection whose handshake has just finished.
    pub fn new(timers: Timers, rtt: Option<Duration>, seed: u64, now: Instant) -> Self {
        let mut measured = Rtt::default();
        if let Some(rtt) = rtt {
            measured.sample(rtt);
        }
        Self {
            timers,
            rng: fastrand::Rng::with_seed(seed),
            state: State::Live,
            events: VecDeque::new(),
            streams: 0,
            opens: BTreeMap::new(),
            draining: false,
            peer_draining: false,
            sequence: 0,
            sent: SentProbes::default(),
            last_sent: None,
            next_send: now,
            ask_once: false,
            out: None,
            silent_since: now,
            missing_in: false,
            refused: false,
            restarts: 0,
            heard_since_worse: true,
            heard: 0,
            heard_at: now,
            heard_count: 0,
            loss_in: Loss::new(now),
            recovered: 0,
            reported: 0,
            reported_count: 0,
            unheard: None,
            not_before: now,
            rtt: measured,
            loss_out: Loss::new(now),
            black_hole: BlackHole::default(),
        }
    }

    /// State.
    pub fn state(&self) -> State {
        self.state
    }

    /// Smoothed round trip; none until one was measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.smoothed
    }

    /// Loss over the last 10 s, as far as probes were heard. Fewer than 3 lost ones are chance, and not told.
    pub fn loss(&self) -> LossReport {
        let (lost_in, all_in) = self.loss_in.over_window();
        let (lost_out, all_out) = self.loss_out.over_window();
        let permille = |lost: u64, all: u64| match lost {
            0..LOST_MIN => 0,
            _ => (lost.saturating_mul(1_000) / all.max(1)).min(1_000) as u32,
        };
        LossReport { in_permille: permille(lost_in, all_in), out_permille: permille(lost_out, all_out) }
    }

    /// Whether the other side takes no new streams.
    pub fn peer_draining(&self) -> bool {
        self.peer_draining
    }

    /// Open streams, both ways.
    pub fn streams(&self) -> u32 {
        self.streams
    }

    /// Any authenticated packet came in.
    pub fn handle_heard(&mut self, now: Instant) {
        self.silent_since = self.silent_since.max(now);
        self.missing_in = false;
        self.refused = false;
        self.restarts = 0;
        self.heard_since_worse = true;
        self.judge(now);
    }

    /// A probe came in.
    pub fn handle_probe(&mut self, probe: Probe, now: Instant) {
        self.note_sequence(probe.sequence, now);
        self.note_report(probe, now);
        if probe.draining != self.peer_draining {
            self.peer_draining = probe.draining;
            self.push(Event::PeerDraining(probe.draining));
        }
        let steady = self.unheard.is_none() && now < self.silent_since + self.suspect_limit();
        self.recovered = if steady { self.recovered.saturating_add(1) } else { 0 };
        if self.state == State::Dead {
            // It may be coming back, which is worth finding out at once: streams wait for it.
            self.ask_once = true;
            self.next_send = self.next_send.min(now + self.timers.missing_interval);
        }
        if probe.asks {
            let earliest = self.last_sent.map_or(now, |sent| sent + ANSWER_INTERVAL);
            self.next_send = self.next_send.min(earliest.max(now));
        }
        self.handle_heard(now);
        self.send_if_due(now);
    }

    /// A stream was opened by this side, which waits for an answer (`awaits_answer`), or by the other.
    pub fn handle_stream_opened(&mut self, stream: StreamId, awaits_answer: bool, now: Instant) {
        self.streams += 1;
        if self.streams == 1 {
            let heard = now.saturating_duration_since(self.silent_since);
            let lately = self.timers.busy_interval;
            // At the idle rate the last packet may be a second old without anything being wrong.
            self.silent_since = self.silent_since.max(now);
            // Where packets went both ways just now, as with one short stream after the other, an ask would only cost
            // each of them two packets more.
            let asked = self.last_sent.is_some_and(|at| now.saturating_duration_since(at) < lately);
            if heard >= lately || !asked {
                self.ask_once = true;
                self.next_send = self.next_send.min(now);
            }
        }
        if awaits_answer && self.opens.len() < OPENS_MAX {
            let patience = self.timers.open_answer_min.max(self.round_trip() * 2);
            self.opens.insert(stream, now + patience);
        }
        self.reschedule(now);
        self.send_if_due(now);
    }

    /// A stream that this side opened has its answer, whichever it is.
    pub fn handle_stream_answered(&mut self, stream: StreamId, now: Instant) {
        self.opens.remove(&stream);
        self.judge(now);
    }

    /// A stream has ended.
    pub fn handle_stream_closed(&mut self, stream: StreamId, now: Instant) {
        self.opens.remove(&stream);
        self.streams = self.streams.saturating_sub(1);
        self.reschedule(now);
        self.judge(now);
    }

    /// This side takes no new streams (true), or takes them again.
    pub fn handle_draining(&mut self, draining: bool, now: Instant) {
        if self.draining != draining {
            self.draining = draining;
            self.next_send = now;
            self.send_if_due(now);
        }
    }

    /// The other side's host refused a packet (ICMP), or a reset came that could not be verified. Anyone on the way
    /// can forge that, so it only shortens the wait when nothing is heard.
    pub fn handle_refused(&mut self, now: Instant) {
        self.refused = true;
        self.next_send = self.next_send.min(now);
        self.judge(now);
        self.send_if_due(now);
    }

    /// The oldest data that the transport has sent and that is not acknowledged is from `since`; none: all is
    /// acknowledged.
    pub fn handle_unacked(&mut self, since: Option<Instant>, pto: Duration, now: Instant) {
        self.black_hole.note_unacked(since, pto);
        self.judge(now);
    }

    /// Time has come to what `poll_timeout` said.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((due, _)) = self.poll_timeout()
            && now.saturating_duration_since(due) > self.timers.late_after
            && self.restarts < RESTARTS_MAX
        {
            // This process slept. What came meanwhile is still in its socket's buffer.
            self.restarts += 1;
            self.silent_since = self.silent_since.max(now);
            self.not_before = now;
            self.unheard = None;
            self.black_hole.begin_again(now);
            self.opens.values_mut().for_each(|due| *due = (*due).max(now));
        }
        self.miss_late_opens(now);
        if !self.missing_in && now >= self.miss_at() {
            self.missing_in = true;
            if self.streams == 0 {
                // From here the same count holds as for a connection with streams.
                self.silent_since = self.silent_since.max(before(now, self.timers.busy_interval));
            }
            self.reschedule(now);
        }
        self.judge(now);
        self.send_if_due(now);
    }

    /// When `handle_timeout` wants to be called, and why. Never none: a connection is probed as long as it is there.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let mut next = (self.next_send, "probe");
        let mut sooner = |at: Instant, why| {
            if at < next.0 {
                next = (at, why);
            }
        };
        if !self.missing_in {
            sooner(self.miss_at(), "miss");
        }
        let counts = self.streams > 0 || self.is_missing();
        if counts && self.state < State::Suspect {
            sooner(self.silent_since + self.suspect_limit(), "suspect");
        }
        if counts && self.state < State::Dead {
            sooner(self.silent_since + self.dead_limit(), "dead");
        }
        if self.refused && self.state < State::Suspect {
            sooner(self.silent_since + self.refused_limit(), "refused");
        }
        if self.refused && self.state < State::Dead {
            sooner(self.silent_since + self.suspect_limit(), "refused");
        }
        if let Some(due) = self.opens.values().min() {
            sooner(*due, "open");
        }
        if let Some(at) = self.black_hole_at() {
            sooner(at, "black hole");
        }
        Some(next)
    }

    /// The probe to send, if one is due. At most one waits; a newer one replaces it.
    pub fn poll_transmit(&mut self) -> Option<ProbeOut> {
        self.out.take()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn push(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn is_missing(&self) -> bool {
        self.missing_in || self.unheard.is_some() || self.refused
    }

    fn interval(&self) -> Duration {
        if self.state == State::Dead {
            self.timers.dead_interval
        } else if self.is_missing() {
            self.timers.missing_interval
        } else if self.streams > 0 {
            self.timers.busy_interval
        } else {
            self.timers.idle_interval
        }
    }

    /// Moves the next probe nearer when the rate has grown.
    fn reschedule(&mut self, now: Instant) {
        if let Some(sent) = self.last_sent {
            // Not into the past, which would look like an own timer that fired late.
            self.next_send = self.next_send.min((sent + self.interval()).max(now));
        }
    }

    fn send_if_due(&mut self, now: Instant) {
        if now < self.next_send {
            return;
        }
        self.sequence += 1;
        let padded = self.black_hole.pad(self.sequence, &self.timers);
        let held =
            if self.heard == 0 { Duration::ZERO } else { now.saturating_duration_since(self.heard_at) };
        let probe = Probe {
            sequence: self.sequence,
            heard: self.heard,
            held_us: u32::try_from(held.as_micros()).unwrap_or(u32::MAX),
            heard_count: self.heard_count,
            draining: self.draining,
            asks: std::mem::take(&mut self.ask_once) || self.is_missing() || !self.opens.is_empty(),
        };
        self.sent.push(Sent { sequence: self.sequence, at: now });
        self.out = Some(ProbeOut { probe, padded });
        self.last_sent = Some(now);
        // Up to a tenth early, so that connections do not probe in step, and never late, which the other side would
        // see as a miss.
        self.next_send = now + self.interval().mul_f64(1.0 - 0.1 * self.rng.f64());
    }

    fn miss_late_opens(&mut self, now: Instant) {
        let before = self.opens.len();
        self.opens.retain(|_, due| *due > now);
        if self.opens.len() < before {
            // One ask at once; whether packets come back is then judged like any silence.
            self.ask_once = true;
            self.next_send = self.next_send.min(now);
        }
    }

    fn note_sequence(&mut self, sequence: u64, now: Instant) {
        self.heard_count = self.heard_count.saturating_add(1);
        if sequence > self.heard {
            let gap = (sequence - self.heard).min(JUMP_MAX);
            match self.state {
                State::Dead => self.loss_in.note_outage(gap, 1, now),
                State::Live | State::Suspect => self.loss_in.note(gap, 1, now),
            }
            self.heard = sequence;
            self.heard_at = now;
        } else {
            self.loss_in.note(0, 1, now);
        }
    }

    fn note_report(&mut self, probe: Probe, now: Instant) {
        if probe.heard > self.sequence || probe.heard < self.reported {
            // Beyond what was sent: the other side is wrong. Below: an old report that was overtaken.
            return;
        }
        if probe.heard > self.reported {
            if let Some(sent) = self.sent.find(probe.heard).copied() {
                let held = Duration::from_micros(u64::from(probe.held_us));
                self.rtt.sample(now.saturating_duration_since(sent.at).saturating_sub(held));
            }
            let expected = probe.heard - self.reported;
            let arrived = probe.heard_count.saturating_sub(self.reported_count).min(expected);
            match self.state {
                State::Dead => self.loss_out.note_outage(expected, arrived, now),
                State::Live | State::Suspect => self.loss_out.note(expected, arrived, now),
            }
            // Where much is lost anyway, a lost padded probe says nothing.
            let counts = self.loss_out.at_worst() < 0.2;
            self.black_hole.note_report(probe.heard, arrived < expected && counts);
            self.reported = probe.heard;
            self.reported_count = probe.heard_count;
        }
        // What was sent before this should have been heard when the report was made.
        let round_trip = self.round_trip() + self.slack();
        self.unheard = self
            .sent
            .first_after(self.reported)
            .map(|sent| sent.at.max(self.not_before))
            .filter(|at| *at + round_trip <= now)
            .map(|since| now.saturating_duration_since(since + self.round_trip()));
    }

    /// Only what is otherwise alive can be a black hole.
    fn black_hole_at(&self) -> Option<Instant> {
        let may_be = self.state == State::Live && !self.is_missing();
        if may_be { self.black_hole.due(&self.timers) } else { None }
    }

    fn judge_black_hole(&mut self, now: Instant) {
        let due = self.black_hole_at().is_some_and(|at| now >= at);
        if (due || self.black_hole.padded_are_lost()) && !self.is_missing() && self.black_hole.found(now) {
            self.push(Event::LowerMtu);
        }
    }

    /// Judges the connection by all that is known, and says when its state changes.
    fn judge(&mut self, now: Instant) {
        self.judge_black_hole(now);
        let (state, cause) = self.verdict(now);
        let better = state < self.state;
        // A count that began again is no sign of life: only what is heard makes a connection better.
        if state != self.state && (!better || self.heard_since_worse) {
            self.state = state;
            self.heard_since_worse = better;
            self.recovered = 0;
            self.push(Event::State(state, cause));
            self.reschedule(now);
        }
        if self.is_missing() {
            self.reschedule(now);
        }
    }

    fn verdict(&self, now: Instant) -> (State, Cause) {
        if self.black_hole.is_dead() {
            return (State::Dead, Cause::BlackHole);
        }
        let silent = now.saturating_duration_since(self.silent_since);
        let (silence, cause) = match self.unheard {
            Some(unheard) if unheard > silent => (unheard, Cause::Unheard(unheard)),
            _ => (silent, Cause::Silent(silent)),
        };
        let (suspect, dead) = (self.suspect_limit(), self.dead_limit());
        // At the idle rate silence says nothing before the first miss.
        let counts = self.streams > 0 || self.is_missing();
        if self.state == State::Dead {
            let back = self.recovered >= RECOVER_PROBES && silence < suspect;
            return if back { (State::Live, Cause::Answers) } else { (State::Dead, cause) };
        }
        if counts && silence >= dead {
            (State::Dead, cause)
        } else if self.refused && silent >= suspect {
            (State::Dead, Cause::Refused)
        } else if counts && silence >= suspect {
            (State::Suspect, cause)
        } else if self.refused && silent >= self.refused_limit() {
            (State::Suspect, Cause::Refused)
        } else {
            (State::Live, Cause::Answers)
        }
    }
}

/// `now - time`, or `now` where the clock does not go back so far.
fn before(now: Instant, time: Duration) -> Instant {
    now.checked_sub(time).unwrap_or(now)
}

#[cfg(test)]
mod tests;
