//! The one stream of a connection that makes a link (ALPN `meshfed-link/1`): raw bytes, few of them, for a short time,
//! possibly with a stranger.

use crate::codes::CloseCode;
use crate::stream::SendHalf;
use quinn::RecvStream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

/// Most bytes that go each way.
pub const LINK_BYTES_MAX: usize = 16 << 10;
/// Such connections at a time.
pub(crate) const LINKS_MAX: usize = 8;
/// How long the other side may take to open its stream.
pub(crate) const FIRST_STREAM: Duration = Duration::from_secs(5);
/// How long such a connection may live in all, so that a slow stranger does not hold a place.
pub(crate) const LINK_LIFE: Duration = Duration::from_secs(60);
/// How long what was sent may take to be acknowledged, before the connection is closed after its stream.
const LINGER: Duration = Duration::from_secs(5);

/// The stream. The one who dialled writes first.
#[derive(Debug)]
pub struct LinkStream {
    quic: quinn::Connection,
    /// Always there until dropped.
    send: Option<SendHalf>,
    recv: RecvStream,
    left_to_send: usize,
    left_to_receive: usize,
    /// Place among [`LINKS_MAX`], for an accepted one.
    _place: Option<OwnedSemaphorePermit>,
}

impl LinkStream {
    pub(crate) fn new(
        quic: quinn::Connection,
        send: quinn::SendStream,
        recv: RecvStream,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            quic,
            send: Some(SendHalf::new(send, None)),
            recv,
            left_to_send: LINK_BYTES_MAX,
            left_to_receive: LINK_BYTES_MAX,
            _place: place,
        }
    }

    /// Where the other end is.
    pub fn remote(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    fn send(&mut self) -> &mut SendHalf {
        self.send.as_mut().expect("it is only taken on drop")
    }
}

fn too_much(direction: &str) -> io::Error {
    io::Error::other(format!("the other side {direction} more than the {LINK_BYTES_MAX} bytes of a link"))
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        std::task::ready!(Pin::new(&mut this.recv).poll_read(cx, buf))?;
        let Some(left) = this.left_to_receive.checked_sub(buf.filled().len() - before) else {
            return Poll::Ready(Err(too_much("sends")));
        };
        this.left_to_receive = left;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let end = buf.len().min(self.left_to_send);
        if end == 0 && !buf.is_empty() {
            return Poll::Ready(Err(too_much("is sent")));
        }
        let n = std::task::ready!(self.send().poll_write(cx, &buf[..end]))?;
        self.left_to_send -= n;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send().finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        let Some(send) = self.send.take() else { return };
        let quic = self.quic.clone();
        // What was sent last must arrive before the connection is closed. Without a runtime the process is ending.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if send.is_ended() {
                let _ = tokio::time::timeout(LINGER, send.stopped()).await;
            }
            drop(send);
            quic.close(CloseCode::Done.number(), b"");
        });
    }
}

/// Closes a connection after a time, if it is still there.
pub(crate) fn end_after(quic: quinn::Connection, time: Duration) {
    tokio::spawn(async move {
        if tokio::time::timeout(time, quic.closed()).await.is_err() {
            quic.close(CloseCode::Protocol.number(), b"it took too long");
        }
    });
}

/// How often strangers may come: bursts of ten, then five a second.
#[derive(Debug)]
pub(crate) struct RateLimit(Mutex<Instant>);

impl RateLimit {
    const INTERVAL: Duration = Duration::from_millis(200);
    const BURST: u32 = 10;

    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(now))
    }

    /// Whether one more may come now.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut next = self.0.lock().expect("nobody panics with it");
        let from = (*next).max(now);
        if from.duration_since(now) > Self::INTERVAL * Self::BURST {
            return false;
        }
        *next = from + Self::INTERVAL;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_come_in_a_burst_and_then_slowly() {
        let start = Instant::now();
        let limit = RateLimit::new(start);
        let burst = (0..100).filter(|_| limit.take(start)).count();
        assert!((10..=12).contains(&burst), "{burst}");
        let later = (0..100).filter(|_| limit.take(start + Duration::from_secs(1))).count();
        assert!((4..=6).contains(&later), "{later}");
    }
}
