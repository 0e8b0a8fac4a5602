//! One stream, from its first message to its end. Hearing and saying go on side by side: whichever waits, the other
//! does not.

use super::{Command, ConfigStream, Parts, apply_trust};
use crate::channel::{self, CONNECT_TIMEOUT};
use anyhow::{Context, bail};
use model::config::{ConfigKey, ConfigVersion};
use model::node::{FederationMessage, NodeMessage};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tracing::info;
use wire::pb;
use wire::pb::config_client::ConfigClient;

/// The longest message that a node takes: a whole config in one update.
const MESSAGE_MAX: usize = 256 << 20;
/// How long the federation may take to open the stream.
const OPEN_TIMEOUT: Duration = CONNECT_TIMEOUT;
/// Messages between this task and the transport. Few: what waits further up can still be dropped as stale.
const WIRE_MAX: usize = 4;
/// Answers that wait to be sent. A federation that asks for more without taking answers is broken.
const ANSWERS_MAX: usize = 64;

impl ConfigStream {
    /// Opens a stream and serves it to its end.
    pub(super) async fn serve_once(&mut self) -> anyhow::Result<()> {
        let parts = &self.parts;
        let channel = channel::connect(parts.dial.as_ref(), &parts.credentials, &parts.trust).await?;
        let mut client = ConfigClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .accept_compressed(CompressionEncoding::Zstd);
        let (wire, from_node) = mpsc::channel::<pb::NodeMessage>(WIRE_MAX);
        let hello = NodeMessage::Hello {
            kind: parts.greeting.kind,
            holds: parts.store.current().version.filter(|_| !self.wants_snapshot),
            tunnel_address: parts.greeting.tunnel_address,
            locality: parts.greeting.locality.clone(),
        };
        wire.send((&hello).into()).await.expect("the receiver is held here");
        let opened = client.stream(ReceiverStream::new(from_node));
        let incoming = tokio::time::timeout(OPEN_TIMEOUT, opened)
            .await
            .context("the federation does not answer")?
            .context("open the config stream")?
            .into_inner();
        info!("config stream is up");
        let session = self.session.fetch_add(1, Ordering::SeqCst) + 1;
        self.set_connected(true);
        let (answers, to_say) = mpsc::channel(ANSWERS_MAX);
        let wants_snapshot = &mut self.wants_snapshot;
        let ears = Ears { parts, commands: &self.commands, client, answers, wants_snapshot };
        let mouth = Mouth { session, outgoing: &mut self.outgoing, answers: to_say, wire };
        tokio::select! {
            ended = ears.hear(incoming) => ended,
            ended = mouth.say(parts.store.stored()) => ended,
        }
    }
}

/// Takes what the federation says.
struct Ears<'a> {
    parts: &'a Parts,
    commands: &'a mpsc::Sender<Command>,
    client: ConfigClient<Channel>,
    answers: mpsc::Sender<NodeMessage>,
    wants_snapshot: &'a mut bool,
}

impl Ears<'_> {
    async fn hear(mut self, mut incoming: Streaming<pb::FederationMessage>) -> anyhow::Result<()> {
        self.command(Command::Connected).await;
        while let Some(message) = incoming.message().await.context("the config stream ended")? {
            let message =
                FederationMessage::try_from(message).context("the federation sent what breaks the rules")?;
            self.handle(message).await?;
        }
        bail!("the federation closed the config stream")
    }

    async fn handle(&mut self, message: FederationMessage) -> anyhow::Result<()> {
        match message {
            FederationMessage::Config(update) => {
                let store = &self.parts.store;
                let changed = store.apply(update).context("the federation sent a bad update")?;
                *self.wants_snapshot = false;
                if changed.iter().any(|key| matches!(key, ConfigKey::Site | ConfigKey::Peer(_))) {
                    apply_trust(&self.parts.trust, &store.current());
                }
            }
            FederationMessage::OpenCarrier { carrier, target } => {
                self.command(Command::OpenCarrier { carrier, target, client: self.client.clone() }).await;
            }
            FederationMessage::Explain { id, request } => {
                let explanation = Box::new((self.parts.explainer)(request));
                let answer = self.answers.try_send(NodeMessage::Explained { id, explanation });
                answer.ok().context("the federation asks and does not take the answers")?;
            }
            FederationMessage::SourceTaken { sequence, refused } => {
                self.command(Command::SourceTaken { sequence, refused }).await;
            }
            FederationMessage::Drain(drain) => self.command(Command::Drain(drain)).await,
        }
        Ok(())
    }

    async fn command(&self, command: Command) {
        // A node that has dropped its receiver is shutting down.
        let _ = self.commands.send(command).await;
    }
}

/// Says what the node has to say.
struct Mouth<'a> {
    session: u64,
    outgoing: &'a mut mpsc::Receiver<(u64, NodeMessage)>,
    answers: mpsc::Receiver<NodeMessage>,
    wire: mpsc::Sender<pb::NodeMessage>,
}

impl Mouth<'_> {
    async fn say(mut self, mut stored: watch::Receiver<Option<ConfigVersion>>) -> anyhow::Result<()> {
        // What is stored already is acknowledged too: the word of it may have been lost with the last stream.
        stored.mark_changed();
        let mut acked = None;
        loop {
            let message = tokio::select! {
                Some((session, message)) = self.outgoing.recv() => {
                    // It was handed over while the stream before this one was ending.
                    if session != self.session {
                        continue;
                    }
                    message
                }
                Some(answer) = self.answers.recv() => answer,
                Ok(()) = stored.changed() => {
                    let version = *stored.borrow_and_update();
                    let Some(version) = version.filter(|version| acked != Some(*version)) else { continue };
                    acked = Some(version);
                    NodeMessage::Ack(version)
                }
            };
            self.wire.send((&message).into()).await.ok().context("the config stream ended")?;
        }
    }
}
