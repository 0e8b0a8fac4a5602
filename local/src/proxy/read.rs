//! Reading with bounds.

use std::io;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Reads up to and with the empty line that ends the head of an HTTP request, and nothing after it.
///
/// None: the head is longer than `max`.
pub(super) async fn head(stream: &mut TcpStream, max: usize) -> io::Result<Option<Vec<u8>>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::with_capacity(512);
    let mut window = vec![0; 1_024];
    loop {
        let seen = stream.peek(&mut window).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = head.len();
        head.extend_from_slice(&window[..seen]);
        // The end may have begun in the piece before.
        let searched = before.saturating_sub(END.len() - 1);
        let end = head[searched..].windows(END.len()).position(|piece| piece == END);
        if let Some(at) = end {
            head.truncate(searched + at + END.len());
        }
        // What was only seen is taken now, up to the end and not beyond.
        stream.read_exact(&mut window[..head.len() - before]).await?;
        if head.len() > max {
            return Ok(None);
        }
        if end.is_some() {
            return Ok(Some(head));
        }
    }
}

/// Reads and forgets until the end or `max` bytes.
pub(super) async fn swallow(stream: &mut TcpStream, max: usize) -> io::Result<u64> {
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    let mut limited = AsyncReadExt::take(&mut *stream, limit);
    tokio::io::copy(&mut limited, &mut tokio::io::sink()).await
}
