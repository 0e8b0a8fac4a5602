//! Bytes of federations: a gateway carries them and has no key to them.

use crate::paths::{Paths, Who};
use anyhow::{Context, bail};
use bytes::Bytes;
use gateway_core::admission::refusal;
use identity::peer::RoleKind;
use identity::tls::Expect;
use model::decision::RefusalCode;
use model::identity::{Bundle, TrustDomain};
use model::ids::{SiteId, StreamId};
use model::locality::Locality;
use model::node::{CarrierTarget, NodeMessage};
use model::tunnel::{Answer, StreamHeader, StreamKind};
use node::stream::Upstream;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::debug;
use tunnel::splice;
use tunnel::{Connection, IncomingStream, LinkStream, Stream, Tunnel};
use wire::pb::Chunk;
use wire::pb::config_client::ConfigClient;

/// Streams to the own federation at a time: agents, carriers of peers, links that are being made.
const CARRIED_MAX: usize = 12_000;
/// Chunks that wait for a federation; then the tunnel is not read.
const CHUNKS_MAX: usize = 8;
/// How long the other side may take to answer a carrier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses of an invite that are tried.
const ADDRESSES_MAX: usize = 8;

/// Carries.
pub(crate) struct Carrier {
    paths: Arc<Paths>,
    tunnel: Tunnel,
    federation: SocketAddr,
    places: Semaphore,
}

/// A way for a carrier.
enum Way {
    Peer(Stream),
    Link(LinkStream),
}

impl Carrier {
    pub(crate) fn new(paths: Arc<Paths>, tunnel: Tunnel, federation: SocketAddr) -> Arc<Self> {
        Arc::new(Self { paths, tunnel, federation, places: Semaphore::new(CARRIED_MAX) })
    }

    async fn dial(&self) -> Result<TcpStream, tunnel::dial::DialError> {
        tunnel::dial::dial(self.federation).await
    }

    /// Joins a stream, from an agent or a peer's gateway, to the own federation.
    pub(crate) async fn to_federation(self: Arc<Self>, who: Arc<Who>, incoming: IncomingStream) {
        let Ok(_place) = self.places.try_acquire() else {
            let detail = format!("{CARRIED_MAX} streams to the federation are open");
            return incoming.refuse(refusal(RefusalCode::Overloaded, detail)).await;
        };
        let tcp = match self.dial().await {
            Ok(tcp) => tcp,
            Err(error) => {
                let detail = format!("the federation of {} does not answer: {error}", self.paths.site());
                return incoming.refuse(refusal(RefusalCode::EndpointFailed, detail)).await;
            }
        };
        let federation = "federation".parse().expect("it is a valid endpoint id");
        let Ok(stream) = incoming.accept(federation, Locality::default()).await else { return };
        // An agent opens another way at once, and a peer's federation asks for another carrier.
        let elsewhere: splice::Elsewhere = Arc::new(|| true);
        let transfer = splice::splice(tcp, stream, Bytes::new(), Some(elsewhere)).await;
        debug!(?who, %transfer.end, "a stream to the federation has ended");
    }

    /// Joins a stranger's stream, who makes a link or joins, to the own federation, which authenticates it.
    pub(crate) async fn link(self: Arc<Self>, mut stream: LinkStream) {
        let Ok(_place) = self.places.try_acquire() else { return };
        let remote = stream.remote();
        let mut tcp = match self.dial().await {
            Ok(tcp) => tcp,
            Err(error) => {
                debug!(%remote, %error, "a link cannot be made: the federation does not answer");
                return;
            }
        };
        // The tunnel bounds its bytes and its life.
        if let Err(error) = tokio::io::copy_bidirectional(&mut stream, &mut tcp).await {
            debug!(%remote, %error, "a link stream has ended");
        }
    }

    /// Opens a carrier that the federation asked for, and joins it to a `Carry` call, to its end.
    pub(crate) async fn carry(
        self: Arc<Self>,
        carrier: u64,
        target: CarrierTarget,
        client: ConfigClient<Channel>,
        upstream: Upstream,
    ) {
        let carried = match self.open(&target).await {
            Ok(Way::Peer(stream)) => {
                let connection = stream.connection().clone();
                tokio::select! {
                    carried = join(stream, carrier, client) => carried,
                    () = connection.dead() => Err(anyhow::anyhow!("the path fell silent")),
                }
            }
            Ok(Way::Link(stream)) => join(stream, carrier, client).await,
            Err(error) => Err(error),
        };
        let reason = match carried {
            Ok(()) => "it was closed by one of its ends".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        debug!(carrier, reason, "a carrier has ended");
        upstream.send(NodeMessage::CarrierFailed { carrier, reason }).await;
    }

    async fn open(&self, target: &CarrierTarget) -> anyhow::Result<Way> {
        match target {
            CarrierTarget::Peer(site) => self.open_to_peer(site).await.map(Way::Peer),
            CarrierTarget::Invite { addresses, trust_domain, anchors } => {
                self.open_link(addresses, trust_domain, anchors).await.map(Way::Link)
            }
        }
    }

    async fn open_to_peer(&self, site: &SiteId) -> anyhow::Result<Stream> {
        let mut problem = format!("no live path leads from this gateway to {site}");
        for connection in self.paths.directly_to_site(site) {
            match ask(&connection).await {
                Ok(stream) => return Ok(stream),
                Err(error) => problem = format!("{}: {error:#}", connection.peer()),
            }
        }
        bail!(problem)
    }

    async fn open_link(
        &self,
        addresses: &[SocketAddr],
        trust_domain: &TrustDomain,
        anchors: &[Vec<u8>],
    ) -> anyhow::Result<LinkStream> {
        let bundle = Bundle { trust_domain: trust_domain.clone(), sequence: 1, anchors: anchors.to_vec() };
        let expect = Expect::bundle(bundle, RoleKind::Gateway).context("the anchors of the invite")?;
        let mut problems = Vec::new();
        for address in addresses.iter().take(ADDRESSES_MAX) {
            match self.tunnel.connect_link(*address, expect.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => problems.push(error.to_string()),
            }
        }
        if problems.is_empty() {
            bail!("the invite names no gateway");
        }
        bail!(problems.join("; "))
    }
}

/// Asks a peer's gateway for a way to its federation.
async fn ask(connection: &Connection) -> anyhow::Result<Stream> {
    let header = StreamHeader {
        kind: StreamKind::Federation,
        stream: StreamId(fastrand::u128(..).to_be_bytes()),
        hops: 0,
        traceparent: String::new(),
    };
    let mut opened = connection.open(&header, Bytes::new()).await?;
    let answer =
        tokio::time::timeout(ANSWER_TIMEOUT, opened.answer()).await.context("it does not answer")??;
    match answer {
        Answer::Accepted { .. } => Ok(opened.into_stream()),
        Answer::Refused(refusal) => bail!("{}: {}", refusal.code, refusal.detail),
    }
}

/// Copies between a stream and a `Carry` call until one of them has ended both ways, or broken.
async fn join<S: AsyncRead + AsyncWrite>(
    stream: S,
    carrier: u64,
    mut client: ConfigClient<Channel>,
) -> anyhow::Result<()> {
    let (mut from_tunnel, mut to_tunnel) = tokio::io::split(stream);
    let (chunks, outgoing) = mpsc::channel::<Chunk>(CHUNKS_MAX);
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert(wire::CARRIER_METADATA, carrier.into());
    let forward = async {
        loop {
            let mut data = bytes::BytesMut::with_capacity(wire::CHUNK_MAX);
            if from_tunnel.read_buf(&mut data).await.context("read the carrier")? == 0 {
                // Dropping `chunks` ends the call's outgoing half.
                drop(chunks);
                return anyhow::Ok(());
            }
            chunks.send(Chunk { data: data.freeze() }).await.context("the federation has ended the call")?;
        }
    };
    let backward = async {
        let mut incoming = client.carry(request).await.context("join the carrier to a call")?.into_inner();
        while let Some(chunk) = incoming.next().await {
            let chunk = chunk.context("read the call")?;
            to_tunnel.write_all(&chunk.data).await.context("write the carrier")?;
        }
        to_tunnel.shutdown().await.context("end the carrier")
    };
    tokio::try_join!(forward, backward)?;
    Ok(())
}
