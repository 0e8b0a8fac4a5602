//! Plain TCP connections: bulk, round trips, connections that are made and ones that stand idle.
//!
//! A client begins with a head of 9 bytes, big endian, that says what the connection is for:
//!
//! | byte 0 | bytes 1 to 4 | bytes 5 to 8 | then |
//! |---|---|---|---|
//! | 0 | – | – | the server sends back whatever comes |
//! | 1 | warm-up, ms | measured time, ms | the client sends; the server counts what comes between two instants of **its own** clock, and answers with the bytes and the nanoseconds between them, 8 bytes each |
//! | 2 | – | – | the server sends one byte and waits for the end |
//! | 3 | – | – | the server sends as fast as it is taken |
//!
//! So what still lies in a buffer on the way is never taken for carried.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections that a server has at once; further ones wait in the backlog.
const CONNECTIONS_MAX: usize = 16_384;
/// Bytes that are written or read at once.
const CHUNK: usize = 256 * 1024;
/// Bytes of a small request, and of its answer.
pub const SMALL: usize = 64;
/// How long one step of a client may take.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Echo,
    Sink { warm_up: Duration, measured: Duration },
    Hold,
    Source,
}

impl Use {
    fn encode(self) -> [u8; 9] {
        let mut head = [0; 9];
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX).to_be_bytes();
        match self {
            Self::Echo => {}
            Self::Sink { warm_up, measured } => {
                head[0] = 1;
                head[1..5].copy_from_slice(&ms(warm_up));
                head[5..].copy_from_slice(&ms(measured));
            }
            Self::Hold => head[0] = 2,
            Self::Source => head[0] = 3,
        }
        head
    }

    fn decode(head: [u8; 9]) -> Option<Self> {
        let [kind, a, b, c, d, e, f, g, h] = head;
        let ms = |bytes| Duration::from_millis(u32::from_be_bytes(bytes).into());
        match kind {
            0 => Some(Self::Echo),
            1 => Some(Self::Sink { warm_up: ms([a, b, c, d]), measured: ms([e, f, g, h]) }),
            2 => Some(Self::Hold),
            3 => Some(Self::Source),
            _ => None,
        }
    }
}

/// What a receiver has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodput {
    /// Bytes that came between the two instants.
    pub bytes: u64,
    /// Time between them.
    pub time: Duration,
}

impl Goodput {
    /// Gigabits per second.
    pub fn gbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64().max(f64::MIN_POSITIVE) / 1e9
    }
}

/// Serves for as long as it is polled.
pub async fn serve(listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("nobody closes it");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: not for ever.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        tokio::spawn(async move {
            // A client that goes away is its own affair.
            let _ = connection(stream).await;
            drop(slot);
        });
    }
}

async fn connection(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    match Use::decode(head) {
        None => Err(Error::new(ErrorKind::InvalidData, "no such use of a connection")),
        Some(Use::Echo) => {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.map(drop)
        }
        Some(Use::Hold) => {
            stream.write_all(&[1]).await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
        }
        Some(Use::Source) => {
            let chunk = vec![0x5a; CHUNK];
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        Some(Use::Sink { warm_up, measured }) => {
            let counted = count(&mut stream, warm_up, measured).await?;
            stream.write_u64(counted.bytes).await?;
            stream.write_u64(u64::try_from(counted.time.as_nanos()).unwrap_or(u64::MAX)).await?;
            stream.shutdown().await?;
            // What is still on its way is read, so that the answer is not lost to a reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
        }
    }
}

async fn count(stream: &mut TcpStream, warm_up: Duration, measured: Duration) -> Result<Goodput> {
    let began = Instant::now();
    let mut buffer = vec![0; CHUNK];
    let (mut first, mut bytes) = (None, 0);
    loop {
        let read = stream.read(&mut buffer).await?;
        let now = Instant::now();
        match first {
            None if now >= began + warm_up => first = Some(now),
            None => {}
            Some(_) => bytes += read as u64,
        }
        if read == 0 || first.is_some_and(|first| now >= first + measured) {
            let time = first.map(|first| now - first).unwrap_or_default();
            return Ok(Goodput { bytes, time });
        }
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STEP_LIMIT, step).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

async fn begin(address: SocketAddr, wanted: Use) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&wanted.encode()).await?;
    Ok(stream)
}

/// Sends over one connection as fast as it takes it, and answers what came out at the other end.
///
/// # Errors
/// The connection failed, or nothing moved for 20 s.
pub async fn bulk(address: SocketAddr, warm_up: Duration, measured: Duration) -> Result<Goodput> {
    let stream = in_time(begin(address, Use::Sink { warm_up, measured })).await?;
    let (mut from, mut to) = stream.into_split();
    let sending = tokio::spawn(async move {
        let chunk = vec![0x5a; CHUNK];
        // It ends when the receiver has counted and this task is ended.
        while to.write_all(&chunk).await.is_ok() {}
    });
    let answer = timeout(warm_up + measured + STEP_LIMIT, async {
        Ok::<_, Error>((from.read_u64().await?, from.read_u64().await?))
    })
    .await;
    sending.abort();
    let (bytes, nanos) = answer.map_err(|_| Error::from(ErrorKind::TimedOut))??;
    Ok(Goodput { bytes, time: Duration::from_nanos(nanos) })
}

/// Small requests over one connection, one at a time: how long each took, there and back.
///
/// # Errors
/// The connection failed, or one took longer than 20 s.
pub async fn round_trips(address: SocketAddr, lasting: Duration) -> Result<Vec<Duration>> {
    let mut stream = in_time(begin(address, Use::Echo)).await?;
    let (end, mut times) = (Instant::now() + lasting, Vec::new());
    while Instant::now() < end {
        let began = Instant::now();
        in_time(round_trip(&mut stream)).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// One small request over a connection of [`echo`], and its answer. It has no deadline of its own.
///
/// # Errors
/// The connection failed.
pub async fn round_trip(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(&[7; SMALL]).await?;
    stream.read_exact(&mut [0; SMALL]).await.map(drop)
}

/// A connection for [`round_trip`] that is open from end to end.
///
/// # Errors
/// It failed, or took longer than 20 s.
pub async fn echo(address: SocketAddr) -> Result<TcpStream> {
    in_time(async {
        let mut stream = begin(address, Use::Echo).await?;
        round_trip(&mut stream).await?;
        Ok(stream)
    })
    .await
}

/// A connection over which the server sends as fast as it is taken. The first byte has come.
///
/// # Errors
/// It failed, or took longer than 20 s.
pub async fn source(address: SocketAddr) -> Result<TcpStream> {
    in_time(async {
        let mut stream = begin(address, Use::Source).await?;
        stream.read_u8().await?;
        Ok(stream)
    })
    .await
}

/// New connections, one after the other: from the connect to the first byte of the server.
///
/// # Errors
/// A connection failed, or took longer than 20 s.
pub async fn connections(address: SocketAddr, count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        hold(address).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// A connection that is open from end to end and stands idle until it is dropped.
///
/// # Errors
/// It failed, or took longer than 20 s.
pub async fn hold(address: SocketAddr) -> Result<TcpStream> {
    in_time(async {
        let mut stream = begin(address, Use::Hold).await?;
        stream.read_u8().await?;
        Ok(stream)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(serve(listener));
        address
    }

    #[test]
    fn a_head_says_what_a_connection_is_for() {
        let ms = Duration::from_millis;
        for wanted in [Use::Echo, Use::Sink { warm_up: ms(3), measured: ms(70_000) }, Use::Hold, Use::Source]
        {
            assert_eq!(Use::decode(wanted.encode()), Some(wanted));
        }
        assert_eq!(Use::decode([9; 9]), None);
    }

    #[tokio::test]
    async fn goodput_is_what_the_receiver_has_counted_in_its_own_time() {
        let measured = Duration::from_millis(200);
        let goodput = bulk(server().await, Duration::from_millis(50), measured).await.expect("it runs");
        assert!(goodput.time >= measured, "{goodput:?}");
        assert!(goodput.bytes > 0 && goodput.gbit_per_s() > 0.0, "{goodput:?}");
    }

    #[tokio::test]
    async fn small_requests_come_back_and_held_connections_stay_open() {
        let address = server().await;
        assert!(!round_trips(address, Duration::from_millis(50)).await.expect("it runs").is_empty());
        assert_eq!(connections(address, 5).await.expect("it runs").len(), 5);
        let held = hold(address).await.expect("it runs");
        let mut byte = [0];
        let silent = timeout(Duration::from_millis(100), held.readable()).await;
        assert!(silent.is_err() || held.try_read(&mut byte).is_err(), "nothing more comes, and no end");
    }

    #[tokio::test]
    async fn a_source_sends_what_is_taken() {
        let mut taken = vec![0; 4 * CHUNK];
        let mut source = source(server().await).await.expect("it runs");
        in_time(source.read_exact(&mut taken)).await.expect("it goes on");
        assert!(taken.iter().all(|byte| *byte == 0x5a));
    }

    #[tokio::test]
    async fn a_client_that_wants_something_unknown_is_closed() {
        let mut stream = TcpStream::connect(server().await).await.expect("it listens");
        stream.write_all(&[9; 9]).await.expect("written");
        let mut rest = Vec::new();
        let _ = in_time(stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
    }
}
