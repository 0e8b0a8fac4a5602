//! Accepting TLS: handshakes in parallel, with a limit and a timeout, and with who came kept beside the connection.

use identity::peer::peer_id;
use identity::proof::{self, Exporter};
use model::identity::SpiffeId;
use runtime::telemetry::chain;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::debug;

/// Handshakes at a time; further connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 128;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are accepted and not yet served.
const ACCEPTED_MAX: usize = 16;
/// Connections of strangers, who show no certificate, at a time.
const STRANGERS_MAX: usize = 64;
/// How long a stranger may stay: joining takes one call.
const STRANGER_STAY: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The identity that it proved; none: it showed no certificate.
    pub id: Option<SpiffeId>,
    /// What both ends of this TLS session know and nobody else.
    pub exporter: Exporter,
    /// Where it comes from.
    pub address: SocketAddr,
}

/// A TLS connection with who is at its other end.
pub struct TlsIo {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    /// For strangers: when they are shown out, and their place.
    ends: Option<(Pin<Box<Sleep>>, tokio::sync::OwnedSemaphorePermit)>,
}

impl Connected for TlsIo {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Accepted>> for PeerInfo {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Accepted>) -> Self {
        stream.io().peer().clone()
    }
}

impl TlsIo {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    fn poll_overstay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let over = self.ends.as_mut().is_some_and(|(end, _)| end.as_mut().poll(cx).is_ready());
        if over {
            Err(io::Error::new(io::ErrorKind::TimedOut, "a stranger may stay for a minute"))
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_overstay(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Connections as they come out of their handshakes.
pub struct Accepted {
    connections: mpsc::Receiver<TlsIo>,
    address: SocketAddr,
}

impl Accepted {
    /// Where they come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next one; none once it was told to stop.
    pub async fn next(&mut self) -> Option<TlsIo> {
        self.connections.recv().await
    }
}

impl futures_util::Stream for Accepted {
    type Item = Result<TlsIo, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(ready!(self.connections.poll_recv(cx)).map(Ok))
    }
}

impl axum::serve::Listener for Accepted {
    type Io = TlsIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsIo, SocketAddr) {
        match self.connections.recv().await {
            Some(io) => {
                let address = io.peer.address;
                (io, address)
            }
            // Shutting down; the server is told so elsewhere.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Accepts TLS connections until told to stop.
pub fn accept(listener: TcpListener, config: ServerConfig, stop: CancellationToken) -> io::Result<Accepted> {
    let address = listener.local_addr()?;
    let (sender, connections) = mpsc::channel(ACCEPTED_MAX);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        tokio::select! {
            () = accept_all(listener, acceptor, sender) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(Accepted { connections, address })
}

async fn accept_all(listener: TcpListener, acceptor: TlsAcceptor, sender: mpsc::Sender<TlsIo>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only burn the processor.
                debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, strangers, sender) = (acceptor.clone(), strangers.clone(), sender.clone());
        tokio::spawn(async move {
            // Small messages, both ways.
            let _ = stream.set_nodelay(true);
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            drop(place);
            let stream = match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%address, error = %chain(&error), "TLS handshake failed"),
                Err(_) => return debug!(%address, "TLS handshake took too long"),
            };
            match admit(stream, address, &strangers) {
                Ok(io) => drop(sender.send(io).await),
                Err(why) => debug!(%address, %why, "connection refused"),
            }
        });
    }
}

fn admit(
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    strangers: &Arc<Semaphore>,
) -> Result<TlsIo, String> {
    let session = stream.get_ref().1;
    let exporter = proof::exporter(session).map_err(|error| error.to_string())?;
    let id = match session.peer_certificates() {
        Some(certificates) if !certificates.is_empty() => {
            Some(peer_id(certificates).map_err(|error| error.to_string())?)
        }
        Some(_) | None => None,
    };
    let ends = match &id {
        Some(_) => None,
        None => {
            let place = strangers.clone().try_acquire_owned().map_err(|_| "too many strangers".to_owned())?;
            Some((Box::pin(tokio::time::sleep(STRANGER_STAY)), place))
        }
    };
    Ok(TlsIo { stream, peer: PeerInfo { id, exporter, address }, ends })
}
