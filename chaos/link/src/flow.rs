//! One flow: datagrams from one source to the target and back.

use crate::courier::{Exit, Lane};
use crate::socket::{BYTES_IN_MAX, Socket, Train};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a socket is read in a row, before others may.
const TURN: usize = 64;

/// What a source has in the relay: a socket of its own towards the target, as behind a NAT.
pub(crate) struct Flow {
    forth: Arc<Lane>,
    target: Exit,
    /// Milliseconds since the start of the relay; for eviction.
    last_used: Arc<AtomicU64>,
    started: Instant,
    stop: CancellationToken,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What brings the answers of the target back to the source of a flow.
pub(crate) struct Answers {
    target: Exit,
    back: Arc<Lane>,
    source: Exit,
    last_used: Arc<AtomicU64>,
    started: Instant,
    stop: CancellationToken,
}

/// The lanes of a source, there and back.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    pub(crate) forth: Arc<Lane>,
    pub(crate) back: Arc<Lane>,
}

impl Flow {
    /// `target` is not a connected socket: the host would refuse (ICMP) what others send to one, and its refusals
    /// would come back as errors; a link lets neither through.
    pub(crate) fn new(
        lanes: Lanes,
        target: Exit,
        source: Exit,
        started: Instant,
        stop: CancellationToken,
    ) -> (Self, Answers) {
        let last_used = Arc::new(AtomicU64::new(millis(started)));
        let answers = Answers {
            target: target.clone(),
            back: lanes.back,
            source,
            last_used: Arc::clone(&last_used),
            started,
            stop: stop.clone(),
        };
        (Self { forth: lanes.forth, target, last_used, started, stop }, answers)
    }

    /// Carries datagrams of the source.
    pub(crate) fn send(&self, train: Train<'_>) {
        self.last_used.store(millis(self.started), Ordering::Relaxed);
        self.forth.carry(train, &self.target);
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }
}

impl Answers {
    /// Carries them until the flow ends.
    pub(crate) async fn run(self) {
        let mut inlet = Inlet::new();
        while inlet.ready(&self.target.socket, &self.stop).await {
            while let Some((train, from)) = inlet.take(&self.target.socket) {
                // What anybody else sends here is dropped, as behind a NAT.
                if from == self.target.address {
                    self.last_used.store(millis(self.started), Ordering::Relaxed);
                    self.back.carry(train, &self.source);
                }
            }
        }
    }
}

/// Takes datagrams from a socket, as many as there are at a time.
pub(crate) struct Inlet {
    buffer: Vec<u8>,
    left: usize,
}

impl Inlet {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; BYTES_IN_MAX], left: 0 }
    }

    /// Waits for datagrams; answers false when it is time to stop.
    pub(crate) async fn ready(&mut self, socket: &Socket, stop: &CancellationToken) -> bool {
        self.left = TURN;
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            // An error shows at the next datagram.
            _ = socket.readable() => true,
        }
    }

    /// The next ones that are there.
    pub(crate) fn take(&mut self, socket: &Socket) -> Option<(Train<'_>, SocketAddr)> {
        while self.left > 0 {
            self.left -= 1;
            match socket.take(&mut self.buffer) {
                Ok((Train { bytes, stride }, from)) => {
                    let length = bytes.len();
                    return Some((Train { bytes: &self.buffer[..length], stride }, from));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                // It belongs to an earlier datagram to somebody who is gone (ICMP); the socket stays good.
                Err(_) => {}
            }
        }
        None
    }
}

/// Milliseconds since `started`.
pub(crate) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
