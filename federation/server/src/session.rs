//! A session with a peer: dialling its federation through a carrier, and copying messages between it and the hub.

use crate::carriers::Awaited;
use crate::grpc::PEER_MESSAGE_MAX;
use crate::hub::{HubHandle, Input, PEER_MESSAGES_MAX};
use crate::tally::{self, Measured};
use anyhow::Context;
use federation_core::session::{Dialled, SessionId};
use hyper_util::rt::TokioIo;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::proof::{self, Exporter};
use identity::tls::{Expect, client_config, server_name};
use model::exchange::PeerMessage;
use model::identity::TrustDomain;
use model::ids::SiteId;
use prost::Message;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;
use wire::pb;
use wire::pb::exchange_client::ExchangeClient;

/// Messages that are taken from the hub and not yet by the connection.
pub(crate) const OUTGOING_MAX: usize = 4;
/// How long each step of reaching another federation may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a session that is being closed may take to say its last words.
const LINGER: Duration = Duration::from_secs(1);

/// A channel to the federation at the other end of a carrier, with the exporter of its TLS session.
///
/// # Errors
/// The carrier does not come, or the other end is not whom `expect` names.
pub async fn channel(
    awaited: Awaited,
    credentials: Option<&LiveCredentials>,
    expect: &Expect,
) -> anyhow::Result<(Channel, Exporter)> {
    let carrier = tokio::time::timeout(STEP_TIMEOUT, awaited.open());
    let carrier = carrier.await.context("the gateway does not open a carrier: no answer in 10 s")?;
    over(carrier.context("no way to the other federation")?, credentials, expect).await
}

async fn over(
    carrier: DuplexStream,
    credentials: Option<&LiveCredentials>,
    expect: &Expect,
) -> anyhow::Result<(Channel, Exporter)> {
    let config = client_config(credentials, expect, &[b"h2"]);
    let connecting = TlsConnector::from(Arc::new(config)).connect(server_name(), carrier);
    let tls = tokio::time::timeout(STEP_TIMEOUT, connecting).await.context("no TLS handshake in 10 s")?;
    let tls = tls.context("the TLS handshake with the other federation failed")?;
    let exporter = proof::exporter(tls.get_ref().1).context("the TLS session gives no exporter")?;
    let mut once = Some(TokioIo::new(tls));
    let connect = tower::service_fn(move |_| {
        let io =
            once.take().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the carrier has ended"));
        std::future::ready(io)
    });
    let endpoint = Endpoint::from_static("http://federation.meshfed.invalid")
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(STEP_TIMEOUT)
        .keep_alive_while_idle(true);
    let connecting = endpoint.connect_with_connector(connect);
    let channel =
        tokio::time::timeout(STEP_TIMEOUT, connecting).await.context("no answer in HTTP/2 in 10 s")?;
    Ok((channel.context("the other federation does not speak HTTP/2")?, exporter))
}

/// Opens a session with a linked site through a carrier, and runs it to its end.
///
/// # Errors
/// There was no session.
pub async fn dial(
    hub: &HubHandle,
    site: SiteId,
    trust_domain: TrustDomain,
    awaited: Awaited,
) -> anyhow::Result<()> {
    let expect = Expect::trusted(&hub.pki.trust, trust_domain, RoleKind::Federation);
    let (channel, _) = channel(awaited, Some(&hub.pki.credentials), &expect).await?;
    let mut client = ExchangeClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_MAX)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Zstd);
    let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
    let opening = client.session(ReceiverStream::new(outgoing));
    let opened = tokio::time::timeout(STEP_TIMEOUT, opening).await.context("no answer in 10 s")?;
    let incoming = opened.context("the other federation refused the session")?.into_inner();
    let session = hub.ask(crate::hub::Hub::new_session).await?;
    let send = move |message: pb::PeerMessage| {
        let sender = sender.clone();
        async move { sender.send(message).await.is_ok() }
    };
    run(hub, site, session, Dialled::Here, incoming, send).await;
    Ok(())
}

/// Runs a session until either side ends it.
pub(crate) async fn run<F>(
    hub: &HubHandle,
    site: SiteId,
    session: SessionId,
    dialled: Dialled,
    mut incoming: Streaming<pb::PeerMessage>,
    send: impl Fn(pb::PeerMessage) -> F,
) where
    F: Future<Output = bool>,
{
    let (to, mut told) = mpsc::channel::<PeerMessage>(PEER_MESSAGES_MAX);
    let stop = CancellationToken::new();
    let up = Input::SessionUp { site: site.clone(), session, dialled, to, stop: stop.clone() };
    if hub.send(up).await.is_err() {
        return;
    }
    let measured = Measured::default();
    let outgoing = async {
        while let Some(message) = told.recv().await {
            let wire = pb::PeerMessage::from(&message);
            hub.tally.sent.add(tally::kind(&message), wire.encoded_len());
            if let PeerMessage::Batch(batch) = &message {
                measured.sent(batch.version);
            }
            if !send(wire).await {
                return;
            }
        }
        // The hub has closed the session; the other side may still read.
        tokio::time::sleep(LINGER).await;
    };
    let heard = async {
        loop {
            let message = match incoming.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(status) => return debug!(%site, %session, %status, "session ended"),
            };
            let bytes = message.encoded_len();
            match PeerMessage::try_from(message) {
                Ok(message) => {
                    hub.tally.received.add(tally::kind(&message), bytes);
                    if let PeerMessage::Ack(version) = &message
                        && let Some(took) = measured.acknowledged(*version)
                    {
                        hub.tally.acknowledged.note(took);
                    }
                    let said = Input::SessionSaid { site: site.clone(), session, message };
                    if hub.send(said).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    hub.events.note(
                        format!("peer {site}"),
                        "the session is closed",
                        format!("it sent something malformed: {error}"),
                    );
                    return;
                }
            }
        }
    };
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = outgoing => {}
        () = heard => {}
        () = stopped => {}
    }
    let _ = hub.send(Input::SessionDown { site, session }).await;
}
