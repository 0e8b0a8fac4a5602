//! A TCP connection that is given up as a reset, never by chance as an end.

use socket2::{SockRef, TcpKeepalive};
use std::ops::Deref;
use std::time::Duration;
use tokio::net::TcpStream;

/// An idle connection is probed after so long, and then until it answers or the system gives it up (on Linux after nine
/// probes): a host that lost its power must not hold a stream for ever.
const VANISHED_AFTER: Duration = Duration::from_secs(60);

/// A TCP connection that is reset when it is dropped, unless it has ended well: a copy that is dropped half-way must not
/// look whole to whoever reads it.
#[derive(Debug)]
pub struct Tcp {
    inner: TcpStream,
    ended: bool,
}

impl From<TcpStream> for Tcp {
    /// Small writes go out at once from here on (TCP_NODELAY), and a host that has vanished is found out
    /// by keep-alive probes.
    fn from(inner: TcpStream) -> Self {
        // Both fail only on a socket that is already gone, which the first read finds.
        let _ = inner.set_nodelay(true);
        let probes = TcpKeepalive::new().with_time(VANISHED_AFTER).with_interval(VANISHED_AFTER / 6);
        let _ = SockRef::from(&inner).set_tcp_keepalive(&probes);
        Self { inner, ended: false }
    }
}

impl Tcp {
    /// Both directions have ended; what was written last still goes out.
    pub(crate) fn ended(&mut self) {
        self.ended = true;
    }
}

impl Deref for Tcp {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.inner
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        if !self.ended {
            // It fails only on a socket that is already gone.
            let _ = self.inner.set_zero_linger();
        }
    }
}
