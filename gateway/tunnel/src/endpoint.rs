//! The endpoint: one UDP socket from which a process dials, and on which it is dialled.

use crate::codes::CloseCode;
use crate::config::{Config, ConfigError, Roles};
use crate::connection::{Closed, Connection};
use crate::counters::{Counters, Tally};
use crate::keys::ResetSeed;
use crate::link::{FIRST_STREAM, LINK_LIFE, LINKS_MAX, LinkStream, RateLimit, end_after};
use crate::places::Places;
use crate::pool::Pool;
use crate::socket;
use identity::live::LiveCredentials;
use identity::peer;
use identity::tls::{self, Accept, Expect};
use identity::trust::TrustStore;
use model::identity::SpiffeId;
use model::tunnel::{ALPN, ALPN_LINK};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::rustls::pki_types::CertificateDer;
use quinn::{ClientConfig, ConnectionError, Endpoint, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

/// Accepted connections that wait for [`Tunnel::accept`]; more are closed as overload.
const QUEUE: usize = 64;

/// Why a tunnel could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The port could not be bound.
    #[error(transparent)]
    Bind(#[from] runtime::bind::BindError),
    /// A setting cannot work.
    #[error("the tunnel's configuration cannot work")]
    Config(#[from] ConfigError),
    /// The cryptography of this build cannot be used for QUIC.
    #[error("TLS cannot be set up for the tunnel: {0}")]
    Tls(String),
    /// The system refused the socket.
    #[error("cannot use the tunnel's socket")]
    Socket(#[source] std::io::Error),
}

/// Why dialling failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered.
    #[error(
        "{address} did not answer within {after:?}: is it the tunnel port of a gateway, and does UDP get through?"
    )]
    TimedOut {
        /// Dialled.
        address: SocketAddr,
        /// Given.
        after: Duration,
    },
    /// The other side is not who it should be.
    #[error("{address} is not who it should be: {reason}")]
    WrongPeer {
        /// Dialled.
        address: SocketAddr,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The other side does not want this process.
    #[error("{address} refused this process: {reason}")]
    Refused {
        /// Dialled.
        address: SocketAddr,
        /// What it said.
        reason: String,
    },
    /// The dial could not even begin: the address cannot be dialled, or the expectation cannot be met.
    #[error("cannot dial {address}: {reason}")]
    Impossible {
        /// Dialled.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// What has come in.
#[derive(Debug)]
pub enum Accepted {
    /// A peer with a certificate that is welcome here.
    Mesh(Connection),
    /// Somebody who wants to make a link or join, while that is allowed.
    Link(LinkStream),
}

/// The endpoint. Cheap to clone; closed by [`Tunnel::close`], or when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Tunnel(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    address: SocketAddr,
    /// None: of a process that has yet to join.
    credentials: Option<LiveCredentials>,
    transport: Arc<TransportConfig>,
    config: Config,
    servers: Option<Servers>,
    tally: Arc<Tally>,
    pool: Arc<Pool>,
    link_open: AtomicBool,
    accepted: Mutex<mpsc::Receiver<Accepted>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tunnel({})", self.address)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The accepting task waits on the endpoint, and would keep it.
        self.endpoint.close(CloseCode::Done.number(), b"");
    }
}

/// Both ways of being dialled, made once.
struct Servers {
    /// Only peers.
    closed: ServerConfig,
    /// Peers, and strangers who want to make a link.
    open: ServerConfig,
}

impl Servers {
    fn new(
        credentials: &LiveCredentials,
        trust: &TrustStore,
        roles: &Roles,
        config: &Config,
    ) -> Result<Self, TunnelError> {
        let build = |anonymous: bool, alpn: &[&[u8]]| {
            let mut transport = config.transport()?;
            if anonymous {
                transport.receive_window(STRANGER_WINDOW);
            }
            let accept = Accept { own: &roles.own, linked: &roles.linked, anonymous };
            let tls = tls::server_config(credentials, trust, accept, alpn);
            let quic =
                QuicServerConfig::try_from(tls).map_err(|error| TunnelError::Tls(error.to_string()))?;
            let mut server = ServerConfig::with_crypto(Arc::new(quic));
            server.transport_config(Arc::new(transport)).max_incoming(INCOMING_MAX);
            server.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
            Ok::<_, TunnelError>(server)
        };
        Ok(Self { closed: build(false, &[ALPN])?, open: build(true, &[ALPN, ALPN_LINK])? })
    }
}

/// Bytes that a connection may send while it is not known whether a peer or a stranger is at its other end. A peer is
/// given more then.
const STRANGER_WINDOW: VarInt = VarInt::from_u32(64 << 10);
/// Connection attempts that wait for a decision of this process, at a time.
const INCOMING_MAX: usize = 4_096;
/// Bytes kept for one of them, and for all.
const INCOMING_BYTES: u64 = 64 << 10;
const INCOMING_BYTES_TOTAL: u64 = 16 << 20;

impl Tunnel {
    /// Binds the UDP port and, where `config.accept` says whom, begins to accept. Must be called within a runtime.
    ///
    /// A process that binds the same address with the same [`Config::reset_secret`] after a crash resets the
    /// connections that its peers still hold, as soon as they send on them.
    ///
    /// # Errors
    /// The port cannot be bound, or a setting cannot work.
    pub fn bind(
        address: SocketAddr,
        credentials: LiveCredentials,
        trust: &TrustStore,
        config: Config,
    ) -> Result<Self, TunnelError> {
        let servers = match &config.accept {
            None => None,
            Some(roles) => Some(Servers::new(&credentials, trust, roles, &config)?),
        };
        let keys = ResetSeed::of(config.reset_secret.as_ref(), &credentials.current()).endpoint_config();
        Self::start(address, Some(credentials), keys, servers, config)
    }

    /// Binds the UDP port of a process that has no certificate yet: it can only [`Tunnel::connect_link`]. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// As [`Tunnel::bind`].
    pub fn stranger(address: SocketAddr, config: Config) -> Result<Self, TunnelError> {
        Self::start(address, None, EndpointConfig::default(), None, config)
    }

    fn start(
        address: SocketAddr,
        credentials: Option<LiveCredentials>,
        keys: EndpointConfig,
        servers: Option<Servers>,
        config: Config,
    ) -> Result<Self, TunnelError> {
        let transport = Arc::new(config.transport()?);
        let socket = socket::bind(address, config.socket_buffer)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let server = servers.as_ref().map(|servers| servers.closed.clone());
        let endpoint = Endpoint::new(keys, server, socket, runtime).map_err(TunnelError::Socket)?;
        let address = endpoint.local_addr().map_err(TunnelError::Socket)?;
        let (queue, accepted) = mpsc::channel(QUEUE);
        let pool = Pool::new(config.buffer_max, config.buffer_per_peer_max);
        let inner = Arc::new(Inner {
            endpoint,
            address,
            credentials,
            transport,
            config,
            servers,
            tally: Arc::default(),
            pool,
            link_open: AtomicBool::new(false),
            accepted: Mutex::new(accepted),
        });
        if inner.servers.is_some() {
            let door = Door {
                endpoint: inner.endpoint.clone(),
                config: inner.config.clone(),
                queue,
                tally: Arc::clone(&inner.tally),
                pool: Arc::clone(&inner.pool),
                places: Places::new(inner.config.connections_max, inner.config.connections_per_peer_max),
                handshakes: Arc::new(Semaphore::new(inner.config.handshakes_max)),
                links: Arc::new(Semaphore::new(LINKS_MAX)),
                link_rate: RateLimit::new(Instant::now()),
                log_rate: RateLimit::new(Instant::now()),
            };
            tokio::spawn(accept_all(Arc::new(door), Arc::downgrade(&inner)));
        }
        Ok(Self(inner))
    }

    /// Where it is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.0.address
    }

    /// What it has carried and turned away.
    pub fn counters(&self) -> Counters {
        self.0.tally.read(&self.0.pool)
    }

    /// Lets strangers open `meshfed-link/1` while an invite or a join token is pending, or ends that. Meanwhile every
    /// dialler's address is checked by a retry first, which costs it a round trip.
    pub fn set_link_open(&self, open: bool) {
        let Some(servers) = &self.0.servers else { return };
        if self.0.link_open.swap(open, Ordering::SeqCst) != open {
            let server = if open { &servers.open } else { &servers.closed };
            self.0.endpoint.set_server_config(Some(server.clone()));
        }
    }

    /// Dials a peer. Ends well when the peer, too, has accepted this process.
    ///
    /// # Errors
    /// Nobody answers, one side does not accept the other, or the address cannot be dialled.
    pub async fn connect(&self, address: SocketAddr, expect: Expect) -> Result<Connection, ConnectError> {
        let within = self.0.config.connect_timeout;
        let Some(credentials) = &self.0.credentials else {
            let reason = "this process has no certificate yet".to_owned();
            return Err(ConnectError::Impossible { address, reason });
        };
        let dialled = tokio::time::timeout(within, async {
            let (quic, peer) = self.dial(address, Some(credentials), &expect, ALPN).await?;
            let peer = peer.ok_or_else(|| ConnectError::WrongPeer {
                address,
                reason: "it has no certificate".to_owned(),
            })?;
            let connection =
                Connection::new(quic, peer, None, (Arc::clone(&self.0.tally), &self.0.pool), &self.0.config);
            // A dialler is done with its handshake before the other side has looked at its certificate. The first
            // probe of the other side says that it has.
            match connection.shared().heard().await {
                true => Ok(connection),
                false => Err(refused(address, &connection.closed().await)),
            }
        });
        dialled.await.unwrap_or(Err(ConnectError::TimedOut { address, after: within }))
    }

    /// Dials somebody with whom a link is to be made, or whose site is to be joined, and opens the one stream. Bytes
    /// must be written before the other side sees it. `expect` has the anchors that the invite or token named.
    ///
    /// # Errors
    /// As [`Tunnel::connect`]; that no link is being made there shows when the stream is used.
    pub async fn connect_link(
        &self,
        address: SocketAddr,
        expect: Expect,
    ) -> Result<LinkStream, ConnectError> {
        let within = self.0.config.connect_timeout;
        let dialled = tokio::time::timeout(within, async {
            // Who is not linked yet has nothing to show: the other side would refuse a certificate that it cannot verify.
            let (quic, _) = self.dial(address, None, &expect, ALPN_LINK).await?;
            let opened = quic.open_bi().await;
            let (send, recv) = opened.map_err(|error| refused(address, &error.into()))?;
            Ok(LinkStream::new(quic, send, recv, None))
        });
        dialled.await.unwrap_or(Err(ConnectError::TimedOut { address, after: within }))
    }

    async fn dial(
        &self,
        address: SocketAddr,
        credentials: Option<&LiveCredentials>,
        expect: &Expect,
        alpn: &[u8],
    ) -> Result<(quinn::Connection, Option<SpiffeId>), ConnectError> {
        let impossible = |reason: String| ConnectError::Impossible { address, reason };
        let tls = tls::client_config(credentials, expect, &[alpn]);
        let quic = QuicClientConfig::try_from(tls).map_err(|error| impossible(error.to_string()))?;
        let mut client = ClientConfig::new(Arc::new(quic));
        client.transport_config(Arc::clone(&self.0.transport));
        let connecting = self.0.endpoint.connect_with(client, address, tls::SERVER_NAME);
        let connecting = connecting.map_err(|error| impossible(error.to_string()))?;
        let quic = connecting.await.map_err(|error| match &error {
            ConnectionError::TransportError(_) => {
                ConnectError::WrongPeer { address, reason: Closed::from(error).to_string() }
            }
            _ => refused(address, &Closed::from(error)),
        })?;
        let peer = peer_of(&quic).map_err(|reason| ConnectError::WrongPeer { address, reason })?;
        Ok((quic, peer))
    }

    /// The next who has come in; none when the tunnel is closed.
    pub async fn accept(&self) -> Option<Accepted> {
        self.0.accepted.lock().await.recv().await
    }

    /// Ends all connections, each with the code, and accepts no more.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.endpoint.close(code.number(), reason.as_bytes());
    }

    /// Waits until what [`Tunnel::close`] had to say has been said.
    pub async fn wait_idle(&self) {
        self.0.endpoint.wait_idle().await;
    }
}

fn refused(address: SocketAddr, closed: &Closed) -> ConnectError {
    ConnectError::Refused { address, reason: closed.to_string() }
}

/// Who the other side is, by the certificate that the handshake has verified.
fn peer_of(quic: &quinn::Connection) -> Result<Option<SpiffeId>, String> {
    let Some(identity) = quic.peer_identity() else { return Ok(None) };
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>();
    let chain = chain.map_err(|_| "its certificate is of an unknown kind".to_owned())?;
    peer::peer_id(&chain).map(Some).map_err(|error| error.to_string())
}

fn alpn_of(quic: &quinn::Connection) -> Option<Vec<u8>> {
    quic.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// Where connections come in.
struct Door {
    endpoint: Endpoint,
    config: Config,
    queue: mpsc::Sender<Accepted>,
    tally: Arc<Tally>,
    pool: Arc<Pool>,
    places: Arc<Places>,
    handshakes: Arc<Semaphore>,
    links: Arc<Semaphore>,
    link_rate: RateLimit,
    log_rate: RateLimit,
}

async fn accept_all(door: Arc<Door>, tunnel: std::sync::Weak<Inner>) {
    while let Some(incoming) = door.endpoint.accept().await {
        let Some(tunnel) = tunnel.upgrade() else { return };
        let open = tunnel.link_open.load(Ordering::SeqCst);
        let under_way = door.config.handshakes_max - door.handshakes.available_permits();
        let doubtful = open || under_way >= door.config.retry_above;
        if doubtful && !incoming.remote_address_validated() && incoming.may_retry() {
            // It fails only where `may_retry` is false.
            let _ = incoming.retry();
            door.tally.handshakes_retried.add(1);
            continue;
        }
        let Ok(place) = Arc::clone(&door.handshakes).try_acquire_owned() else {
            tracing::debug!(remote = %incoming.remote_address(), "refused a handshake: too many are under way");
            door.tally.handshakes_refused.add(1);
            incoming.refuse();
            continue;
        };
        let Ok(connecting) = incoming.accept() else { continue };
        tokio::spawn(handshake(Arc::clone(&door), connecting, place));
    }
}

async fn handshake(door: Arc<Door>, connecting: quinn::Connecting, place: OwnedSemaphorePermit) {
    let remote = connecting.remote_address();
    let quic = match tokio::time::timeout(door.config.connect_timeout, connecting).await {
        Ok(Ok(quic)) => quic,
        Ok(Err(error)) => {
            door.tally.handshakes_failed.add(1);
            let reason = Closed::from(error);
            // Strangers must not fill the log.
            if door.log_rate.take(Instant::now()) {
                tracing::warn!(%remote, %reason, "refused a connection in its handshake");
            } else {
                tracing::debug!(%remote, %reason, "refused a connection in its handshake");
            }
            return;
        }
        Err(_) => {
            door.tally.handshakes_failed.add(1);
            return;
        }
    };
    let accepted = if alpn_of(&quic).as_deref() == Some(ALPN_LINK) {
        drop(place);
        door.link(quic.clone()).await.map(Accepted::Link)
    } else {
        match peer_of(&quic) {
            Ok(Some(peer)) => match door.places.take(&peer) {
                Ok(place) => {
                    let counted = (Arc::clone(&door.tally), &door.pool);
                    Ok(Accepted::Mesh(Connection::new(
                        quic.clone(),
                        peer,
                        Some(place),
                        counted,
                        &door.config,
                    )))
                }
                Err(full) => {
                    door.tally.connections_refused.add(1);
                    Err((CloseCode::Overloaded, full.to_string()))
                }
            },
            Ok(None) => Err((CloseCode::Unwelcome, "no certificate was offered".to_owned())),
            Err(reason) => Err((CloseCode::Unwelcome, reason)),
        }
    };
    let refused = match accepted {
        Err(refused) => refused,
        Ok(accepted) => match door.queue.try_send(accepted) {
            Ok(()) => return,
            Err(_) => (CloseCode::Overloaded, "too many connections wait to be taken".to_owned()),
        },
    };
    let (code, reason) = refused;
    tracing::debug!(%remote, %code, reason, "closed a connection after its handshake");
    quic.close(code.number(), reason.as_bytes());
}

impl Door {
    /// Waits for the one stream of a connection that makes a link.
    async fn link(&self, quic: quinn::Connection) -> Result<LinkStream, (CloseCode, String)> {
        let overloaded = |reason: &str| (CloseCode::Overloaded, reason.to_owned());
        if !self.link_rate.take(Instant::now()) {
            return Err(overloaded("too many links are being made, try again in a second"));
        }
        let place = Arc::clone(&self.links).try_acquire_owned();
        let place = place.map_err(|_| overloaded("too many links are being made at a time"))?;
        let first = tokio::time::timeout(FIRST_STREAM, quic.accept_bi()).await;
        match first {
            Ok(Ok((send, recv))) => {
                end_after(quic.clone(), LINK_LIFE);
                Ok(LinkStream::new(quic, send, recv, Some(place)))
            }
            Ok(Err(error)) => Err((CloseCode::Done, error.to_string())),
            Err(_) => Err((CloseCode::Protocol, "no stream was opened in time".to_owned())),
        }
    }
}
