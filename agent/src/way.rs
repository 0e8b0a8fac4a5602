//! The agent's way to its federation: a tunnel stream of kind `config` through one of its gateways.

use crate::gateways::{Gateways, Link};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use model::ids::StreamId;
use model::tunnel::{Answer, StreamHeader, StreamKind};
use node::stream::{Dial, Io};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tunnel::Stream;

/// How long a gateway is waited for, while none is connected.
const WAIT: Duration = Duration::from_secs(3);
/// How often it is looked whether one takes streams again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a gateway may take to reach the federation, before the other one is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens ways to the federation.
pub struct ConfigWay {
    /// Through these.
    pub gateways: Arc<Gateways>,
}

impl Dial for ConfigWay {
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(self.open())
    }
}

impl ConfigWay {
    async fn open(&self) -> io::Result<Box<dyn Io>> {
        let mut last = "no gateway of the site is connected".to_owned();
        for (name, link) in self.candidates().await {
            let asked = tokio::select! {
                asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(&link)) => {
                    asked.unwrap_or_else(|_| Err("it does not answer".to_owned()))
                }
                why = link.unfit() => Err(why.to_owned()),
            };
            match asked {
                Ok(stream) => return Ok(Box::new(Way::new(stream, link))),
                Err(why) => last = format!("gateway {name}: {why}"),
            }
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, last))
    }

    /// Gateways that take streams; waits a little for one.
    async fn candidates(&self) -> Vec<(model::ids::GatewayName, Link)> {
        let until = Instant::now() + WAIT;
        let mut changes = self.gateways.changes();
        loop {
            changes.borrow_and_update();
            let candidates = self.gateways.candidates(None);
            if !candidates.is_empty() || Instant::now() >= until {
                return candidates;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

async fn ask(link: &Link) -> Result<Stream, String> {
    let header = StreamHeader {
        kind: StreamKind::Config,
        stream: StreamId(fastrand::u128(..).to_be_bytes()),
        hops: 0,
        traceparent: String::new(),
    };
    let mut opened = link.connection.open(&header, Bytes::new()).await.map_err(|error| error.to_string())?;
    match opened.answer().await {
        Ok(Answer::Accepted { .. }) => Ok(opened.into_stream()),
        Ok(Answer::Refused(refusal)) => Err(format!("{}: {}", refusal.code, refusal.detail)),
        Err(error) => Err(error.to_string()),
    }
}

/// A stream that fails as soon as its connection is dead, long before the transport gives that up: so that the config
/// stream takes the other gateway.
struct Way {
    stream: Stream,
    unfit: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    why: Option<&'static str>,
}

impl Way {
    fn new(stream: Stream, link: Link) -> Self {
        Self { stream, unfit: Box::pin(async move { link.unfit().await }), why: None }
    }

    /// Also wakes the task when the connection dies.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.why.is_none()
            && let Poll::Ready(why) = self.unfit.as_mut().poll(cx)
        {
            self.why = Some(why);
        }
        self.why.map_or(Ok(()), |why| Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)))
    }
}

impl AsyncRead for Way {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Way {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
