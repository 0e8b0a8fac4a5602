//! A narrow place with a queue, and the senders at it. The transport's part (what is in flight, pacing, what is lost) is
//! kept as simple as the controller needs it.

use crate::bbr::Bbr;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

pub(super) const MTU: u64 = 1_452;
/// In bytes per second.
pub(super) const MBIT: f64 = 1e6 / 8.0;

/// What is between the senders and their receivers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Bytes per second.
    pub(super) rate: f64,
    pub(super) rtt: Duration,
    /// What would wait longer is dropped.
    pub(super) queue: Duration,
    pub(super) loss: f64,
    /// Acknowledgements leave only at multiples of this: a receiver is not always scheduled.
    pub(super) tick: Duration,
}

pub(super) const WAN: Line = Line {
    rate: 100.0 * MBIT,
    rtt: Duration::from_millis(50),
    queue: Duration::from_millis(50),
    loss: 0.0,
    tick: Duration::from_millis(1),
};

pub(super) enum Kind {
    Model(Box<Bbr>),
    /// What else is on the way.
    Reno {
        window: u64,
        cut_at: Duration,
    },
}

struct Sender {
    kind: Kind,
    /// Sent and not yet acknowledged or lost: number, and when.
    flight: BTreeMap<u64, Duration>,
    next: u64,
    tokens: f64,
    tokens_at: Duration,
    smoothed: Duration,
    arrived: u64,
}

impl Sender {
    fn window(&self) -> u64 {
        match &self.kind {
            Kind::Model(bbr) => bbr.window,
            Kind::Reno { window, .. } => *window,
        }
    }

    fn in_flight(&self) -> u64 {
        self.flight.len() as u64 * MTU
    }

    /// When the next packet may go, if not now. As the transport paces.
    fn paced(&mut self, now: Duration) -> Option<Duration> {
        let per_second = 1.25 * self.window() as f64 / self.smoothed.as_secs_f64();
        let most = (per_second * 0.001_6).clamp(10.0 * MTU as f64, 256.0 * MTU as f64);
        self.tokens = (self.tokens + (now - self.tokens_at).as_secs_f64() * per_second).min(most);
        self.tokens_at = now;
        let missing = most - self.tokens;
        (self.tokens < MTU as f64).then(|| now + Duration::from_secs_f64(missing / per_second))
    }

    /// Packets arrive in order here, so what was sent before an acknowledged one and is still in flight is lost.
    fn acked(&mut self, number: u64, start: Instant, now: Duration) {
        let mut lost = 0;
        while let Some(oldest) = self.flight.first_entry().filter(|oldest| *oldest.key() <= number) {
            let own = *oldest.key() == number;
            let sent = oldest.remove();
            if !own {
                lost += MTU;
                continue;
            }
            self.smoothed = (self.smoothed * 7 + (now - sent)) / 8;
            match &mut self.kind {
                Kind::Model(bbr) => bbr.acked(start + sent, MTU, start + now),
                Kind::Reno { window, .. } => *window += MTU * MTU / *window,
            }
        }
        if lost == 0 {
            return;
        }
        match &mut self.kind {
            Kind::Model(bbr) => bbr.lost(lost, false),
            Kind::Reno { window, cut_at } if now > *cut_at + self.smoothed => {
                *window = (*window / 2).max(2 * MTU);
                *cut_at = now;
            }
            Kind::Reno { .. } => {}
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Arrive(u64),
    Ack(u64),
}

/// What became of a while.
#[derive(Debug)]
pub(super) struct Seen {
    /// Of the line's rate, for each sender.
    pub(super) shares: Vec<f64>,
    /// How long packets stood in the queue on average.
    pub(super) wait: Duration,
    /// Of the packets that were sent, at the full queue.
    pub(super) dropped: f64,
}

impl Seen {
    pub(super) fn total(&self) -> f64 {
        self.shares.iter().sum()
    }
}

pub(super) struct World {
    pub(super) line: Line,
    start: Instant,
    now: Duration,
    free_at: Duration,
    senders: Vec<Sender>,
    /// Time, order of making, sender, event.
    events: BinaryHeap<Reverse<(Duration, u64, usize, Event)>>,
    made: u64,
    draws: fastrand::Rng,
    dropped: u64,
    waited: Duration,
    passed: u32,
}

impl World {
    pub(super) fn with_models(line: Line, count: usize) -> Self {
        let mut world = Self {
            line,
            start: Instant::now(),
            now: Duration::ZERO,
            free_at: Duration::ZERO,
            senders: Vec::new(),
            events: BinaryHeap::new(),
            made: 0,
            draws: fastrand::Rng::with_seed(7),
            dropped: 0,
            waited: Duration::ZERO,
            passed: 0,
        };
        for _ in 0..count {
            world.add(Kind::Model(Box::new(Bbr::new(128 << 10, MTU as u16, world.start, world.start))));
        }
        world
    }

    pub(super) fn add(&mut self, kind: Kind) {
        let who = self.senders.len();
        self.senders.push(Sender {
            kind,
            flight: BTreeMap::new(),
            next: 0,
            tokens: 10.0 * MTU as f64,
            tokens_at: Duration::ZERO,
            smoothed: Duration::from_millis(100),
            arrived: 0,
        });
        // Not all at the same time.
        self.at(Duration::from_millis(37 * who as u64), who, Event::Wake);
    }

    /// The controller of the first sender, and the time.
    pub(super) fn model(&mut self) -> (Instant, &mut Bbr) {
        let now = self.start + self.now;
        match &mut self.senders[0].kind {
            Kind::Model(bbr) => (now, bbr),
            Kind::Reno { .. } => panic!("the first sender has a model"),
        }
    }

    fn at(&mut self, when: Duration, who: usize, event: Event) {
        self.made += 1;
        self.events.push(Reverse((when, self.made, who, event)));
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.events.peek().is_some_and(|Reverse((when, ..))| *when <= end) {
            let Some(Reverse((when, _, who, event))) = self.events.pop() else { break };
            self.now = when;
            match event {
                Event::Wake => self.send(who),
                Event::Arrive(number) => {
                    self.senders[who].arrived += MTU;
                    let leaves = self.next_tick();
                    self.at(leaves + self.line.rtt / 2, who, Event::Ack(number));
                }
                Event::Ack(number) => self.acked(who, number),
            }
        }
        self.now = end;
    }

    fn next_tick(&self) -> Duration {
        let tick = self.line.tick.as_nanos().max(1);
        let next = self.now.as_nanos().div_ceil(tick) * tick;
        Duration::from_nanos(u64::try_from(next).expect("a test is short"))
    }

    fn acked(&mut self, who: usize, number: u64) {
        let (start, now) = (self.start, self.now);
        let sender = &mut self.senders[who];
        sender.acked(number, start, now);
        let in_flight = sender.in_flight();
        if let Kind::Model(bbr) = &mut sender.kind {
            bbr.end_acks(in_flight, false, start + now);
        }
        self.send(who);
    }

    fn send(&mut self, who: usize) {
        let now = self.now;
        loop {
            let sender = &mut self.senders[who];
            if sender.in_flight() + MTU >= sender.window() {
                return;
            }
            if let Some(later) = sender.paced(now) {
                return self.at(later, who, Event::Wake);
            }
            sender.tokens -= MTU as f64;
            let number = sender.next;
            sender.next += 1;
            sender.flight.insert(number, now);
            if let Kind::Model(bbr) = &mut sender.kind {
                bbr.sent(MTU, self.start + now);
            }
            let wait = self.free_at.saturating_sub(now);
            if wait > self.line.queue {
                self.dropped += 1;
            } else if self.draws.f64() >= self.line.loss {
                self.waited += wait;
                self.passed += 1;
                self.free_at = now + wait + Duration::from_secs_f64(MTU as f64 / self.line.rate);
                self.at(self.free_at + self.line.rtt / 2, who, Event::Arrive(number));
            }
        }
    }

    /// Runs, and says what became of it.
    pub(super) fn measure(&mut self, time: Duration) -> Seen {
        let arrived: Vec<u64> = self.senders.iter().map(|sender| sender.arrived).collect();
        let sent = self.sent();
        (self.dropped, self.waited, self.passed) = (0, Duration::ZERO, 0);
        self.run_for(time);
        let all = self.line.rate * time.as_secs_f64();
        let share = |(sender, before): (&Sender, u64)| (sender.arrived - before) as f64 / all;
        Seen {
            shares: self.senders.iter().zip(arrived).map(share).collect(),
            wait: self.waited / self.passed.max(1),
            dropped: self.dropped as f64 / (self.sent() - sent).max(1) as f64,
        }
    }

    fn sent(&self) -> u64 {
        self.senders.iter().map(|sender| sender.next).sum()
    }
}
