//! The config on disk and in memory: served from when the federation is gone, also after a restart.

use crate::config::{BadUpdate, NodeConfig};
use crate::tally::{NOT_OK, OK};
use anyhow::Context;
use model::config::{ConfigKey, ConfigUpdate, ConfigVersion};
use runtime::file::{self, FileError};
use runtime::metrics::Counts;
use runtime::shutdown::Shutdown;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};
use wire::snapshot::{self, SNAPSHOT_MAX, Snapshot, SnapshotError};

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
    /// The file at `path` is one that can be used, and so is worth to be kept as the previous one.
    file_is_good: AtomicBool,
    current: watch::Sender<Arc<NodeConfig>>,
    stored: watch::Sender<Option<ConfigVersion>>,
    /// When the oldest change came in that [`Self::look`] has not seen.
    unseen: Mutex<Option<Instant>>,
    writes: Counts,
}

impl ConfigStore {
    /// Opens the store in `folder`, with what the last run left there.
    ///
    /// A snapshot that cannot be used, damaged or of a newer meshfed, is set aside under another name and said in the
    /// log; the one before it is used then. Without that the node starts empty and waits for its federation, as it
    /// would without a snapshot.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path) -> anyhow::Result<Arc<Self>> {
        let path = folder.join("config.snapshot");
        file::remove_abandoned(&path);
        file::remove_abandoned(&previous(&path));
        let newest = take(&path)?;
        let file_is_good = newest.is_some();
        let config = match newest {
            Some(config) => config,
            None => {
                take(&previous(&path))?.inspect(|_| warn!("the config before it is used")).unwrap_or_default()
            }
        };
        if config.version.is_some() {
            info!(services = config.services.len(), "config read from disk");
        }
        // A previous one is written again as the newest, as soon as the store is kept.
        let stored = watch::Sender::new(config.version.filter(|_| file_is_good));
        let current = watch::Sender::new(Arc::new(config));
        Ok(Arc::new(Self {
            path,
            file_is_good: file_is_good.into(),
            current,
            stored,
            unseen: Mutex::default(),
            writes: Counts::new([OK, NOT_OK]),
        }))
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
        let began = Instant::now();
        let mut next = (*self.current()).clone();
        let changed = next.apply(update)?;
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.get_or_insert(began);
        self.current.send_replace(Arc::new(next));
        Ok(changed)
    }

    /// For the one that routes by the config: `look` sees all that came in so far. With it, when the oldest of that came
    /// in; none: nothing did since the last look.
    pub(crate) fn look<T>(&self, look: impl FnOnce() -> T) -> (T, Option<Instant>) {
        // Held over both, so that a change is never seen without its time, or the other way round.
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        (look(), unseen.take())
    }

    /// Times that the config was written to disk, or could not be.
    pub(crate) fn writes(&self) -> &Counts {
        &self.writes
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
        let worth_keeping = self.file_is_good.load(Ordering::Relaxed);
        let written = tokio::task::spawn_blocking(move || {
            let bytes = snapshot::encode(version, &config.entries());
            if worth_keeping {
                keep_previous(&path);
            }
            file::write_atomic(&path, &bytes, file::MODE_SECRET).context("write the config to disk")
        });
        match written.await.context("write the config to disk").flatten() {
            Ok(()) => {
                self.writes.add(OK);
                self.file_is_good.store(true, Ordering::Relaxed);
                self.stored.send_replace(Some(version));
                true
            }
            Err(error) => {
                self.writes.add(NOT_OK);
                // Until it succeeds, a restart would serve from an older config.
                warn!(error = format!("{error:#}"), "the config cannot be kept; it is tried again");
                false
            }
        }
    }
}

/// Why a snapshot was not used.
#[derive(Debug)]
enum Unusable {
    /// A newer meshfed wrote it.
    Newer(u16),
    /// It is damaged.
    Damaged(anyhow::Error),
}

/// Reads a snapshot; sets it aside when it cannot be used, and answers none.
fn take(path: &Path) -> anyhow::Result<Option<NodeConfig>> {
    let read = match file::read_if_present(path, SNAPSHOT_MAX) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => read(&bytes),
        Err(error @ FileError::TooLong { .. }) => Err(Unusable::Damaged(error.into())),
        Err(error) => return Err(error).context("read the config on disk"),
    };
    Ok(read.map_err(|why| set_aside(path, &why)).ok())
}

fn read(bytes: &[u8]) -> Result<NodeConfig, Unusable> {
    let Snapshot { version, entries } = match snapshot::decode(bytes) {
        Ok(snapshot) => snapshot,
        Err(SnapshotError::Format(found)) if found > snapshot::FORMAT => return Err(Unusable::Newer(found)),
        Err(error) => return Err(Unusable::Damaged(error.into())),
    };
    let mut config = NodeConfig::default();
    let update = ConfigUpdate { version, snapshot: true, complete: true, entries };
    config.apply(update).map_err(|error| Unusable::Damaged(error.into()))?;
    Ok(config)
}

/// Moves a snapshot that cannot be used out of the way, for whoever wants to look at it, or for the version that wrote
/// it.
fn set_aside(path: &Path, why: &Unusable) {
    let as_word = |word: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(word);
        PathBuf::from(name)
    };
    let aside = match why {
        Unusable::Newer(found) => {
            let aside = as_word(".newer");
            let reads = snapshot::FORMAT;
            warn!(
                found, reads, aside = %aside.display(),
                "the config on disk was written by a newer meshfed; it is set aside, and is of use again when it is \
                 moved back for that version"
            );
            aside
        }
        Unusable::Damaged(error) => {
            let aside = as_word(".unreadable");
            warn!(error = format!("{error:#}"), aside = %aside.display(), "the config on disk cannot be used; it is set aside");
            aside
        }
    };
    if let Err(error) = std::fs::rename(path, &aside) {
        warn!(%error, "it could not be moved, and will be overwritten");
    }
}

/// The file of the snapshot before the newest.
fn previous(path: &Path) -> PathBuf {
    path.with_extension("snapshot.previous")
}

/// Gives the newest snapshot a second name, under which it stays when the newest is replaced: if that cannot be read
/// one day, this one is. It is a convenience, so a file system that cannot do it is not complained about.
fn keep_previous(path: &Path) {
    let previous = previous(path);
    let temporary = file::temporary(&previous);
    let kept = std::fs::hard_link(path, &temporary).and_then(|()| std::fs::rename(&temporary, &previous));
    if let Err(error) = kept {
        tracing::debug!(%error, "the snapshot before this one is not kept");
    }
    // It is there still when it could not be renamed, and when both were the same file already.
    let _ = std::fs::remove_file(&temporary);
}
