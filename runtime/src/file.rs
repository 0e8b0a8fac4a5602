//! Whole files: written so that a crash leaves the old one or the new one, read with a bound.
//!
//! The calls block; their files are small, so shells may call them where a few milliseconds do not matter, and use
//! `spawn_blocking` elsewhere.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names that are tried for a temporary file. A name is taken only by a process that was killed while it wrote, so
/// each further one needs a further such death.
const NAMES_TRIED: usize = 64;

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
    #[error("cannot write {}: {}", path.display(), Trouble::of(source))]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has the new content, but its folder could not be synced.
    #[error(
        "{} has its new content, but whether it keeps that when the machine dies is not sure: its folder cannot be synced: {}",
        path.display(),
        Trouble::of(source)
    )]
    Unsynced {
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
            Self::TooLong { .. } | Self::Write { .. } | Self::Unsynced { .. } => false,
        }
    }

    /// What to do about it, when the system says what is the matter.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } | Self::Unsynced { source, .. } => {
                Some(Trouble::of(source))
            }
            Self::TooLong { .. } => None,
        }
    }
}

/// An error of the system about a file, in words for whoever has to do something about it.
///
/// Its `Display` says what is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What is the matter.
    pub what: &'static str,
    /// The way out.
    pub next: &'static str,
}

impl Trouble {
    /// The words for an error.
    pub fn of(error: &io::Error) -> Self {
        /// Error number of a disk that fails; it has no kind of its own.
        const EIO: i32 = 5;
        let (what, next) = match error.kind() {
            io::ErrorKind::StorageFull => ("no space is left on its disk", "free some space"),
            io::ErrorKind::QuotaExceeded => {
                ("the disk quota of its owner is used up", "free some space, or raise the quota")
            }
            io::ErrorKind::FileTooLarge => (
                "it may not grow any more",
                "raise the limit on the size of files (`ulimit -f`) of this process",
            ),
            io::ErrorKind::ReadOnlyFilesystem => (
                "its file system is read-only",
                "mount it writable; a kernel makes it read-only when the disk fails, which `dmesg` then says",
            ),
            io::ErrorKind::PermissionDenied => {
                ("this user may not do that", "give the file and its folder to the user that runs this")
            }
            io::ErrorKind::NotFound => ("it, or its folder, is not there", "put it back"),
            _ if error.raw_os_error() == Some(EIO) => {
                ("its disk gives I/O errors", "see `dmesg`; replace the disk, and restore a backup")
            }
            _ => ("the system refuses it", "see the log of the system"),
        };
        Self { what, next }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

/// Replaces a file, or makes it: into a temporary file in the same folder, synced, then renamed. A reader sees the
/// old content or the new, also after a crash. Temporary files of writers that were killed are removed.
///
/// # Errors
/// The folder is missing or not writable, or the disk is full: the old file is then untouched. Or the folder cannot be
/// synced ([`FileError::Unsynced`]): the file then has its new content.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    remove_abandoned(path);
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let (temporary, file) = make_temporary(path, mode).map_err(failed)?;
    let written = fill(file, bytes, mode).and_then(|_kept| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The error that counts is the first one.
        let _ = fs::remove_file(&temporary);
        return Err(failed(source));
    }
    sync_folder(path)
}

/// Makes a file as [`write_atomic`] does, where there is none; answers whether it did. One that is there stays.
///
/// # Errors
/// As [`write_atomic`].
pub fn create_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, FileError> {
    remove_abandoned(path);
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let (temporary, file) = make_temporary(path, mode).map_err(failed)?;
    let made = fill(file, bytes, mode).and_then(|_kept| match fs::hard_link(&temporary, path) {
        Ok(()) => Ok(true),
        Err(_) if path.try_exists()? => Ok(false),
        // Some file systems have no second names.
        Err(_) => fs::rename(&temporary, path).map(|()| true),
    });
    let _ = fs::remove_file(&temporary);
    let made = made.map_err(failed)?;
    sync_folder(path)?;
    Ok(made)
}

/// Answers the file, which holds the lock that marks it as in use.
fn fill(mut file: File, bytes: &[u8], mode: u32) -> io::Result<File> {
    // The mode given to `open` is cut by the umask; this one is not.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Makes sure that a name that was just made in the folder of `path` is there after a crash: a rename lies in the
/// folder, which is synced on its own.
///
/// # Errors
/// [`FileError::Unsynced`].
pub fn sync_folder(path: &Path) -> Result<(), FileError> {
    let synced = File::open(folder(path)).and_then(|folder| folder.sync_all());
    synced.map_err(|source| FileError::Unsynced { path: path.to_owned(), source })
}

/// Makes a temporary file in the folder of `path`, under a name that nobody else uses. It is locked as long as it is
/// open, and so it can be told from one whose writer was killed, also by a process that sees other process ids.
fn make_temporary(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..NAMES_TRIED {
        let temporary = temporary(path);
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary) {
            // Someone who removes abandoned files may have come between; then it is another name's turn. Where locks
            // are not supported nothing is removed either.
            Ok(file) => match file.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                Ok(()) | Err(TryLockError::Error(_)) => {
                    if file.metadata()?.nlink() > 0 {
                        return Ok((temporary, file));
                    }
                }
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

/// Removes temporary files of `path` whose writers are dead. What cannot be removed is left: it is in nobody's way.
pub fn remove_abandoned(path: &Path) {
    let Ok(entries) = fs::read_dir(folder(path)) else { return };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (begin, end) = (format!(".{name}."), ".tmp");
    for entry in entries.flatten() {
        let of = entry.file_name();
        let middle = of.to_str().and_then(|of| of.strip_prefix(&begin)?.strip_suffix(end));
        let is_ours = middle.is_some_and(|middle| {
            middle.split_once('-').is_some_and(|(process, number)| is_number(process) && is_number(number))
        });
        if is_ours
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the same folder that no other writer of this process uses: two writers of one file must not write into
/// each other's.
pub fn temporary(path: &Path) -> PathBuf {
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

    /// In a container every life of a process has the same id.
    #[test]
    fn what_a_killed_writer_left_is_removed_and_is_in_nobodys_way() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("uid");
        // The names that this process takes next: each is taken already.
        let name = temporary(&path);
        let name = name.file_name().and_then(|name| name.to_str()).expect("text");
        let number: u64 =
            name.trim_end_matches(".tmp").rsplit_once('-').expect("a number").1.parse().expect("one");
        // Other tests of this process take numbers too.
        let left = |at: u64| folder.path().join(format!(".uid.{}-{}.tmp", std::process::id(), number + at));
        for at in 0..40 {
            fs::write(left(at), b"half of it").expect("written");
        }
        let other = folder.path().join(".other.1-2.tmp");
        fs::write(&other, b"of another file").expect("written");
        let held = File::create(folder.path().join(".uid.77-0.tmp")).expect("made");
        held.lock().expect("free");
        write_atomic(&path, b"whole", MODE_PUBLIC).expect("written");
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .expect("there")
            .map(|entry| entry.expect("there").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, [".other.1-2.tmp", ".uid.77-0.tmp", "uid"], "a live writer's file is not touched");
        assert_eq!(read(&path, 10).expect("read"), b"whole");
    }

    #[test]
    fn a_name_that_is_taken_is_not_used() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("joined");
        let name = temporary(&path);
        let name = name.file_name().and_then(|name| name.to_str()).expect("text");
        let number: u64 =
            name.trim_end_matches(".tmp").rsplit_once('-').expect("a number").1.parse().expect("one");
        let mut held = Vec::new();
        for at in 0..20 {
            let of = folder.path().join(format!(".joined.{}-{}.tmp", std::process::id(), number + at));
            let file = File::create(of).expect("made");
            file.lock().expect("free");
            held.push(file);
        }
        write_atomic(&path, b"whole", MODE_PUBLIC).expect("another name");
        assert_eq!(read(&path, 10).expect("read"), b"whole");
    }

    #[test]
    fn errors_of_the_system_come_with_the_way_out() {
        for (number, what, next) in [
            (28, "no space is left", "free some"),
            (122, "quota", "raise the quota"),
            (27, "may not grow", "ulimit -f"),
            (30, "read-only", "dmesg"),
            (13, "may not do that", "give the file"),
            (5, "I/O errors", "replace the disk"),
            (24, "refuses", "log of the system"),
        ] {
            let trouble = Trouble::of(&io::Error::from_raw_os_error(number));
            assert!(trouble.what.contains(what) && trouble.next.contains(next), "{number}: {trouble:?}");
        }
    }

    #[test]
    fn of_many_makers_of_one_file_one_makes_it_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("store");
        let made: Vec<u8> = std::thread::scope(|scope| {
            let make = |byte: u8| {
                let path = &path;
                scope.spawn(move || {
                    create_atomic(path, &[byte; 4096], MODE_SECRET).expect("no error").then_some(byte)
                })
            };
            let makers: Vec<_> = (b'a'..b'j').map(make).collect();
            makers.into_iter().filter_map(|maker| maker.join().expect("no panic")).collect()
        });
        assert_eq!(made.len(), 1);
        assert_eq!(read(&path, 4096).expect("read"), [made[0]; 4096]);
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
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
