//! Whole files: written so that a crash leaves the old one or the new one, read with a bound.
//!
//! The calls block; their files are small, so shells may call them where a few milliseconds do not matter, and use
//! `spawn_blocking` elsewhere.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Mode of files that only their owner may read: keys, tokens.
pub const MODE_SECRET: u32 = 0o600;
/// Mode of files that everybody may read.
pub const MODE_PUBLIC: u32 = 0o644;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is longer than what is meant to be there.
    #[error("{} is longer than {max} bytes, so it is not what it should be", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// The bound.
        max: usize,
    },
    /// It could not be written; the file of that name, if any, is as it was.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    /// Whether the file is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::TooLong { .. } | Self::Write { .. } => false,
        }
    }
}

/// Replaces a file, or makes it: into a temporary file in the same folder, synced, then renamed. A reader sees the
/// old content or the new, also after a crash.
///
/// # Errors
/// The folder is missing or not writable, or the disk is full. The old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary(path);
    let written = replace(path, &temporary, bytes, mode);
    if written.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    // The mode given to `open` is cut by the umask; this one is not.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The rename lies in the folder, which is synced on its own.
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the same folder that nobody else uses: two writers of one file must not write into each other's.
fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder(path).join(format!(".{name}.{}-{number}.tmp", std::process::id()))
}

/// Reads a whole file of at most `max` bytes.
///
/// # Errors
/// The file is missing ([`FileError::is_missing`]), unreadable or longer.
pub fn read(path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(FileError::TooLong { path: path.to_owned(), max });
    }
    Ok(bytes)
}

/// Reads a whole text file of at most `max` bytes.
///
/// # Errors
/// As [`read`]; also when it is not UTF-8.
pub fn read_text(path: &Path, max: usize) -> Result<String, FileError> {
    String::from_utf8(read(path, max)?).map_err(|_| FileError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"),
    })
}

/// Reads a whole file of at most `max` bytes; none when it is not there.
///
/// # Errors
/// As [`read`], but for a missing file.
pub fn read_if_present(path: &Path, max: usize) -> Result<Option<Vec<u8>>, FileError> {
    match read(path, max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a folder that only its owner may enter, and those above it; does nothing when it is there.
///
/// # Errors
/// It cannot be made, or something else has its name.
pub fn make_private_folder(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("node.key");
        write_atomic(&path, b"one", MODE_PUBLIC).expect("written");
        write_atomic(&path, b"two", MODE_SECRET).expect("written");
        assert_eq!(read(&path, 3).expect("read"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_state() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("taken");
        fs::create_dir(&path).expect("made");
        let error = write_atomic(&path, b"x", MODE_SECRET).expect_err("a folder has the name");
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
        assert!(write_atomic(&folder.path().join("none/x"), b"x", MODE_SECRET).is_err());
    }

    #[test]
    fn a_file_beyond_the_bound_is_not_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("long");
        write_atomic(&path, b"1234", MODE_PUBLIC).expect("written");
        assert!(matches!(read(&path, 3), Err(FileError::TooLong { max: 3, .. })));
        assert_eq!(read_if_present(&folder.path().join("none"), 3).expect("no error"), None);
        assert!(read(&folder.path().join("none"), 3).expect_err("none").is_missing());
    }

    #[test]
    fn writers_of_one_file_do_not_mix() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("snapshot");
        std::thread::scope(|scope| {
            for byte in b'a'..b'e' {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..8 {
                        write_atomic(path, &[byte; 4096], MODE_PUBLIC).expect("written");
                    }
                });
            }
        });
        let bytes = read(&path, 4096).expect("read");
        assert!(bytes.len() == 4096 && bytes.iter().all(|byte| *byte == bytes[0]));
    }
}
