//! What a federation asks of its gateways: carriers, and draining.

mod support;

use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::{self, Accept};
use identity::trust::TrustStore;
use model::decision::RefusalCode;
use model::identity::Role;
use model::node::{CarrierTarget, FederationMessage, NodeMessage, PathState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::{Gateway, PATIENCE, Site, address, endpoint};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::pb;
use wire::pb::config_server::{Config, ConfigServer};

type Outgoing<T> = ReceiverStream<Result<T, Status>>;

/// A carrier that the gateway joined: its id, chunks in, chunks out.
type Joined = (String, Streaming<pb::Chunk>, mpsc::Sender<Result<pb::Chunk, Status>>);

/// A federation that a test speaks for.
struct Federation {
    address: SocketAddr,
    /// What its gateway says.
    said: mpsc::Receiver<NodeMessage>,
    /// What it says to its gateway.
    say: mpsc::Sender<Result<pb::FederationMessage, Status>>,
    /// Carriers that the gateway joined.
    carriers: mpsc::Receiver<Joined>,
}

struct Server {
    said: mpsc::Sender<NodeMessage>,
    to_gateway: Mutex<Option<mpsc::Receiver<Result<pb::FederationMessage, Status>>>>,
    carriers: mpsc::Sender<Joined>,
}

#[tonic::async_trait]
impl Config for Server {
    type StreamStream = Outgoing<pb::FederationMessage>;
    type CarryStream = Outgoing<pb::Chunk>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::NodeMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let to_gateway = self.to_gateway.lock().await.take();
        let to_gateway =
            to_gateway.ok_or_else(|| Status::unavailable("one stream is enough for this test"))?;
        let (mut incoming, said) = (request.into_inner(), self.said.clone());
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                let message = NodeMessage::try_from(message).expect("a gateway speaks properly");
                let _ = said.send(message).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(to_gateway)))
    }

    async fn carry(
        &self,
        request: Request<Streaming<pb::Chunk>>,
    ) -> Result<Response<Self::CarryStream>, Status> {
        let id = request
            .metadata()
            .get(wire::CARRIER_METADATA)
            .expect("named")
            .to_str()
            .expect("digits")
            .to_owned();
        let (sender, receiver) = mpsc::channel(8);
        let _ = self.carriers.send((id, request.into_inner(), sender)).await;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Federation {
    async fn start(site: &Site) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(address().into(), 0)).await.expect("binds");
        let bound = listener.local_addr().expect("bound");
        let (said, from_gateway) = mpsc::channel(64);
        let (say, to_gateway) = mpsc::channel(8);
        let (carriers, joined) = mpsc::channel(8);
        let server = Server { said, to_gateway: Mutex::new(Some(to_gateway)), carriers };
        let credentials =
            LiveCredentials::new(site.credentials(Role::Federation("fed-0".parse().expect("valid"))));
        let trust = TrustStore::new(site.ca.bundle(1)).expect("good");
        let accept = Accept { own: &[RoleKind::Gateway, RoleKind::Agent], linked: &[], anonymous: false };
        let tls = Arc::new(tls::server_config(&credentials, &trust, accept, &[b"h2"]));
        let (connections, incoming) = mpsc::channel(8);
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls);
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(session) = acceptor.accept(tcp).await {
                    let _ = connections.send(Ok::<_, std::io::Error>(session)).await;
                }
            }
        });
        let serving = tonic::transport::Server::builder()
            .add_service(ConfigServer::new(server))
            .serve_with_incoming(ReceiverStream::new(incoming));
        tokio::spawn(serving);
        Self { address: bound, said: from_gateway, say, carriers: joined }
    }

    async fn say(&self, message: FederationMessage) {
        self.say.send(Ok((&message).into())).await.expect("the stream is up");
    }

    /// Waits for something that the gateway says.
    async fn hears<T>(&mut self, what: &str, wanted: impl Fn(NodeMessage) -> Option<T>) -> T {
        let listen = async {
            loop {
                let message = self.said.recv().await.expect("the gateway speaks");
                if let Some(found) = wanted(message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, listen)
            .await
            .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_carrier_leads_to_the_federation_of_the_peer() {
    let (west, east) = (Site::new("west", 1, 1), Site::new("east", 2, 1));
    let theirs = endpoint("east's federation").await;
    let _east = Gateway::start_with(&east, 0, east.config(&[&west], Vec::new()), theirs).await;
    let mut federation = Federation::start(&west).await;
    let _west = Gateway::start_with(&west, 0, west.config(&[&east], Vec::new()), federation.address).await;

    let greeted = |message| matches!(message, NodeMessage::Hello { .. }).then_some(());
    federation.hears("the gateway greets", greeted).await;
    let live = |message| match message {
        NodeMessage::Paths(paths) => paths.iter().any(|path| path.state == PathState::Live).then_some(()),
        _ => None,
    };
    federation.hears("its path is live", live).await;

    let target = CarrierTarget::Peer(east.id.clone());
    federation.say(FederationMessage::OpenCarrier { carrier: 7, target }).await;
    let joined = tokio::time::timeout(PATIENCE, federation.carriers.recv()).await.expect("in time");
    let (id, mut chunks, out) = joined.expect("joined");
    assert_eq!(id, "7");
    out.send(Ok(pb::Chunk { data: "hello".into() })).await.expect("open");
    let mut heard = Vec::new();
    while heard != b"east's federation\nhello" {
        let chunk = tokio::time::timeout(PATIENCE, chunks.next()).await.expect("in time");
        heard.extend(chunk.expect("open").expect("no error").data);
        assert!(heard.len() <= 23, "{}", String::from_utf8_lossy(&heard));
    }
    // The end of the call is the end of the carrier.
    drop((out, chunks));
    let ended = |message| match message {
        NodeMessage::CarrierFailed { carrier, .. } => Some(carrier),
        _ => None,
    };
    assert_eq!(federation.hears("the carrier has ended", ended).await, 7);

    let target = CarrierTarget::Peer("north".parse().expect("valid"));
    federation.say(FederationMessage::OpenCarrier { carrier: 8, target }).await;
    assert_eq!(federation.hears("no path leads to north", ended).await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_told_to_drain_refuses_streams_until_it_is_told_otherwise() {
    let (west, east) = (Site::new("west", 1, 1), Site::new("east", 2, 1));
    let vm = endpoint("vm-1").await;
    let mut federation = Federation::start(&east).await;
    let config = east.config(&[&west], vec![east.endpoints(vec![east.direct("vm-1", vm)])]);
    let _east = Gateway::start_with(&east, 0, config, federation.address).await;
    let west = Gateway::start(&west, 0, west.config(&[&east], vec![east.summary(1)])).await;
    let mut open = west.call_until_served().await;

    let greeted = |message| matches!(message, NodeMessage::Hello { .. }).then_some(());
    federation.hears("the gateway greets", greeted).await;
    federation.say(FederationMessage::Drain(true)).await;
    support::eventually("new streams are refused", || async { west.call().await.is_none().then_some(()) })
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(west.call().await.is_none(), "{}", RefusalCode::Draining);
    assert!(open.echoes().await, "open streams go on");
    federation.say(FederationMessage::Drain(false)).await;
    assert!(west.call_until_served().await.echoes().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_leaves_says_so_and_ends_once_it_was_heard() {
    let east = Site::new("east", 2, 1);
    let mut federation = Federation::start(&east).await;
    let mut gateway = Gateway::start_with(&east, 0, east.config(&[], Vec::new()), federation.address).await;
    let greeted = |message| matches!(message, NodeMessage::Hello { .. }).then_some(());
    federation.hears("the gateway greets", greeted).await;
    gateway.leave();
    let leaves = |message| (message == NodeMessage::Leaving).then_some(());
    federation.hears("the gateway leaves", leaves).await;
    // The end of the stream is the answer.
    federation.say = mpsc::channel(1).0;
    gateway.left().await;
}
