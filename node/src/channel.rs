//! gRPC to a federation: TLS over whatever way there is, and one channel over that.

use crate::stream::{Dial, Io};
use anyhow::Context;
use identity::live::LiveCredentials;
use identity::peer::RoleKind;
use identity::tls::Expect;
use identity::trust::TrustStore;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

/// How long one step of a connection attempt may take: the dial, then the TLS handshake.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A federation whose host is gone without a word is noticed after this and [`KEEPALIVE_TIMEOUT`]. One that was killed
/// is noticed at once, and so is a dead path to it, where the way ends with the path.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// See [`KEEPALIVE_EVERY`].
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// TLS to a federation, over any way.
pub type Tls = tokio_rustls::client::TlsStream<Box<dyn Io>>;

/// A gRPC channel to the federation of the own site.
///
/// # Errors
/// It cannot be reached, or is not who it should be.
pub async fn connect(
    dial: &dyn Dial,
    credentials: &LiveCredentials,
    trust: &TrustStore,
) -> anyhow::Result<Channel> {
    let io = tokio::time::timeout(CONNECT_TIMEOUT, dial.dial())
        .await
        .context("the federation cannot be reached: no answer")?
        .context("the federation cannot be reached")?;
    let expect = Expect::trusted(trust, trust.own_domain(), RoleKind::Federation);
    let tls = handshake(io, Some(credentials), &expect).await?;
    channel(tls).await
}

/// Begins TLS with a federation.
///
/// # Errors
/// The federation is not whom `expect` names, refuses these credentials, or takes longer than 5 s.
pub async fn handshake(
    io: Box<dyn Io>,
    credentials: Option<&LiveCredentials>,
    expect: &Expect,
) -> anyhow::Result<Tls> {
    let config = identity::tls::client_config(credentials, expect, &[b"h2"]);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(identity::tls::server_name(), io))
        .await
        .context("the federation does not finish the TLS handshake")?
        .context("the TLS handshake with the federation failed")
}

/// A gRPC channel over one TLS session. It ends with the session: nothing is dialled again.
///
/// # Errors
/// The other side does not speak HTTP/2.
pub async fn channel(tls: Tls) -> anyhow::Result<Channel> {
    let mut once = Some(hyper_util::rt::TokioIo::new(tls));
    let connect = tower::service_fn(move |_: tonic::transport::Uri| {
        let io = once.take().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the way has ended"));
        std::future::ready(io)
    });
    tonic::transport::Endpoint::from_static("http://federation.meshfed.internal")
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connect)
        .await
        .context("speak HTTP/2 with the federation")
}
