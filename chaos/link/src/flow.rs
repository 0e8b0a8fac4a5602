//! One flow: datagrams from one source to the target and back, each way a queue of what is under way.

use crate::link::{Direction, Link};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Most datagrams under way in one direction of a flow; further ones are dropped, as at the tail of a router's
/// queue. 4096 full-size datagrams are 1 s of 48 Mbit/s.
pub(crate) const UNDER_WAY_MAX: usize = 4096;
/// Longest datagram.
pub(crate) const DATAGRAM_MAX: usize = 65_535;

/// Timers of the runtime end up to two milliseconds late, one on average. So a datagram may go so much before it is due.
const EARLY: Duration = Duration::from_millis(1);

/// What a source has in the relay: a socket of its own towards the target, as behind a NAT.
pub(crate) struct Flow {
    pub link: Link,
    pub forth: Direction,
    queue: mpsc::Sender<Vec<u8>>,
    /// Milliseconds since the start of the relay; for eviction.
    pub last_used: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the tasks of a flow need.
pub(crate) struct Ends {
    /// Sends to the target. Not connected to it: the host would refuse (ICMP) what others send to a connected socket,
    /// and its refusals would come back as errors; a link lets neither through.
    pub upstream: Arc<UdpSocket>,
    pub target: SocketAddr,
    /// Where the source sent to.
    pub listening: Arc<UdpSocket>,
    pub source: SocketAddr,
    pub started: Instant,
}

impl Flow {
    pub(crate) fn start(ends: Ends, link: Link, forth: Direction, stop: CancellationToken) -> Self {
        let (queue, taken) = mpsc::channel(UNDER_WAY_MAX);
        let last_used = Arc::new(AtomicU64::new(millis(ends.started)));
        let (upstream, target) = (Arc::clone(&ends.upstream), ends.target);
        let to_target = Way { link: link.clone(), direction: forth, stop: stop.clone() };
        tokio::spawn(to_target.deliver(taken, move |bytes| {
            let upstream = Arc::clone(&upstream);
            async move { upstream.send_to(&bytes, target).await.is_ok() }
        }));
        let to_source = Way { link: link.clone(), direction: forth.reverse(), stop: stop.clone() };
        tokio::spawn(to_source.bring_back(ends, Arc::clone(&last_used)));
        Self { link, forth, queue, last_used, stop }
    }

    /// Takes one datagram of the source; drops it when the queue is full.
    pub(crate) fn send(&self, bytes: &[u8], started: Instant) {
        self.last_used.store(millis(started), Ordering::Relaxed);
        if self.queue.try_send(bytes.to_vec()).is_err() {
            self.link.dropped(self.forth);
        }
    }
}

/// Milliseconds since `started`.
pub(crate) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// One direction of a flow.
struct Way {
    link: Link,
    direction: Direction,
    stop: CancellationToken,
}

impl Way {
    /// Carries what comes over the queue through the link, in order.
    async fn deliver<F, S>(self, mut taken: mpsc::Receiver<Vec<u8>>, send: F)
    where
        F: Fn(Vec<u8>) -> S,
        S: Future<Output = bool>,
    {
        // At most UNDER_WAY_MAX long: `admit` is only asked while there is room.
        let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        loop {
            let due = under_way.front().map(|(due, _)| *due - EARLY);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = async { sleep_until(due.expect("guarded")).await }, if due.is_some() => {
                    while under_way.front().is_some_and(|(due, _)| *due <= Instant::now() + EARLY) {
                        let (_, bytes) = under_way.pop_front().expect("just seen");
                        self.count(send(bytes).await);
                    }
                }
                bytes = taken.recv() => {
                    let Some(bytes) = bytes else { return };
                    let Some(delay) = self.link.admit(self.direction) else { continue };
                    if delay.is_zero() && under_way.is_empty() {
                        self.count(send(bytes).await);
                    } else if under_way.len() >= UNDER_WAY_MAX {
                        self.link.dropped(self.direction);
                    } else {
                        // A shorter delay set meanwhile must not overtake what is under way.
                        let last = under_way.back().map(|(due, _)| *due);
                        let due = Instant::now() + delay;
                        under_way.push_back((last.map_or(due, |last| due.max(last)), bytes));
                    }
                }
            }
        }
    }

    fn count(&self, sent: bool) {
        if sent { self.link.passed(self.direction) } else { self.link.dropped(self.direction) }
    }

    /// Reads what the target answers and carries it to the source.
    async fn bring_back(self, ends: Ends, last_used: Arc<AtomicU64>) {
        let (queue, taken) = mpsc::channel(UNDER_WAY_MAX);
        let (link, direction, stop) = (self.link.clone(), self.direction, self.stop.clone());
        let (listening, source) = (Arc::clone(&ends.listening), ends.source);
        tokio::spawn(self.deliver(taken, move |bytes| {
            let listening = Arc::clone(&listening);
            async move { listening.send_to(&bytes, source).await.is_ok() }
        }));
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return,
                received = ends.upstream.recv_from(&mut buffer) => received,
            };
            // What anybody else sends here is dropped, as behind a NAT. The socket stays good after an error.
            let Ok((length, from)) = received else { continue };
            if from != ends.target {
                continue;
            }
            last_used.store(millis(ends.started), Ordering::Relaxed);
            if queue.try_send(buffer[..length].to_vec()).is_err() {
                link.dropped(direction);
            }
        }
    }
}
