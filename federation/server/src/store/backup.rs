//! A store as the bytes of a file: a new one, or a copy made from one read transaction while the store is in use.
//!
//! Copying the bytes of the file would not do: redb changes pages in place of ones that it has freed, so the copy would
//! have some from before a commit and some from after it. Here the rows are written into a new database, in memory: a
//! backup works on a full disk too.

use super::file::{ABOUT, DOCUMENTS, FORMAT, RECORDS, builder};
use redb::{Key, ReadTransaction, ReadableTable, StorageBackend, TableDefinition, Value, WriteTransaction};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// The bytes of a file that has what the transaction sees.
pub(super) fn copy(from: &ReadTransaction) -> Result<Vec<u8>, redb::Error> {
    filled(|to| {
        table(from, to, ABOUT)?;
        table(from, to, RECORDS)?;
        table(from, to, DOCUMENTS)
    })
}

/// The bytes of a file that has nothing but its format.
pub(super) fn empty() -> Result<Vec<u8>, redb::Error> {
    filled(|to| {
        to.open_table(RECORDS)?;
        to.open_table(DOCUMENTS)?;
        to.open_table(ABOUT)?.insert("format", FORMAT)?;
        Ok(())
    })
}

fn filled(fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<Vec<u8>, redb::Error> {
    let memory = Memory::default();
    let database = builder().create_with_backend(memory.clone())?;
    let transaction = database.begin_write()?;
    fill(&transaction)?;
    transaction.commit()?;
    // Closes it, so that it counts as closed in good order.
    drop(database);
    Ok(std::mem::take(&mut *memory.0.write().unwrap_or_else(PoisonError::into_inner)))
}

fn table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let mut to = to.open_table(definition)?;
    for row in from.open_table(definition)?.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// A file in memory. As long as what is copied, which is in memory already.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<RwLock<Vec<u8>>>);

fn range(bytes: &[u8], offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let begin = usize::try_from(offset).ok();
    let end = begin.and_then(|begin| begin.checked_add(length)).filter(|end| *end <= bytes.len());
    match (begin, end) {
        (Some(begin), Some(end)) => Ok(begin..end),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        out.copy_from_slice(&bytes[range(&bytes, offset, out.len())?]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let range = range(&bytes, offset, data.len())?;
        bytes[range].copy_from_slice(data);
        Ok(())
    }
}
