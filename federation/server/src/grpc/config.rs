//! The config stream to a node, and carriers.

use super::{known, wrong_role};
use crate::hub::{HubHandle, Input, NodeHello};
use crate::names::NodeId;
use crate::tally;
use futures_util::Stream;
use model::config::ConfigVersion;
use model::node::{FederationMessage, NodeMessage};
use prost::Message;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use wire::CARRIER_METADATA;
use wire::pb;
use wire::pb::config_server::Config;

/// How long a node may take for its first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that are made and not yet taken by the connection. Few: what is made late is newer.
const OUTGOING_MAX: usize = 4;

/// Numbers the streams of this process.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// The service.
pub struct ConfigService {
    /// The hub.
    pub hub: HubHandle,
    /// The process is leaving.
    pub stop: CancellationToken,
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl ConfigService {
    fn node<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let id = known(request)?;
        match NodeId::of(&id) {
            Some(node) if id.trust_domain == *self.hub.pki.trust_domain() => Ok(node),
            Some(_) | None => Err(wrong_role(&id, "gateways and agents of this site")),
        }
    }
}

#[tonic::async_trait]
impl Config for ConfigService {
    type StreamStream = Outgoing<pb::FederationMessage>;
    type CarryStream = Outgoing<pb::Chunk>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::NodeMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let node = self.node(&request)?;
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first message within 10 s"))??;
        let first =
            first.ok_or_else(|| Status::invalid_argument("the stream ended before its first message"))?;
        let NodeMessage::Hello { kind, holds, tunnel_address, locality } = message(first)? else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        if kind != node.kind() {
            return Err(Status::permission_denied(format!(
                "the certificate names {node}, and the stream says otherwise"
            )));
        }
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let (to, told) = mpsc::channel(crate::hub::NODE_MESSAGES_MAX);
        let hello = NodeHello { tunnel_address, locality };
        let up = Input::NodeUp { node: node.clone(), connection, hello, to };
        self.hub.send(up).await.map_err(|gone| Status::unavailable(gone.to_string()))?;
        let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
        let stream = NodeStream { hub: self.hub.clone(), node, connection, sender };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let (hub, node) = (stream.hub.clone(), stream.node.clone());
            tokio::select! {
                () = stream.serve(incoming, told, holds) => {}
                () = stop.cancelled() => {}
            }
            let _ = hub.send(Input::NodeDown { node, connection }).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn carry(
        &self,
        request: Request<Streaming<pb::Chunk>>,
    ) -> Result<Response<Self::CarryStream>, Status> {
        let NodeId::Gateway(gateway) = self.node(&request)? else {
            return Err(wrong_role(&known(&request)?, "gateways of this site"));
        };
        let carrier = request.metadata().get(CARRIER_METADATA).and_then(|value| value.to_str().ok());
        let carrier = carrier.and_then(|text| text.parse::<u64>().ok());
        let carrier = carrier.ok_or_else(|| {
            Status::invalid_argument(format!("the metadata `{CARRIER_METADATA}` must be a number"))
        })?;
        let outgoing = self.hub.carriers.join(carrier, &gateway, request.into_inner())?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

fn message(message: pb::NodeMessage) -> Result<NodeMessage, Status> {
    NodeMessage::try_from(message)
        .map_err(|error| Status::invalid_argument(format!("a message is malformed: {error}")))
}

struct NodeStream {
    hub: HubHandle,
    node: NodeId,
    connection: u64,
    sender: mpsc::Sender<Result<pb::FederationMessage, Status>>,
}

impl NodeStream {
    /// Serves until either side ends it.
    async fn serve(
        self,
        mut incoming: Streaming<pb::NodeMessage>,
        mut told: mpsc::Receiver<FederationMessage>,
        mut holds: Option<ConfigVersion>,
    ) {
        let mut book = self.hub.book();
        let mut looked_at = None;
        loop {
            // Config is made only once there is room for it, so it is always the newest.
            tokio::select! {
                said = incoming.message() => match said {
                    Ok(Some(said)) => match message(said) {
                        Ok(message) => {
                            let (node, connection) = (self.node.clone(), self.connection);
                            if self.hub.send(Input::NodeSaid { node, connection, message }).await.is_err() {
                                return;
                            }
                        }
                        Err(status) => {
                            debug!(node = %self.node, %status, "stream refused");
                            let _ = self.sender.send(Err(status)).await;
                            return;
                        }
                    },
                    Ok(None) => return,
                    Err(status) => return debug!(node = %self.node, %status, "stream ended"),
                },
                message = told.recv() => {
                    // The hub has dropped this stream: a newer one has taken its place, or it did not read.
                    let Some(message) = message else { return };
                    let wire = pb::FederationMessage::from(&message);
                    self.hub.tally.told_nodes.add(tally::OTHER, wire.encoded_len());
                    if self.sender.send(Ok(wire)).await.is_err() {
                        return;
                    }
                }
                room = async {
                    let changed = book.wait_for(|book| Some(book.version()) != looked_at).await.is_ok();
                    (changed, self.sender.reserve().await)
                } => {
                    let (true, Ok(room)) = room else { return };
                    let (version, update) = {
                        let book = book.borrow();
                        (book.version(), book.update_since(holds, self.node.host()))
                    };
                    looked_at = Some(version);
                    if let Some(update) = update {
                        holds = Some(update.version);
                        let wire = pb::FederationMessage::from(&FederationMessage::Config(update));
                        self.hub.tally.told_nodes.add(tally::CONFIG, wire.encoded_len());
                        room.send(Ok(wire));
                    }
                }
            }
        }
    }
}
