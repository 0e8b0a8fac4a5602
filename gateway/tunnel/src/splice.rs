//! Copying between a TCP connection and a stream, between two streams, and between two TCP connections, so that
//! the two ends see each other's closes as if they were one connection.
//!
//! | seen here | done on the other side |
//! |---|---|
//! | FIN from TCP | FIN on the stream; the other direction stays open |
//! | FIN on the stream | TCP is shut down for writing; the other direction stays open |
//! | RST from TCP, also while nothing is read | stream reset and stopped |
//! | stream reset or stopped | RST to TCP (`SO_LINGER` 0) |
//! | stream refused | RST to the client; nothing ever went to an endpoint |
//! | connection lost | RST to TCP |
//! | connection towards the endpoint silent, and there is another way | RST to TCP, stream reset and stopped |
//!
//! Back-pressure goes from end to end: a side that does not take bytes is not read for. One future per connection,
//! and no buffer in it: see `pump`.

use crate::codes::StreamCode;
use crate::connection::{Connection, State};
use crate::pump::{self, Broken, How, Side};
use crate::stream::{Stream, give_up};
use crate::tcp::Tcp;
use bytes::Bytes;
use futures_util::future::{Either, FutureExt, TryFutureExt, try_join};
use quinn::{StoppedError, VarInt};
use std::fmt;
use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// Whether a new connection of the same kind could go another way just now. It is asked when the connection under the
/// second side, towards the endpoint, has fallen silent: if so, the copy ends with resets, else it waits, since a blip
/// should not kill a session that has nowhere to go. Silence on the first side is for the process there to judge.
pub type Elsewhere = Arc<dyn Fn() -> bool + Send + Sync>;

/// How often a stream over a silent connection asks again whether there is somewhere else to go.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes from the first side to the second.
    pub forward: u64,
    /// Bytes from the second side to the first.
    pub backward: u64,
    /// How it ended.
    pub end: End,
}

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides sent FIN, and each was passed on.
    Closed,
    /// The first side was reset.
    FirstReset(StreamCode),
    /// The second side was reset.
    SecondReset(StreamCode),
    /// The connection under the first side was lost.
    FirstLost,
    /// The connection under the second side was lost.
    SecondLost,
    /// A connection under it was silent for too long, and there was somewhere else to go.
    Silent,
}

impl End {
    /// In one or two words, without the code.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::FirstReset(_) => "caller reset",
            Self::SecondReset(_) => "endpoint reset",
            Self::FirstLost => "caller lost",
            Self::SecondLost => "endpoint lost",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by both ends"),
            Self::FirstReset(code) => write!(f, "caller's side: {code}"),
            Self::SecondReset(code) => write!(f, "endpoint's side: {code}"),
            Self::FirstLost => f.write_str("the connection on the caller's side was lost"),
            Self::SecondLost => f.write_str("the connection on the endpoint's side was lost"),
            Self::Silent => f.write_str("the connection was silent, and there was another way"),
        }
    }
}

impl Broken {
    /// Of the direction from the first side to the second.
    fn forward(self) -> End {
        match self.side {
            Side::From => self.how.first(),
            Side::To => self.how.second(),
        }
    }

    /// Of the direction from the second side to the first.
    fn backward(self) -> End {
        match self.side {
            Side::From => self.how.second(),
            Side::To => self.how.first(),
        }
    }
}

impl How {
    fn first(self) -> End {
        match self {
            Self::Reset(code) => End::FirstReset(code),
            Self::Lost => End::FirstLost,
        }
    }

    fn second(self) -> End {
        match self {
            Self::Reset(code) => End::SecondReset(code),
            Self::Lost => End::SecondLost,
        }
    }
}

impl End {
    /// What the side that is still there is told; none: it has ended well.
    fn code(self) -> Option<StreamCode> {
        match self {
            Self::Closed => None,
            Self::FirstReset(code) | Self::SecondReset(code) => Some(code),
            Self::FirstLost | Self::SecondLost | Self::Silent => Some(StreamCode::PathLost),
        }
    }
}

/// One side of a copy.
#[derive(Debug)]
pub enum Leg {
    /// A TCP connection.
    Tcp(Tcp),
    /// A stream.
    Stream(Stream),
}

/// A copy under way.
pub type Copying = Pin<Box<dyn Future<Output = Transfer> + Send>>;

/// Copies between two sides, both ways, to the end. `ahead` goes to the second side before anything that is read from
/// the first. The future is all that a connection keeps, so it is boxed at its own size.
///
/// Dropped before it is done, both sides are reset.
pub fn copy(first: Leg, second: Leg, ahead: Bytes, elsewhere: Option<Elsewhere>) -> Copying {
    let nothing = Bytes::new();
    match (first, second) {
        (Leg::Tcp(first), Leg::Tcp(second)) => Box::pin(tcp_and_tcp(first, second, ahead)),
        (Leg::Tcp(first), Leg::Stream(second)) => {
            Box::pin(tcp_and_stream(first, second, [ahead, nothing], elsewhere))
        }
        (Leg::Stream(first), Leg::Tcp(second)) => {
            Box::pin(tcp_and_stream(second, first, [nothing, ahead], None).map(Transfer::turned))
        }
        (Leg::Stream(first), Leg::Stream(second)) => {
            Box::pin(stream_and_stream(first, second, ahead, elsewhere))
        }
    }
}

/// [`copy`] between a TCP connection (first) and a stream (second).
pub fn splice(tcp: impl Into<Tcp>, stream: Stream, ahead: Bytes, elsewhere: Option<Elsewhere>) -> Copying {
    copy(Leg::Tcp(tcp.into()), Leg::Stream(stream), ahead, elsewhere)
}

impl Leg {
    /// Resets it.
    pub(crate) fn reset(self) {
        match self {
            Self::Tcp(tcp) => drop(tcp),
            Self::Stream(stream) => stream.reset(StreamCode::Cancelled),
        }
    }
}

impl Transfer {
    /// Of a connection whose client was gone before the first byte.
    pub(crate) fn nothing() -> Self {
        Self { forward: 0, backward: 0, end: End::FirstReset(StreamCode::Cancelled) }
    }

    /// The same with the sides the other way round.
    fn turned(self) -> Self {
        let end = match self.end {
            End::FirstReset(code) => End::SecondReset(code),
            End::SecondReset(code) => End::FirstReset(code),
            End::FirstLost => End::SecondLost,
            End::SecondLost => End::FirstLost,
            End::Closed => End::Closed,
            End::Silent => End::Silent,
        };
        Self { forward: self.backward, backward: self.forward, end }
    }
}

/// Between a TCP connection (first) and a stream (second). `ahead`: what goes to the stream, and what goes to TCP, before
/// anything that is read.
fn tcp_and_stream(
    mut tcp: Tcp,
    stream: Stream,
    ahead: [Bytes; 2],
    elsewhere: Option<Elsewhere>,
) -> impl Future<Output = Transfer> + Send {
    let [to_stream, to_tcp] = ahead;
    let Stream { mut send, mut recv, slot } = stream;
    async move {
        let stopped = send.stopped();
        let end = {
            let socket: &TcpStream = &tcp;
            let sent = |bytes| slot.count_sent(bytes);
            let received = |bytes| slot.count_received(bytes);
            let forward = pump::tcp_to_stream(socket, &mut send, to_stream, &sent);
            let backward =
                pump::stream_to_tcp(&mut recv, socket, to_tcp, &received, slot.connection().credit());
            tokio::select! {
                biased;
                end = both(forward, backward) => end,
                () = pump::reset_of(socket) => How::Reset(StreamCode::TcpReset).first(),
                how = given_up(stopped) => how.second(),
                () = silent(slot.connection(), elsewhere.as_ref()) => End::Silent,
            }
        };
        match end.code() {
            None => tcp.ended(),
            Some(code) => give_up(&mut send, &mut recv, &slot, code),
        }
        Transfer { forward: slot.sent(), backward: slot.received(), end }
    }
}

/// Between two streams.
fn stream_and_stream(
    first: Stream,
    second: Stream,
    ahead: Bytes,
    elsewhere: Option<Elsewhere>,
) -> impl Future<Output = Transfer> + Send {
    let Stream { send: mut send_1, recv: mut recv_1, slot: slot_1 } = first;
    let Stream { send: mut send_2, recv: mut recv_2, slot: slot_2 } = second;
    async move {
        let (stopped_1, stopped_2) = (send_1.stopped(), send_2.stopped());
        let end = {
            let moved_forward = |bytes| slot_1.count_received(bytes) | slot_2.count_sent(bytes);
            let moved_backward = |bytes| slot_2.count_received(bytes) | slot_1.count_sent(bytes);
            let forward = pump::stream_to_stream(
                &mut recv_1,
                &mut send_2,
                ahead,
                &moved_forward,
                slot_1.connection().credit(),
            );
            let backward = pump::stream_to_stream(
                &mut recv_2,
                &mut send_1,
                Bytes::new(),
                &moved_backward,
                slot_2.connection().credit(),
            );
            tokio::select! {
                biased;
                end = both(forward, backward) => end,
                how = given_up(stopped_1) => how.first(),
                how = given_up(stopped_2) => how.second(),
                    () = silent(slot_2.connection(), elsewhere.as_ref()) => End::Silent,
            }
        };
        if let Some(code) = end.code() {
            give_up(&mut send_1, &mut recv_1, &slot_1, code);
            give_up(&mut send_2, &mut recv_2, &slot_2, code);
        }
        Transfer { forward: slot_2.sent(), backward: slot_1.sent(), end }
    }
}

/// Between two TCP connections.
async fn tcp_and_tcp(mut first: Tcp, mut second: Tcp, ahead: Bytes) -> Transfer {
    let (there, back) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = {
        let (tcp_1, tcp_2): (&TcpStream, &TcpStream) = (&first, &second);
        let moved_forward = |bytes| count(&there, bytes);
        let moved_backward = |bytes| count(&back, bytes);
        let forward = pump::tcp_to_tcp(tcp_1, tcp_2, ahead, &moved_forward);
        let backward = pump::tcp_to_tcp(tcp_2, tcp_1, Bytes::new(), &moved_backward);
        tokio::select! {
            biased;
            end = both(forward, backward) => end,
            () = pump::reset_of(tcp_1) => How::Reset(StreamCode::TcpReset).first(),
            () = pump::reset_of(tcp_2) => How::Reset(StreamCode::TcpReset).second(),
        }
    };
    if end == End::Closed {
        first.ended();
        second.ended();
    }
    Transfer { forward: there.into_inner(), backward: back.into_inner(), end }
}

fn count(counter: &AtomicU64, bytes: usize) -> bool {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
    false
}

// These two are made of combinators, since an async function keeps what it was given twice.

/// Runs both directions until both are done or one breaks.
fn both(
    forward: impl Future<Output = Result<(), Broken>>,
    backward: impl Future<Output = Result<(), Broken>>,
) -> impl Future<Output = End> {
    let both = try_join(forward.map_err(Broken::forward), backward.map_err(Broken::backward));
    both.map(|done| done.err().unwrap_or(End::Closed))
}

/// Ends when the peer stops the stream or its connection is lost; not when all was acknowledged.
fn given_up(
    stopped: impl Future<Output = Result<Option<VarInt>, StoppedError>>,
) -> impl Future<Output = How> {
    stopped.then(|stopped| match stopped {
        Ok(Some(code)) => Either::Left(ready(How::Reset(StreamCode::from_number(code)))),
        Ok(None) => Either::Right(pending()),
        Err(_) => Either::Left(ready(How::Lost)),
    })
}

/// Ends when the connection is silent and there is somewhere else to go.
async fn silent(connection: &Connection, elsewhere: Option<&Elsewhere>) {
    let Some(elsewhere) = elsewhere else { return pending().await };
    let mut states = connection.states();
    loop {
        // A connection that is gone is found by the reads and writes, with the reason.
        if states.wait_for(|state| *state == State::Dead).await.is_err() {
            return pending().await;
        }
        if elsewhere() {
            return;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
