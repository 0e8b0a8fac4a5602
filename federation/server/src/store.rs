//! The one seam to what outlives the process: records of the catalogs, and documents (what people wrote, links,
//! tokens, nodes).
//!
//! [`Store`] is narrow on purpose: load all, write a [`WriteBatch`] whole or not at all, make a copy. [`FileStore`] keeps
//! it in a file of the site directory; another store (etcd) stands in its place by keeping the same three. The site's
//! uid, its CA key and the virtual IPs live apart, in files of the site directory, so that a lost store does not change
//! who the site is.

mod backup;
pub mod documents;
mod file;
mod owner;
mod records;

pub use file::FileStore;

use documents::DocumentKey;
use federation_core::store::{Record, RecordKey, RecordValue, Restored};
use runtime::file::Trouble;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::path::PathBuf;

/// Where the state of a site is kept.
///
/// What [`write`](Self::write) has accepted, [`load`](Self::load) gives after any death of the process; what it has
/// refused, `load` does not give. An error ends nothing: the next call begins anew, so that a disk that was full needs
/// no restart.
pub trait Store: Send + Debug {
    /// What it is, in a word.
    fn kind(&self) -> &'static str;

    /// Reads everything.
    ///
    /// # Errors
    /// It cannot be read, or holds what does not belong there.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Writes a batch, whole or not at all, and returns when it is safe.
    ///
    /// # Errors
    /// It could not be written; nothing is changed then.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError>;

    /// Takes what is stored at this moment. The copy itself is made by [`Backup::bytes`], which may take a while and
    /// holds up nobody.
    ///
    /// # Errors
    /// It cannot be read.
    fn backup(&mut self) -> Result<Backup, StoreError>;

    /// Its size.
    fn bytes(&self) -> u64;
}

/// A copy that is still to be made, of a store as it was at one moment.
pub struct Backup(Box<dyn FnOnce() -> Result<Vec<u8>, StoreError> + Send>);

impl Backup {
    /// A copy that `make` makes.
    pub fn new(make: impl FnOnce() -> Result<Vec<u8>, StoreError> + Send + 'static) -> Self {
        Self(Box::new(make))
    }

    /// Makes it: the bytes of a file that [`FileStore::open`] opens. Takes as long as reading the store, and its memory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn bytes(self) -> Result<Vec<u8>, StoreError> {
        (self.0)()
    }
}

impl Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").finish_non_exhaustive()
    }
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "the store {} is in use by {holder}; stop that process, or run this one on another site directory",
        path.display()
    )]
    Locked {
        /// File.
        path: PathBuf,
        /// Who, as far as is known.
        holder: String,
    },
    /// The system gave an error while it was opened, made or read.
    #[error("the store {} cannot be read: {trouble}; {}", path.display(), trouble.next)]
    Read {
        /// File.
        path: PathBuf,
        /// In words.
        trouble: Trouble,
        /// As it came.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system gave an error while it was written.
    #[error("the store {} cannot be written: {trouble}; nothing was changed", path.display())]
    Write {
        /// File.
        path: PathBuf,
        /// In words.
        trouble: Trouble,
        /// As it came.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It was written by a newer version.
    #[error(
        "the store {} was written by a newer meshfed: it has format {found}, and this one knows formats up to {known}; \
         it is left as it was. Run that newer meshfed, or restore a backup that this one made",
        path.display()
    )]
    Newer {
        /// File.
        path: PathBuf,
        /// As found.
        found: u64,
        /// The newest one that is known.
        known: u64,
    },
    /// It has a format from before the first one that any release wrote.
    #[error(
        "the store {} has format {found}, which no released meshfed has written, and from which there is no way to \
         format {known}; it is left as it was. Restore a backup, or move it away",
        path.display()
    )]
    Older {
        /// File.
        path: PathBuf,
        /// As found.
        found: u64,
        /// The newest one that is known.
        known: u64,
    },
    /// It is not what this program wrote.
    #[error(
        "the store {} is damaged: {what}. Restore it from a backup, or move it away: the site \
         then begins with an empty store and keeps its uid, its CA and its virtual IPs, but links and exports must be \
         made again, and agents join again",
        path.display()
    )]
    Damaged {
        /// File.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

impl StoreError {
    /// The way out.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Read { trouble, .. } | Self::Write { trouble, .. } => trouble.next,
            Self::Locked { .. } => "stop the other process",
            Self::Newer { .. } | Self::Older { .. } | Self::Damaged { .. } => {
                "stop this federation, put a good store in its place, and start it again"
            }
        }
    }

    /// The way out, for whoever waits for changes that are held back.
    pub fn next(&self) -> String {
        match self {
            Self::Read { .. } | Self::Write { .. } | Self::Locked { .. } => {
                format!("{}; it goes on by itself then, without a restart", self.next_step())
            }
            Self::Newer { .. } | Self::Older { .. } | Self::Damaged { .. } => self.next_step().to_owned(),
        }
    }
}

/// Everything that a store holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Records of the replicator.
    pub records: Restored,
    /// Documents, by key; JSON.
    pub documents: BTreeMap<DocumentKey, Vec<u8>>,
}

/// Changes that are stored together, whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Records of the replicator; none: delete. By key, so that a batch that cannot be written is bounded by what
    /// there is, however long it waits.
    pub records: BTreeMap<RecordKey, Option<RecordValue>>,
    /// Documents; none: delete.
    pub documents: BTreeMap<DocumentKey, Option<Vec<u8>>>,
}

impl WriteBatch {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.documents.is_empty()
    }

    /// This batch, then `later`: where both say something of a key, `later` holds.
    pub fn and_then(&self, later: &Self) -> Self {
        let mut together = self.clone();
        together.records.extend(later.records.iter().map(|(key, value)| (key.clone(), value.clone())));
        together.documents.extend(later.documents.iter().map(|(key, value)| (key.clone(), value.clone())));
        together
    }

    /// Adds a document.
    pub fn put<T: serde::Serialize>(&mut self, key: DocumentKey, value: &T) {
        let bytes = serde_json::to_vec(value).expect("documents are plain data, which always is valid JSON");
        self.documents.insert(key, Some(bytes));
    }

    /// Deletes a document.
    pub fn delete(&mut self, key: DocumentKey) {
        self.documents.insert(key, None);
    }

    /// Adds records.
    pub fn extend(&mut self, records: Vec<Record>) {
        self.records.extend(records.into_iter().map(|record| (record.key, record.value)));
    }
}
