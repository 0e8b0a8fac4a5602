//! How much the peer of a connection may send that nobody here has taken yet.
//!
//! What a slow reader leaves lies in memory and counts against the credit of its connection, so without more credit a
//! few slow readers of bulk would stop all other streams. The credit therefore grows by the window of a stream for
//! each stream whose reader does not take what is there, out of the pool of the process. When the pool has no more and
//! the peer says that it is out of credit, the streams that have been stuck for longest are reset, and the others go
//! on: who is slow pays, not who is fast.
//!
//! An idle connection has [`FLOOR`] alone: credit that was given cannot be taken back, only not be renewed.

use crate::pool::{Pool, Share};
use futures_util::task::AtomicWaker;
use model::identity::SpiffeId;
use quinn::VarInt;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::{Duration, Instant};

/// Credit of every connection, which the pool does not count: enough for small requests, and for a bulk stream until
/// more has been given.
pub(crate) const FLOOR: u64 = 1 << 20;
/// A stream whose reader takes nothing for so long is stuck, and credit for what it holds is added.
const STUCK_AFTER: Duration = Duration::from_millis(100);
/// The same while the peer is out of credit.
const STUCK_WHEN_SHORT: Duration = Duration::from_millis(20);
/// A stream may be reset for others when one piece of it, of at most 46 KiB, was not taken for so long.
const SLOW_AFTER: Duration = Duration::from_millis(300);
/// Between two times that streams are reset: they give back what they hold first.
const SETTLE: Duration = Duration::from_millis(50);
/// Bytes that were taken since the peer ran out of credit, of which it is told at once.
const TELL: u64 = 128 << 10;
/// Less credit is given once less has been needed for so long.
const LOWER_AFTER: Duration = Duration::from_secs(10);

/// What the settings say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    /// Of a connection that carries bulk.
    pub(crate) connection: u64,
    /// Of a stream.
    pub(crate) stream: u64,
}

impl Windows {
    /// Of a connection that carries no bulk.
    pub(crate) fn floor(self) -> u64 {
        FLOOR.min(self.connection)
    }
}

/// What a connection has given to readers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Bytes, ever.
    pub(crate) bytes: u64,
    /// Some of its streams are bulk ones.
    pub(crate) bulk: bool,
}

/// A stream whose reader does not take what was read from it.
#[derive(Debug, Default)]
struct Stuck {
    given_up: AtomicBool,
    waker: AtomicWaker,
}

/// The streams that are stuck, by when they began to be. At most as many as the peer may have open.
type AllStuck = BTreeMap<(Instant, u64), Arc<Stuck>>;

/// The credit of one connection.
#[derive(Debug)]
pub(crate) struct Credit {
    quic: quinn::Connection,
    pool: Arc<Pool>,
    windows: Windows,
    stuck: Mutex<(u64, AllStuck)>,
    account: Mutex<Account>,
}

/// What was promised to the peer.
#[derive(Debug)]
struct Account {
    share: Share,
    /// What the transport was told, bytes.
    window: u64,
    /// What was promised beyond that and is not used up.
    debt: u64,
    /// Bytes taken up to the last look.
    taken: u64,
    /// How often the peer has said that it is out of credit, up to the last look.
    blocked: u64,
    /// It is, for all that is known here.
    short: bool,
    /// Taken since it said so.
    taken_since: u64,
    /// More is promised than is needed, since then.
    lower_since: Option<Instant>,
    /// Streams were last given up.
    gave_up_at: Option<Instant>,
    /// The peer was last out of credit.
    blocked_at: Option<Instant>,
}

impl Account {
    fn promised(&self) -> u64 {
        self.window + self.debt
    }
}

impl Credit {
    pub(crate) fn new(quic: quinn::Connection, peer: &SpiffeId, pool: &Arc<Pool>, windows: Windows) -> Self {
        let window = windows.floor();
        quic.set_receive_window(transport(window));
        let account = Account {
            share: pool.share(peer),
            window,
            debt: 0,
            taken: 0,
            blocked: 0,
            short: false,
            taken_since: 0,
            lower_since: None,
            gave_up_at: None,
            blocked_at: None,
        };
        let (pool, account) = (Arc::clone(pool), Mutex::new(account));
        Self { quic, pool, windows, stuck: Mutex::default(), account }
    }

    fn all_stuck(&self) -> MutexGuard<'_, (u64, AllStuck)> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a stream whose reader does not take what is there, until that is dropped.
    pub(crate) fn stuck(&self) -> Sticking<'_> {
        let stuck = Arc::new(Stuck::default());
        let mut all = self.all_stuck();
        all.0 += 1;
        let key = (Instant::now(), all.0);
        all.1.insert(key, Arc::clone(&stuck));
        drop(all);
        self.pool.stuck(1);
        Sticking { credit: self, key, stuck }
    }

    /// Brings the credit in line with what is stuck, and gives streams up where there is none left. `blocked`: how often
    /// the peer has said that it is out of credit.
    pub(crate) fn fit(&self, seen: Taken, blocked: u64, now: Instant) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seen.bytes.saturating_sub(account.taken);
        account.taken = seen.bytes;
        account.debt = account.debt.saturating_sub(taken);
        account.taken_since = account.taken_since.saturating_add(taken);
        if account.blocked != blocked {
            account.blocked = blocked;
            account.blocked_at = Some(now);
            (account.short, account.taken_since) = (true, 0);
        }
        let stuck = self.stuck_since(now, if account.short { STUCK_WHEN_SHORT } else { STUCK_AFTER });
        let lately = account.blocked_at.is_some_and(|at| now.duration_since(at) < LOWER_AFTER);
        let wanted = wanted(self.windows, seen.bulk || lately, stuck);
        self.promise(&mut account, wanted, now);
        if account.short && account.taken_since >= TELL {
            self.tell(&mut account);
        }
        let missing = wanted.saturating_sub(account.promised());
        if account.short
            && missing > 0
            && account.gave_up_at.is_none_or(|at| now.duration_since(at) >= SETTLE)
        {
            // What they held is told to the peer at the next look, when it has been counted.
            account.gave_up_at = self.give_up(missing, now).then_some(now);
        }
    }

    fn stuck_since(&self, now: Instant, long: Duration) -> u64 {
        let all = self.all_stuck();
        all.1.keys().take_while(|(since, _)| now.saturating_duration_since(*since) >= long).count() as u64
    }

    fn promise(&self, account: &mut Account, wanted: u64, now: Instant) {
        let floor = self.windows.floor();
        let promised = account.promised();
        if wanted < promised {
            let since = *account.lower_since.get_or_insert(now);
            if now.duration_since(since) >= LOWER_AFTER && wanted < account.window {
                account.debt += account.window - wanted;
                account.window = wanted;
                self.quic.set_receive_window(transport(wanted));
            }
            // What the peer has not used up yet is still promised.
            let promised = account.promised();
            account.share.set(promised - floor);
            return;
        }
        account.lower_since = None;
        let granted = floor + account.share.set(wanted - floor);
        let window = granted.saturating_sub(account.debt);
        if window > account.window {
            account.window = window;
            // The peer is told.
            account.short = false;
            self.quic.set_receive_window(transport(window));
        }
    }

    /// Has the peer told of what was taken. The transport would wait until that is an eighth of the window, which may
    /// be more than the streams hold that still move.
    fn tell(&self, account: &mut Account) {
        account.short = false;
        // It tells the peer of every window that is larger than the one before.
        self.quic.set_receive_window(transport(account.window - 1));
        self.quic.set_receive_window(transport(account.window));
    }

    /// Gives up those that have been stuck for longest; false: none has been for long enough. A part of those for which
    /// credit is missing goes at a time, since not each of them holds as much as it may.
    fn give_up(&self, missing: u64, now: Instant) -> bool {
        let least = self.windows.connection / 2 / self.windows.stream;
        let many = (missing / self.windows.stream).div_ceil(4).max(least).max(1) as usize;
        let all = self.all_stuck();
        let slow = |(since, _): &&(Instant, u64)| now.saturating_duration_since(*since) >= SLOW_AFTER;
        let given_up: Vec<_> = all.1.iter().take_while(|(key, _)| slow(key)).take(many).collect();
        for (_, stuck) in &given_up {
            stuck.given_up.store(true, Ordering::Release);
            stuck.waker.wake();
        }
        if !given_up.is_empty() {
            tracing::info!(
                remote = %self.quic.remote_address(),
                streams = given_up.len(),
                stuck = all.1.len(),
                "reset the slowest readers: what they leave unread fills the buffers of this process"
            );
        }
        !given_up.is_empty()
    }
}

/// What a connection needs: its floor, more for bulk, and more for each stream that is stuck.
fn wanted(windows: Windows, bulk: bool, stuck: u64) -> u64 {
    if bulk || stuck > 0 { windows.connection + stuck * windows.stream } else { windows.floor() }
}

fn transport(window: u64) -> VarInt {
    VarInt::from_u64(window).unwrap_or(VarInt::MAX)
}

/// Held while a stream is stuck.
#[derive(Debug)]
pub(crate) struct Sticking<'a> {
    credit: &'a Credit,
    key: (Instant, u64),
    stuck: Arc<Stuck>,
}

impl Sticking<'_> {
    /// Whether the stream is to be reset, for the sake of the others; wakes when it is.
    pub(crate) fn poll_given_up(&self, cx: &Context<'_>) -> bool {
        self.stuck.waker.register(cx.waker());
        self.stuck.given_up.load(Ordering::Acquire)
    }
}

impl Drop for Sticking<'_> {
    fn drop(&mut self) {
        self.credit.all_stuck().1.remove(&self.key);
        self.credit.pool.stuck(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_grows_with_bulk_and_with_each_stream_that_is_stuck() {
        let mib = 1 << 20;
        let windows = Windows { connection: 64 * mib, stream: 16 * mib };
        assert_eq!(wanted(windows, false, 0), FLOOR);
        assert_eq!(wanted(windows, true, 0), 64 * mib);
        assert_eq!(wanted(windows, false, 3), 112 * mib);
        assert_eq!(Windows { connection: 1 << 18, stream: 1 << 16 }.floor(), 1 << 18);
    }
}
