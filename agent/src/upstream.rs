//! What an agent and its federation say to each other beyond config: registrations, paths, commands.

use crate::draining::Draining;
use crate::gateways::Gateways;
use api::Diagnostic;
use connectors::agent::Workloads as Listed;
use connectors::connector::{Input, SourceReport};
use connectors::watch::FileState;
use model::ids::SiteId;
use model::node::{NodeMessage, SourceChange, SourceEvent};
use model::routing::{PeerState, PeerView};
use node::routes::Routes;
use node::store::ConfigStore;
use node::stream::{Command, Upstream};
use node::way_in::Problems;
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

/// What the federation is told of the host, for `status`.
pub(crate) struct Reporter {
    pub(crate) site: SiteId,
    pub(crate) gateways: Arc<Gateways>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) upstream: Upstream,
    /// Virtual IPs that are not listened on.
    pub(crate) vips: Problems,
    /// The file with workloads.
    pub(crate) file: watch::Receiver<FileState<Arc<Listed>>>,
    /// What is registered.
    pub(crate) sources: watch::Receiver<SourceReport>,
}

impl Reporter {
    /// Tells how the gateways are reached, how many streams are open, and what is wrong here.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let (mut changes, mut connected) = (self.gateways.changes(), self.upstream.connected());
        loop {
            changes.borrow_and_update();
            connected.borrow_and_update();
            self.upstream.send(NodeMessage::Paths(self.gateways.reports(&self.site))).await;
            self.upstream.send(NodeMessage::Streams { open: self.routes.open_streams() }).await;
            self.upstream.send(NodeMessage::Problems(self.problems())).await;
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

    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(problem) = &self.file.borrow().problem {
            let help = if problem.help.is_empty() { String::new() } else { format!(" ({})", problem.help) };
            let Diagnostic { file, line, column, message, .. } = problem;
            found
                .push(format!("{file}:{line}:{column}: {message}{help}; the last good state stays in force"));
        }
        for instance in &self.sources.borrow().instances {
            if let Some(refused) = &instance.refused {
                found.push(format!(
                    "workload {} {} is refused: {refused}",
                    instance.service, instance.endpoint
                ));
            }
        }
        found.extend(self.vips.borrow().iter().cloned());
        found
    }
}
