//! A web server that says which site it stands for: the built-in workload of topologies and tests.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` (any path not below) | 200, one line that names the site and the instance |
//! | `GET /healthz` | 200 `ok` |
//! | `GET /delay/MS` | 200 after MS milliseconds, at most 60 000 |
//! | `GET /bytes/N` | 200 with N bytes, at most 1 GiB |
//! | any method with a body | 200 with the same body, at most 1 MiB |
//!
//! Every answer carries `X-Site` and `X-Instance`.

use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections served at once; further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// Longest head of a request.
const HEAD_MAX: usize = 16 * 1024;
/// Longest body that is sent back.
const BODY_MAX: usize = 1 << 20;
/// Most bytes that `/bytes/N` sends.
const BYTES_MAX: u64 = 1 << 30;
/// Longest delay of `/delay/MS`, in milliseconds.
const DELAY_MAX_MS: u64 = 60_000;
/// A connection on which nothing happens for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Who answers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Value of `X-Site`.
    pub site: String,
    /// Value of `X-Instance`: one of several servers of the site.
    pub instance: String,
}

/// Serves until `stop`; open connections then finish their request.
pub async fn serve(listener: TcpListener, identity: Identity, stop: CancellationToken) {
    let identity = Arc::new(identity);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = tokio::select! {
            () = stop.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot.expect("nobody closes it"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, or the peer was gone before we came: neither is a reason to end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (identity, stop) = (Arc::clone(&identity), stop.clone());
        tokio::spawn(async move {
            // A client that goes away is its own affair.
            let _ = connection(stream, &identity, &stop).await;
            drop(slot);
        });
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).expect("a small constant");
    let _ = tokio::time::timeout(IDLE, slots.acquire_many(all)).await;
}

struct Request {
    path: String,
    body: Vec<u8>,
    keepalive: bool,
}

async fn connection(
    mut stream: TcpStream,
    identity: &Identity,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            request = tokio::time::timeout(IDLE, read_request(&mut stream, &mut buffer)) => request,
        };
        let Ok(request) = request else { return Ok(()) };
        let request = match request? {
            Read::Request(request) => request,
            Read::End => return Ok(()),
            Read::Refused(status) => {
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return stream.write_all(head.as_bytes()).await;
            }
        };
        let keepalive = request.keepalive && !stop.is_cancelled();
        answer(&mut stream, identity, request, keepalive).await?;
        if !keepalive {
            return stream.shutdown().await;
        }
    }
}

enum Read {
    Request(Request),
    End,
    Refused(&'static str),
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Read> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if buffer.len() > HEAD_MAX {
            return Ok(Read::Refused("431 Request Header Fields Too Large"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(Read::End);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(_method), Some(path), Some(version)) = (first.next(), first.next(), first.next()) else {
        return Ok(Read::Refused("400 Bad Request"));
    };
    let mut keepalive = version == "HTTP/1.1";
    let mut length = 0usize;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Ok(Read::Refused("400 Bad Request")) };
        let value = value.trim();
        if name.eq_ignore_ascii_case("connection") {
            keepalive = !value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("content-length") {
            let Ok(bytes) = value.parse() else { return Ok(Read::Refused("400 Bad Request")) };
            length = bytes;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Read::Refused("411 Length Required"));
        }
    }
    if length > BODY_MAX {
        return Ok(Read::Refused("413 Content Too Large"));
    }
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(Read::End);
        }
    }
    let body = buffer.drain(..length).collect();
    Ok(Read::Request(Request { path: path.to_owned(), body, keepalive }))
}

async fn answer(
    stream: &mut TcpStream,
    identity: &Identity,
    request: Request,
    keepalive: bool,
) -> std::io::Result<()> {
    let number = |prefix: &str| request.path.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
    if let Some(bytes) = number("/bytes/") {
        let bytes = bytes.min(BYTES_MAX);
        stream.write_all(head(identity, bytes, keepalive).as_bytes()).await?;
        let block = [b'x'; 16 * 1024];
        let mut left = bytes;
        while left > 0 {
            let now = left.min(block.len() as u64);
            stream.write_all(&block[..usize::try_from(now).expect("at most a block")]).await?;
            left -= now;
        }
        return Ok(());
    }
    if let Some(ms) = number("/delay/") {
        tokio::time::sleep(Duration::from_millis(ms.min(DELAY_MAX_MS))).await;
    }
    let body = if !request.body.is_empty() {
        request.body
    } else if request.path == "/healthz" {
        b"ok\n".to_vec()
    } else {
        format!("hello from {} ({})\n", identity.site, identity.instance).into_bytes()
    };
    let mut bytes = head(identity, body.len() as u64, keepalive).into_bytes();
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await
}

fn head(identity: &Identity, length: u64, keepalive: bool) -> String {
    let connection = if keepalive { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nX-Site: {}\r\n\
         X-Instance: {}\r\nConnection: {connection}\r\n\r\n",
        identity.site, identity.instance
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{Target, get};

    async fn start() -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let identity = Identity { site: "west".into(), instance: "west-0".into() };
        let task = tokio::spawn(serve(listener, identity, stop.clone()));
        (address, stop, task)
    }

    #[tokio::test]
    async fn it_says_its_site() {
        let (address, ..) = start().await;
        let (answer, idle) = get(&Target::new(address), None).await.expect("answered");
        assert_eq!(&*answer.site, "west");
        assert!(idle.is_none());
        let big = Target { path: "/bytes/100000".into(), ..Target::new(address) };
        assert_eq!(get(&big, None).await.expect("answered").0.body_bytes, 100_000);
    }

    #[tokio::test]
    async fn one_connection_serves_many_requests() {
        let (address, ..) = start().await;
        let target = Target { keepalive: true, ..Target::new(address) };
        let mut idle = None;
        for _ in 0..5 {
            idle = get(&target, idle).await.expect("answered").1;
            assert!(idle.is_some());
        }
    }

    #[tokio::test]
    async fn a_body_comes_back() {
        let (address, ..) = start().await;
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream
            .write_all(b"POST /x HTTP/1.1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nping")
            .await
            .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("answered");
        assert!(text.ends_with("\r\n\r\nping"), "{text}");
    }

    #[tokio::test]
    async fn a_bad_request_is_refused() {
        let (address, ..) = start().await;
        for (bad, status) in [
            ("nonsense\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "413"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "411"),
        ] {
            let mut stream = TcpStream::connect(address).await.expect("listening");
            stream.write_all(bad.as_bytes()).await.expect("sent");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("answered");
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{bad:?}: {text}");
        }
    }

    #[tokio::test]
    async fn stopping_lets_an_open_request_finish() {
        let (address, stop, task) = start().await;
        let target = Target { path: "/delay/300".into(), ..Target::new(address) };
        let open = tokio::spawn(async move { get(&target, None).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        open.await.expect("no panic").expect("finished");
        tokio::time::timeout(Duration::from_secs(10), task).await.expect("ends").expect("no panic");
    }
}
