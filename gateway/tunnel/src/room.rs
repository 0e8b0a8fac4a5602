//! How much of what streams write a connection takes and keeps until it is acknowledged.
//!
//! The transport has one limit for all streams, the send window. Bulk streams fill any: what does not fit into the path
//! only waits in memory, and a small stream that finds the window full waits for a share of what is acknowledged, which
//! on a slow path takes longer than opening a stream may. So the window follows what the path carries, and streams that
//! are no bulk ones may go beyond it. What is more than the least window comes from the pool of the process.

use crate::pool::{Pool, Share};
use model::identity::SpiffeId;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

/// The send window is never less, or as much as is configured: the rate grows faster than the window follows. 2 MiB
/// are 330 Mbit/s at 50 ms.
pub(crate) const WINDOW_MIN: u64 = 2 << 20;
/// The send window in congestion windows: one in flight, one that waits for what was lost in it, one to send next.
const WINDOWS: u64 = 3;
/// Bytes beyond the send window that streams which are no bulk ones may use together.
const BEYOND: u64 = 4 << 20;

/// The send window of one connection.
#[derive(Debug)]
pub(crate) struct Room {
    quic: quinn::Connection,
    most: u64,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    bytes: u64,
    share: Share,
}

impl Room {
    /// Of a connection whose window was configured with [`initial`].
    pub(crate) fn new(quic: quinn::Connection, peer: &SpiffeId, pool: &Arc<Pool>, most: u64) -> Self {
        Self { quic, most, window: Mutex::new(Window { bytes: initial(most), share: pool.share(peer) }) }
    }

    /// Follows the congestion window.
    pub(crate) fn fit(&self, congestion_window: u64) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wanted) = fitting(window.bytes, congestion_window, self.most) {
            let least = initial(self.most);
            window.bytes = least + window.share.set(wanted - least);
            self.quic.set_send_window(window.bytes);
        }
    }

    /// Does a write that goes before bulk with more room than that has.
    pub(crate) fn beyond<T>(&self, write: impl FnOnce() -> T) -> T {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        self.quic.set_send_window(window.bytes + BEYOND);
        let written = write();
        // Less than is kept already is fine: it only stops further writes.
        self.quic.set_send_window(window.bytes);
        written
    }
}

/// The send window before anything is known of the path.
pub(crate) fn initial(most: u64) -> u64 {
    WINDOW_MIN.min(most)
}

/// The new send window, if it differs by enough.
fn fitting(window: u64, congestion_window: u64, most: u64) -> Option<u64> {
    let wanted = congestion_window.saturating_mul(WINDOWS).clamp(initial(most), most);
    (wanted.abs_diff(window) > window / 8 || (wanted == most && window != most)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_send_window_follows_the_congestion_window_within_what_is_configured() {
        assert_eq!(fitting(2 * MIB, 4 * MIB, 32 * MIB), Some(12 * MIB));
        assert_eq!(fitting(12 * MIB, 4 * MIB + 1, 32 * MIB), None);
        assert_eq!(fitting(12 * MIB, 100 * MIB, 32 * MIB), Some(32 * MIB));
        assert_eq!(fitting(12 * MIB, 6_000, 32 * MIB), Some(2 * MIB));
        assert_eq!(fitting(MIB, 6_000, MIB), None);
    }
}
