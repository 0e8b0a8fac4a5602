//! Carrying out the steps of a setup.

use super::{Setup, Step};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a step of a setup failed. Earlier steps stay; `revert` takes them back, and a second attempt repeats them.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A program is not installed.
    #[error("`{program}` is not installed: {}", install(program))]
    Missing {
        /// Its name.
        program: String,
    },
    /// The user may not do this.
    #[error("{step}: this needs root; run it again with sudo")]
    NotRoot {
        /// What was to be done.
        step: String,
    },
    /// A program said no.
    #[error("{step}: {said}")]
    Failed {
        /// What was to be done.
        step: String,
        /// What it said, cut to 500 characters.
        said: String,
    },
    /// A file could not be written or removed.
    #[error("{step}")]
    File {
        /// What was to be done.
        step: String,
        /// What the system said.
        source: io::Error,
    },
}

fn install(program: &str) -> &'static str {
    match program {
        "nft" => "install it (`apt install nftables`, `dnf install nftables`), then run this again",
        _ => "install it, then run this again",
    }
}

impl Setup {
    /// Makes the changes of [`Setup::plan`], and says each step before it is done. May be called again.
    ///
    /// # Errors
    /// The first step that failed; those before it stay done.
    pub fn apply(&self, progress: impl FnMut(&Step)) -> Result<(), SetupError> {
        carry_out(&self.plan(), progress)
    }

    /// Takes back what [`Setup::apply`] did. What is not there needs no taking back.
    ///
    /// # Errors
    /// The first step that failed; those before it stay done.
    pub fn revert(&self, progress: impl FnMut(&Step)) -> Result<(), SetupError> {
        carry_out(&self.plan_revert(), progress)
    }
}

fn carry_out(steps: &[Step], mut progress: impl FnMut(&Step)) -> Result<(), SetupError> {
    for step in steps {
        progress(step);
        match step {
            Step::Write { path, text } => write(path, text).map_err(|source| of_file(step, source))?,
            Step::Remove { path } => remove(path).map_err(|source| of_file(step, source))?,
            Step::Run { command, input, may_fail } => match run(step, command, input) {
                Err(_) if *may_fail => {}
                done => done?,
            },
        }
    }
    Ok(())
}

fn of_file(step: &Step, source: io::Error) -> SetupError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => SetupError::NotRoot { step: step.to_string() },
        _ => SetupError::File { step: step.to_string(), source },
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    /// Others may read it: there is no secret in it, and `status` looks whether it is there.
    const MODE: u32 = 0o644;
    let folder: PathBuf = path.parent().map(Path::to_owned).unwrap_or_default();
    std::fs::create_dir_all(folder)?;
    runtime::file::write_atomic(path, text.as_bytes(), MODE).map_err(|error| match kind_of(&error) {
        Some(kind) => io::Error::from(kind),
        None => io::Error::other(error.to_string()),
    })
}

/// The kind of the system's error beneath.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut error = Some(error);
    while let Some(at) = error {
        if let Some(io) = at.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        error = at.source();
    }
    None
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn run(step: &Step, command: &[String], input: &str) -> Result<(), SetupError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let failed = |source| SetupError::File { step: step.to_string(), source };
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SetupError::Missing { program: program.clone() });
        }
        Err(error) => return Err(failed(error)),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why by itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Operation not permitted") || said.contains("must be root") {
        return Err(SetupError::NotRoot { step: step.to_string() });
    }
    let said: String = said.trim().chars().take(500).collect();
    Err(SetupError::Failed { step: step.to_string(), said })
}
