//! A pair on a bench: two ends of one connection, in virtual time, with a link that delays and loses.

use super::*;
use crate::some_instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// One end, and what it has said.
struct End {
    live: Liveness,
    states: Vec<(Instant, State, Cause)>,
    other: Vec<Event>,
    sent: u64,
}

struct Pair {
    ends: [End; 2],
    /// (arrives, to which end, probe), in order of arrival.
    wire: BTreeMap<(Instant, u64), (usize, ProbeOut)>,
    number: u64,
    delay: Duration,
    /// From this end to the other, 0 to 1.
    loss: [f64; 2],
    /// Padded probes are lost.
    small_only: bool,
    /// This end sleeps until then: what comes waits for it.
    asleep: Option<(usize, Instant)>,
    rng: fastrand::Rng,
    now: Instant,
}

impl Pair {
    fn new(rtt: Duration, seed: u64) -> Self {
        let now = some_instant();
        let end = |seed| End {
            live: Liveness::new(Timers::default(), Some(rtt), seed, now),
            states: Vec::new(),
            other: Vec::new(),
            sent: 0,
        };
        Self {
            ends: [end(seed), end(seed + 1)],
            wire: BTreeMap::new(),
            number: 0,
            delay: rtt / 2,
            loss: [0.0; 2],
            small_only: false,
            asleep: None,
            rng: fastrand::Rng::with_seed(seed),
            now,
        }
    }

    fn with_stream(rtt: Duration, seed: u64) -> Self {
        let mut pair = Self::new(rtt, seed);
        for end in 0..2 {
            pair.ends[end].live.handle_stream_opened(StreamId([1; 16]), false, pair.now);
        }
        pair
    }

    fn drain(&mut self, at: usize) {
        while let Some(out) = self.ends[at].live.poll_transmit() {
            self.ends[at].sent += 1;
            let lost = self.rng.f64() < self.loss[at] || (self.small_only && out.padded);
            if !lost {
                self.number += 1;
                let arrives = self.awake(1 - at, self.now + self.delay);
                self.wire.insert((arrives, self.number), (1 - at, out));
            }
        }
        while let Some(event) = self.ends[at].live.poll_event() {
            match event {
                Event::State(state, cause) => self.ends[at].states.push((self.now, state, cause)),
                other => self.ends[at].other.push(other),
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain(0);
            self.drain(1);
            let timers =
                [0, 1].map(|at| self.awake(at, self.ends[at].live.poll_timeout().expect("always probed").0));
            let packet = self.wire.keys().next().copied();
            let next = timers[0].min(timers[1]).min(packet.map_or(end + SECOND, |(at, _)| at));
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            match packet {
                Some(key) if key.0 <= next => {
                    let (to, out) = self.wire.remove(&key).expect("just seen");
                    self.ends[to].live.handle_probe(out.probe, self.now);
                }
                _ => {
                    for (end, due) in self.ends.iter_mut().zip(timers) {
                        if due <= next {
                            end.live.handle_timeout(self.now);
                        }
                    }
                }
            }
        }
    }

    /// When an end sees to what is due at a time.
    fn awake(&self, end: usize, due: Instant) -> Instant {
        match self.asleep {
            Some((asleep, until)) if asleep == end => due.max(until),
            _ => due,
        }
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|at| self.ends[at].live.state())
    }

    /// When this end first said so.
    fn first(&self, end: usize, state: State) -> Option<Instant> {
        self.ends[end].states.iter().find(|(_, s, _)| *s == state).map(|(at, ..)| *at)
    }
}

#[test]
fn an_idle_connection_is_probed_each_second_and_stays_live() {
    let mut pair = Pair::new(20 * MS, 1);
    pair.run_for(600 * SECOND);
    for end in &pair.ends {
        assert!(end.states.is_empty(), "{:?}", end.states);
        assert!((590..700).contains(&end.sent), "{}", end.sent);
    }
    let rtt = pair.ends[0].live.rtt().expect("measured");
    assert!(rtt.abs_diff(20 * MS) < MS, "{rtt:?}");
}

#[test]
fn streams_raise_the_rate_to_ten_a_second() {
    let mut pair = Pair::with_stream(20 * MS, 1);
    pair.run_for(60 * SECOND);
    for end in &pair.ends {
        assert!(end.states.is_empty(), "{:?}", end.states);
        assert!((590..720).contains(&end.sent), "{}", end.sent);
    }
}

#[test]
fn a_cut_is_suspect_after_300_ms_and_dead_after_600() {
    for rtt in [0, 20, 80] {
        let mut pair = Pair::with_stream(rtt * MS, 3);
        pair.run_for(10 * SECOND);
        pair.loss = [1.0; 2];
        let cut = pair.now;
        pair.run_for(SECOND);
        for end in 0..2 {
            let suspect = pair.first(end, State::Suspect).expect("suspect") - cut;
            let dead = pair.first(end, State::Dead).expect("dead") - cut;
            // Counted from the last packet, which came up to one interval before the cut, or one way after it.
            assert!((200 * MS..=400 * MS + rtt * MS).contains(&suspect), "rtt {rtt}: {suspect:?}");
            assert!((500 * MS..=700 * MS + rtt * MS).contains(&dead), "rtt {rtt}: {dead:?}");
        }
    }
}

#[test]
fn long_round_trips_have_longer_limits() {
    let mut pair = Pair::with_stream(300 * MS, 3);
    pair.run_for(30 * SECOND);
    assert!(pair.ends.iter().all(|end| end.states.is_empty()));
    pair.loss = [1.0; 2];
    let cut = pair.now;
    pair.run_for(3 * SECOND);
    let suspect = pair.first(0, State::Suspect).expect("suspect") - cut;
    assert!((800 * MS..1_200 * MS).contains(&suspect), "{suspect:?}");
}

#[test]
fn a_cut_of_one_direction_is_seen_by_both_ends() {
    let mut pair = Pair::with_stream(20 * MS, 4);
    pair.run_for(10 * SECOND);
    pair.loss = [1.0, 0.0];
    let cut = pair.now;
    pair.run_for(SECOND);
    assert_eq!(pair.states(), [State::Dead; 2]);
    assert!(
        matches!(pair.ends[0].states[0], (_, State::Suspect, Cause::Unheard(_))),
        "{:?}",
        pair.ends[0].states
    );
    assert!(
        matches!(pair.ends[1].states[0], (_, State::Suspect, Cause::Silent(_))),
        "{:?}",
        pair.ends[1].states
    );
    for end in 0..2 {
        assert!(pair.first(end, State::Dead).expect("dead") - cut <= 800 * MS);
    }
}

#[test]
fn an_idle_connection_is_given_up_too() {
    let mut pair = Pair::new(20 * MS, 5);
    pair.run_for(10 * SECOND);
    pair.loss = [1.0; 2];
    pair.run_for(2 * SECOND);
    assert_eq!(pair.states(), [State::Dead; 2]);
}

#[test]
fn a_dead_connection_that_answers_is_live_again() {
    let mut pair = Pair::with_stream(20 * MS, 6);
    pair.run_for(5 * SECOND);
    pair.loss = [1.0; 2];
    pair.run_for(5 * SECOND);
    assert_eq!(pair.states(), [State::Dead; 2]);
    pair.loss = [0.0; 2];
    pair.run_for(2 * SECOND);
    assert_eq!(pair.states(), [State::Live; 2]);
}

#[test]
fn loss_of_30_percent_each_way_kills_nothing() {
    for seed in 0..8 {
        let mut pair = Pair::with_stream(50 * MS, 100 + seed);
        pair.run_for(SECOND);
        pair.loss = [0.3; 2];
        pair.run_for(1_800 * SECOND);
        for (at, end) in pair.ends.iter().enumerate() {
            assert!(pair.first(at, State::Dead).is_none(), "seed {seed}: {:?}", end.states);
        }
        let loss = pair.ends[0].live.loss();
        assert!(
            (150..450).contains(&loss.in_permille) && (150..450).contains(&loss.out_permille),
            "{loss:?}"
        );
    }
}

#[test]
fn loss_of_5_percent_alarms_less_than_once_a_day() {
    let mut alarms = 0;
    for seed in 0..4 {
        let mut pair = Pair::with_stream(50 * MS, 200 + seed);
        pair.loss = [0.05; 2];
        pair.run_for(6 * 3_600 * SECOND);
        alarms += pair.ends.iter().map(|end| end.states.len()).sum::<usize>();
    }
    assert!(alarms <= 2, "{alarms} in a day of four paths of six hours");
}

#[test]
fn opening_a_stream_on_an_idle_connection_looks_at_once() {
    let mut pair = Pair::new(20 * MS, 7);
    pair.run_for(10 * SECOND + 700 * MS);
    let sent = pair.ends[1].sent;
    pair.ends[0].live.handle_stream_opened(StreamId([1; 16]), true, pair.now);
    pair.run_for(30 * MS);
    assert_eq!(pair.ends[1].sent, sent + 1, "the probe asks, and is answered at once");
    pair.loss = [1.0; 2];
    let cut = pair.now;
    pair.run_for(SECOND);
    let suspect = pair.first(0, State::Suspect).expect("suspect") - cut;
    assert!(suspect <= 350 * MS, "{suspect:?}");
}

#[test]
fn short_streams_that_follow_each_other_cost_no_probes_of_their_own() {
    let mut pair = Pair::new(2 * MS, 7);
    pair.run_for(SECOND);
    let sent = |pair: &Pair| pair.ends.iter().map(|end| end.sent).sum::<u64>();
    let before = sent(&pair);
    for number in 0..100_u8 {
        let stream = StreamId([number; 16]);
        pair.ends[0].live.handle_stream_opened(stream, true, pair.now);
        pair.ends[1].live.handle_stream_opened(stream, false, pair.now);
        pair.run_for(5 * MS);
        pair.ends[0].live.handle_stream_answered(stream, pair.now);
        pair.run_for(3 * MS);
        pair.ends[0].live.handle_stream_closed(stream, pair.now);
        pair.ends[1].live.handle_stream_closed(stream, pair.now);
        pair.run_for(2 * MS);
    }
    // In that second each end sends ten or eleven at the busy rate, and a few more for the first look.
    let probes = sent(&pair) - before;
    assert!(probes <= 30, "{probes} probes for a hundred streams in a second");
}

#[test]
fn an_open_without_an_answer_asks() {
    let mut pair = Pair::with_stream(20 * MS, 8);
    pair.run_for(10 * SECOND);
    let stream = StreamId([2; 16]);
    pair.ends[0].live.handle_stream_opened(stream, true, pair.now);
    let due = pair.now + 150 * MS;
    let timeouts = |pair: &Pair| pair.ends[0].live.opens.get(&stream).copied();
    assert_eq!(timeouts(&pair), Some(due));
    pair.run_for(200 * MS);
    assert_eq!(timeouts(&pair), None, "the miss was counted, once");
    assert_eq!(pair.states(), [State::Live; 2], "packets come, so the path lives");
}

#[test]
fn a_process_that_slept_begins_its_count_again() {
    let mut pair = Pair::with_stream(20 * MS, 9);
    pair.run_for(10 * SECOND);
    let now = pair.now + 5 * SECOND;
    pair.ends[0].live.handle_timeout(now);
    assert_eq!(pair.ends[0].live.state(), State::Live);
    // Always late, and never a packet: it is found out all the same.
    let mut now = now;
    for _ in 0..40 {
        now += 200 * MS;
        pair.ends[0].live.handle_timeout(now);
    }
    assert_eq!(pair.ends[0].live.state(), State::Dead);
}

/// An idle connection to a peer that `befalls` again and again, for 5 s each time, and then once more with a stream on
/// it: how long after that it is suspect, and dead. It had few probes by which to forget what was before.
fn found_after_outages(befalls: fn(&mut Pair, bool)) -> (Duration, Duration) {
    let mut pair = Pair::new(20 * MS, 13);
    pair.run_for(10 * SECOND);
    for _ in 0..5 {
        befalls(&mut pair, true);
        pair.run_for(5 * SECOND);
        befalls(&mut pair, false);
        pair.run_for(10 * SECOND);
        assert_eq!(pair.states(), [State::Live; 2], "{:?}", pair.ends[0].states);
    }
    pair.ends[0].states.clear();
    pair.ends[0].live.handle_stream_opened(StreamId([1; 16]), true, pair.now);
    let from = pair.now;
    befalls(&mut pair, true);
    pair.run_for(2 * SECOND);
    let first = |state| pair.first(0, state).expect("it is seen") - from;
    (first(State::Suspect), first(State::Dead))
}

#[test]
fn a_peer_that_slept_again_and_again_is_found_as_soon_as_the_first_time() {
    let (suspect, dead) = found_after_outages(|pair, sleeps| {
        pair.asleep = sleeps.then(|| (1, pair.now + 5 * SECOND));
    });
    assert!(suspect <= 400 * MS && dead <= 700 * MS, "{suspect:?} {dead:?}");
}

#[test]
fn a_path_that_was_cut_again_and_again_is_found_as_soon_as_the_first_time() {
    let (suspect, dead) = found_after_outages(|pair, cut| {
        pair.loss = if cut { [1.0; 2] } else { [0.0; 2] };
    });
    assert!(suspect <= 400 * MS && dead <= 700 * MS, "{suspect:?} {dead:?}");
}

#[test]
fn a_refusal_shortens_the_wait_and_one_packet_disproves_it() {
    let mut pair = Pair::with_stream(20 * MS, 10);
    pair.run_for(10 * SECOND);
    pair.ends[0].live.handle_refused(pair.now);
    pair.run_for(2 * SECOND);
    assert!(pair.ends[0].states.is_empty(), "forged: {:?}", pair.ends[0].states);

    pair.loss = [1.0; 2];
    let cut = pair.now;
    pair.run_for(20 * MS);
    pair.ends[0].live.handle_refused(pair.now);
    pair.run_for(SECOND);
    assert!(pair.first(0, State::Suspect).expect("suspect") - cut < 200 * MS);
    assert!(pair.first(0, State::Dead).expect("dead") - cut < 400 * MS);
}

#[test]
fn draining_is_told_at_once() {
    let mut pair = Pair::new(20 * MS, 11);
    pair.run_for(5 * SECOND + 300 * MS);
    pair.ends[0].live.handle_draining(true, pair.now);
    pair.run_for(15 * MS);
    assert!(pair.ends[1].live.peer_draining());
    assert_eq!(pair.ends[1].other, [Event::PeerDraining(true)]);
}

#[test]
fn data_that_is_not_acknowledged_is_a_black_hole() {
    let mut pair = Pair::with_stream(20 * MS, 12);
    pair.run_for(5 * SECOND);
    pair.ends[0].live.handle_unacked(Some(pair.now), 60 * MS, pair.now);
    pair.run_for(450 * MS);
    assert!(pair.ends[0].other.is_empty());
    pair.run_for(100 * MS);
    assert_eq!(pair.ends[0].other, [Event::LowerMtu]);
    pair.run_for(600 * MS);
    assert!(
        matches!(pair.ends[0].states[..], [(_, State::Dead, Cause::BlackHole)]),
        "{:?}",
        pair.ends[0].states
    );
    pair.run_for(5 * SECOND);
    assert_eq!(pair.ends[0].live.state(), State::Dead, "it stays one");
}

#[test]
fn padded_probes_find_a_black_hole_without_data() {
    let mut pair = Pair::with_stream(20 * MS, 13);
    pair.run_for(5 * SECOND);
    pair.small_only = true;
    pair.run_for(8 * SECOND);
    assert!(pair.ends[0].other.contains(&Event::LowerMtu), "{:?}", pair.ends[0].other);
}

#[test]
fn a_peer_that_reports_nonsense_changes_nothing() {
    let mut pair = Pair::with_stream(20 * MS, 14);
    pair.run_for(5 * SECOND);
    let end = &mut pair.ends[0].live;
    for (sequence, heard, heard_count) in [(u64::MAX, u64::MAX, u64::MAX), (0, 0, 0), (5, 1 << 40, 3)] {
        let probe = Probe { sequence, heard, held_us: u32::MAX, heard_count, draining: false, asks: true };
        end.handle_probe(probe, pair.now);
    }
    assert!(end.loss().in_permille <= 1_000);
    assert_eq!(end.state(), State::Live);
}
