//! Files that are read again when they change, and keep their last good state.

use api::Diagnostic;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that changed less than this ago may still be in the middle of being written, unless it looks as it did at the
/// last look.
const STILL_FOR: Duration = Duration::from_millis(900);
/// Most files of a folder.
const FILES_MAX: usize = 1_000;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Its name, as a person would say it.
    pub file: String,
    /// What is in it.
    pub text: String,
}

/// Tells whether a file has changed: time, inode, size, name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Print(Vec<(PathBuf, SystemTime, u64, u64)>);

/// What a look at the files brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing has changed, or something is about to.
    Same,
    /// They were read.
    Read(Vec<Text>),
    /// They could not be read; told once.
    Unreadable(Diagnostic),
}

/// A file, or a folder with `*.yaml` and `*.yml` files.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    /// As it was read last.
    read: Option<Print>,
    /// As it was at the last look.
    seen: Option<Print>,
    unreadable: bool,
}

impl Watched {
    /// Watches a file or a folder, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: None, seen: None, unreadable: false }
    }

    /// Looks whether something has changed, and reads it. The first look reads at once.
    pub fn look(&mut self) -> Look {
        match self.try_look() {
            Ok(look) => {
                if look != Look::Same {
                    self.unreadable = false;
                }
                look
            }
            Err(_) if self.unreadable => Look::Same,
            Err(error) => {
                self.unreadable = true;
                self.read = None;
                self.seen = None;
                let said = format!("the file cannot be read: {error}");
                let help = "what was read from it before stays in force";
                Look::Unreadable(Diagnostic::of_file(&self.path.display().to_string(), said).help(help))
            }
        }
    }

    fn try_look(&mut self) -> io::Result<Look> {
        let print = print(&self.path)?;
        let seen = self.seen.replace(print.clone());
        if self.read.as_ref() == Some(&print) {
            return Ok(Look::Same);
        }
        let still = seen.as_ref() == Some(&print) || print.is_still();
        if !still && self.read.is_some() {
            return Ok(Look::Same);
        }
        let mut texts = Vec::new();
        for (path, ..) in &print.0 {
            let text = runtime::file::read_text(path, api::yaml::FILE_MAX).map_err(io::Error::other)?;
            texts.push(Text { file: path.display().to_string(), text });
        }
        self.read = Some(print);
        Ok(Look::Read(texts))
    }
}

impl Print {
    fn is_still(&self) -> bool {
        let now = SystemTime::now();
        // A time in the future is one of another clock, and says nothing.
        self.0.iter().all(|(_, changed, ..)| now.duration_since(*changed).is_ok_and(|age| age >= STILL_FOR))
    }
}

fn print(path: &Path) -> io::Result<Print> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(Print(vec![one(path.to_owned(), &metadata)?]));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !is_yaml || hidden {
            continue;
        }
        if files.len() >= FILES_MAX {
            return Err(io::Error::other(format!("the folder has more than {FILES_MAX} files")));
        }
        let metadata = std::fs::metadata(&path)?;
        files.push(one(path, &metadata)?);
    }
    files.sort();
    Ok(Print(files))
}

fn one(path: PathBuf, metadata: &std::fs::Metadata) -> io::Result<(PathBuf, SystemTime, u64, u64)> {
    Ok((path, metadata.modified()?, metadata.ino(), metadata.len()))
}

/// State of a watched file: the last good content, and what is wrong with the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState<T> {
    /// The last good content; none: there was none yet.
    pub good: Option<T>,
    /// Why the present content is not in force.
    pub problem: Option<Diagnostic>,
}

impl<T> Default for FileState<T> {
    fn default() -> Self {
        Self { good: None, problem: None }
    }
}

impl<T: fmt::Debug> FileState<T> {
    /// Takes the result of reading the present content.
    fn take(&mut self, read: Result<T, Diagnostic>) {
        match read {
            Ok(good) => *self = Self { good: Some(good), problem: None },
            Err(problem) => self.problem = Some(problem),
        }
    }
}

/// Watches a file until `shutdown`, and tells each state. `read` makes the content from the texts.
pub async fn follow<T, R>(
    path: PathBuf,
    read: R,
    states: watch::Sender<FileState<T>>,
    shutdown: CancellationToken,
) where
    T: fmt::Debug + Send + Sync + 'static,
    R: Fn(&[Text]) -> Result<T, Diagnostic> + Send + 'static,
{
    let mut watched = Watched::new(path);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut read = read;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        // Reading and parsing some megabytes would hold up everything else.
        let work = tokio::task::spawn_blocking(move || {
            let look = watched.look();
            let result = match look {
                Look::Same => None,
                Look::Read(texts) => Some(read(&texts)),
                Look::Unreadable(problem) => Some(Err(problem)),
            };
            (watched, read, result)
        });
        let Ok((back, reader, result)) = work.await else { return };
        (watched, read) = (back, reader);
        let Some(result) = result else { continue };
        match &result {
            Ok(_) => info!(path = %watched.path.display(), "read"),
            Err(problem) => warn!("{problem}\n  the last good state stays in force"),
        }
        states.send_modify(|state| state.take(result));
    }
}

#[cfg(test)]
mod tests;
