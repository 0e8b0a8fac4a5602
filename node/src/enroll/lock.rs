//! One process for each node's folder: two would displace each other at their gateways and federation without end.
//!
//! The lock is the kernel's, on an open file, so it ends with its process however that ends. What is written in the
//! file is for the error that another process gets, and locks nobody out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
/// Longest note that is read.
const NOTE_MAX: u64 = 200;

/// Why a folder is not this process's.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Whoever started this one is at fault: another process has it. Nothing was changed.
    #[error(
        "{} is in use by {holder}: a node runs once; end that process first, or give this one a folder of its own with --dir",
        path.display()
    )]
    Held {
        /// Folder.
        path: PathBuf,
        /// The other process, in words.
        holder: String,
    },
    /// The folder is on a disk that is read-only, full, or knows no locks.
    #[error("{} cannot be locked; it must be on a disk that this process may write to and that knows locks", path.display())]
    File {
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Keeps the folder for this process until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    /// The lock lasts as long as it is open. It is never removed: whoever waits for it would have another file then.
    _file: File,
}

impl FolderLock {
    /// Takes the folder for this process.
    ///
    /// # Errors
    /// Another process has it, or the file cannot be locked.
    pub(super) fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(LOCK);
        let failed = |source| LockError::File { path: path.clone(), source };
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
        let mut file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { path: folder.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Without the note another process is told less; that is no reason not to run.
        let _ = note(&mut file);
        Ok(Self { _file: file })
    }
}

fn note(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("process {}\n", std::process::id()).as_bytes())
}

/// Who has the lock, in words.
fn holder(file: &mut File) -> String {
    let mut note = String::new();
    // One that has just taken it may not have written yet.
    let read = file.take(NOTE_MAX).read_to_string(&mut note);
    let number = note.trim().strip_prefix("process ").and_then(|number| number.parse::<u32>().ok());
    let (Ok(_), Some(number)) = (read, number) else { return "another process".to_owned() };
    let command = std::fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
    match command.trim() {
        "" => format!("process {number}"),
        command => format!("process {number} ({command})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_process_and_the_next_is_told_which() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = FolderLock::take(folder.path()).expect("free");
        let error = FolderLock::take(folder.path()).expect_err("held").to_string();
        let own = format!("in use by process {}", std::process::id());
        assert!(error.contains(&own) && error.contains("--dir"), "{error}");
        drop(first);
        FolderLock::take(folder.path()).expect("free again");
    }

    #[test]
    fn a_note_that_was_left_behind_locks_nobody_out() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(LOCK), "process 1\nof another time, and longer than the new one")
            .expect("written");
        let _held = FolderLock::take(folder.path()).expect("free");
        let note = std::fs::read_to_string(folder.path().join(LOCK)).expect("there");
        assert_eq!(note, format!("process {}\n", std::process::id()));
    }

    #[test]
    fn a_note_that_says_nothing_is_no_reason_for_another_error() {
        for bytes in [&b""[..], b"\xff\xff", b"process", b"process -1"] {
            let folder = tempfile::tempdir().expect("a folder");
            let _held = FolderLock::take(folder.path()).expect("free");
            std::fs::write(folder.path().join(LOCK), bytes).expect("written");
            let error = FolderLock::take(folder.path()).expect_err("held").to_string();
            assert!(error.contains("in use by another process"), "{error}");
        }
    }
}
