use super::*;
use crate::some_instant;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn refusal(retryable: bool) -> Refusal {
    Refusal { code: RefusalCode::NoEndpoint, retryable, detail: "none".to_owned() }
}

fn actions(attempt: &mut Attempt) -> Vec<Action> {
    std::iter::from_fn(|| attempt.poll_action()).collect()
}

const FIRST: CandidateId = CandidateId(0);
const SECOND: CandidateId = CandidateId(1);

/// An attempt with one stream opened.
fn opened(retry_safe: bool) -> (Attempt, Instant) {
    let now = some_instant();
    let mut attempt = Attempt::new(Settings::default(), retry_safe, now);
    assert_eq!(actions(&mut attempt), [Action::Route]);
    attempt.handle_candidate(true, now);
    assert_eq!(actions(&mut attempt), [Action::Open { candidate: FIRST, bytes_ahead: retry_safe }]);
    (attempt, now)
}

#[test]
fn a_stream_is_opened_before_the_client_says_anything() {
    let (mut attempt, now) = opened(false);
    attempt.handle_accepted(FIRST, now);
    assert_eq!(actions(&mut attempt), [Action::Splice { candidate: FIRST, finished: false }]);
}

#[test]
fn bytes_of_an_unmarked_port_wait_for_accepted() {
    let (mut attempt, now) = opened(false);
    attempt.handle_client_bytes(b"GET", now);
    assert_eq!(actions(&mut attempt), []);
    attempt.handle_accepted(FIRST, now);
    let sent = Action::Send { candidate: FIRST, bytes: b"GET".to_vec() };
    assert_eq!(actions(&mut attempt), [sent, Action::Splice { candidate: FIRST, finished: false }]);
}

#[test]
fn bytes_of_a_safe_port_go_ahead_and_go_again_to_the_next() {
    let (mut attempt, now) = opened(true);
    attempt.handle_client_bytes(b"GET", now);
    assert_eq!(actions(&mut attempt), [Action::Send { candidate: FIRST, bytes: b"GET".to_vec() }]);
    attempt.handle_failed(FIRST, "path died", now);
    assert_eq!(actions(&mut attempt), [Action::Route]);
    attempt.handle_candidate(true, now);
    assert_eq!(
        actions(&mut attempt),
        [
            Action::Open { candidate: SECOND, bytes_ahead: true },
            Action::Send { candidate: SECOND, bytes: b"GET".to_vec() }
        ]
    );
    attempt.handle_client_bytes(b" /", now);
    attempt.handle_accepted(SECOND, now);
    assert_eq!(
        actions(&mut attempt),
        [
            Action::Send { candidate: SECOND, bytes: b" /".to_vec() },
            Action::Splice { candidate: SECOND, finished: false }
        ]
    );
}

#[test]
fn a_client_hello_goes_ahead_on_any_port_and_nothing_behind_it() {
    let (mut attempt, now) = opened(false);
    let hello = hello::tests::client_hello(false, 16_000);
    attempt.handle_client_bytes(&hello[..20], now);
    assert_eq!(actions(&mut attempt), []);
    attempt.handle_client_bytes(&[&hello[20..], b"early"].concat(), now);
    assert_eq!(actions(&mut attempt), [Action::Send { candidate: FIRST, bytes: hello }]);
    attempt.handle_accepted(FIRST, now);
    assert_eq!(actions(&mut attempt)[0], Action::Send { candidate: FIRST, bytes: b"early".to_vec() });
}

#[test]
fn nothing_goes_ahead_to_a_socket_that_is_not_connected() {
    let now = some_instant();
    let mut attempt = Attempt::new(Settings::default(), true, now);
    attempt.handle_client_bytes(b"GET", now);
    attempt.handle_candidate(false, now);
    assert_eq!(actions(&mut attempt), [Action::Route, Action::Open { candidate: FIRST, bytes_ahead: false }]);
}

#[test]
fn a_fin_before_accepted_follows_the_bytes() {
    let (mut attempt, now) = opened(false);
    attempt.handle_client_bytes(b"x", now);
    attempt.handle_client_fin(now);
    assert_eq!(attempt.room(), 0);
    attempt.handle_accepted(FIRST, now);
    assert_eq!(
        actions(&mut attempt),
        [
            Action::Send { candidate: FIRST, bytes: b"x".to_vec() },
            Action::Finish { candidate: FIRST },
            Action::Splice { candidate: FIRST, finished: true }
        ]
    );
}

#[test]
fn a_reset_of_the_client_cancels_what_was_opened() {
    let (mut attempt, now) = opened(false);
    attempt.handle_client_reset(now);
    assert_eq!(actions(&mut attempt), [Action::Cancel { candidate: FIRST }]);
    assert!(attempt.is_ended());
    attempt.handle_accepted(FIRST, now);
    assert_eq!(actions(&mut attempt), []);
}

#[test]
fn accepted_then_lost_resets_the_client_at_once() {
    let (mut attempt, now) = opened(false);
    attempt.handle_accepted(FIRST, now);
    actions(&mut attempt);
    attempt.handle_failed(FIRST, "path died", now);
    assert_eq!(actions(&mut attempt), [Action::ResetClient { end: End::Lost }]);
}

#[test]
fn a_final_refusal_resets_the_client_with_the_last_reason() {
    let (mut attempt, now) = opened(false);
    attempt.handle_failed(FIRST, "path died", now);
    attempt.handle_no_candidate(refusal(false), now);
    let end = End::Refused(failed(true, "path died"));
    assert_eq!(actions(&mut attempt), [Action::Route, Action::ResetClient { end }]);

    let (mut attempt, now) = opened(false);
    attempt.handle_refused(FIRST, refusal(false), now);
    assert_eq!(actions(&mut attempt), [Action::ResetClient { end: End::Refused(refusal(false)) }]);
}

#[test]
fn a_stream_that_fails_is_no_path_and_a_socket_that_fails_is_a_failed_endpoint() {
    for (is_stream, code) in [(true, RefusalCode::NoPath), (false, RefusalCode::EndpointFailed)] {
        for in_time in [true, false] {
            let now = some_instant();
            let mut attempt = Attempt::new(Settings::default(), false, now);
            attempt.handle_candidate(is_stream, now);
            if in_time {
                attempt.handle_failed(FIRST, "path died", now);
            } else {
                let (due, _) = attempt.poll_timeout().expect("it waits for an answer");
                attempt.handle_timeout(due);
            }
            attempt.handle_no_candidate(refusal(false), now);
            let Some(Action::ResetClient { end: End::Refused(last) }) = actions(&mut attempt).pop() else {
                panic!("it is over")
            };
            assert_eq!((last.code, last.retryable), (code, true), "stream {is_stream}, in time {in_time}");
        }
    }
}

#[test]
fn a_candidate_that_does_not_answer_is_cancelled_for_the_next() {
    let (mut attempt, now) = opened(false);
    let (due, _) = attempt.poll_timeout().expect("it waits for an answer");
    attempt.handle_timeout(due);
    assert_eq!(actions(&mut attempt), [Action::Cancel { candidate: FIRST }, Action::Route]);
    attempt.handle_accepted(FIRST, now);
    assert_eq!(actions(&mut attempt), [], "a late answer changes nothing");
}

#[test]
fn candidates_come_to_an_end() {
    let (mut attempt, now) = opened(false);
    for number in 0..Settings::default().candidates_max {
        attempt.handle_refused(CandidateId(number), refusal(true), now);
        attempt.handle_candidate(true, now);
    }
    let last = actions(&mut attempt).pop();
    assert_eq!(last, Some(Action::ResetClient { end: End::Refused(refusal(true)) }));
}

/// What may happen to an attempt.
#[derive(Debug, Clone)]
enum Step {
    Client(Vec<u8>),
    Fin,
    ClientReset,
    Candidate(bool),
    NoCandidate,
    /// An answer of the candidate that many before the newest (mostly the newest itself).
    Accept(u8),
    Refuse(u8, bool),
    Fail(u8),
    Timeout,
}

fn step() -> impl Strategy<Value = Step> {
    let which = || prop_oneof![9 => Just(0u8), 1 => 1u8..3];
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 1..40).prop_map(Step::Client),
        1 => Just(Step::Client(hello::tests::client_hello(false, 16_000))),
        1 => Just(Step::Fin),
        1 => Just(Step::ClientReset),
        8 => any::<bool>().prop_map(Step::Candidate),
        1 => Just(Step::NoCandidate),
        3 => which().prop_map(Step::Accept),
        4 => (which(), prop_oneof![4 => Just(true), 1 => Just(false)]).prop_map(|(w, r)| Step::Refuse(w, r)),
        4 => which().prop_map(Step::Fail),
        1 => Just(Step::Timeout),
    ]
}

/// What the world outside has seen; written without looking at the machine.
#[derive(Debug, Default)]
struct World {
    client: Vec<u8>,
    fin: bool,
    client_gone: bool,
    reached: BTreeMap<CandidateId, Vec<u8>>,
    finished: Option<CandidateId>,
    accepted: Option<CandidateId>,
    opened: u32,
    out_of_candidates: bool,
    final_refusal: bool,
    accepted_lost: bool,
    reset: bool,
    spliced: bool,
}

const BUFFER: usize = 256;

fn run(retry_safe: bool, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let start = some_instant();
    let settings = Settings { buffer_max: BUFFER, candidates_max: 1_000, ..Settings::default() };
    let mut attempt = Attempt::new(settings, retry_safe, start);
    let mut world = World::default();
    let mut routing = false;
    for step in steps {
        let newest = |back: u8| world.opened.checked_sub(1 + u32::from(back)).map(CandidateId);
        match step {
            Step::Client(bytes) => {
                let bytes = &bytes[..bytes.len().min(attempt.room())];
                if !world.fin && !world.client_gone {
                    world.client.extend_from_slice(bytes);
                    attempt.handle_client_bytes(bytes, start);
                }
            }
            Step::Fin if !world.client_gone && !world.spliced => {
                world.fin = true;
                attempt.handle_client_fin(start);
            }
            Step::ClientReset => {
                world.client_gone = true;
                attempt.handle_client_reset(start);
            }
            Step::Candidate(stream) if routing => {
                routing = false;
                attempt.handle_candidate(stream, start);
            }
            Step::NoCandidate if routing => {
                world.out_of_candidates = true;
                attempt.handle_no_candidate(refusal(false), start);
            }
            Step::Accept(back) => {
                if let Some(candidate) = newest(back) {
                    attempt.handle_accepted(candidate, start);
                }
            }
            Step::Refuse(back, retryable) => {
                if let Some(candidate) = newest(back) {
                    world.final_refusal |= !retryable;
                    attempt.handle_refused(candidate, refusal(retryable), start);
                }
            }
            Step::Fail(back) => {
                if let Some(candidate) = newest(back) {
                    world.accepted_lost |= world.accepted == Some(candidate);
                    attempt.handle_failed(candidate, "died", start);
                }
            }
            Step::Timeout => {
                if let Some((due, "the candidate does not answer")) = attempt.poll_timeout() {
                    attempt.handle_timeout(due);
                }
            }
            Step::Fin | Step::Candidate(_) | Step::NoCandidate => {}
        }
        prop_assert!(attempt.buffered() <= BUFFER);
        while let Some(action) = attempt.poll_action() {
            prop_assert!(!world.reset, "nothing follows a reset: {action:?}");
            match action {
                Action::Route => routing = true,
                Action::Open { candidate, .. } => {
                    prop_assert_eq!(candidate, CandidateId(world.opened));
                    world.opened += 1;
                }
                Action::Send { candidate, bytes } => {
                    prop_assert!(world.finished.is_none());
                    world.reached.entry(candidate).or_default().extend(bytes);
                }
                Action::Finish { candidate } => {
                    prop_assert!(world.fin);
                    world.finished = Some(candidate);
                }
                Action::Cancel { .. } => {}
                Action::Splice { candidate, finished } => {
                    world.spliced = true;
                    world.accepted = Some(candidate);
                    prop_assert_eq!(finished, world.fin);
                    // Nothing that the client sent is lost, doubled or out of order.
                    prop_assert_eq!(
                        world.reached.get(&candidate).cloned().unwrap_or_default(),
                        world.client.clone()
                    );
                    prop_assert_eq!(world.finished == Some(candidate), world.fin);
                }
                Action::ResetClient { .. } => {
                    world.reset = true;
                    // Only where no candidate is left.
                    prop_assert!(world.out_of_candidates || world.final_refusal || world.accepted_lost);
                }
            }
        }
        // Each candidate sees the client's bytes from the first on.
        for bytes in world.reached.values() {
            prop_assert!(world.client.starts_with(bytes));
        }
        let hello = hello::tests::client_hello(false, 16_000);
        if !retry_safe && !world.client.starts_with(&hello) {
            prop_assert!(world.reached.len() <= 1, "bytes of an unmarked port reached two endpoints");
        } else if !retry_safe {
            // Beyond the ClientHello only one endpoint sees anything.
            prop_assert!(world.reached.values().filter(|bytes| bytes.len() > hello.len()).count() <= 1);
        }
        if world.client_gone {
            prop_assert!(attempt.is_ended());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_byte_is_lost_doubled_or_seen_by_two(retry_safe: bool, steps in proptest::collection::vec(step(), 0..60)) {
        run(retry_safe, steps)?;
    }
}
