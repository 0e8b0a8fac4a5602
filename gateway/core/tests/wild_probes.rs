//! Probes with any numbers in them, at any time: what a peer says of itself never makes this side panic, send more than
//! its rate, or wait in a loop that does not advance.

#![allow(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use gateway_core::liveness::{Liveness, Timers};
use model::ids::StreamId;
use model::tunnel::Probe;
use proptest::prelude::*;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
enum Step {
    Probe(Probe),
    Heard,
    Refused,
    Opened(u8, bool),
    Closed(u8),
    Unacked(Option<u16>),
    Draining(bool),
    /// Milliseconds, with every timer at its instant.
    Wait(u16),
    /// The process sleeps so long.
    Sleep(u16),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..40, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => Just(1 << 63), 1 => any::<u64>()]
}

fn step() -> impl Strategy<Value = Step> {
    let held = prop_oneof![Just(0), Just(u32::MAX), any::<u32>()];
    let probe = (number(), number(), held, number(), any::<(bool, bool)>()).prop_map(
        |(sequence, heard, held_us, heard_count, (draining, asks))| {
            // The decoder lets no probe of sequence 0 pass.
            Step::Probe(Probe { sequence: sequence.max(1), heard, held_us, heard_count, draining, asks })
        },
    );
    prop_oneof![
        8 => probe,
        1 => Just(Step::Heard),
        1 => Just(Step::Refused),
        1 => any::<(u8, bool)>().prop_map(|(n, awaits)| Step::Opened(n, awaits)),
        1 => any::<u8>().prop_map(Step::Closed),
        1 => any::<Option<u16>>().prop_map(Step::Unacked),
        1 => any::<bool>().prop_map(Step::Draining),
        5 => (0_u16..3_000).prop_map(Step::Wait),
        1 => any::<u16>().prop_map(Step::Sleep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_probes_say_the_rate_is_kept_and_time_goes_on(seed: u64, steps in proptest::collection::vec(step(), 0..80)) {
        let begin = Instant::now() + Duration::from_secs(3_600);
        let mut now = begin;
        let mut core = Liveness::new(Timers::default(), Some(Duration::from_millis(5)), seed, now);
        let (mut sent, mut local) = (0_u128, 0_u128);
        for step in steps {
            match step {
                Step::Probe(probe) => core.handle_probe(probe, now),
                Step::Heard => core.handle_heard(now),
                Step::Refused => core.handle_refused(now),
                Step::Opened(n, awaits) => core.handle_stream_opened(StreamId([n; 16]), awaits, now),
                Step::Closed(n) => core.handle_stream_closed(StreamId([n; 16]), now),
                Step::Unacked(ago) => {
                    let since = ago.map(|ms| now - Duration::from_millis(ms.into()));
                    core.handle_unacked(since, Duration::from_millis(30), now);
                }
                Step::Draining(draining) => core.handle_draining(draining, now),
                Step::Sleep(ms) => {
                    now += Duration::from_millis(ms.into());
                    core.handle_timeout(now);
                }
                Step::Wait(ms) => {
                    let end = now + Duration::from_millis(ms.into());
                    let mut turns = 0;
                    while let Some((due, why)) = core.poll_timeout().filter(|(due, _)| *due <= end) {
                        now = now.max(due);
                        core.handle_timeout(now);
                        sent += u128::from(core.poll_transmit().is_some());
                        turns += 1;
                        prop_assert!(turns < 20_000, "{why} comes again and again");
                    }
                    now = end;
                }
            }
            // What this side does by itself may send one at once.
            local += 1;
            sent += u128::from(core.poll_transmit().is_some());
            let mut events = 0;
            while core.poll_event().is_some() {
                events += 1;
                prop_assert!(events <= 16);
            }
            prop_assert!(core.loss().in_permille <= 1_000 && core.loss().out_permille <= 1_000);
            prop_assert!(core.rtt().is_none_or(|rtt| rtt <= now - begin + Duration::from_millis(5)));
        }
        let most = (now - begin).as_millis() / 10 + local + 2;
        prop_assert!(sent <= most, "{sent} probes were sent, at most {most} may be");
    }
}
