//! The decisions, without sockets: claims about chances and times, and properties of any sequence.

use proptest::prelude::*;
use relay::pipe::{BYTES_MAX, COUNT_MAX, Pipe};
use relay::shaper::Passage;
use relay::{Distribution, Jitter, Loss, Rate, Reason, Reorder, Shape, Shaper, Verdict};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Every run begins here.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
const SIZE: usize = 1_000;
const MS: Duration = Duration::from_millis(1);

fn passage(verdict: Verdict) -> Option<Passage> {
    match verdict {
        Verdict::Pass { passage, .. } => Some(passage),
        Verdict::Dropped(_) => None,
    }
}

/// What becomes of `count` packets, one each millisecond.
fn run(shape: Shape, seed: u64, count: u32) -> Vec<Verdict> {
    let mut shaper = Shaper::new(shape, seed);
    (0..count).map(|n| shaper.admit(SIZE, *BEGIN + MS * n)).collect()
}

fn lost(verdicts: &[Verdict]) -> Vec<bool> {
    verdicts.iter().map(|verdict| *verdict == Verdict::Dropped(Reason::Loss)).collect()
}

fn count(of: &[bool]) -> f64 {
    of.iter().filter(|is| **is).count() as f64
}

/// Fails when `seen` of `count` are not within four standard deviations of the share. `spread` is how much wider they
/// are than those of independent draws.
fn within_four_sigma(seen: f64, count: f64, share: f64, spread: f64) {
    let sigma = (count * share * (1.0 - share)).sqrt() * spread;
    assert!((seen - count * share).abs() <= 4.0 * sigma, "{seen} of {count} at {share}, sigma {sigma}");
}

#[test]
fn loss_is_within_four_sigma_of_the_binomial() {
    for share in [0.001, 0.01, 0.1, 0.3, 0.9] {
        for seed in 0..5 {
            let verdicts = run(Shape { loss: Loss::uniform(share), ..Shape::default() }, seed, 100_000);
            within_four_sigma(count(&lost(&verdicts)), 100_000.0, share, 1.0);
        }
    }
}

#[test]
fn uniform_losses_do_not_depend_on_the_one_before() {
    let share = 0.3;
    let lost = lost(&run(Shape { loss: Loss::uniform(share), ..Shape::default() }, 3, 100_000));
    let after: Vec<bool> = lost.windows(2).filter(|pair| pair[0]).map(|pair| pair[1]).collect();
    within_four_sigma(count(&after), after.len() as f64, share, 1.0);
}

#[test]
fn bursts_have_the_share_and_the_length_that_were_asked() {
    for (share, burst) in [(0.01, 3.0), (0.1, 8.0), (0.3, 20.0)] {
        let lost = lost(&run(Shape { loss: Loss { share, burst }, ..Shape::default() }, 5, 400_000));
        // The chain forgets at this speed, which makes the sum as much wider.
        let memory: f64 = 1.0 - 1.0 / burst - share / ((1.0 - share) * burst);
        within_four_sigma(count(&lost), 400_000.0, share, ((1.0 + memory) / (1.0 - memory)).sqrt());
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
        let length = count(&lost) / bursts;
        // Lengths are geometric: their standard deviation is about their mean.
        assert!((length - burst).abs() <= 4.0 * burst / bursts.sqrt(), "{length} for {burst}");
    }
}

#[test]
fn a_new_loss_does_not_begin_in_a_burst_of_the_old_one() {
    let (seeds, share) = (2_000, 0.01);
    let shape = |loss| Shape { loss, ..Shape::default() };
    let lost: Vec<bool> = (0..seeds)
        .map(|seed| {
            let mut shaper = Shaper::new(shape(Loss::uniform(1.0)), seed);
            assert_eq!(shaper.admit(SIZE, *BEGIN), Verdict::Dropped(Reason::Loss));
            assert_eq!(shaper.reshape(shape(Loss { share, burst: 1_000.0 }), *BEGIN), None);
            passage(shaper.admit(SIZE, *BEGIN)).is_none()
        })
        .collect();
    within_four_sigma(count(&lost), seeds as f64, share, 1.0);
}

#[test]
fn all_or_nothing_is_lost_when_that_is_asked() {
    for burst in [0.0, 10.0] {
        let shape = |share| Shape { loss: Loss { share, burst }, ..Shape::default() };
        assert_eq!(count(&lost(&run(shape(0.0), 1, 1_000))), 0.0);
        assert_eq!(count(&lost(&run(shape(1.0), 1, 1_000))), 1_000.0);
    }
}

#[test]
fn the_rate_is_within_a_twentieth_over_some_megabytes() {
    // The last is 2.24 ns for the smallest packet.
    for bits_per_second in [1_000_000, 20_000_000, 1_000_000_000, 100_000_000_000] {
        for size in [28, 1_500] {
            let rate = Rate { bits_per_second, queue_bytes: 64_000 };
            let mut shaper = Shaper::new(Shape { rate: Some(rate), ..Shape::default() }, 1);
            // Twice as fast as it lets through.
            let pause = Duration::from_nanos(size as u64 * 8 * 1_000_000_000 / bits_per_second / 2);
            let (mut now, mut bytes, mut end) = (*BEGIN, 0, *BEGIN);
            while bytes < 4_000_000 {
                if let Some(passage) = passage(shaper.admit(size, now)) {
                    bytes += size;
                    end = passage.due;
                }
                now += pause;
            }
            let measured = bytes as f64 * 8.0 / (end - *BEGIN).as_secs_f64();
            let error = measured / bits_per_second as f64 - 1.0;
            assert!(error.abs() < 0.05, "{measured} for {bits_per_second} with packets of {size}");
        }
    }
}

#[test]
fn a_narrow_place_holds_as_many_bytes_as_it_may_and_drops_the_others() {
    let rate = Rate { bits_per_second: 8_000_000, queue_bytes: 10 * SIZE };
    let mut shaper = Shaper::new(Shape { rate: Some(rate), ..Shape::default() }, 1);
    let verdicts: Vec<_> = (0..30).map(|_| shaper.admit(SIZE, *BEGIN)).collect();
    // 1 ms each; nothing had left yet.
    for (n, verdict) in (1u32..).zip(&verdicts) {
        if n <= 10 {
            assert_eq!(passage(*verdict).map(|passage| passage.due), Some(*BEGIN + MS * n), "packet {n}");
        } else {
            assert_eq!(*verdict, Verdict::Dropped(Reason::Queue), "packet {n}");
        }
    }
    assert!(passage(shaper.admit(SIZE, *BEGIN + MS)).is_some(), "one has left");
    assert!(passage(shaper.admit(SIZE, *BEGIN + MS)).is_none(), "and no second");
}

#[test]
fn an_idle_narrow_place_takes_a_packet_that_its_queue_could_not_hold() {
    let rate = Rate { bits_per_second: 8_000_000, queue_bytes: 0 };
    let mut shaper = Shaper::new(Shape { rate: Some(rate), ..Shape::default() }, 1);
    assert!(passage(shaper.admit(SIZE, *BEGIN)).is_some());
    assert!(passage(shaper.admit(SIZE, *BEGIN)).is_none());
    assert!(passage(shaper.admit(SIZE, *BEGIN + MS)).is_some());
}

#[test]
fn the_mtu_is_the_longest_packet_that_passes() {
    let mut shaper = Shaper::new(Shape { mtu: Some(1_280), ..Shape::default() }, 1);
    assert!(passage(shaper.admit(1_280, *BEGIN)).is_some());
    assert_eq!(shaper.admit(1_281, *BEGIN), Verdict::Dropped(Reason::Mtu));
}

#[test]
fn copies_and_packets_held_back_are_within_four_sigma_of_their_shares() {
    let by = 5 * MS;
    let shape = Shape { duplicate: 0.05, reorder: Reorder { share: 0.2, by }, ..Shape::default() };
    let verdicts = run(shape, 1, 50_000);
    let copied = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Pass { copy: Some(_), .. }));
    within_four_sigma(copied.count() as f64, 50_000.0, 0.05, 1.0);
    let mut held = 0;
    for (n, verdict) in (0u32..).zip(verdicts) {
        let due = passage(verdict).expect("nothing is lost").due - (*BEGIN + MS * n);
        assert!(due == Duration::ZERO || due == by, "{due:?}");
        held += u32::from(due == by);
    }
    within_four_sigma(f64::from(held), 50_000.0, 0.2, 1.0);
}

#[test]
fn jitter_has_the_distribution_that_was_asked() {
    for (distribution, deviation) in
        [(Distribution::Uniform, 10.0 / 3.0f64.sqrt()), (Distribution::Normal, 10.0)]
    {
        let jitter = Jitter { spread: 10 * MS, distribution, reorders: true };
        let verdicts = run(Shape { delay: 100 * MS, jitter, ..Shape::default() }, 1, 50_000);
        let delays: Vec<f64> = (0u32..)
            .zip(verdicts)
            .map(|(n, verdict)| passage(verdict).expect("nothing is lost").due - (*BEGIN + MS * n))
            .map(|delay| delay.as_secs_f64() * 1e3)
            .collect();
        let mean = delays.iter().sum::<f64>() / 50_000.0;
        let variance = delays.iter().map(|delay| (delay - mean).powi(2)).sum::<f64>() / 50_000.0;
        assert!((mean - 100.0).abs() < 4.0 * deviation / 50_000.0f64.sqrt(), "{distribution:?}: {mean}");
        assert!((variance.sqrt() / deviation - 1.0).abs() < 0.02, "{distribution:?}: {variance}");
        if distribution == Distribution::Uniform {
            assert!(delays.iter().all(|delay| (90.0..=110.0).contains(delay)));
        }
    }
}

#[test]
fn jitter_changes_the_order_only_when_it_may() {
    for reorders in [false, true] {
        let jitter = Jitter { spread: 20 * MS, distribution: Distribution::Uniform, reorders };
        let verdicts = run(Shape { delay: 30 * MS, jitter, ..Shape::default() }, 1, 1_000);
        let due: Vec<_> =
            verdicts.into_iter().map(|verdict| passage(verdict).expect("none is lost").due).collect();
        assert_eq!(due.is_sorted(), !reorders);
    }
}

#[test]
fn a_packet_held_back_holds_no_other_back() {
    let reorder = Reorder { share: 1.0, by: 50 * MS };
    let mut shaper = Shaper::new(Shape { reorder, ..Shape::default() }, 1);
    assert_eq!(passage(shaper.admit(SIZE, *BEGIN)).expect("passes").due, *BEGIN + 50 * MS);
    assert_eq!(shaper.reshape(Shape::default(), *BEGIN), None, "nothing waits in front of a narrow place");
    assert_eq!(passage(shaper.admit(SIZE, *BEGIN)).expect("passes").due, *BEGIN);
}

#[test]
fn what_waits_leaves_at_the_new_rate() {
    let shape = |bits_per_second| Shape {
        delay: 5 * MS,
        rate: Some(Rate { bits_per_second, queue_bytes: 100 * SIZE }),
        ..Shape::default()
    };
    let mut shaper = Shaper::new(shape(8_000_000), 1);
    let before: Vec<_> = (0..10).filter_map(|_| passage(shaper.admit(SIZE, *BEGIN))).collect();
    // Four have left at 1 ms each; six wait and now need a quarter of that.
    let retime = shaper.reshape(shape(32_000_000), *BEGIN + 4 * MS).expect("six wait");
    let after: Vec<_> = before.iter().map(|passage| retime.passage(*passage).due - *BEGIN).collect();
    assert_eq!(after[3], 9 * MS, "what is under way keeps its time");
    assert_eq!(after[4], 9 * MS + MS / 4);
    assert_eq!(after[9], 9 * MS + MS * 6 / 4);
    let next = passage(shaper.admit(SIZE, *BEGIN + 4 * MS)).expect("there is room");
    assert_eq!(next.due - *BEGIN, 9 * MS + MS * 7 / 4);
    let retime = shaper.reshape(Shape::default(), *BEGIN + 5 * MS).expect("three wait");
    assert_eq!(retime.passage(next).leaves, *BEGIN + 5 * MS, "without a rate nothing waits");
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let ms = |most: u64| (0..most).prop_map(Duration::from_millis);
    let rate = (1_000u64..100_000_000, 0usize..100_000)
        .prop_map(|(bits_per_second, queue_bytes)| Rate { bits_per_second, queue_bytes });
    let jitter = (ms(100), any::<bool>(), any::<bool>()).prop_map(|(spread, normal, reorders)| Jitter {
        spread,
        distribution: if normal { Distribution::Normal } else { Distribution::Uniform },
        reorders,
    });
    (
        proptest::bool::weighted(0.1),
        proptest::option::of(500usize..2_000),
        (0.0..0.9f64, 0.0..10.0f64).prop_map(|(share, burst)| Loss { share, burst }),
        proptest::option::of(rate),
        ms(200),
        jitter,
        (0.0..0.5f64, ms(100)).prop_map(|(share, by)| Reorder { share, by }),
        0.0..0.5f64,
    )
        .prop_map(|(cut, mtu, loss, rate, delay, jitter, reorder, duplicate)| Shape {
            cut,
            mtu,
            loss,
            rate,
            delay,
            jitter,
            reorder,
            duplicate,
        })
}

/// Shapes, and the packets between one and the next: size, and microseconds since the one before.
fn any_run() -> impl Strategy<Value = Vec<(Shape, Vec<(usize, u64)>)>> {
    let packets = proptest::collection::vec((1usize..3_000, 0u64..20_000), 1..40);
    proptest::collection::vec((any_shape(), packets), 1..6)
}

proptest! {
    /// Whatever is changed while packets are under way: none arrives before it could, those that keep the order arrive
    /// in it, none is lost between, and one seed decides the same twice.
    #[test]
    fn order_and_times_hold_across_all_changes(run in any_run(), seed: u64) {
        let mut now = *BEGIN;
        let (mut shaper, mut twin) = (Shaper::new(Shape::default(), seed), Shaper::new(Shape::default(), seed));
        let mut pipe = Pipe::new(1);
        let mut arrived: Vec<(u32, Instant, bool)> = Vec::new();
        let mut number = 0;
        let (mut passed, mut earliest) = (0, Vec::new());
        for (shape, packets) in run {
            let retime = shaper.reshape(shape, now);
            prop_assert_eq!(retime, twin.reshape(shape, now));
            if let Some(retime) = retime && let Some(last) = pipe.retime(0, retime) {
                shaper.not_before(last);
                twin.not_before(last);
            }
            for (size, pause) in packets {
                now += Duration::from_micros(pause);
                while let Some((number, ordered)) = pipe.take(now) {
                    arrived.push((number, now, ordered));
                }
                let verdict = shaper.admit(size, now);
                prop_assert_eq!(verdict, twin.admit(size, now));
                // At no jitter, no sooner than the delay; with it, no sooner than at once.
                let least = if shape.jitter.spread.is_zero() { shape.delay } else { Duration::ZERO };
                earliest.push(now + least);
                if let Verdict::Pass { passage, copy } = verdict {
                    prop_assert!(passage.leaves >= now && passage.due >= now + least);
                    for passage in [Some(passage), copy].into_iter().flatten() {
                        prop_assert!(pipe.push(0, passage, size, (number, passage.ordered)).is_ok());
                        passed += 1;
                    }
                }
                number += 1;
            }
        }
        while let Some(due) = pipe.next_due() {
            now = now.max(due);
            let (number, ordered) = pipe.take(due).expect("it is due");
            arrived.push((number, now, ordered));
        }
        prop_assert_eq!(arrived.len(), passed);
        prop_assert!(arrived.iter().all(|(number, at, _)| *at >= earliest[*number as usize]));
        prop_assert!(arrived.iter().filter(|(_, _, ordered)| *ordered).map(|(number, _, _)| number).is_sorted());
    }

    /// Each kind of chance is drawn apart: what it does depends on its own setting alone.
    #[test]
    fn a_change_of_one_kind_shifts_no_other(one in any_shape(), other in any_shape(), seed: u64) {
        // Without what drops for reasons that are no chance.
        let tame = |shape: Shape| Shape { cut: false, mtu: None, rate: None, ..shape };
        let (one, other) = (tame(one), tame(other));
        let run = |shape| run(shape, seed, 200);
        prop_assert_eq!(lost(&run(one)), lost(&run(Shape { loss: one.loss, ..other })));
        let whole = |shape| Shape { loss: Loss::default(), ..shape };
        let (one, other) = (whole(one), whole(other));
        let copied = |shape| -> Vec<bool> {
            run(shape).iter().map(|verdict| matches!(verdict, Verdict::Pass { copy: Some(_), .. })).collect()
        };
        prop_assert_eq!(copied(one), copied(Shape { duplicate: one.duplicate, ..other }));
        let in_order = |shape: Shape| -> Vec<bool> {
            let jitter = Jitter { reorders: false, ..shape.jitter };
            run(Shape { jitter, ..shape }).into_iter().filter_map(passage).map(|passage| passage.ordered).collect()
        };
        prop_assert_eq!(in_order(one), in_order(Shape { reorder: one.reorder, ..other }));
        let due = |shape: Shape| -> Vec<Instant> {
            let jitter = Jitter { reorders: true, ..one.jitter };
            let shape = Shape { jitter, delay: one.delay, reorder: Reorder::default(), ..shape };
            run(shape).into_iter().filter_map(passage).map(|passage| passage.due).collect()
        };
        prop_assert_eq!(due(one), due(other));
    }

    /// While it is cut it draws all the same.
    #[test]
    fn a_cut_shifts_no_later_draw(shape in any_shape(), seed: u64, cut_from in 0usize..100, cut_for in 0usize..100) {
        let shape = Shape { cut: false, mtu: None, rate: None, jitter: Jitter { reorders: true, ..shape.jitter }, ..shape };
        let whole = run(shape, seed, 300);
        let mut shaper = Shaper::new(shape, seed);
        for (n, expected) in whole.iter().enumerate() {
            let cut = (cut_from..cut_from + cut_for).contains(&n);
            let now = *BEGIN + MS * u32::try_from(n).expect("few");
            prop_assert_eq!(shaper.reshape(Shape { cut, ..shape }, now), None);
            let verdict = shaper.admit(SIZE, now);
            prop_assert_eq!(verdict, if cut { Verdict::Dropped(Reason::Cut) } else { *expected });
        }
    }
}

fn at(due: Instant) -> Passage {
    Passage { leaves: due, due, ordered: true }
}

#[test]
fn a_full_lane_takes_no_more_and_leaves_the_others_their_room() {
    let mut pipe = Pipe::new(2);
    for _ in 0..COUNT_MAX {
        assert_eq!(pipe.push(0, at(*BEGIN), 1, ()), Ok(()));
    }
    assert_eq!(pipe.push(0, at(*BEGIN), 1, ()), Err(()), "too many");
    assert_eq!(pipe.push(1, at(*BEGIN), BYTES_MAX, ()), Ok(()));
    assert_eq!(pipe.push(1, at(*BEGIN), 1, ()), Err(()), "too many bytes");
    assert_eq!(pipe.push(2, at(*BEGIN), 1, ()), Err(()), "no such lane");
    assert!(pipe.take(*BEGIN).is_some());
    assert_eq!(pipe.push(0, at(*BEGIN), 1, ()), Ok(()), "one has gone");
    assert_eq!((pipe.count(0), pipe.count(1)), (COUNT_MAX, 1));
}

#[test]
fn of_packets_due_at_once_the_first_comes_first() {
    let mut pipe = Pipe::new(1);
    for n in 0..100 {
        pipe.push(0, at(*BEGIN + MS * (n % 2)), SIZE, n).expect("there is room");
    }
    let now = *BEGIN + MS;
    assert!(pipe.take(*BEGIN - MS).is_none(), "not due");
    let order: Vec<_> = std::iter::from_fn(|| pipe.take(now)).collect();
    let expected: Vec<_> = (0..100).step_by(2).chain((1..100).step_by(2)).collect();
    assert_eq!(order, expected);
}

#[test]
fn a_change_of_rate_moves_the_packets_of_its_own_lane_alone() {
    let rate = Rate { bits_per_second: 8_000_000, queue_bytes: 10 * SIZE };
    let mut shaper = Shaper::new(Shape { rate: Some(rate), ..Shape::default() }, 1);
    let mut pipe = Pipe::new(2);
    for lane in [0, 1] {
        let passage = passage(shaper.admit(SIZE, *BEGIN)).expect("there is room");
        pipe.push(lane, passage, SIZE, lane).expect("there is room");
    }
    let retime = shaper.reshape(Shape::default(), *BEGIN).expect("two wait");
    assert_eq!(pipe.retime(1, retime), Some(*BEGIN));
    assert_eq!((pipe.take(*BEGIN), pipe.take(*BEGIN), pipe.next_due()), (Some(1), None, Some(*BEGIN + MS)));
}
