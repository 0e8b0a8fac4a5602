//! The workloads of the host: those that the config names, and those of its file.

use connectors::agent::Workloads as Listed;
use connectors::watch::FileState;
use model::ids::HostName;
use node::store::ConfigStore;
use runtime::shutdown::Shutdown;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Workloads that the config names; none before the first config.
pub(crate) fn of_config(
    store: &Arc<ConfigStore>,
    shutdown: Shutdown,
) -> watch::Receiver<Option<Arc<Listed>>> {
    let (sender, receiver) = watch::channel(None);
    let mut config = store.subscribe();
    tokio::spawn(async move {
        loop {
            let current = config.borrow_and_update().clone();
            if current.version.is_some() {
                let listed: Listed =
                    current.workloads.iter().map(|(key, spec)| (key.clone(), (**spec).clone())).collect();
                replace(&sender, Some(Arc::new(listed)));
            }
            tokio::select! {
                changed = config.changed() => if changed.is_err() { return },
                () = shutdown.begun() => return,
            }
        }
    });
    receiver
}

/// All workloads of the host; where both describe one endpoint, the config counts, as in what is registered.
pub(crate) fn follow(
    host: HostName,
    mut config: watch::Receiver<Option<Arc<Listed>>>,
    mut file: watch::Receiver<FileState<Arc<Listed>>>,
    shutdown: Shutdown,
) -> watch::Receiver<Arc<Listed>> {
    let (sender, receiver) = watch::channel(Arc::default());
    tokio::spawn(async move {
        loop {
            let mut all: Listed = file.borrow_and_update().good.as_deref().cloned().unwrap_or_default();
            all.extend(config.borrow_and_update().as_deref().cloned().unwrap_or_default());
            all.retain(|_, workload| workload.host == host);
            replace(&sender, Arc::new(all));
            tokio::select! {
                changed = config.changed() => if changed.is_err() { return },
                // Without a file its sender is gone early; the config goes on.
                Ok(()) = file.changed() => {}
                () = shutdown.begun() => return,
            }
        }
    });
    receiver
}

/// Ports that the workloads listen on.
pub(crate) fn ports(
    mut workloads: watch::Receiver<Arc<Listed>>,
    shutdown: Shutdown,
) -> watch::Receiver<BTreeSet<u16>> {
    let ports_of = |listed: &Listed| -> BTreeSet<u16> {
        listed.values().flat_map(|workload| workload.ports.iter().map(|(_, port)| *port)).collect()
    };
    let (sender, receiver) = watch::channel(ports_of(&workloads.borrow_and_update()));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = workloads.changed() => if changed.is_err() { return },
                () = shutdown.begun() => return,
            }
            let ports = ports_of(&workloads.borrow_and_update());
            replace(&sender, ports);
        }
    });
    receiver
}

/// Wakes receivers only when the value differs.
fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|held| {
        let differs = *held != value;
        *held = value;
        differs
    });
}
