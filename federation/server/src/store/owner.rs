//! A note beside the store that says which process has it, for the error that another one gets.

use std::path::{Path, PathBuf};

/// The note; removed when the store is closed. After a crash it stays, and says what was; the lock itself is the
/// kernel's, so a note that was left behind locks nobody out.
#[derive(Debug)]
pub struct OwnerFile {
    path: PathBuf,
}

fn path_of(store: &Path) -> PathBuf {
    store.with_extension("owner")
}

impl OwnerFile {
    /// Writes the note. A failure is not one of the store's.
    pub fn claim(store: &Path) -> Self {
        let path = path_of(store);
        let note = format!("process {}", std::process::id());
        let _ = runtime::file::write_atomic(&path, note.as_bytes(), runtime::file::MODE_PUBLIC);
        Self { path }
    }
}

impl Drop for OwnerFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Who holds the store, in words.
pub fn holder(store: &Path) -> String {
    match runtime::file::read_text(&path_of(store), 100) {
        Ok(note) if note.starts_with("process ") => {
            let process = note.trim_start_matches("process ").trim();
            let command = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            match command.trim() {
                "" => note.trim().to_owned(),
                command => format!("process {process} ({command})"),
            }
        }
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}
