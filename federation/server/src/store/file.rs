//! The store in a file of the site directory, kept by redb.
//!
//! What redb gives: a transaction is on the disk whole or not at all, also when the process or the machine dies in the
//! middle of it. What is added here:
//!
//! - The file is made whole or not at all, and then never made again: one that is empty or cut is damaged, and is not
//!   taken for a new store.
//! - Everything that is in it is verified each time it is opened. It is read whole then anyway.
//! - After an error redb wants to be opened anew, which the next call does. Whether the write that failed is on the disk
//!   is not known (the last step of it may be what failed), so its rows are put back as they were before anything else is
//!   written.
//! - A panic of redb, which a damaged file can cause, is an error like the others (`guarded`).

use super::owner::{self, OwnerFile};
use super::records;
use super::{Backup, Loaded, Store, StoreError, WriteBatch, backup};
use crate::store::documents::DocumentKey;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use runtime::file::{self, Trouble};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tracing::warn;

/// Records of the replicator.
pub(super) const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// Documents, as JSON.
pub(super) const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
/// What the store is. This table keeps its name and its types through all formats, since it is what tells them apart.
pub(super) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// Version of the layout of the tables above, as it stands in [`ABOUT`] under `format`.
///
/// The rule: a release that changes the layout raises it by one, and brings a step from the format before, which runs in
/// one transaction when such a store is opened; a store of any older release can so be opened, and one of a newer
/// release is refused and left as it was. This is the first format, so there is no step yet. New kinds of documents
/// and new fields in them need no new format: what is not known is left alone.
pub(super) const FORMAT: u64 = 1;
/// redb's own cache. Everything is held in memory anyway, so a small one does.
const CACHE_BYTES: usize = 16 << 20;

/// Opens the database in a file that is there. A value, so that tests can put another disk beneath.
pub(super) type OpenDatabase = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send>;

/// Rows of both tables, with their values; none: there is no such row.
type Rows = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Records,
    Documents,
}

/// A store in a file. One process has it at a time.
pub struct FileStore {
    path: PathBuf,
    open: OpenDatabase,
    /// None after an error, until the next call.
    database: Option<Database>,
    /// Rows as they were before a write that failed, and that may be on the disk nevertheless.
    undo: Rows,
    owner: Option<OwnerFile>,
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How databases are opened.
pub(super) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

impl FileStore {
    /// Opens the store in `path`, or makes it when there is no such file.
    ///
    /// # Errors
    /// It is locked, damaged, of another version, or the folder cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_by(path, Box::new(|path| builder().open(path)))
    }

    pub(super) fn open_by(path: &Path, open: OpenDatabase) -> Result<Self, StoreError> {
        file::remove_abandoned(path);
        let mut store = Self { path: path.to_owned(), open, database: None, undo: Rows::new(), owner: None };
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => store.make()?,
            Err(error) => return Err(store.failed_by(error.into(), Doing::Reading)),
        }
        store.database()?;
        only_for_its_owner(path).map_err(|error| store.failed_by(error.into(), Doing::Writing))?;
        store.owner = Some(OwnerFile::claim(path));
        Ok(store)
    }

    /// Makes the file, whole or not at all. When another process was faster, its file stays.
    fn make(&self) -> Result<(), StoreError> {
        let bytes = guarded(backup::empty).map_err(|error| self.failed_by(error, Doing::Writing))?;
        let made = file::create_atomic(&self.path, &bytes, file::MODE_SECRET);
        made.map(|_| ()).map_err(|error| StoreError::Write {
            path: self.path.clone(),
            trouble: error.trouble().unwrap_or(NO_WORDS),
            source: Box::new(error),
        })
    }

    /// The open database; opens it when an error has closed it.
    fn database(&mut self) -> Result<&Database, StoreError> {
        if self.database.is_none() {
            self.database = Some(self.reopen()?);
        }
        Ok(self.database.as_ref().expect("it was just opened"))
    }

    fn reopen(&self) -> Result<Database, StoreError> {
        let length = std::fs::metadata(&self.path).map(|metadata| metadata.len());
        if length.map_err(|error| self.failed_by(error.into(), Doing::Reading))? == 0 {
            // redb would begin anew in it.
            return Err(self.damaged("it is empty"));
        }
        let opened = guarded(|| match (self.open)(&self.path) {
            Ok(database) => {
                let format = format_of(&database)?;
                Ok(Some((database, format)))
            }
            Err(DatabaseError::DatabaseAlreadyOpen) => Ok(None),
            Err(error) => Err(error.into()),
        });
        let path = || self.path.clone();
        match opened.map_err(|error| self.failed_by(error, Doing::Reading))? {
            Some((database, Some(FORMAT))) => Ok(database),
            Some((_, Some(found))) if found > FORMAT => {
                Err(StoreError::Newer { path: path(), found, known: FORMAT })
            }
            Some((_, Some(found))) => Err(StoreError::Older { path: path(), found, known: FORMAT }),
            Some((_, None)) => Err(self.damaged("it does not say its format")),
            None => Err(StoreError::Locked { path: path(), holder: owner::holder(&self.path) }),
        }
    }

    /// Does something with the database. After an error it is closed, and the next call opens it anew.
    fn with<T>(
        &mut self,
        doing: Doing,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = self.database().map_err(|error| error.while_doing(doing))?;
        let done = guarded(|| work(database));
        done.map_err(|error| {
            let database = self.database.take();
            // What closing finds wrong is what is known already.
            let _ = guarded(|| {
                drop(database);
                Ok(())
            });
            self.failed_by(error, doing)
        })
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.into() }
    }

    fn failed_by(&self, error: redb::Error, doing: Doing) -> StoreError {
        use redb::Error;
        let trouble = match &error {
            Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => return self.damaged(io.to_string()),
            Error::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof => {
                return self.damaged("it is shorter than it should be");
            }
            Error::Corrupted(what) => return self.damaged(what.clone()),
            Error::TableTypeMismatch { .. }
            | Error::TableIsMultimap(_)
            | Error::TypeDefinitionChanged { .. }
            | Error::TableDoesNotExist(_) => return self.damaged(error.to_string()),
            Error::Io(io) => Trouble::of(io),
            _ => NO_WORDS,
        };
        let (path, source) = (self.path.clone(), Box::new(error));
        match doing {
            Doing::Reading => StoreError::Read { path, trouble, source },
            Doing::Writing => StoreError::Write { path, trouble, source },
        }
    }
}

impl Store for FileStore {
    fn kind(&self) -> &'static str {
        "redb"
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let mut damaged = None;
        self.with(Doing::Reading, |database| {
            let transaction = database.begin_read()?;
            for row in transaction.open_table(RECORDS)?.iter()? {
                let (key, value) = row?;
                match records::decode(key.value(), value.value()) {
                    Ok(record) => {
                        if let Err(error) = loaded.records.apply(record) {
                            damaged = Some(error.to_string());
                        }
                    }
                    Err(error) => damaged = Some(error.to_string()),
                }
            }
            for row in transaction.open_table(DOCUMENTS)?.iter()? {
                let (key, value) = row?;
                match DocumentKey::from_text(key.value()) {
                    Some(key) => drop(loaded.documents.insert(key, value.value().to_vec())),
                    // A newer version may have kinds of documents that this one does not know: they are kept.
                    None => warn!(key = key.value(), "store: unknown kind of document, left alone"),
                }
            }
            Ok(())
        })?;
        match damaged {
            Some(what) => Err(self.damaged(what)),
            None => Ok(loaded),
        }
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        if batch.is_empty() && self.undo.is_empty() && self.database.is_some() {
            return Ok(());
        }
        let rows = rows(batch);
        let undo = std::mem::take(&mut self.undo);
        let mut before = Rows::new();
        let written = self.with(Doing::Writing, |database| {
            let transaction = database.begin_write()?;
            put(&transaction, &undo, None)?;
            put(&transaction, &rows, Some(&mut before))?;
            transaction.commit()?;
            Ok(())
        });
        if written.is_err() {
            // What was there before the first write that failed is what counts.
            before.extend(undo);
            self.undo = before;
        }
        written
    }

    fn backup(&mut self) -> Result<Backup, StoreError> {
        // What a failed write may have left is not part of the store.
        self.write(&WriteBatch::default())?;
        let transaction: ReadTransaction =
            self.with(Doing::Reading, |database| Ok(database.begin_read()?))?;
        let path = self.path.clone();
        Ok(Backup::new(move || {
            let copied = guarded(|| backup::copy(&transaction));
            copied.map_err(|error| StoreError::Read { path, trouble: NO_WORDS, source: Box::new(error) })
        }))
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map(|metadata| metadata.len()).unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Reading,
    Writing,
}

impl StoreError {
    /// To whoever wants to write, a store that cannot even be read is one that cannot be written.
    fn while_doing(self, doing: Doing) -> Self {
        match (self, doing) {
            (Self::Read { path, trouble, source }, Doing::Writing) => Self::Write { path, trouble, source },
            (error, _) => error,
        }
    }
}

/// For errors that are not the system's.
const NO_WORDS: Trouble = Trouble { what: "redb refuses it", next: "see the log" };

/// Calls redb. Its panics are those of damaged files: each is an error like the others.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Err(redb::Error::Corrupted(format!("redb panicked: {text}")))
    })
}

/// Format of a store, if it says one.
fn format_of(database: &Database) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let about = match transaction.open_table(ABOUT) {
        Ok(about) => about,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = about.get("format")?.map(|guard| guard.value());
    Ok(found)
}

fn rows(batch: &WriteBatch) -> Rows {
    let records = batch.records.iter().map(|(key, value)| {
        let value = value.as_ref().map(|value| records::encode_value(key, value));
        ((Table::Records, records::encode_key(key)), value)
    });
    let documents = batch.documents.iter();
    let documents =
        documents.map(|(key, value)| ((Table::Documents, key.to_text().into_bytes()), value.clone()));
    records.chain(documents).collect()
}

/// Puts rows into their tables; notes what was there before.
fn put(
    transaction: &redb::WriteTransaction,
    rows: &Rows,
    mut before: Option<&mut Rows>,
) -> Result<(), redb::Error> {
    let mut records = transaction.open_table(RECORDS)?;
    let mut documents = transaction.open_table(DOCUMENTS)?;
    for ((table, key), value) in rows {
        let old = match table {
            Table::Records => match value {
                Some(value) => records.insert(key.as_slice(), value.as_slice())?,
                None => records.remove(key.as_slice())?,
            },
            Table::Documents => {
                let Ok(key) = std::str::from_utf8(key) else { continue };
                match value {
                    Some(value) => documents.insert(key, value.as_slice())?,
                    None => documents.remove(key)?,
                }
            }
        };
        if let Some(before) = before.as_deref_mut() {
            before.insert((*table, key.clone()), old.map(|old| old.value().to_vec()));
        }
    }
    Ok(())
}

/// The store has the secrets of invites and tokens that were not used yet.
fn only_for_its_owner(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(file::MODE_SECRET))
}

#[cfg(test)]
mod tests;
