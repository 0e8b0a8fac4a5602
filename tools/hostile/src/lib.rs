//! Bytes that were valid and were changed, for the property tests of decoders.
//!
//! Random bytes fail at the first check of a decoder; bytes that are nearly right reach the last one. [`changed`] makes
//! such bytes of two valid encodings, [`any_bytes`] the random ones, and [`within`] turns a hang into a failure.
//!
//! What this crate deliberately does not know: any format of ours.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::mpsc;
use std::time::Duration;

/// How long one decoder may take for one input before a test calls it a hang. Far more than any takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Longest text of an error that a decoder may give, in bytes: a line of a log, whatever was sent.
pub const ERROR_MAX: usize = 2_000;

/// One change. Places are drawn anew for each length, so one change fits every input.
#[derive(Debug, Clone)]
pub enum Change {
    /// One bit becomes the other.
    Flip(Index, u8),
    /// One byte becomes this one.
    Set(Index, u8),
    /// Everything from here on is missing.
    Cut(Index),
    /// What lies between two places is missing.
    Drop(Index, Index),
    /// What lies between two places comes twice.
    Repeat(Index, Index),
    /// From here on it goes on as the other encoding does from there on.
    Splice(Index, Index),
    /// Here stands a number at a border of its type.
    Border(Index, Index),
    /// Something stands between.
    Insert(Index, Vec<u8>),
}

/// Numbers at the borders of their types, as they stand on wires: varints, big endian, decimal digits.
const BORDERS: [&[u8]; 18] = [
    &[0],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x80, 0x01],
    &[0xff, 0xff],
    &[0x7f, 0xff],
    &[0xff; 4],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff; 8],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    b"0",
    b"-1",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
];

fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), 0_u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => place().prop_map(Change::Cut),
        2 => (place(), place()).prop_map(|(from, to)| Change::Drop(from, to)),
        2 => (place(), place()).prop_map(|(from, to)| Change::Repeat(from, to)),
        2 => (place(), place()).prop_map(|(from, to)| Change::Splice(from, to)),
        3 => (place(), place()).prop_map(|(at, which)| Change::Border(at, which)),
        1 => (place(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

/// One to five changes.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    vec(change(), 1..6)
}

/// Random bytes, short ones more often than long ones.
pub fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..600)]
}

/// Valid bytes after some changes; `other` is what they may go on as.
pub fn changed(valid: &[u8], other: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for change in changes {
        apply(&mut bytes, other, change);
    }
    bytes
}

/// As [`changed`], for formats that are text.
pub fn changed_text(valid: &str, other: &str, changes: &[Change]) -> String {
    String::from_utf8_lossy(&changed(valid.as_bytes(), other.as_bytes(), changes)).into_owned()
}

fn apply(bytes: &mut Vec<u8>, other: &[u8], change: &Change) {
    let length = bytes.len();
    // A place between bytes, also behind the last one.
    let place = |index: &Index| index.index(length + 1);
    let range = |one: &Index, two: &Index| {
        let (one, two) = (place(one), place(two));
        one.min(two)..one.max(two)
    };
    match change {
        Change::Flip(at, bit) => {
            if length > 0 {
                bytes[at.index(length)] ^= 1 << bit;
            }
        }
        Change::Set(at, byte) => {
            if length > 0 {
                bytes[at.index(length)] = *byte;
            }
        }
        Change::Cut(at) => bytes.truncate(place(at)),
        Change::Drop(from, to) => drop(bytes.drain(range(from, to))),
        Change::Repeat(from, to) => {
            let range = range(from, to);
            let (again, end) = (bytes[range.clone()].to_vec(), range.end);
            drop(bytes.splice(end..end, again));
        }
        Change::Splice(from, to) => {
            bytes.truncate(place(from));
            bytes.extend_from_slice(&other[to.index(other.len() + 1)..]);
        }
        Change::Border(at, which) => {
            let (at, border) = (place(at), BORDERS[which.index(BORDERS.len())]);
            let end = (at + border.len()).min(length);
            drop(bytes.splice(at..end, border.iter().copied()));
        }
        Change::Insert(at, more) => {
            let at = place(at);
            drop(bytes.splice(at..at, more.iter().copied()));
        }
    }
}

/// Runs something on a thread of its own with a stack as small as that of a worker, and fails when it does not end.
///
/// # Panics
/// It panicked, or did not end within [`PATIENCE`].
pub fn within<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    /// That of tokio's workers.
    const STACK: usize = 2 << 20;
    let (done, wait) = mpsc::channel();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        // Nobody may wait any more.
        let _ = done.send(run());
    });
    let thread = thread.expect("the system gives a thread");
    match wait.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} does not end within {PATIENCE:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("{what} ended without a value"),
        },
    }
}

/// Checks the text of an error: it says something, in one piece of bearable length, and moves no terminal's cursor.
///
/// # Panics
/// It does not.
pub fn is_readable(error: &str) {
    assert!(!error.trim().is_empty(), "an error says nothing");
    assert!(error.len() <= ERROR_MAX, "an error has {} bytes: {:.200}…", error.len(), error);
    let control = error.chars().find(|c| c.is_control() && *c != '\n');
    assert!(control.is_none(), "an error has the control character {control:?}: {error:?}");
}

/// The text of an error with all its causes, as logs show it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest! {
        #[test]
        fn changes_fit_every_input(valid in any_bytes(), other in any_bytes(), changes in changes()) {
            let changed = changed(&valid, &other, &changes);
            prop_assert!(changed.len() <= (valid.len() + other.len() + 16) << changes.len());
        }
    }

    #[test]
    #[should_panic(expected = "control character")]
    fn an_error_that_moves_the_cursor_is_found() {
        is_readable("bad \u{1b}[2J name");
    }

    #[test]
    #[should_panic(expected = "has 3000 bytes")]
    fn an_error_that_repeats_all_it_was_sent_is_found() {
        is_readable(&"x".repeat(3_000));
    }

    #[test]
    #[should_panic(expected = "own words")]
    fn a_panic_on_the_thread_is_passed_on() {
        within("a panic", || panic!("own words"));
    }
}
