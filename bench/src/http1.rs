//! A client for one GET at a time over HTTP/1.1, small enough that every way to fail is told apart.

use crate::sample::{Cause, Failure, Stage};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest head of an answer. Ours have about 100 bytes; 16 KiB is what most servers allow.
const HEAD_MAX: usize = 16 * 1024;
/// Longest body that is read.
const BODY_MAX: u64 = 1 << 30;

/// Where requests go, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// Address that is dialled.
    pub address: SocketAddr,
    /// Value of the `Host` header.
    pub host: String,
    /// Path with query, begins with `/`.
    pub path: String,
    /// From the beginning of a request to the end of its answer. Default 2 s.
    pub timeout: Duration,
    /// Use a connection again for the next request.
    pub keepalive: bool,
}

impl Target {
    /// `GET /` at an address, 2 s, a new connection each time.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            host: address.to_string(),
            path: "/".to_owned(),
            timeout: Duration::from_secs(2),
            keepalive: false,
        }
    }

    /// Parses `http://HOST:PORT/PATH`, where HOST is an IP address.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn from_url(url: &str) -> Result<Self, String> {
        let rest =
            url.strip_prefix("http://").ok_or_else(|| format!("`{url}` does not begin with http://"))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let with_port =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port.parse().map_err(|_| {
            format!("`{authority}` is not IP:PORT; resolve names first, so that lookups are not measured")
        })?;
        let path = path.to_owned();
        if path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(format!("the path `{path:?}` has characters that a request line cannot carry"));
        }
        Ok(Self { path, host: authority.to_owned(), ..Self::new(address) })
    }

    fn request(&self) -> Vec<u8> {
        let connection = if self.keepalive { "keep-alive" } else { "close" };
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", self.path, self.host)
            .into_bytes()
    }
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `X-Site`, or empty.
    pub site: Arc<str>,
    /// Bytes of the body.
    pub body_bytes: u64,
}

/// Sends one GET. `idle` is a connection that an earlier request left; the returned one can serve the next.
///
/// # Errors
/// How far it came, and what ended it. A reused connection that the server has closed meanwhile fails like any
/// other: the request is not sent again.
pub async fn get(target: &Target, idle: Option<TcpStream>) -> Result<(Answer, Option<TcpStream>), Failure> {
    let mut stage = Stage::Connect;
    let result = timeout(target.timeout, exchange(target, idle, &mut stage)).await;
    match result {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(cause)) => Err(Failure { stage, cause }),
        Err(_) => Err(Failure { stage, cause: Cause::TimedOut }),
    }
}

async fn exchange(
    target: &Target,
    idle: Option<TcpStream>,
    stage: &mut Stage,
) -> Result<(Answer, Option<TcpStream>), Cause> {
    let io = |e: std::io::Error| Cause::from_io(&e);
    let mut stream = match idle {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(target.address).await.map_err(io)?;
            stream.set_nodelay(true).map_err(io)?;
            stream
        }
    };
    *stage = Stage::Send;
    stream.write_all(&target.request()).await.map_err(io)?;
    *stage = Stage::Answer;
    let mut reader = Reader { stream: &mut stream, buffer: Vec::with_capacity(1024), read_from: 0 };
    let head = reader.head().await?;
    let body_bytes = reader.body(&head).await?;
    if !(200..300).contains(&head.status) {
        return Err(Cause::Status(head.status));
    }
    let clean = reader.read_from == reader.buffer.len();
    let reusable = target.keepalive && !head.close && clean && head.length != Length::UntilClosed;
    let answer = Answer { status: head.status, site: head.site, body_bytes };
    Ok((answer, reusable.then_some(stream)))
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
    UntilClosed,
}

struct Head {
    status: u16,
    site: Arc<str>,
    length: Length,
    close: bool,
}

struct Reader<'a> {
    stream: &'a mut TcpStream,
    /// Bytes received; those before `read_from` are used up. Bounded by [`HEAD_MAX`] plus one read.
    buffer: Vec<u8>,
    read_from: usize,
}

impl Reader<'_> {
    /// Reads more; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, Cause> {
        if self.read_from == self.buffer.len() {
            self.buffer.clear();
            self.read_from = 0;
        }
        self.buffer.reserve(4096);
        let n = self.stream.read_buf(&mut self.buffer).await.map_err(|e| Cause::from_io(&e))?;
        Ok(n > 0)
    }

    async fn line(&mut self) -> Result<String, Cause> {
        let mut searched = self.read_from;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let end = searched + at;
                let line = &self.buffer[self.read_from..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let text = String::from_utf8_lossy(line).into_owned();
                self.read_from = end + 1;
                return Ok(text);
            }
            if self.buffer.len() - self.read_from > HEAD_MAX {
                return Err(Cause::Malformed("a line is too long"));
            }
            let kept = self.buffer.len() - self.read_from;
            if !self.fill().await? {
                return Err(Cause::Closed);
            }
            searched = self.read_from + kept;
        }
    }

    async fn head(&mut self) -> Result<Head, Cause> {
        let status_line = self.line().await?;
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        if version != "HTTP/1.1" && version != "HTTP/1.0" {
            return Err(Cause::Malformed("no HTTP/1.1 status line"));
        }
        let status = words
            .next()
            .and_then(|w| w.parse().ok())
            .ok_or(Cause::Malformed("no status code in the status line"))?;
        let mut head =
            Head { status, site: Arc::from(""), length: Length::UntilClosed, close: version == "HTTP/1.0" };
        let mut total = status_line.len();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            if total > HEAD_MAX {
                return Err(Cause::Malformed("the head is too long"));
            }
            let (name, value) = line.split_once(':').ok_or(Cause::Malformed("a header line has no colon"))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-site" => head.site = Arc::from(value),
                "connection" => head.close = value.eq_ignore_ascii_case("close"),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => head.length = Length::Chunked,
                "content-length" if head.length != Length::Chunked => {
                    let bytes = value.parse().map_err(|_| Cause::Malformed("content-length is no number"))?;
                    head.length = Length::Bytes(bytes);
                }
                _ => {}
            }
        }
        if status == 204 || status == 304 || (100..200).contains(&status) {
            head.length = Length::Bytes(0);
        }
        Ok(head)
    }

    async fn body(&mut self, head: &Head) -> Result<u64, Cause> {
        match head.length {
            Length::Bytes(bytes) => {
                self.skip(bytes).await?;
                Ok(bytes)
            }
            Length::Chunked => self.chunks().await,
            Length::UntilClosed => {
                let mut total = (self.buffer.len() - self.read_from) as u64;
                loop {
                    self.read_from = self.buffer.len();
                    if !self.fill().await? {
                        return Ok(total);
                    }
                    total += self.buffer.len() as u64;
                    if total > BODY_MAX {
                        return Err(Cause::Malformed("the body is too long"));
                    }
                }
            }
        }
    }

    async fn chunks(&mut self) -> Result<u64, Cause> {
        let mut total = 0u64;
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| Cause::Malformed("a chunk has no size"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(total);
            }
            total = total.saturating_add(size);
            if total > BODY_MAX {
                return Err(Cause::Malformed("the body is too long"));
            }
            self.skip(size).await?;
            if !self.line().await?.is_empty() {
                return Err(Cause::Malformed("a chunk does not end where it should"));
            }
        }
    }

    async fn skip(&mut self, bytes: u64) -> Result<(), Cause> {
        if bytes > BODY_MAX {
            return Err(Cause::Malformed("the body is too long"));
        }
        let mut left = bytes;
        loop {
            let here = ((self.buffer.len() - self.read_from) as u64).min(left);
            self.read_from += usize::try_from(here).expect("no more than the buffer holds");
            left -= here;
            if left == 0 {
                return Ok(());
            }
            if !self.fill().await? {
                return Err(Cause::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers every connection with these bytes, after it has read the request.
    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    async fn ask(answer: &'static [u8]) -> Result<Answer, Failure> {
        let target = Target::new(server(answer).await);
        get(&target, None).await.map(|(answer, _)| answer)
    }

    #[tokio::test]
    async fn an_answer_is_complete_when_its_length_says_so() {
        let answer = ask(b"HTTP/1.1 200 OK\r\nX-Site: west\r\nContent-Length: 5\r\n\r\nhello")
            .await
            .expect("complete");
        assert_eq!((answer.status, &*answer.site, answer.body_bytes), (200, "west", 5));
        let answer =
            ask(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
        assert_eq!(answer.await.expect("complete").body_bytes, 5);
        let answer = ask(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.expect("complete");
        assert_eq!(answer.body_bytes, 13);
        let answer = ask(b"HTTP/1.1 204 No Content\r\nX-Site: east\r\n\r\n").await.expect("complete");
        assert_eq!(answer.body_bytes, 0);
    }

    #[tokio::test]
    async fn a_cut_answer_is_a_failure_of_the_answer_stage() {
        for cut in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nContent-",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let failure = ask(cut).await.expect_err("cut");
            assert_eq!(failure, Failure { stage: Stage::Answer, cause: Cause::Closed }, "{cut:?}");
        }
    }

    #[tokio::test]
    async fn a_malformed_answer_is_told_apart() {
        for bad in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        ] {
            let failure = ask(bad).await.expect_err("malformed");
            assert!(matches!(failure.cause, Cause::Malformed(_)), "{bad:?}: {failure}");
        }
        let failure = ask(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await.expect_err("not 2xx");
        assert_eq!(failure.cause, Cause::Status(503));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_a_silent_server_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let target = Target { timeout: Duration::from_millis(50), ..Target::new(address) };
        let failure = get(&target, None).await.expect_err("nobody answers");
        assert_eq!(failure, Failure { stage: Stage::Answer, cause: Cause::TimedOut });
        drop(listener);
        let failure = get(&target, None).await.expect_err("nobody listens");
        assert_eq!(failure, Failure { stage: Stage::Connect, cause: Cause::Refused });
    }

    #[test]
    fn a_url_needs_an_address() {
        let target = Target::from_url("http://127.64.0.7:8080/cart?x=1").expect("valid");
        assert_eq!(
            (target.address.to_string().as_str(), target.path.as_str()),
            ("127.64.0.7:8080", "/cart?x=1")
        );
        assert_eq!(Target::from_url("http://127.0.0.1").expect("valid").address.port(), 80);
        for bad in ["https://127.0.0.1/", "http://cart.shop/", "127.0.0.1:80", "http://127.0.0.1/a b"] {
            assert!(Target::from_url(bad).is_err(), "{bad}");
        }
    }
}
