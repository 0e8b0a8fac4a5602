//! One direction of a copy. A direction that waits holds no buffer: it waits for readiness, and only then borrows
//! the scratch buffer of its thread, or takes what the transport already has.

use crate::codes::StreamCode;
use crate::credit::Credit;
use crate::stream::SendHalf;
use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream, WriteError};
use socket2::SockRef;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::consume_budget;

/// Most bytes that one read takes from a socket, and the size of the one scratch buffer of each thread.
const SCRATCH: usize = 64 << 10;
/// Most pieces that are taken from a stream at once; each is at most one packet.
const PIECES: usize = 32;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Where a direction broke before its FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The side that it read from, or the one that it wrote to.
    pub(crate) side: Side,
    /// What is wrong there.
    pub(crate) how: How,
}

/// A side of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    From,
    To,
}

/// What is wrong with a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It was reset, or the peer stopped reading it.
    Reset(StreamCode),
    /// Its connection is gone.
    Lost,
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        let how = match error {
            ReadError::Reset(code) => How::Reset(StreamCode::from_number(code)),
            ReadError::ConnectionLost(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => How::Lost,
        };
        Self { side: Side::From, how }
    }
}

impl From<WriteError> for Broken {
    fn from(error: WriteError) -> Self {
        let how = match error {
            WriteError::Stopped(code) => How::Reset(StreamCode::from_number(code)),
            WriteError::ConnectionLost(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                How::Lost
            }
        };
        Self { side: Side::To, how }
    }
}

/// Its reader was too slow for too long.
const SLOW: Broken = Broken { side: Side::To, how: How::Reset(StreamCode::SlowReader) };

/// A TCP connection that fails was reset, for all that matters to the other side.
fn tcp_broke(side: Side) -> impl Fn(io::Error) -> Broken {
    move |_| Broken { side, how: How::Reset(StreamCode::TcpReset) }
}

/// Reads what a socket has; none: it is at its end. Waits without a buffer.
pub(crate) async fn read_tcp(tcp: &TcpStream, limit: usize) -> io::Result<Option<Bytes>> {
    loop {
        // A socket that is at its end or broken is readable too.
        tcp.readable().await?;
        let read = BUFFER.with_borrow_mut(|buffer| {
            let end = limit.min(SCRATCH);
            tcp.try_read(&mut buffer[..end]).map(|n| Bytes::copy_from_slice(&buffer[..n]))
        });
        match read {
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes what a stream has, up to [`PIECES`] pieces; none: it is at its end. Waits without a buffer.
async fn read_stream(recv: &mut RecvStream) -> Result<Option<VecDeque<Bytes>>, ReadError> {
    poll_fn(|cx| {
        let mut pieces: [Bytes; PIECES] = Default::default();
        let poll = pin!(recv.read_chunks(&mut pieces)).poll(cx);
        match poll {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(n))) => Poll::Ready(Ok(Some(pieces.into_iter().take(n).collect()))),
            Poll::Ready(Ok(None)) => Poll::Ready(Ok(None)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    })
    .await
}

/// Writes all of `bytes` to a socket.
pub(crate) async fn write_all(tcp: &TcpStream, bytes: Bytes) -> io::Result<()> {
    write_tcp(tcp, VecDeque::from([bytes])).await
}

/// Writes all of `pieces` to a socket.
async fn write_tcp(tcp: &TcpStream, mut pieces: VecDeque<Bytes>) -> io::Result<()> {
    while !write_some(tcp, &mut pieces)? {
        tcp.writable().await?;
    }
    Ok(())
}

/// Writes all of `pieces` to a socket. While it takes none they are noted as stuck, and may be given up for others.
async fn write_or_give_up(
    tcp: &TcpStream,
    mut pieces: VecDeque<Bytes>,
    credit: &Credit,
) -> Result<(), Broken> {
    let broke = tcp_broke(Side::To);
    if write_some(tcp, &mut pieces).map_err(&broke)? {
        return Ok(());
    }
    let stuck = credit.stuck();
    loop {
        let ready = poll_fn(|cx| {
            if stuck.poll_given_up(cx) {
                return Poll::Ready(Err(SLOW));
            }
            tcp.poll_write_ready(cx).map_err(&broke)
        });
        ready.await?;
        if write_some(tcp, &mut pieces).map_err(&broke)? {
            return Ok(());
        }
    }
}

/// Writes what a socket takes; false: not all of it.
fn write_some(tcp: &TcpStream, pieces: &mut VecDeque<Bytes>) -> io::Result<bool> {
    while let Some(first) = pieces.front() {
        if first.is_empty() {
            pieces.pop_front();
            continue;
        }
        let written = {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(&*pieces) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            tcp.try_write_vectored(&slices[..used])
        };
        match written {
            Ok(mut n) => {
                while n > 0 {
                    let Some(first) = pieces.front_mut() else { break };
                    let step = n.min(first.len());
                    first.advance(step);
                    n -= step;
                    if first.is_empty() {
                        pieces.pop_front();
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// TCP to stream: bytes, then FIN as `finish`.
pub(crate) async fn tcp_to_stream(
    tcp: &TcpStream,
    send: &mut SendHalf,
    ahead: Bytes,
    moved: &impl Fn(usize) -> bool,
) -> Result<(), Broken> {
    if !ahead.is_empty() {
        send.yield_if(moved(ahead.len()));
        send.write_chunk(ahead).await?;
    }
    while let Some(bytes) = read_tcp(tcp, SCRATCH).await.map_err(tcp_broke(Side::From))? {
        send.yield_if(moved(bytes.len()));
        send.write_chunk(bytes).await?;
        consume_budget().await;
    }
    send.finish();
    Ok(())
}

/// Stream to TCP: bytes, then FIN as shutdown of the writing side.
pub(crate) async fn stream_to_tcp(
    recv: &mut RecvStream,
    tcp: &TcpStream,
    ahead: Bytes,
    moved: &impl Fn(usize) -> bool,
    credit: &Credit,
) -> Result<(), Broken> {
    if !ahead.is_empty() {
        moved(ahead.len());
        write_all(tcp, ahead).await.map_err(tcp_broke(Side::To))?;
    }
    while let Some(pieces) = read_stream(recv).await? {
        moved(pieces.iter().map(Bytes::len).sum());
        write_or_give_up(tcp, pieces, credit).await?;
        consume_budget().await;
    }
    end_writing(tcp);
    Ok(())
}

/// Stream to stream, without a copy.
pub(crate) async fn stream_to_stream(
    recv: &mut RecvStream,
    send: &mut SendHalf,
    ahead: Bytes,
    moved: &impl Fn(usize) -> bool,
    credit: &Credit,
) -> Result<(), Broken> {
    if !ahead.is_empty() {
        send.yield_if(moved(ahead.len()));
        send.write_chunk(ahead).await?;
    }
    while let Some(mut pieces) = read_stream(recv).await? {
        send.yield_if(moved(pieces.iter().map(Bytes::len).sum()));
        pass_or_give_up(send, pieces.make_contiguous(), credit).await?;
        consume_budget().await;
    }
    send.finish();
    Ok(())
}

/// Writes all of `pieces` to a stream. While it takes none they are noted as stuck, and may be given up for others.
async fn pass_or_give_up(send: &mut SendHalf, pieces: &mut [Bytes], credit: &Credit) -> Result<(), Broken> {
    let mut stuck = None;
    let mut writing = pin!(send.write_all_chunks(pieces));
    poll_fn(|cx| match writing.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done.map_err(Broken::from)),
        Poll::Pending if stuck.get_or_insert_with(|| credit.stuck()).poll_given_up(cx) => {
            Poll::Ready(Err(SLOW))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// TCP to TCP, through the scratch buffer.
pub(crate) async fn tcp_to_tcp(
    from: &TcpStream,
    to: &TcpStream,
    ahead: Bytes,
    moved: &impl Fn(usize) -> bool,
) -> Result<(), Broken> {
    let mut next = Some(ahead);
    while let Some(bytes) = next {
        if !bytes.is_empty() {
            moved(bytes.len());
            write_all(to, bytes).await.map_err(tcp_broke(Side::To))?;
            consume_budget().await;
        }
        next = read_tcp(from, SCRATCH).await.map_err(tcp_broke(Side::From))?;
    }
    end_writing(to);
    Ok(())
}

/// Sends a FIN and leaves the reading side open.
fn end_writing(tcp: &TcpStream) {
    // It fails only on a socket that is already broken, which the watch for resets finds.
    let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
}

/// Ends when the socket is reset, also while nobody reads from it or writes to it.
pub(crate) async fn reset_of(tcp: &TcpStream) {
    loop {
        if tcp.ready(Interest::ERROR).await.is_err() || matches!(tcp.take_error(), Ok(Some(_)) | Err(_)) {
            return;
        }
        // Not an error after all: clear the readiness, or this would spin.
        let _ = tcp.try_io(Interest::ERROR, || Err::<(), _>(ErrorKind::WouldBlock.into()));
    }
}
