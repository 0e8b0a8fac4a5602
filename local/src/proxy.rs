//! SOCKS5 and HTTP CONNECT on one port, for every name that is served.
//!
//! The first byte of a connection tells the two apart. [`handshake`] reads what the caller wants and hands over a
//! [`Pending`]; the caller hears `granted` or `refused` when whoever decides has the answer.

mod connect;
mod read;
mod socks;

use crate::names::{NameTable, NotServed, Target};
use bytes::Bytes;
use model::decision::Refusal;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bounds of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyLimits {
    /// Longest time from the accept to the end of the request. Default 10 s.
    pub handshake_timeout: Duration,
    /// Longest head of an HTTP request. Default 8 KiB, what common servers take.
    pub head_max: usize,
    /// Callers on other hosts are turned away: they would get the identity of this one. Default true.
    pub local_only: bool,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self { handshake_timeout: Duration::from_secs(10), head_max: 8 * 1_024, local_only: true }
    }
}

/// Longest time that a reply to a caller may take to be taken by its socket.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a handshake came to nothing. Where the protocol has words for it, the caller was told.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The caller is on another host.
    #[error("{peer} is on another host; this proxy serves its own host only")]
    Remote {
        /// The caller.
        peer: SocketAddr,
    },
    /// The caller took too long.
    #[error("{peer} did not say what it wants within {limit:?}")]
    TimedOut {
        /// The caller.
        peer: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// The caller went away.
    #[error("{peer} went away during the handshake")]
    Gone {
        /// The caller.
        peer: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The caller broke the protocol, or wants a part of it that is not served.
    #[error("{peer}: {reason}")]
    Protocol {
        /// The caller.
        peer: SocketAddr,
        /// What is wrong.
        reason: &'static str,
    },
    /// The caller wants what is not served here.
    #[error("{peer} wants what is not served")]
    NotServed {
        /// The caller.
        peer: SocketAddr,
        /// Why not.
        source: NotServed,
    },
}

/// What went wrong while a request was read, before it is known whose.
#[derive(Debug)]
enum Trouble {
    Io(io::Error),
    Protocol(&'static str),
    NotServed(NotServed),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Which protocol the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Socks5,
    Http,
}

/// A caller who has said what it wants and waits for the answer.
#[derive(Debug)]
pub struct Pending {
    stream: TcpStream,
    peer: SocketAddr,
    target: Target,
    replies: Replies,
}

/// What a caller is told in the end, in the words of its protocol.
#[derive(Debug, Clone, Copy)]
pub struct Replies {
    dialect: Dialect,
}

impl Replies {
    /// Once somebody serves it, before any byte of the service.
    pub fn granted(self) -> Bytes {
        match self.dialect {
            Dialect::Socks5 => socks::granted(),
            Dialect::Http => connect::granted(),
        }
    }

    /// When nobody does; then the connection ends.
    pub fn refused(self, refusal: &Refusal) -> Bytes {
        match self.dialect {
            Dialect::Socks5 => socks::refused(refusal.code),
            Dialect::Http => connect::refused(refusal),
        }
    }
}

impl Pending {
    /// What the caller wants.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Who it is.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Hands over the connection and what to say on it, for those who answer by themselves. Nothing was read that
    /// came after the request.
    pub fn into_parts(self) -> (TcpStream, Replies) {
        (self.stream, self.replies)
    }

    /// Tells the caller that its connection stands, and hands it over.
    ///
    /// # Errors
    /// The caller has gone away.
    pub async fn granted(mut self) -> io::Result<TcpStream> {
        write(&mut self.stream, &self.replies.granted()).await?;
        Ok(self.stream)
    }

    /// Tells the caller that nobody serves it, and why, as far as its protocol has words for that.
    ///
    /// # Errors
    /// The caller has gone away.
    pub async fn refused(mut self, refusal: &Refusal) -> io::Result<()> {
        write(&mut self.stream, &self.replies.refused(refusal)).await?;
        close(&mut self.stream).await;
        Ok(())
    }
}

/// Reads what the caller of an accepted connection wants.
///
/// # Errors
/// The caller broke the protocol, took too long, went away, or wants what is not served. It was told where its
/// protocol has words for that, and the connection is closed.
pub async fn handshake(
    mut stream: TcpStream,
    names: &NameTable,
    limits: &ProxyLimits,
) -> Result<Pending, HandshakeError> {
    let peer = stream.peer_addr().map_err(|source| HandshakeError::Gone { peer: nobody(), source })?;
    if limits.local_only && !is_local(&stream, peer) {
        return Err(HandshakeError::Remote { peer });
    }
    let limit = limits.handshake_timeout;
    let heard = timeout(limit, hear(&mut stream, names, limits));
    let heard = heard.await.map_err(|_| HandshakeError::TimedOut { peer, limit })?;
    match heard {
        Ok((target, dialect)) => Ok(Pending { stream, peer, target, replies: Replies { dialect } }),
        Err(Trouble::Io(source)) => Err(HandshakeError::Gone { peer, source }),
        Err(Trouble::Protocol(reason)) => {
            close(&mut stream).await;
            Err(HandshakeError::Protocol { peer, reason })
        }
        Err(Trouble::NotServed(source)) => {
            close(&mut stream).await;
            Err(HandshakeError::NotServed { peer, source })
        }
    }
}

async fn hear(
    stream: &mut TcpStream,
    names: &NameTable,
    limits: &ProxyLimits,
) -> Result<(Target, Dialect), Trouble> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(Trouble::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    match first[0] {
        5 => Ok((socks::request(stream, names).await?, Dialect::Socks5)),
        4 => {
            write(stream, &socks::refused_version_4()).await?;
            Err(Trouble::Protocol("SOCKS4 is not served; use SOCKS5 (`curl --socks5-hostname`)"))
        }
        b'A'..=b'Z' => Ok((connect::request(stream, names, limits.head_max).await?, Dialect::Http)),
        _ => Err(Trouble::Protocol("neither SOCKS5 nor HTTP")),
    }
}

/// A caller on this host comes from a loopback address, or from the very address that it connects to.
fn is_local(stream: &TcpStream, peer: SocketAddr) -> bool {
    peer.ip().is_loopback() || stream.local_addr().is_ok_and(|local| local.ip() == peer.ip())
}

fn nobody() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let written = timeout(REPLY_TIMEOUT, stream.write_all(bytes));
    written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Ends a connection so that the reply arrives: the end is said, and what the caller still sends is read for a moment,
/// since closing with unread bytes would reset the connection and take the reply with it.
async fn close(stream: &mut TcpStream) {
    /// Most bytes that are read and thrown away.
    const SWALLOW_MAX: usize = 64 * 1_024;
    const SWALLOW_FOR: Duration = Duration::from_secs(1);
    if stream.shutdown().await.is_err() {
        return;
    }
    let swallow = read::swallow(stream, SWALLOW_MAX);
    // Whether it took too long or failed: it was only a courtesy.
    let _ = timeout(SWALLOW_FOR, swallow).await;
}
