//! What an agent and its federation say to each other beyond config: registrations, paths, commands.

use crate::draining::Draining;
use crate::gateways::Gateways;
use connectors::connector::Input;
use model::ids::SiteId;
use model::node::{NodeMessage, SourceChange, SourceEvent};
use model::routing::{PeerState, PeerView};
use node::routes::Routes;
use node::store::ConfigStore;
use node::stream::{Command, Upstream};
use runtime::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Paths and views are told and taken on change and this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Changes that follow each other closely are told once.
const GATHER: Duration = Duration::from_millis(20);

/// The last that was said of the host's workloads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Session of the config stream on which it was said.
    session: u64,
    /// Sequence number of the last event.
    sequence: u64,
    /// Something was taken back.
    pub(crate) withdrew: bool,
}

impl Said {
    /// Waits until the federation has taken all of it; `false`: it will not, since the stream has ended.
    pub(crate) async fn was_taken(&self, mut taken: watch::Receiver<u64>, upstream: &Upstream) -> bool {
        let mut connected = upstream.connected();
        tokio::select! {
            waited = taken.wait_for(|taken| *taken >= self.sequence) => waited.is_ok(),
            _ = connected.wait_for(|up| !up || upstream.session() != self.session) => false,
        }
    }
}

/// Source events go up the config stream, in order. Those of a list that was begun on a stream that is gone are left
/// out: on the new one it begins anew.
pub(crate) async fn carry_events(mut events: mpsc::Receiver<SourceEvent>, upstream: Upstream) -> Said {
    let mut said = Said::default();
    while let Some(event) = events.recv().await {
        let session = upstream.session();
        if event.change == SourceChange::Init {
            said = Said { session, ..Said::default() };
        }
        if said.session == session {
            said.sequence = event.sequence;
            said.withdrew |= matches!(event.change, SourceChange::Delete(..));
            upstream.send_in(session, NodeMessage::Source(event)).await;
        }
    }
    said
}

/// Does what the federation asks for beyond config. `taken` gets the sequence numbers of events that were answered.
pub(crate) async fn obey(
    mut commands: mpsc::Receiver<Command>,
    inputs: mpsc::Sender<Input>,
    upstream: Upstream,
    draining: Arc<Draining>,
    taken: watch::Sender<u64>,
    shutdown: Shutdown,
) {
    let mut connected = upstream.connected();
    loop {
        let input = tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Connected) => Input::Connected,
                Some(Command::SourceTaken { sequence, refused }) => {
                    taken.send_if_modified(|taken| {
                        let newer = sequence > *taken;
                        *taken = sequence.max(*taken);
                        newer
                    });
                    Input::Taken { sequence, refused }
                }
                Some(Command::Drain(drain)) => {
                    draining.ask(drain);
                    continue;
                }
                Some(Command::OpenCarrier { carrier, .. }) => {
                    let reason = "an agent opens no carriers".to_owned();
                    let upstream = upstream.clone();
                    // Commands must not wait for what they themselves make wait.
                    tokio::spawn(async move { upstream.send(NodeMessage::CarrierFailed { carrier, reason }).await });
                    continue;
                }
            },
            changed = connected.changed() => match changed {
                Err(_) => return,
                Ok(()) if *connected.borrow_and_update() => continue,
                Ok(()) => Input::Disconnected,
            },
            () = shutdown.begun() => return,
        };
        // When the agent leaves, the connector ends first; what it said last is still answered.
        let _ = inputs.send(input).await;
    }
}

/// Gives the router what the gateways see of the linked sites; of which none sees anything, no path is there.
pub(crate) async fn follow_views(
    gateways: Arc<Gateways>,
    routes: Arc<Routes>,
    store: Arc<ConfigStore>,
    shutdown: Shutdown,
) {
    const NONE: PeerView = PeerView { state: PeerState::Unreachable, rtt: None };
    let (mut changes, mut config) = (gateways.changes(), store.subscribe());
    loop {
        changes.borrow_and_update();
        let linked = config.borrow_and_update().clone();
        let views = gateways.views();
        routes.handle_views(linked.peers.keys().map(|site| (site, views.get(site).copied().unwrap_or(NONE))));
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = config.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.begun() => return,
        }
    }
}

/// Tells the federation how the gateways are reached, and how many streams are open.
pub(crate) async fn report(
    site: SiteId,
    gateways: Arc<Gateways>,
    routes: Arc<Routes>,
    upstream: Upstream,
    shutdown: Shutdown,
) {
    let (mut changes, mut connected) = (gateways.changes(), upstream.connected());
    loop {
        changes.borrow_and_update();
        connected.borrow_and_update();
        upstream.send(NodeMessage::Paths(gateways.reports(&site))).await;
        upstream.send(NodeMessage::Streams { open: routes.open_streams() }).await;
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(GATHER).await;
            }
            changed = connected.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.begun() => return,
        }
    }
}
