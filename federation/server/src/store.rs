//! The one seam to what outlives the process: records of the catalogs, and documents (what people wrote, links,
//! tokens, nodes).
//!
//! [`Store`] is narrow on purpose: open, load all, write a [`WriteBatch`] whole or not at all. Another store (etcd)
//! stands in its place by keeping these three. The site's uid, its CA key and the virtual IPs live apart, in files of
//! the site directory, so that a lost store does not change who the site is.

pub mod documents;
mod owner;
mod records;

use documents::DocumentKey;
use federation_core::store::{Record, RecordKey, RecordValue, Restored};
use owner::OwnerFile;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Records of the replicator.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// Documents, as JSON.
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
/// What the store is.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// Version of the layout of the tables above.
const FORMAT: u64 = 1;
/// redb's own cache. Everything is held in memory anyway, so a small one does.
const CACHE_BYTES: usize = 16 << 20;

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
    /// It cannot be opened or made.
    #[error(
        "the store {} cannot be opened; if it is damaged, restore it from a backup, or move it away: the site then \
         begins with an empty store and keeps its uid, its CA and its virtual IPs, but links and exports must be \
         made again",
        path.display()
    )]
    Open {
        /// File.
        path: PathBuf,
        /// What redb says.
        #[source]
        source: Box<redb::Error>,
    },
    /// It was written by another version.
    #[error("the store {} has format {found}, and this meshfed knows format {FORMAT}; use the newer meshfed", path.display())]
    Format {
        /// File.
        path: PathBuf,
        /// As found.
        found: u64,
    },
    /// It cannot be read.
    #[error("the store {} cannot be read", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// What redb says.
        #[source]
        source: Box<redb::Error>,
    },
    /// It cannot be written.
    #[error("the store {} cannot be written; nothing was changed. Is the disk full, or read-only?", path.display())]
    Write {
        /// File.
        path: PathBuf,
        /// What redb says.
        #[source]
        source: Box<redb::Error>,
    },
    /// It holds something that this version cannot have written.
    #[error("the store {} is damaged: {what}; restore it from a backup, or move it away", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What was found.
        what: String,
    },
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
#[derive(Debug, Default)]
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

/// An open store. One process has it at a time.
pub struct Store {
    database: Database,
    path: PathBuf,
    _owner: OwnerFile,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `path`, or makes it.
    ///
    /// # Errors
    /// It is locked, damaged, of another version, or the folder cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = match Database::builder().set_cache_size(CACHE_BYTES).create(path) {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(StoreError::Locked { path: path.to_owned(), holder: owner::holder(path) });
            }
            Err(source) => {
                return Err(StoreError::Open { path: path.to_owned(), source: Box::new(source.into()) });
            }
        };
        only_for_its_owner(path)?;
        let owner = OwnerFile::claim(path);
        let store = Self { database, path: path.to_owned(), _owner: owner };
        store.check_format()?;
        Ok(store)
    }

    /// Looks before it writes: a store of another version is left as it was found, also where that version has given a
    /// table of the same name another type.
    fn check_format(&self) -> Result<(), StoreError> {
        let found = self.format();
        match found
            .map_err(|source| StoreError::Read { path: self.path.clone(), source: Box::new(source) })?
        {
            Some(FORMAT) => Ok(()),
            Some(found) => Err(StoreError::Format { path: self.path.clone(), found }),
            None => self.transact(|transaction| {
                transaction.open_table(RECORDS)?;
                transaction.open_table(DOCUMENTS)?;
                transaction.open_table(ABOUT)?.insert("format", FORMAT)?;
                Ok(())
            }),
        }
    }

    /// Format of the store; none: it is new.
    fn format(&self) -> Result<Option<u64>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let about = match transaction.open_table(ABOUT) {
            Ok(about) => about,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = about.get("format")?.map(|guard| guard.value());
        Ok(found)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The file cannot be read, or holds what does not belong there.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let mut damaged = None;
        let read = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_read()?;
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
        };
        let mut read = read;
        read().map_err(|source| StoreError::Read { path: self.path.clone(), source: Box::new(source) })?;
        match damaged {
            Some(what) => Err(StoreError::Damaged { path: self.path.clone(), what }),
            None => Ok(loaded),
        }
    }

    /// Writes a batch, whole or not at all, and returns when it is on the disk.
    ///
    /// # Errors
    /// It could not be written; nothing is changed then.
    pub fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.transact(|transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            for (of, value) in &batch.records {
                let key = records::encode_key(of);
                match value {
                    Some(value) => {
                        drop(table.insert(key.as_slice(), records::encode_value(of, value).as_slice())?);
                    }
                    None => drop(table.remove(key.as_slice())?),
                }
            }
            let mut table = transaction.open_table(DOCUMENTS)?;
            for (key, value) in &batch.documents {
                let key = key.to_text();
                match value {
                    Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
            Ok(())
        })
    }

    fn transact<T>(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let write = || -> Result<T, redb::Error> {
            let transaction = self.database.begin_write()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        write().map_err(|source| StoreError::Write { path: self.path.clone(), source: Box::new(source) })
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map(|metadata| metadata.len()).unwrap_or(0)
    }
}

/// The store has the secrets of invites and tokens that were not used yet.
fn only_for_its_owner(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(runtime::file::MODE_SECRET);
    std::fs::set_permissions(path, mode).map_err(|source| StoreError::Write {
        path: path.to_owned(),
        source: Box::new(redb::Error::Io(source)),
    })
}

#[cfg(test)]
mod tests {
    use super::documents::DocumentKind;
    use super::*;

    fn key(name: &str) -> DocumentKey {
        DocumentKey::new(DocumentKind::Resource, name)
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        let store = Store::open(&path).expect("opens");
        let mut batch = WriteBatch::default();
        batch.put(key("shop/cart"), &1);
        batch.put(key("shop/orders"), &2);
        store.write(&batch).expect("writes");
        let mut batch = WriteBatch::default();
        batch.delete(key("shop/orders"));
        store.write(&batch).expect("writes");
        drop(store);
        let loaded = Store::open(&path).expect("opens").load().expect("loads");
        assert_eq!(loaded.documents, BTreeMap::from([(key("shop/cart"), b"1".to_vec())]));
    }

    #[test]
    fn a_locked_store_says_who_holds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        let _held = Store::open(&path).expect("opens");
        let error = Store::open(&path).expect_err("locked").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }

    /// Plays two parts: the test starts itself again in a folder with a file `write-here`, as the process that writes
    /// there until it is killed.
    #[test]
    fn a_store_whose_writer_is_killed_opens_again_with_whole_batches() {
        if Path::new("write-here").exists() {
            let store = Store::open(Path::new("store.redb")).expect("opens");
            for at in 0u64.. {
                let mut batch = WriteBatch::default();
                batch.put(key("shop/one"), &at);
                batch.put(key("shop/two"), &at);
                batch.put(key(&format!("shop/s{}", at % 100)), &"x".repeat(1_000));
                store.write(&batch).expect("writes");
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("write-here"), b"").expect("writes");
        let path = folder.path().join("store.redb");
        let test = "store::tests::a_store_whose_writer_is_killed_opens_again_with_whole_batches";
        for _ in 0..5 {
            let mut writer = std::process::Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", test])
                .current_dir(folder.path())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("starts");
            // Long enough to be in the middle of something; when exactly does not matter.
            std::thread::sleep(std::time::Duration::from_millis(150 + fastrand::u64(..150)));
            writer.kill().expect("is there");
            writer.wait().expect("ends");
            if path.exists() {
                let loaded = Store::open(&path).expect("opens").load().expect("loads");
                assert_eq!(loaded.documents.get(&key("shop/one")), loaded.documents.get(&key("shop/two")));
            }
        }
        let loaded = Store::open(&path).expect("opens").load().expect("loads");
        assert!(loaded.documents.contains_key(&key("shop/one")), "nothing was ever written");
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused_and_nothing_is_added_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        let database = Database::create(&path).expect("made");
        let transaction = database.begin_write().expect("begins");
        transaction.open_table(ABOUT).expect("opens").insert("format", FORMAT + 1).expect("written");
        transaction.commit().expect("written");
        drop(database);
        let error = Store::open(&path).expect_err("newer").to_string();
        assert!(error.contains(&format!("format {}", FORMAT + 1)), "{error}");
        assert!(error.contains("use the newer meshfed"), "{error}");
        let database = Database::open(&path).expect("opens");
        let tables = database.begin_read().expect("begins").list_tables().expect("listed").count();
        assert_eq!(tables, 1, "the refusal made tables");
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        std::fs::write(&path, b"something else entirely").expect("writes");
        let error = Store::open(&path).expect_err("no store").to_string();
        assert!(error.contains("move it away"), "{error}");
        assert_eq!(std::fs::read(&path).expect("there"), b"something else entirely");
    }
}
