//! The client of a connection that is to be served.

use crate::codes::StreamCode;
use crate::incoming::IncomingStream;
use crate::pump;
use crate::splice::Leg;
use crate::tcp::Tcp;
use bytes::Bytes;
use model::decision::Refusal;
use model::ids::EndpointId;
use model::locality::Locality;
use std::fmt;

/// What a client that spoke a proxy protocol before (SOCKS5, HTTP CONNECT) is told.
pub struct Replies {
    /// Once an endpoint has the connection, before its bytes.
    pub accepted: Bytes,
    /// Instead of a reset, when nobody takes it.
    pub refused: Box<dyn FnOnce(&Refusal) -> Bytes + Send>,
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replies")
    }
}

/// A client.
#[derive(Debug)]
pub enum Client {
    /// A TCP connection.
    Tcp(Tcp),
    /// A TCP connection that waits for a reply first.
    Proxied(Tcp, Replies),
    /// A stream from another process, which waits for an answer.
    Stream(IncomingStream),
}

/// What a client did.
pub(super) enum Did {
    Sent(Bytes),
    Finished,
    Gone,
}

impl Client {
    /// Reads at most `room` bytes; with no room, only watches whether the client goes away. May be dropped and called
    /// again.
    pub(super) async fn next(&mut self, room: usize) -> Did {
        match self {
            Self::Tcp(tcp) | Self::Proxied(tcp, _) => {
                if room == 0 {
                    pump::reset_of(tcp).await;
                    return Did::Gone;
                }
                match pump::read_tcp(tcp, room).await {
                    Ok(Some(bytes)) => Did::Sent(bytes),
                    Ok(None) => Did::Finished,
                    Err(_) => Did::Gone,
                }
            }
            Self::Stream(incoming) => {
                let recv = &mut incoming.stream_mut().recv;
                if room == 0 {
                    return match recv.received_reset().await {
                        // It has sent all, and can only be given up by its connection, which the send side finds.
                        Ok(None) => std::future::pending().await,
                        Ok(Some(_)) | Err(_) => Did::Gone,
                    };
                }
                match recv.read_chunk(room, true).await {
                    Ok(Some(chunk)) => Did::Sent(chunk.bytes),
                    Ok(None) => Did::Finished,
                    Err(_) => Did::Gone,
                }
            }
        }
    }

    /// Tells the client that it is served; none: it is gone.
    pub(super) async fn accept(self, endpoint: EndpointId, locality: Locality) -> Option<Leg> {
        match self {
            Self::Tcp(tcp) => Some(Leg::Tcp(tcp)),
            Self::Proxied(tcp, replies) => {
                pump::write_all(&tcp, replies.accepted).await.ok()?;
                Some(Leg::Tcp(tcp))
            }
            Self::Stream(incoming) => incoming.accept(endpoint, locality).await.ok().map(Leg::Stream),
        }
    }

    /// Tells the client that nobody serves it.
    pub(super) async fn refuse(self, refusal: &Refusal) {
        match self {
            // Dropped, it is reset.
            Self::Tcp(_) => {}
            Self::Proxied(mut tcp, replies) => {
                // Failing to tell somebody who is gone changes nothing.
                if pump::write_all(&tcp, (replies.refused)(refusal)).await.is_ok() {
                    tcp.ended();
                }
            }
            Self::Stream(incoming) => incoming.refuse(refusal.clone()).await,
        }
    }

    /// Ends the client's connection, which is gone anyway.
    pub(super) fn abandon(self) {
        match self {
            // Dropped, it is reset.
            Self::Tcp(_) | Self::Proxied(..) => {}
            Self::Stream(incoming) => incoming.into_parts().1.reset(StreamCode::Cancelled),
        }
    }
}
