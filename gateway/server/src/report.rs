//! What a gateway tells its federation, and what it takes from the config for its own use.

use crate::carry::Carrier;
use crate::paths::Paths;
use model::node::NodeMessage;
use node::routes::Routes;
use node::store::ConfigStore;
use node::stream::{Command, Upstream};
use node::way_in::Problems;
use runtime::health::Check;
use runtime::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::info;
use tunnel::Tunnel;

/// Everything is told on change and this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Changes that follow each other closely are told once.
const GATHER: Duration = Duration::from_millis(5);

/// Brings the routing table and the federation up to date with the paths, on change and each second.
pub(crate) async fn tell(
    paths: Arc<Paths>,
    routes: Arc<Routes>,
    problems: Option<Problems>,
    upstream: Upstream,
    shutdown: Shutdown,
) {
    let mut changes = paths.changes();
    let mut connected = upstream.connected();
    loop {
        changes.borrow_and_update();
        let views = paths.views();
        routes.handle_views(views.iter().map(|(site, view)| (site, *view)));
        upstream.offer(NodeMessage::Paths(paths.reports()));
        upstream.offer(NodeMessage::Streams { open: routes.open_streams() });
        if let Some(problems) = &problems {
            upstream.offer(NodeMessage::Problems(problems.borrow().clone()));
        }
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

/// Brings paths and tunnel in line with the config. `config` passes when there is one, `way` when [`await_paths`] says
/// so.
pub(crate) async fn follow_config(
    paths: Arc<Paths>,
    tunnel: Tunnel,
    store: Arc<ConfigStore>,
    (ready, way): (Check, Check),
    shutdown: Shutdown,
) {
    let mut config = store.subscribe();
    let mut way = Some(way);
    loop {
        let current = config.borrow_and_update().clone();
        paths.handle_config(&current);
        match &current.site {
            Some(site) => {
                tunnel.set_link_open(site.link_open);
                ready.ready();
                if let Some(way) = way.take() {
                    tokio::spawn(await_paths(paths.clone(), way));
                }
            }
            None => ready.not_ready("no config yet: nothing on disk, and the federation has not sent any"),
        }
        tokio::select! {
            changed = config.changed() => if changed.is_err() { return },
            () = shutdown.begun() => return,
        }
    }
}

/// How long a gateway that has just started is not ready because linked sites cannot be reached yet. A rolling restart
/// goes on when it is ready, so it should have its paths by then; a site that is dead must not hold it up for longer.
const PATHS_WAIT: Duration = Duration::from_secs(2);
/// Between two looks at them.
const PATHS_LOOK: Duration = Duration::from_millis(20);

/// Waits until every linked site can be reached by own paths, at most [`PATHS_WAIT`]. What fails later is no matter of
/// readiness.
async fn await_paths(paths: Arc<Paths>, ready: Check) {
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < PATHS_WAIT {
        let missing: Vec<String> = paths
            .own_views()
            .into_iter()
            .filter(|(_, view)| !view.state.is_usable())
            .map(|(site, _)| site.to_string())
            .collect();
        if missing.is_empty() {
            break;
        }
        ready.not_ready(format!("no path yet to {}", missing.join(", ")));
        tokio::time::sleep(PATHS_LOOK).await;
    }
    ready.ready();
}

/// Does what the federation asks for.
pub(crate) async fn obey(
    mut commands: mpsc::Receiver<Command>,
    paths: Arc<Paths>,
    carrier: Arc<Carrier>,
    upstream: Upstream,
    leaving: Shutdown,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::OpenCarrier { carrier: id, target, client } => {
                tokio::spawn(carrier.clone().carry(id, target, client, upstream.clone()));
            }
            Command::Drain(drain) => {
                info!(drain, "the federation asks to drain, or to take streams again");
                // A process that leaves does not come back for being asked.
                paths.set_draining(drain || leaving.has_begun());
            }
            // Everything is told again when a stream comes up, by `tell`.
            Command::Connected => {}
            // Gateways have no sources.
            Command::SourceTaken { .. } => {}
        }
    }
}
