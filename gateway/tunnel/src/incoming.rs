//! Streams that the peer opens: their headers are read here, each in its own time, so that one late header holds up
//! no other stream.

use crate::codes::StreamCode;
use crate::config::Config;
use crate::connection::Connection;
use crate::counters::Tally;
use crate::frame::{FrameError, FrameReader};
use crate::room::Room;
use crate::stream::{SendHalf, Shares, Slot, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::decision::{Refusal, RefusalCode};
use model::ids::EndpointId;
use model::locality::Locality;
use model::tunnel::{Answer, StreamHeader};
use quinn::{RecvStream, SendStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Streams with a header that wait for [`Connection::accept_stream`]. When it is full, further ones wait unread, up to
/// the number of streams that the peer may have open at all.
const QUEUE: usize = 64;

/// A stream whose header was read.
#[derive(Debug)]
pub(crate) struct Parts {
    header: StreamHeader,
    send: SendStream,
    recv: RecvStream,
}

/// Starts reading headers.
pub(crate) fn run(
    quic: quinn::Connection,
    room: Arc<Room>,
    tally: Arc<Tally>,
    config: &Config,
) -> mpsc::Receiver<Parts> {
    let (queue, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(accept(quic, room, tally, queue, config.header_timeout));
    receiver
}

async fn accept(
    quic: quinn::Connection,
    room: Arc<Room>,
    tally: Arc<Tally>,
    queue: mpsc::Sender<Parts>,
    timeout: Duration,
) {
    // Bounded by the number of streams that the peer may have open.
    let mut reading = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(read) = reading.next() => {
                if let Some(parts) = read
                    && queue.send(parts).await.is_err()
                {
                    return;
                }
            }
            accepted = quic.accept_bi() => match accepted {
                Ok((send, recv)) => reading.push(read_header(send, recv, (&room, &tally), timeout)),
                Err(_) => return,
            },
            () = queue.closed() => return,
        }
    }
}

/// Reads the header of one stream, or refuses it.
async fn read_header(
    send: SendStream,
    mut recv: RecvStream,
    (room, tally): (&Arc<Room>, &Arc<Tally>),
    timeout: Duration,
) -> Option<Parts> {
    let mut reader = FrameReader::default();
    let read = match tokio::time::timeout(timeout, reader.read(&mut recv)).await {
        Err(_) => Err(FrameError::TimedOut),
        Ok(read) => read,
    };
    let header = read.and_then(|body| wire::frame::decode_header(&body).map_err(FrameError::Malformed));
    match header {
        Ok(header) => Some(Parts { header, send, recv }),
        Err(FrameError::Reset(_) | FrameError::Lost) => None,
        Err(error) => {
            tracing::debug!(error = %chain(&error), "refused a stream for its header");
            tally.stream_refused(RefusalCode::BadHeader);
            let refusal = Refusal { code: RefusalCode::BadHeader, retryable: false, detail: chain(&error) };
            let shares = Shares { room: Arc::clone(room), tally: Arc::clone(tally) };
            let mut send = SendHalf::new(send, Some(shares));
            refuse(&mut send, &mut recv, refusal, StreamCode::Protocol).await;
            None
        }
    }
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Sends a refusal and ends the stream.
async fn refuse(send: &mut SendHalf, recv: &mut RecvStream, mut refusal: Refusal, code: StreamCode) {
    if let Some((end, _)) = refusal.detail.char_indices().nth(200) {
        refusal.detail.truncate(end);
    }
    // Failing to tell somebody who is gone changes nothing.
    let answer = wire::frame::encode_answer(&Answer::Refused(refusal));
    match send.write_chunk(Bytes::from(answer)).await {
        Ok(()) => send.finish(),
        // It counts as refused, not as dropped.
        Err(_) => send.reset(code),
    }
    let _ = recv.stop(code.number());
}

/// A stream that the peer opened, not yet answered. Dropped without an answer, it is reset, and the peer takes another
/// candidate.
#[derive(Debug)]
pub struct IncomingStream {
    /// Boxed, since it is large beside the rest.
    header: Box<StreamHeader>,
    stream: Stream,
}

impl IncomingStream {
    pub(crate) fn new(connection: Connection, parts: Parts) -> Self {
        let Parts { header, send, recv } = parts;
        let slot = Slot::new(connection, header.stream, false);
        Self { header: Box::new(header), stream: Stream::new(slot, send, recv) }
    }

    /// What it is for.
    pub fn header(&self) -> &StreamHeader {
        &self.header
    }

    /// The connection that it came over.
    pub fn connection(&self) -> &Connection {
        self.stream.connection()
    }

    /// Says that the endpoint has the connection. The stream is for copying then.
    ///
    /// # Errors
    /// The opener has given the stream up; the connection to the endpoint should be reset.
    pub async fn accept(self, endpoint: EndpointId, locality: Locality) -> Result<Stream, GaveUp> {
        let mut stream = self.stream;
        send_answer(&mut stream, &Answer::Accepted { endpoint, locality }).await?;
        stream.connection().tally().streams_accepted.add(1);
        Ok(stream)
    }

    /// Says that nobody has the connection and no byte of the client has gone anywhere.
    pub async fn refuse(self, refusal: Refusal) {
        let mut stream = self.stream;
        stream.connection().tally().stream_refused(refusal.code);
        refuse(&mut stream.send, &mut stream.recv, refusal, StreamCode::Refused).await;
    }

    /// The header, and the stream on which no answer was sent. Whoever takes it has to send one.
    pub fn into_parts(self) -> (StreamHeader, Stream) {
        (*self.header, self.stream)
    }

    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

/// The opener has given the stream up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the opener of the stream has given it up")]
pub struct GaveUp;

async fn send_answer(stream: &mut Stream, answer: &Answer) -> Result<(), GaveUp> {
    let bytes = wire::frame::encode_answer(answer);
    stream.send.write_chunk(Bytes::from(bytes)).await.map_err(|_| GaveUp)
}
