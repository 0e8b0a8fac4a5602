//! Storing: what is told was stored before, and what cannot be stored is held back and tried again.
//!
//! While the store cannot be written, the hub goes on: it hears everybody, answers what is asked, and keeps sessions
//! open. Nodes and peers keep what they were told last, and changes that a person asks for are refused with the cause.
//!
//! The hub waits for the disk, so a commit that takes long holds up everything that goes through it, for as long as it
//! takes: changes, sessions, answers of the API. Traffic does not go through it. Leases and silence are judged only
//! after everything was heard that came in meanwhile, and no limit of them (15 s and more) is near what a disk that
//! works takes.

use super::Hub;
use crate::answer::{Answer, Denied};
use crate::store::{Backup, StoreError, WriteBatch};
use crate::vip_file::{self, VipFileError};
use model::exchange::PeerMessage;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// How long after a failed write the store is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How often sessions are kept alive while nothing can be stored: as often as the replicator does it.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Why nothing can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What was seen.
    pub why: String,
    /// The way out.
    pub next: String,
}

impl From<&StoreError> for Trouble {
    fn from(error: &StoreError) -> Self {
        Self { why: runtime::telemetry::chain(error).to_string(), next: error.next() }
    }
}

impl From<&VipFileError> for Trouble {
    fn from(error: &VipFileError) -> Self {
        let trouble = match error {
            VipFileError::File(error) => error.trouble(),
            VipFileError::Damaged { .. } => None,
        };
        let next = trouble.map_or("see the log", |trouble| trouble.next);
        Self { why: runtime::telemetry::chain(error).to_string(), next: next.to_owned() }
    }
}

impl Hub {
    /// Stores what is to be stored. Answers whether everything is on the disk, so that it may be told.
    pub(super) fn persist(&mut self, now: Instant) -> bool {
        if self.store_retry_at.is_some_and(|at| now < at) {
            return false;
        }
        while let Some(commit) = self.replicator.poll_persist() {
            self.batch.extend(commit.records);
        }
        self.note_first_seen();
        match self.write_all() {
            Ok(()) => {
                self.store_retry_at = None;
                if self.store_problem.take().is_some() {
                    self.events.note("store", "the store can be written again", "");
                }
                true
            }
            Err(trouble) => {
                self.store_failed(trouble);
                false
            }
        }
    }

    fn write_all(&mut self) -> Result<(), Trouble> {
        let written = self.tally.commit(&self.batch, |batch| self.store.write(batch));
        written.map_err(|error| Trouble::from(&error))?;
        self.batch = WriteBatch::default();
        let changes = self.imports.vips().changes();
        if changes != self.vips_written {
            vip_file::write(&self.vip_path, self.imports.vips()).map_err(|error| Trouble::from(&error))?;
            self.vips_written = changes;
        }
        Ok(())
    }

    /// Nothing is told that is not stored: peers and nodes keep what they have until the disk is well.
    fn store_failed(&mut self, trouble: Trouble) {
        if self.store_problem.as_ref() != Some(&trouble) {
            error!(why = %trouble.why, next = %trouble.next, "the store cannot be written; changes are held back");
            self.events.note("store", "changes are held back", trouble.why.clone());
        }
        self.store_problem = Some(trouble);
        self.store_retry_at = Some(Instant::now() + STORE_RETRY);
    }

    /// Writes documents at once, for changes that a person asks for: they are done when the answer is given.
    ///
    /// What waits to be stored is written with them, since it is older: it would else overwrite them later.
    pub(super) fn write_now(&mut self, batch: &WriteBatch) -> Answer<()> {
        let batch = self.batch.and_then(batch);
        match self.tally.commit(&batch, |batch| self.store.write(batch)) {
            Ok(()) => {
                self.batch = WriteBatch::default();
                Ok(())
            }
            Err(error) => {
                warn!(error = %runtime::telemetry::chain(&error), "a change was refused");
                self.store_failed(Trouble::from(&error));
                Err(Denied::store(&error))
            }
        }
    }

    /// Keeps sessions open while nothing may be said over them: a peer would close one that is silent.
    pub(super) fn keep_sessions(&mut self, now: Instant) {
        if now < self.kept_alive_at + KEEPALIVE {
            return;
        }
        self.kept_alive_at = now;
        for session in self.sessions.values().filter(|session| session.greeted) {
            // One that is full has something to say, and one that is closed has ended.
            let _ = session.to.try_send(PeerMessage::KeepAlive);
        }
    }

    /// Takes what is stored at this moment, for a backup.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn backup(&mut self) -> Answer<Backup> {
        self.store.backup().map_err(|error| {
            let why = runtime::telemetry::chain(&error).to_string();
            Denied::unavailable("no backup was made: the store cannot be read", why, error.next())
        })
    }
}
