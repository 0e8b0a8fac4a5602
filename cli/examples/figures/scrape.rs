//! What a process says of itself at `/metrics`.

use meshfed::failure::{Failure, OrFail};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a scrape may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest text that is read.
const TEXT_MAX: u64 = 4 << 20;

/// Values by series, as they stand in the text.
#[derive(Debug, Default)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Asks a process.
    ///
    /// # Errors
    /// It does not answer with metrics.
    pub async fn of(address: SocketAddr) -> Result<Self, Failure> {
        let read = timeout(LIMIT, text(address)).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        Ok(Self::parse(&read.or_fail(|| format!("http://{address}/metrics does not answer"))?))
    }

    fn parse(text: &str) -> Self {
        let series = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(series).collect())
    }

    /// Sum of the series of a metric whose labels contain all of `having`.
    pub fn sum(&self, metric: &str, having: &[&str]) -> f64 {
        let of = |series: &str| {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            name == metric && having.iter().all(|label| labels.contains(label))
        };
        self.0.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }
}

async fn text(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.take(TEXT_MAX).read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| Error::other("the answer has no body"))?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_over_the_series_that_have_the_labels() {
        let text = "# HELP a x\na{d=\"sent\",kind=\"batch\"} 3\na{d=\"sent\",kind=\"ack\"} 4\na{d=\"got\",kind=\"ack\"} 5\nab 9\nb 7\n";
        let scrape = Scrape::parse(text);
        assert_eq!(scrape.sum("a", &["d=\"sent\""]), 7.0);
        assert_eq!(scrape.sum("a", &["kind=\"ack\""]), 9.0);
        assert_eq!(scrape.sum("a", &[]), 12.0);
        assert_eq!((scrape.sum("b", &[]), scrape.sum("c", &[])), (7.0, 0.0));
    }
}
