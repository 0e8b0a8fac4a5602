//! One connection between two processes: who is at the other end, how it is, and its streams.

use crate::codes::{CloseCode, StreamCode};
use crate::config::Config;
use crate::counters::Tally;
use crate::credit::Credit;
use crate::driver::{self, Shared};
use crate::frame::{FrameError, FrameReader};
use crate::incoming::{self, IncomingStream};
use crate::places::Place;
use crate::pool::Pool;
use crate::room::Room;
use crate::stream::{Shares, Slot, Stream};
use bytes::{Buf, Bytes, BytesMut};
use model::identity::SpiffeId;
use model::tunnel::{Answer, StreamHeader};
use quinn::ConnectionError;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};

pub use gateway_core::liveness::State;
pub use gateway_core::path::Health;

/// What a connection carries now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Open streams.
    pub streams: u32,
    /// Those of them that have moved much ([`crate::stream::BULK_ABOVE`]).
    pub bulk: u32,
    /// Bytes sent on streams, ever.
    pub bytes_sent: u64,
    /// Bytes received on streams, ever.
    pub bytes_received: u64,
}

impl From<Load> for gateway_core::path::Load {
    /// What counts when a stream is placed.
    fn from(load: Load) -> Self {
        Self { bulk: load.bulk, streams: load.streams }
    }
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// This process closed it.
    #[error("closed here")]
    Here,
    /// The peer closed it.
    #[error("closed by the peer: {code}{}", Because(reason))]
    Peer {
        /// Its code.
        code: CloseCode,
        /// Its words, at most 200 characters.
        reason: String,
    },
    /// The peer knows nothing of it: its process was killed and started again.
    #[error("the peer's process has restarted")]
    Restarted,
    /// Nothing was heard for the idle timeout.
    #[error("nothing was heard from the peer for the idle timeout")]
    TimedOut,
    /// One of the two sides refused the other's certificate or broke the protocol.
    #[error("the transport failed: {0}")]
    Transport(String),
}

/// Writes ": reason" unless there is none.
struct Because<'a>(&'a str);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// What a TLS alert of the peer means; QUIC carries its number as its own less 0x100.
fn told(code: u64) -> Option<&'static str> {
    let alert = u8::try_from(code.checked_sub(0x100)?).ok()?;
    identity::peer::told(alert)
}

/// A text from a peer, cut.
fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(200).collect()
}

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::ApplicationClosed(close) => {
                Self::Peer { code: CloseCode::from_number(close.error_code), reason: words(&close.reason) }
            }
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::ConnectionClosed(close) => {
                let said = words(&close.reason);
                Self::Transport(match told(u64::from(close.error_code)) {
                    Some(meaning) => format!("{meaning}{}", Because(&said)),
                    None => format!("{}{}", close.error_code, Because(&said)),
                })
            }
            ConnectionError::TransportError(error) => Self::Transport(words(error.to_string().as_bytes())),
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
                Self::Transport(error.to_string())
            }
        }
    }
}

/// Why a stream was not opened, or not answered. No byte of it has reached an endpoint, unless bytes were sent ahead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The connection is over.
    #[error("the connection is over: {0}")]
    Closed(Closed),
    /// The peer allows no more streams, or takes no more bytes, at the moment.
    #[error("the peer takes no more streams at the moment")]
    Full,
    /// The header would not fit on the wire. The caller's fault.
    #[error("the header cannot be sent")]
    Header(#[source] wire::frame::FrameError),
    /// The peer gave the stream up before it answered.
    #[error("the peer gave the stream up before it answered: {0}")]
    GivenUp(StreamCode),
    /// The answer breaks the protocol.
    #[error("the peer's answer breaks the protocol")]
    BadAnswer(#[source] FrameError),
}

pub(crate) struct Inner {
    quic: quinn::Connection,
    id: u64,
    peer: SpiffeId,
    dialled: bool,
    open_timeout: Duration,
    shared: Arc<Shared>,
    room: Arc<Room>,
    credit: Arc<Credit>,
    tally: Arc<Tally>,
    /// Of a connection that the peer has dialled.
    _place: Option<Place>,
    incoming: Mutex<mpsc::Receiver<incoming::Parts>>,
}

/// A connection. Cheap to clone; when the last clone and the last stream are gone, it is closed.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} to {} at {})", self.0.id, self.0.peer, self.remote())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.quic.close(CloseCode::Done.number(), b"");
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Connection {}

/// Numbers of connections within this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Connection {
    /// `place`: of one that the peer has dialled.
    pub(crate) fn new(
        quic: quinn::Connection,
        peer: SpiffeId,
        place: Option<Place>,
        (tally, pool): (Arc<Tally>, &Arc<Pool>),
        config: &Config,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let room = Arc::new(Room::new(quic.clone(), &peer, pool, config.send_window));
        let credit = Arc::new(Credit::new(quic.clone(), &peer, pool, config.windows()));
        let buffers = driver::Buffers { room: Arc::clone(&room), credit: Arc::clone(&credit) };
        let shared = driver::start(quic.clone(), config.liveness.clone(), buffers, Arc::clone(&tally), id);
        let incoming = incoming::run(quic.clone(), Arc::clone(&room), Arc::clone(&tally), config);
        Self(Arc::new(Inner {
            quic,
            id,
            peer,
            dialled: place.is_none(),
            open_timeout: config.open_timeout,
            shared,
            room,
            credit,
            tally,
            _place: place,
            incoming: Mutex::new(incoming),
        }))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.0.tally
    }

    pub(crate) fn shares(&self) -> Shares {
        Shares { room: Arc::clone(&self.0.room), tally: Arc::clone(&self.0.tally) }
    }

    pub(crate) fn credit(&self) -> &Credit {
        &self.0.credit
    }

    /// Number of the connection, unique within this process and never used again.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Who is at the other end, by its certificate.
    pub fn peer(&self) -> &SpiffeId {
        &self.0.peer
    }

    /// Where the other end is.
    pub fn remote(&self) -> SocketAddr {
        self.0.quic.remote_address()
    }

    /// Whether this process dialled, rather than the peer.
    pub fn dialled(&self) -> bool {
        self.0.dialled
    }

    /// How it is.
    pub fn health(&self) -> Health {
        *self.0.shared.health.borrow()
    }

    /// How it is, with every change of its state and of the peer's draining; round trip and loss at most once a second.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.0.shared.health.clone()
    }

    /// Its state alone; ends when the connection is over.
    pub fn states(&self) -> watch::Receiver<State> {
        self.0.shared.state.clone()
    }

    /// What it carries.
    pub fn load(&self) -> Load {
        self.0.shared.load()
    }

    /// Largest UDP payload that the path carries now, bytes.
    pub fn mtu(&self) -> u16 {
        self.0.quic.stats().path.current_mtu
    }

    /// Tells the peer that this process takes no new streams, or takes them again. The peer learns of it with the next
    /// probe, which is sent at once.
    pub fn set_draining(&self, draining: bool) {
        self.0.shared.set_draining(draining);
    }

    /// Ends the connection and all of its streams, at both ends.
    pub fn close(&self, code: CloseCode, reason: &str) {
        let end = reason.char_indices().nth(200).map_or(reason.len(), |(at, _)| at);
        self.0.quic.close(code.number(), &reason.as_bytes()[..end]);
    }

    /// Ends when the connection is over, with the reason.
    pub async fn closed(&self) -> Closed {
        self.0.quic.closed().await.into()
    }

    /// Why the connection is over; none: it is not.
    pub fn close_reason(&self) -> Option<Closed> {
        self.0.quic.close_reason().map(Closed::from)
    }

    /// Ends when the connection is over or has been silent for so long that it counts as dead.
    pub async fn dead(&self) {
        let mut states = self.states();
        // An error means that the driver has ended, which it does when the connection is over.
        let _ = states.wait_for(|state| *state == State::Dead).await;
    }

    /// Opens a stream. `ahead` are bytes of the client that may be sent twice; they follow the header at once.
    ///
    /// # Errors
    /// The connection is over, the peer takes no more streams, or the header is too long.
    pub async fn open(&self, header: &StreamHeader, ahead: Bytes) -> Result<Opened, OpenError> {
        let id = header.stream;
        let header = wire::frame::encode_header(header).map_err(OpenError::Header)?;
        let bytes_ahead = ahead.len();
        let opening = async {
            let opened = self.0.quic.open_bi().await;
            let (send, recv) = opened.map_err(|error| OpenError::Closed(error.into()))?;
            let mut stream = Stream::new(Slot::new(self.clone(), id, true), send, recv);
            match stream.send.write_all_chunks(&mut [Bytes::from(header), ahead]).await {
                // When it was stopped, it was refused already, and the answer says why.
                Ok(()) | Err(quinn::WriteError::Stopped(_)) => Ok(stream),
                Err(_) => Err(OpenError::Closed(self.close_reason().unwrap_or(Closed::Here))),
            }
        };
        let opened = tokio::time::timeout(self.0.open_timeout, opening).await;
        let stream = opened.unwrap_or(Err(OpenError::Full))?;
        stream.slot.count_sent(bytes_ahead);
        Ok(Opened { stream, reader: FrameReader::default() })
    }

    /// The next stream that the peer opens, once its header is there. Streams whose header is late, too long or not
    /// understood are refused with the reason and not seen here.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn accept_stream(&self) -> Result<IncomingStream, Closed> {
        let next = self.0.incoming.lock().await.recv().await;
        match next {
            Some(parts) => Ok(IncomingStream::new(self.clone(), parts)),
            None => Err(self.closed().await),
        }
    }
}

/// A stream that was opened and not yet answered.
#[derive(Debug)]
pub struct Opened {
    stream: Stream,
    reader: FrameReader,
}

impl Opened {
    /// Waits for the answer. May be dropped and called again.
    ///
    /// # Errors
    /// The connection is over, or the peer gave the stream up, or answered nonsense. No endpoint has accepted it.
    pub async fn answer(&mut self) -> Result<Answer, OpenError> {
        self.answer_while_sending(&mut BytesMut::new()).await
    }

    /// Waits for the answer, and meanwhile sends `ahead`, from which it takes what it has sent. May be dropped and called
    /// again.
    pub(crate) async fn answer_while_sending(&mut self, ahead: &mut BytesMut) -> Result<Answer, OpenError> {
        let Stream { send, recv, slot } = &mut self.stream;
        let mut read = pin!(self.reader.read(recv));
        let read = loop {
            tokio::select! {
                biased;
                read = &mut read => break read,
                sent = send.write(ahead), if !ahead.is_empty() => match sent {
                    Ok(bytes) => {
                        ahead.advance(bytes);
                        slot.count_sent(bytes);
                    }
                    // It was refused or lost; the answer says which.
                    Err(_) => ahead.clear(),
                },
            }
        };
        slot.answered();
        let body = read.map_err(|error| match error {
            FrameError::Lost => OpenError::Closed(slot.connection().close_reason().unwrap_or(Closed::Here)),
            FrameError::Reset(code) => OpenError::GivenUp(code),
            other => OpenError::BadAnswer(other),
        })?;
        let answer = wire::frame::decode_answer(&body);
        answer.map_err(|error| OpenError::BadAnswer(FrameError::Malformed(error)))
    }

    /// The stream, for whoever sends and copies next; after an `accepted`.
    pub fn into_stream(self) -> Stream {
        self.stream.slot.answered();
        self.stream
    }

    /// Gives the stream up: the client went away, or another candidate is tried.
    pub fn cancel(self) {
        self.stream.reset(StreamCode::Cancelled);
    }
}
