//! The config stream: from the federation to this node and back, over whatever way the node has to it.
//!
//! [`config_stream`] makes its two ends: [`Upstream`] for all who have something to say, [`ConfigStream`] to be run.

mod session;

use crate::config::{BadUpdate, NodeConfig};
use crate::store::ConfigStore;
use futures_util::future::BoxFuture;
use identity::live::LiveCredentials;
use identity::trust::TrustStore;
use model::decision::{ExplainRequest, Explanation};
use model::node::{CarrierTarget, NodeKind, NodeMessage};
use runtime::backoff::Backoff;
use runtime::shutdown::Shutdown;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use tracing::{debug, warn};
use wire::pb::config_client::ConfigClient;

/// Messages that wait for the federation. When it is full the sender waits; nothing is dropped.
const OUTGOING_MAX: usize = 256;
/// Commands that wait for the node.
const COMMANDS_MAX: usize = 256;
/// Pauses between two attempts, from and to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// A stream that lived for this long is worth an immediate second try.
const STEADY: Duration = Duration::from_secs(10);

/// Bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// How a node reaches its federation: by TCP, or through the tunnel.
pub trait Dial: Send + Sync + 'static {
    /// Opens a fresh way. Errors are tried again with growing pauses.
    ///
    /// A way that is found to be dead must fail its reads: the config stream then takes another one at once.
    fn dial(&self) -> BoxFuture<'_, io::Result<Box<dyn Io>>>;
}

/// What the federation wants of a node beyond taking config.
// Commands are rare and moved once; a box would only be one more allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Command {
    /// Open a carrier and join it to a `Carry` call of `client`.
    OpenCarrier {
        /// Names the carrier.
        carrier: u64,
        /// Where it goes.
        target: CarrierTarget,
        /// Where the call is made.
        client: ConfigClient<Channel>,
    },
    /// A source event was taken, or refused.
    SourceTaken {
        /// Its number.
        sequence: u64,
        /// Why it was refused; none: it was taken.
        refused: Option<String>,
    },
    /// Take nothing new, or take it again.
    Drain(bool),
    /// A new stream is up; a source begins with a full list.
    Connected,
}

/// What a node says of itself when a stream opens.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// What it is.
    pub kind: NodeKind,
    /// For gateways: where others can dial the tunnel port.
    pub tunnel_address: Option<SocketAddr>,
    /// Locality; none: that of the site.
    pub locality: Option<model::locality::Locality>,
}

/// Answers `explain` from what this node would do.
pub type Explainer = Arc<dyn Fn(ExplainRequest) -> Explanation + Send + Sync>;

/// The near end of the config stream.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Each message with the session that it is meant for.
    outgoing: mpsc::Sender<(u64, NodeMessage)>,
    connected: watch::Receiver<bool>,
    since: Arc<Mutex<Instant>>,
    session: Arc<AtomicU64>,
}

impl Upstream {
    /// Hands a message to the stream; waits while it is full. While no stream is up, messages are dropped: the node
    /// says everything that matters again when one opens.
    pub async fn send(&self, message: NodeMessage) {
        self.send_in(self.session(), message).await;
    }

    /// Hands a report to the stream, unless it is full: what reports is in the way of traffic and never waits for a
    /// federation, and the next report says everything again.
    pub fn offer(&self, message: NodeMessage) {
        if self.is_connected() {
            let _ = self.outgoing.try_send((self.session(), message));
        }
    }

    /// Hands a message to the stream if the session is still this one; else it is dropped.
    pub async fn send_in(&self, session: u64, message: NodeMessage) {
        if self.is_connected() && self.session() == session {
            // The receiver lives as long as the stream's task; after it nobody listens.
            let _ = self.outgoing.send((session, message)).await;
        }
    }

    /// Number of the present or last stream; grows with each, 0 before the first.
    pub fn session(&self) -> u64 {
        self.session.load(Ordering::SeqCst)
    }

    /// Whether a stream is up.
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Since when a stream is up, or since when none is.
    pub fn since(&self) -> Instant {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows whether a stream is up.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

/// The far end: run it with [`ConfigStream::run`].
pub struct ConfigStream {
    parts: Parts,
    outgoing: mpsc::Receiver<(u64, NodeMessage)>,
    connected: watch::Sender<bool>,
    since: Arc<Mutex<Instant>>,
    session: Arc<AtomicU64>,
    commands: mpsc::Sender<Command>,
    /// A stream brought an update that could not be applied, so the next one begins with a snapshot.
    wants_snapshot: bool,
}

/// What a config stream needs.
pub struct Parts {
    /// Way to the federation.
    pub dial: Arc<dyn Dial>,
    /// Who the node is.
    pub credentials: LiveCredentials,
    /// Whom it trusts. Kept up to date from the config.
    pub trust: TrustStore,
    /// Where config goes.
    pub store: Arc<ConfigStore>,
    /// What it says first.
    pub greeting: Greeting,
    /// Answers `explain`.
    pub explainer: Explainer,
}

/// Makes the two ends of the config stream, and the commands that come out of it.
pub fn config_stream(parts: Parts) -> (Upstream, ConfigStream, mpsc::Receiver<Command>) {
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_MAX);
    let (commands, commands_receiver) = mpsc::channel(COMMANDS_MAX);
    let (connected, connected_receiver) = watch::channel(false);
    let session = Arc::new(AtomicU64::new(0));
    let since = Arc::new(Mutex::new(Instant::now()));
    let stream = ConfigStream {
        parts,
        outgoing: outgoing_receiver,
        connected,
        since: since.clone(),
        session: session.clone(),
        commands,
        wants_snapshot: false,
    };
    (Upstream { outgoing, connected: connected_receiver, since, session }, stream, commands_receiver)
}

impl ConfigStream {
    /// Keeps a stream to the federation, until shutdown begins. Traffic never waits for it.
    pub async fn run(mut self, shutdown: Shutdown) {
        apply_trust(&self.parts.trust, &self.parts.store.current());
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut said = false;
        while !shutdown.has_begun() {
            let began = tokio::time::Instant::now();
            let ended = tokio::select! {
                ended = self.serve_once() => ended,
                () = shutdown.begun() => break,
            };
            self.set_connected(false);
            // What was meant for the old stream is stale: everything is said again on the new one.
            while self.outgoing.try_recv().is_ok() {}
            if began.elapsed() > STEADY {
                backoff.reset();
                said = false;
            }
            if let Err(error) = ended {
                self.wants_snapshot |= error.downcast_ref::<BadUpdate>().is_some();
                let error = format!("{error:#}");
                if said {
                    debug!(error, "no config stream");
                } else {
                    warn!(error, "no config stream; serving from the config at hand");
                    said = true;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = shutdown.begun() => break,
            }
        }
        self.set_connected(false);
    }

    fn set_connected(&self, up: bool) {
        if self.connected.send_replace(up) != up {
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

/// Brings the trust of a node in line with its config. A bundle that cannot be used changes nothing for its site.
fn apply_trust(trust: &TrustStore, config: &NodeConfig) {
    if let Some(site) = &config.site
        && let Err(error) = trust.set_own(site.bundle.clone())
    {
        warn!(%error, "the federation sent a bundle of the own site that cannot be used; the old one stays");
    }
    let good = |(id, bundle): (_, &model::identity::Bundle)| match identity::bundle::check(bundle) {
        Ok(()) => Some(bundle.clone()),
        Err(error) => {
            warn!(peer = %id, %error, "the federation sent a bundle that cannot be used; what was held stays");
            trust.find(&bundle.trust_domain)
        }
    };
    let linked = config.peers.iter().map(|(id, peer)| (id, &peer.bundle)).filter_map(good).collect();
    if let Err(error) = trust.set_linked(linked) {
        warn!(%error, "the bundles of the linked sites cannot be used; the old ones stay");
    }
}
