//! The config on disk and in memory: served from when the federation is gone, also after a restart.

use crate::config::{BadUpdate, NodeConfig};
use anyhow::Context;
use model::config::{ConfigKey, ConfigUpdate, ConfigVersion};
use runtime::file::{self, FileError};
use runtime::shutdown::Shutdown;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};
use wire::snapshot::{self, SNAPSHOT_MAX, Snapshot};

/// How long changes are gathered before the snapshot is written again. A kill within it costs freshness after a
/// restart without a federation, never correctness.
const GATHER: Duration = Duration::from_millis(100);
/// Changes are gathered for so many times what the last write took, if that is longer: a large config that changes all
/// the time must not keep the disk busy.
const GATHER_WRITES: u32 = 4;
/// How long until a write that failed is tried again, for example on a full disk.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Holds the config of a node. Readers subscribe; the config stream alone writes.
#[derive(Debug)]
pub struct ConfigStore {
    path: PathBuf,
    current: watch::Sender<Arc<NodeConfig>>,
    stored: watch::Sender<Option<ConfigVersion>>,
}

impl ConfigStore {
    /// Opens the store in `folder`, with what the last run left there.
    ///
    /// A snapshot that is damaged is set aside under another name and said in the log: the node then starts empty and
    /// waits for its federation, which is what it would do without a snapshot.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path) -> anyhow::Result<Arc<Self>> {
        let path = folder.join("config.snapshot");
        let config = match file::read_if_present(&path, SNAPSHOT_MAX) {
            Ok(None) => NodeConfig::default(),
            Ok(Some(bytes)) => read(&bytes).unwrap_or_else(|error| set_aside(&path, &error)),
            Err(error @ FileError::TooLong { .. }) => set_aside(&path, &error.into()),
            Err(error) => return Err(error).context("read the config on disk"),
        };
        if config.version.is_some() {
            info!(services = config.services.len(), "config read from disk");
        }
        let stored = watch::Sender::new(config.version);
        Ok(Arc::new(Self { path, current: watch::Sender::new(Arc::new(config)), stored }))
    }

    /// The config, now.
    pub fn current(&self) -> Arc<NodeConfig> {
        self.current.borrow().clone()
    }

    /// Follows the config.
    pub fn subscribe(&self) -> watch::Receiver<Arc<NodeConfig>> {
        self.current.subscribe()
    }

    /// Follows the version that is safe on disk.
    pub fn stored(&self) -> watch::Receiver<Option<ConfigVersion>> {
        self.stored.subscribe()
    }

    /// Applies an update; says what changed.
    ///
    /// # Errors
    /// [`BadUpdate`]: nothing was changed.
    pub fn apply(&self, update: ConfigUpdate) -> Result<BTreeSet<ConfigKey>, BadUpdate> {
        let mut next = (*self.current()).clone();
        let changed = next.apply(update)?;
        self.current.send_replace(Arc::new(next));
        Ok(changed)
    }

    /// Writes the config to disk after each change, until shutdown begins; then once more.
    pub async fn keep(self: Arc<Self>, shutdown: Shutdown) {
        let mut changes = self.subscribe();
        let mut written = None;
        if changes.borrow().version == *self.stored.borrow() {
            written = Some(changes.borrow().clone());
        }
        // What was applied before this task ran counts as a change.
        changes.mark_changed();
        let mut gather = GATHER;
        loop {
            let is_written = written.as_ref().is_some_and(|written| Arc::ptr_eq(written, &changes.borrow()));
            let stopping = tokio::select! {
                () = shutdown.begun() => true,
                changed = changes.changed() => changed.is_err(),
                () = tokio::time::sleep(TRY_AGAIN), if !is_written => false,
            };
            if !stopping {
                tokio::select! {
                    () = tokio::time::sleep(gather) => {}
                    () = shutdown.begun() => {}
                }
            }
            let config = changes.borrow_and_update().clone();
            let is_new = written.as_ref().is_none_or(|written| !Arc::ptr_eq(written, &config));
            if let Some(version) = config.version.filter(|_| is_new) {
                let began = Instant::now();
                if self.write(version, config.clone()).await {
                    written = Some(config);
                }
                gather = GATHER.max(began.elapsed() * GATHER_WRITES);
            }
            if stopping {
                return;
            }
        }
    }

    /// Answers whether the config is on disk.
    async fn write(&self, version: ConfigVersion, config: Arc<NodeConfig>) -> bool {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = snapshot::encode(version, &config.entries());
            file::write_atomic(&path, &bytes, file::MODE_SECRET).context("write the config to disk")
        });
        match written.await.context("write the config to disk").flatten() {
            Ok(()) => {
                self.stored.send_replace(Some(version));
                true
            }
            Err(error) => {
                // Until it succeeds, a restart would serve from an older config.
                warn!(error = format!("{error:#}"), "the config cannot be kept; it is tried again");
                false
            }
        }
    }
}

fn read(bytes: &[u8]) -> anyhow::Result<NodeConfig> {
    let Snapshot { version, entries } = snapshot::decode(bytes)?;
    let mut config = NodeConfig::default();
    config.apply(ConfigUpdate { version, snapshot: true, complete: true, entries })?;
    Ok(config)
}

/// Moves a snapshot that cannot be used out of the way, for whoever wants to look at it.
fn set_aside(path: &Path, error: &anyhow::Error) -> NodeConfig {
    let aside = path.with_extension("snapshot.unreadable");
    let error = format!("{error:#}");
    warn!(error, aside = %aside.display(), "the config on disk cannot be used; it is set aside");
    if let Err(error) = std::fs::rename(path, &aside) {
        warn!(%error, "it could not be moved, and will be overwritten");
    }
    NodeConfig::default()
}
