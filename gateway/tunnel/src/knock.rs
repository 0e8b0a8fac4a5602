//! Asking a silent peer's host whether anybody still listens there.
//!
//! The tunnel's own socket talks to many peers, so the system does not tell it when one of them refuses a packet
//! (ICMP port unreachable). A socket that is connected to one peer is told. So when a peer has been silent for longer
//! than it should be, one byte is sent to it from such a socket: a process that listens drops it as no QUIC packet, a
//! host without one refuses it. Anyone on the way can forge that, so it only shortens the wait.

use gateway_core::liveness::Timers;
use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// Between two knocks on the same door.
const KNOCK_EVERY: Duration = Duration::from_millis(100);
/// No valid QUIC packet: too short for a header.
const KNOCK: &[u8] = &[0];

/// Knocks at one peer.
#[derive(Debug)]
pub(crate) struct Knocker {
    remote: SocketAddr,
    busy_patience: Duration,
    idle_patience: Duration,
    socket: Option<UdpSocket>,
    knocked_at: Option<Instant>,
}

impl Knocker {
    pub(crate) fn new(remote: SocketAddr, timers: &Timers) -> Self {
        let slack = timers.missing_interval * 2;
        Self {
            remote,
            busy_patience: timers.busy_interval + slack,
            idle_patience: timers.idle_interval + slack,
            socket: None,
            knocked_at: None,
        }
    }

    /// Knocks if the peer has been silent for longer than it should be. Gives the socket back once it speaks again.
    pub(crate) fn maybe_knock(&mut self, heard_at: Instant, streams: u32, now: Instant) {
        let patience = if streams > 0 { self.busy_patience } else { self.idle_patience };
        if now.saturating_duration_since(heard_at) < patience {
            self.socket = None;
            return;
        }
        if self.knocked_at.is_some_and(|at| now.saturating_duration_since(at) < KNOCK_EVERY) {
            return;
        }
        self.knocked_at = Some(now);
        // Without a socket, or when sending fails, the probes find out alone.
        if self.socket.is_none() {
            self.socket = connected(self.remote).ok();
        }
        if let Some(socket) = &self.socket {
            // Past the runtime, which does not yet know that a new socket can be written to. It does not block.
            let _ = SockRef::from(socket).send(KNOCK);
        }
    }

    /// Ends when the peer's host has refused a knock.
    pub(crate) async fn refused(&self) {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        loop {
            match socket.recv(&mut [0; 1]).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                // Whoever answers listens. Other errors say nothing; not to spin on them, stop listening.
                Ok(_) => {}
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

fn connected(remote: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(remote)?;
    UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    fn silent_since(ago: Duration) -> (Instant, Instant) {
        let now = Instant::now() + Duration::from_secs(100);
        (now - ago, now)
    }

    #[tokio::test]
    async fn a_host_where_nobody_listens_refuses_and_another_does_not() {
        let gone = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
        let there = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let (heard_at, now) = silent_since(Duration::from_secs(5));

        let mut knocker = Knocker::new(gone, &Timers::default());
        knocker.maybe_knock(heard_at, 1, now);
        tokio::time::timeout(WITHIN, knocker.refused()).await.expect("refused");

        let mut knocker = Knocker::new(there.local_addr().expect("bound"), &Timers::default());
        knocker.maybe_knock(heard_at, 1, now);
        let refused = tokio::time::timeout(Duration::from_millis(200), knocker.refused()).await;
        assert!(refused.is_err());
        let mut byte = [9; 4];
        assert_eq!(there.recv(&mut byte).expect("the knock"), KNOCK.len());
    }

    #[tokio::test]
    async fn a_peer_that_speaks_is_not_knocked_at() {
        let mut knocker = Knocker::new("127.0.0.1:9".parse().expect("valid"), &Timers::default());
        let (heard_at, now) = silent_since(Duration::from_millis(100));
        knocker.maybe_knock(heard_at, 1, now);
        assert!(knocker.socket.is_none());
        let (heard_at, now) = silent_since(Duration::from_millis(900));
        knocker.maybe_knock(heard_at, 0, now);
        assert!(knocker.socket.is_none());
    }
}
