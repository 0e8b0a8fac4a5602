//! Senders at one narrow place, in virtual time.

mod line;

use super::*;
use line::{Kind, Line, MBIT, MTU, WAN, World};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn one_sender_fills_the_line_and_keeps_its_queue_short() {
    for (line, most) in [
        (WAN, ms(15)),
        (Line { tick: ms(5), ..WAN }, ms(18)),
        (Line { rtt: ms(2), ..WAN }, ms(4)),
        (Line { rtt: ms(150), queue: ms(300), ..WAN }, ms(50)),
        (Line { rate: 2.0 * MBIT, ..WAN }, ms(45)),
    ] {
        let mut world = World::with_models(line, 1);
        world.run_for(seconds(3));
        let seen = world.measure(seconds(6));
        assert!(seen.total() > 0.93, "{seen:?} at {line:?}");
        assert!(seen.wait < most, "{seen:?} at {line:?}");
        assert!(seen.dropped < 0.001, "{seen:?} at {line:?}");
    }
}

#[test]
fn the_rate_is_found_within_a_second() {
    let seen = World::with_models(WAN, 1).measure(seconds(1));
    assert!(seen.total() > 0.7, "{seen:?}");
}

#[test]
fn loss_that_is_no_sign_of_a_queue_does_not_slow_it_down() {
    for (loss, least) in [(0.01, 0.93), (0.03, 0.88), (0.05, 0.75)] {
        let mut world = World::with_models(Line { loss, ..WAN }, 1);
        world.run_for(seconds(3));
        let seen = world.measure(seconds(6));
        assert!(seen.total() > least, "{seen:?} at {loss}");
    }
}

#[test]
fn several_senders_share_the_line_and_keep_the_queue_short() {
    for (line, most) in
        [(WAN, ms(22)), (Line { rtt: ms(2), ..WAN }, ms(10)), (Line { loss: 0.01, ..WAN }, ms(22))]
    {
        let mut world = World::with_models(line, 4);
        world.run_for(seconds(5));
        let seen = world.measure(seconds(6));
        assert!(seen.total() > 0.93, "{seen:?} at {line:?}");
        assert!(seen.shares.iter().all(|share| *share > 0.1), "{seen:?} at {line:?}");
        assert!(seen.wait < most, "{seen:?} at {line:?}");
    }
}

#[test]
fn a_queue_that_is_too_short_shows_as_loss_and_is_not_overrun() {
    let line = Line { queue: ms(5), ..WAN };
    for (count, most) in [(1, 0.025), (2, 0.04)] {
        let mut world = World::with_models(line, count);
        world.run_for(seconds(3));
        let seen = world.measure(seconds(6));
        assert!(seen.total() > 0.9, "{seen:?}");
        assert!(seen.dropped < most, "{seen:?}");
    }
}

#[test]
fn a_sender_that_halves_with_loss_keeps_its_share_beside_it_and_leaves_one() {
    for queue in [25, 50, 200] {
        let mut world = World::with_models(Line { queue: ms(queue), ..WAN }, 1);
        world.add(Kind::Reno { window: 128 << 10, cut_at: Duration::ZERO });
        world.run_for(seconds(5));
        let seen = world.measure(seconds(20));
        assert!(seen.shares.iter().all(|share| *share > 0.25), "{seen:?} with a queue of {queue} ms");
    }
}

#[test]
fn a_line_that_changes_is_followed() {
    let slower = Line { rate: 20.0 * MBIT, ..WAN };
    let longer = Line { rtt: ms(120), ..WAN };
    for (before, after) in [(WAN, slower), (slower, WAN), (WAN, longer), (longer, WAN)] {
        let mut world = World::with_models(before, 1);
        world.run_for(seconds(6));
        world.line = after;
        world.run_for(seconds(12));
        let seen = world.measure(seconds(6));
        assert!(seen.total() > 0.9, "{seen:?} after {after:?}");
        assert!(seen.wait < ms(40), "{seen:?} after {after:?}");
    }
}

#[test]
fn who_sends_little_neither_gains_nor_loses_a_window() {
    let start = Instant::now();
    let mut bbr = Bbr::new(128 << 10, 1_452, start, start);
    let before = bbr.window();
    for number in 0..1_000 {
        let sent = start + ms(100 * number);
        bbr.sent(1_000, sent);
        bbr.acked(sent, 1_000, sent + ms(50));
        bbr.end_acks(0, true, sent + ms(50));
    }
    assert_eq!(bbr.window(), before);
    assert_eq!(bbr.path.min_rtt, Some(ms(50)));
}

#[test]
fn a_path_on_which_nothing_gets_through_begins_again_from_little() {
    let mut world = World::with_models(WAN, 1);
    world.run_for(seconds(3));
    let (now, bbr) = world.model();
    bbr.lost(100 * MTU, true);
    assert_eq!(bbr.window(), WINDOW_MIN * MTU);
    for number in 0..2_000 {
        bbr.sent(MTU, now + Duration::from_micros(100 * number));
        bbr.acked(now + Duration::from_micros(100 * number), MTU, now + ms(50));
        bbr.end_acks(10 * MTU, false, now + ms(50) + Duration::from_micros(100 * number));
    }
    assert!(bbr.window() > 100 * MTU, "{}", bbr.window());
}

#[test]
fn what_is_remembered_is_bounded() {
    let start = Instant::now();
    let mut bbr = Bbr::new(128 << 10, 1_452, start, start);
    for number in 0..100_000 {
        bbr.sent(1_452, start + ms(number));
    }
    assert_eq!(bbr.delivered.sent.len(), SENT_MAX);
    let mut highest = Highest::default();
    for round in 0..1_000 {
        highest.note(round, 1_000.0 - round as f64);
        highest.note(round, 1_000.5 - round as f64);
    }
    assert_eq!(highest.values.len() as u64, RATE_ROUNDS + 1);
    assert_eq!(highest.get(), Some(1_000.5 - (999 - RATE_ROUNDS) as f64));
}
