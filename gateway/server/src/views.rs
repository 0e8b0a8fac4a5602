//! What a gateway tells its agents and siblings of the linked sites, and what siblings tell it.

use crate::paths::{Paths, Who};
use bytes::Bytes;
use model::ids::StreamId;
use model::locality::Locality;
use model::node::PeerViews;
use model::tunnel::{Answer, StreamHeader, StreamKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;
use tunnel::{Connection, IncomingStream};

/// They are told on change and this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Changes that follow each other closely are told once.
const GATHER: Duration = Duration::from_millis(5);

/// Tells the other end of a connection to its end. An agent is told what this gateway reaches in any way; a sibling,
/// what it reaches by its own paths, so that two siblings never think that each reaches a site through the other.
pub(crate) async fn tell(paths: Arc<Paths>, who: Who, connection: Connection) {
    if let Err(error) = try_tell(&paths, &who, &connection).await {
        debug!(peer = %connection.peer(), error = format!("{error:#}"), "no longer tells what it reaches");
    }
}

async fn try_tell(paths: &Paths, who: &Who, connection: &Connection) -> anyhow::Result<()> {
    let header = StreamHeader {
        kind: StreamKind::Views,
        stream: StreamId(fastrand::u128(..).to_be_bytes()),
        hops: 0,
        traceparent: String::new(),
    };
    let mut changes = paths.changes();
    let mut opened = connection.open(&header, Bytes::new()).await?;
    if let Answer::Refused(refusal) = opened.answer().await? {
        anyhow::bail!("{}: {}", refusal.code, refusal.detail);
    }
    let mut stream = opened.into_stream();
    loop {
        changes.borrow_and_update();
        let peers = match who {
            Who::Sibling(_) => paths.own_views(),
            Who::Agent(_) | Who::Peer(_) => paths.views(),
        };
        let views = PeerViews { peers, draining: paths.is_draining() };
        stream.write_all(&wire::frame::encode_views(&views)?).await?;
        tokio::select! {
            changed = changes.changed() => {
                changed?;
                tokio::time::sleep(GATHER).await;
            }
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Takes what a sibling tells, to the end of its stream.
pub(crate) async fn follow(paths: Arc<Paths>, who: Arc<Who>, incoming: IncomingStream) {
    let Who::Sibling(gateway) = &*who else { return };
    let taken = "gateway".parse().expect("it is a valid endpoint id");
    let Ok(mut stream) = incoming.accept(taken, Locality::default()).await else { return };
    let mut length = [0; wire::frame::VIEWS_LENGTH];
    let mut body = Vec::new();
    while stream.read_exact(&mut length).await.is_ok() {
        let Ok(size) = wire::frame::views_length(length) else {
            debug!(%gateway, "a sibling sent views of a size that is not allowed");
            return;
        };
        body.resize(size, 0);
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        match wire::frame::decode_views(&body) {
            Ok(views) => paths.handle_sibling_views(gateway, views),
            Err(error) => {
                debug!(%gateway, %error, "a sibling sent views that break the rules");
                return;
            }
        }
    }
}
