//! The wall clock, where a time must mean something to others. Durations are measured with `Instant`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// By how many milliseconds this process takes the clock of its host to be wrong.
static OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Milliseconds since 1970; 0 when the clock is set to before that.
pub fn unix_ms() -> u64 {
    let host = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    host.saturating_add_signed(OFFSET_MS.load(Ordering::Relaxed))
}

/// Shifts the clock of this process, so that sites with different clocks can be tried on one host. Times of log lines
/// stay those of the host.
pub fn shift(offset_ms: i64) {
    tracing::warn!(offset_ms, "the clock of this process is shifted");
    OFFSET_MS.store(offset_ms, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_clock_is_off_by_so_much_and_never_before_1970() {
        let host = unix_ms();
        shift(600_000);
        assert!((600_000..660_000).contains(&(unix_ms() - host)));
        shift(i64::MIN);
        assert_eq!(unix_ms(), 0);
        shift(0);
        assert!(unix_ms() >= host);
    }
}
