//! One stream of a connection, as its user holds it.

use crate::codes::StreamCode;
use crate::connection::Connection;
use crate::counters::Tally;
use crate::room::Room;
use bytes::Bytes;
use futures_util::FutureExt;
use model::ids::StreamId;
use quinn::{RecvStream, SendStream, VarInt, WriteError};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that has moved more than this counts as bulk: others go first, and new streams keep off its connection.
pub const BULK_ABOVE: u64 = 256 << 10;

/// Priority of bulk streams, below the others' 0: their data waits while others have some.
const BULK_PRIORITY: i32 = -1;

/// The sending side. The transport would send a FIN when it is dropped, which would make a cut-off copy look whole;
/// this one resets instead, unless it was ended.
#[derive(Debug)]
pub(crate) struct SendHalf {
    inner: SendStream,
    /// None: it shares its connection with nobody, and is not counted.
    shares: Option<Shares>,
    ended: bool,
    yields: bool,
}

/// What a stream shares with the others of its connection.
#[derive(Debug)]
pub(crate) struct Shares {
    pub(crate) room: Arc<Room>,
    pub(crate) tally: Arc<Tally>,
}

impl SendHalf {
    pub(crate) fn new(inner: SendStream, shares: Option<Shares>) -> Self {
        Self { inner, shares, ended: false, yields: false }
    }

    /// Writes as many as the peer has room for. May be dropped and called again.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, WriteError> {
        poll_fn(|cx| self.poll_before_bulk(|inner| Pin::new(inner).poll_write(cx, bytes))).await
    }

    pub(crate) async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        self.write_all_chunks(&mut [bytes]).await
    }

    pub(crate) async fn write_all_chunks(&mut self, pieces: &mut [Bytes]) -> Result<(), WriteError> {
        let mut rest = pieces;
        while let Some(at) = rest.iter().position(|piece| !piece.is_empty()) {
            rest = &mut rest[at..];
            poll_fn(|cx| self.poll_before_bulk(|inner| pin!(inner.write_chunks(rest)).poll(cx))).await?;
        }
        Ok(())
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = self.poll_before_bulk(|inner| Pin::new(inner).poll_write(cx, buf));
        poll.map_err(io::Error::from)
    }

    /// Tries a write, and once more with the room that bulk streams leave to others, unless this is one.
    fn poll_before_bulk<T>(&mut self, mut write: impl FnMut(&mut SendStream) -> Poll<T>) -> Poll<T> {
        match (write(&mut self.inner), &self.shares) {
            (Poll::Pending, Some(shares)) if !self.yields => shares.room.beyond(|| write(&mut self.inner)),
            (poll, _) => poll,
        }
    }

    /// Whether a FIN or a reset was sent.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Sends FIN after what was written.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
        // It fails on a stream that was stopped meanwhile, which whoever watches for that finds.
        let _ = self.inner.finish();
    }

    /// Gives the direction up, with what was not yet sent.
    pub(crate) fn reset(&mut self, code: StreamCode) {
        self.ended = true;
        // It fails on a stream that is already closed.
        let _ = self.inner.reset(code.number());
    }

    /// Ends with the code with which the peer stopped the stream; none: it has acknowledged everything; an error:
    /// the connection is gone.
    pub(crate) fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<VarInt>, quinn::StoppedError>> + Send + Sync + 'static {
        self.inner.stopped()
    }

    /// Lets the data of others go first, from when the stream is a bulk one.
    pub(crate) fn yield_if(&mut self, bulk: bool) {
        if bulk && !self.yields {
            self.yields = true;
            // It fails on a stream that is already closed, whose priority does not matter.
            let _ = self.inner.set_priority(BULK_PRIORITY);
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.ended {
            self.reset(StreamCode::Dropped);
            if let Some(shares) = &self.shares {
                shares.tally.stream_reset(StreamCode::Dropped);
            }
        }
    }
}

/// The place that a stream takes on its connection; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    connection: Connection,
    stream: StreamId,
    sent: AtomicU64,
    received: AtomicU64,
    bulk: AtomicBool,
}

impl Slot {
    pub(crate) fn new(connection: Connection, stream: StreamId, awaits_answer: bool) -> Self {
        connection.shared().stream_opened(stream, awaits_answer);
        let tally = connection.tally();
        let begun = if awaits_answer { &tally.streams_opened } else { &tally.streams_taken };
        begun.add(1);
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { connection, stream, sent, received, bulk: AtomicBool::new(false) }
    }

    /// It did not end with the FIN of both sides.
    pub(crate) fn was_reset(&self, code: StreamCode) {
        self.connection.tally().stream_reset(code);
    }

    /// The answer is there, whichever it is.
    pub(crate) fn answered(&self) {
        self.connection.shared().stream_answered(self.stream);
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts; says whether the stream is a bulk one.
    pub(crate) fn count_sent(&self, bytes: usize) -> bool {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.connection.shared().count_sent(bytes);
        self.connection.tally().bytes_sent.add(bytes as u64);
        self.note_bulk()
    }

    /// Counts; says whether the stream is a bulk one.
    pub(crate) fn count_received(&self, bytes: usize) -> bool {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.connection.shared().count_received(bytes);
        self.connection.tally().bytes_received.add(bytes as u64);
        self.note_bulk()
    }

    fn note_bulk(&self) -> bool {
        let bulk = self.sent() + self.received() > BULK_ABOVE;
        if bulk && !self.bulk.swap(true, Ordering::Relaxed) {
            self.connection.shared().bulk_began();
        }
        bulk
    }

    fn is_bulk(&self) -> bool {
        self.bulk.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connection.shared().stream_closed(self.stream, self.is_bulk());
        self.connection.tally().streams_closed.add(1);
    }
}

/// A bidirectional stream, open in both directions.
///
/// Dropped before it has ended, it is reset: a FIN is only ever sent by `shutdown`, or by a copy that saw one.
#[derive(Debug)]
pub struct Stream {
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvStream,
    pub(crate) slot: Slot,
}

impl Stream {
    pub(crate) fn new(slot: Slot, send: SendStream, recv: RecvStream) -> Self {
        let send = SendHalf::new(send, Some(slot.connection().shares()));
        Self { send, recv, slot }
    }

    /// The connection that carries it.
    pub fn connection(&self) -> &Connection {
        self.slot.connection()
    }

    /// Gives both directions up.
    pub fn reset(mut self, code: StreamCode) {
        self.abort(code);
    }

    pub(crate) fn abort(&mut self, code: StreamCode) {
        give_up(&mut self.send, &mut self.recv, &self.slot, code);
    }
}

/// Resets and stops a stream.
pub(crate) fn give_up(send: &mut SendHalf, recv: &mut RecvStream, slot: &Slot, code: StreamCode) {
    slot.was_reset(code);
    send.reset(code);
    // What nobody takes any more is credit again, and has to be counted for that.
    let mut pieces: [Bytes; 32] = Default::default();
    while let Some(Ok(Some(n))) = recv.read_chunks(&mut pieces).now_or_never() {
        slot.connection().shared().count_discarded(pieces[..n].iter().map(Bytes::len).sum());
    }
    // It fails on a stream that was read to its end.
    let _ = recv.stop(code.number());
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf);
        self.slot.count_received(buf.filled().len() - before);
        poll
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = self.send.poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &poll {
            let bulk = self.slot.count_sent(*n);
            self.send.yield_if(bulk);
        }
        poll
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.finish();
        Poll::Ready(Ok(()))
    }
}
