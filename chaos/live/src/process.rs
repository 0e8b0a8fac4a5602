//! One child process: started, watched, killed, ended, started again.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, ChildStdin, Command};

/// How many lines of its log an error shows.
const TAIL_LINES: usize = 12;
/// Longest part of a log that is read for an error.
const TAIL_BYTES: u64 = 16 * 1024;
/// How long a process may take to stop after SIGSTOP.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// A process that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program cannot be started.
    #[error("{name} cannot be started ({program})")]
    Start {
        /// Name of the process.
        name: String,
        /// Its program.
        program: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Its log cannot be written.
    #[error("the log of {name} cannot be written to {path}")]
    Log {
        /// Name of the process.
        name: String,
        /// Path of its log.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It ended although nobody asked it to.
    #[error("{name} has ended by itself ({status}); the end of its log {path}:\n{tail}")]
    Ended {
        /// Name of the process.
        name: String,
        /// How it ended.
        status: String,
        /// Path of its log.
        path: String,
        /// Last lines of its log.
        tail: String,
    },
    /// The operating system would not say or do something about it.
    #[error("{name} cannot be controlled")]
    Control {
        /// Name of the process.
        name: String,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name, for people.
    pub name: String,
    /// Program.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment, beside that of this process.
    pub env: Vec<(String, String)>,
    /// File to which its output is appended.
    pub log: PathBuf,
    /// It ends by itself when its standard input is closed (`--exit-with-parent`).
    pub ends_with_stdin: bool,
}

/// When a process was killed or frozen, as seen from outside: it did its last between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// Just before the signal was sent.
    pub before: Instant,
    /// When the process was known to be gone, or to stand still.
    pub after: Instant,
}

/// A process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    child: Option<Child>,
    /// Kept open: closing it is the word to end.
    stdin: Option<ChildStdin>,
    /// It was killed or ended on purpose, and not started again.
    down: bool,
}

impl Process {
    /// Starts a process in a group of its own, so that a Ctrl-C on the terminal is for this process alone.
    ///
    /// # Errors
    /// [`ProcessError::Start`], [`ProcessError::Log`].
    pub fn start(spec: Spec) -> Result<Self, ProcessError> {
        let mut process = Self { spec, child: None, stdin: None, down: true };
        process.start_again()?;
        Ok(process)
    }

    /// Starts it again, after it has ended or was killed. Does nothing while it runs.
    ///
    /// # Errors
    /// [`ProcessError::Start`], [`ProcessError::Log`].
    pub fn start_again(&mut self) -> Result<(), ProcessError> {
        if self.child.is_some() {
            return Ok(());
        }
        let name = || self.spec.name.clone();
        let log_error =
            |source| ProcessError::Log { name: name(), path: self.spec.log.display().to_string(), source };
        let log = OpenOptions::new().create(true).append(true).open(&self.spec.log).map_err(log_error)?;
        let errors = log.try_clone().map_err(log_error)?;
        let stdin = if self.spec.ends_with_stdin { Stdio::piped() } else { Stdio::null() };
        let mut child = Command::new(&self.spec.program)
            .args(&self.spec.args)
            .envs(self.spec.env.iter().cloned())
            .stdin(stdin)
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| {
                let program = self.spec.program.display().to_string();
                ProcessError::Start { name: name(), program, source }
            })?;
        self.stdin = child.stdin.take();
        self.child = Some(child);
        self.down = false;
        tracing::debug!(name = self.spec.name, pid = self.pid(), "started");
        Ok(())
    }

    /// What was started.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Changes the arguments of the next start.
    pub fn set_args(&mut self, args: Vec<String>) {
        self.spec.args = args;
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// [`ProcessError::Control`].
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait().map_err(|source| self.control(source))?;
        if status.is_some() {
            self.child = None;
            self.stdin = None;
        }
        Ok(status)
    }

    /// Makes sure that it runs, unless it was killed or ended on purpose.
    ///
    /// # Errors
    /// [`ProcessError::Ended`] with the end of its log, when it does not.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        if self.down {
            return Ok(());
        }
        let status = match self.ended()? {
            Some(status) => status.to_string(),
            None if self.child.is_some() => return Ok(()),
            None => "before".to_owned(),
        };
        Err(ProcessError::Ended {
            name: self.spec.name.clone(),
            status,
            path: self.spec.log.display().to_string(),
            tail: self.tail(),
        })
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// [`ProcessError::Control`].
    pub async fn kill(&mut self) -> Result<Killed, ProcessError> {
        let before = Instant::now();
        self.down = true;
        if let Some(mut child) = self.child.take() {
            self.stdin = None;
            child.kill().await.map_err(|source| self.control(source))?;
        }
        tracing::debug!(name = self.spec.name, "killed");
        Ok(Killed { before, after: Instant::now() })
    }

    /// Stops it as SIGSTOP does, and waits until none of its threads runs. It keeps its sockets and its memory, and does
    /// nothing until [`Process::thaw`].
    ///
    /// # Errors
    /// [`ProcessError::Control`]; also when it does not run.
    pub async fn freeze(&mut self) -> Result<Killed, ProcessError> {
        let before = Instant::now();
        let id = self.signal(Signal::STOP)?;
        while !is_stopped(id).map_err(|source| self.control(source))? {
            if before.elapsed() > FREEZE_LIMIT {
                return Err(self.control(std::io::ErrorKind::TimedOut.into()));
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(Killed { before, after: Instant::now() })
    }

    /// Lets it go on after [`Process::freeze`].
    ///
    /// # Errors
    /// [`ProcessError::Control`]; also when it does not run.
    pub fn thaw(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT).map(drop)
    }

    fn signal(&self, signal: Signal) -> Result<Pid, ProcessError> {
        let id = self.pid().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let id = id.ok_or_else(|| self.control(std::io::ErrorKind::NotFound.into()))?;
        kill_process(id, signal).map_err(|error| self.control(error.into()))?;
        Ok(id)
    }

    /// Asks it to end, waits at most `limit`, then kills it. A process that does not watch its standard input is
    /// killed at once. Answers whether it ended by itself.
    ///
    /// # Errors
    /// [`ProcessError::Control`].
    pub async fn end(&mut self, limit: Duration) -> Result<bool, ProcessError> {
        self.down = true;
        let Some(child) = &mut self.child else { return Ok(true) };
        self.stdin = None;
        if self.spec.ends_with_stdin
            && let Ok(waited) = tokio::time::timeout(limit, child.wait()).await
        {
            waited.map_err(|source| self.control(source))?;
            self.child = None;
            return Ok(true);
        }
        self.kill().await?;
        Ok(false)
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        use std::io::{Read, Seek, SeekFrom};
        let read = || -> std::io::Result<String> {
            let mut file = std::fs::File::open(&self.spec.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        if lines.is_empty() { "(it is empty)".to_owned() } else { lines[from..].join("\n") }
    }

    fn control(&self, source: std::io::Error) -> ProcessError {
        ProcessError::Control { name: self.spec.name.clone(), source }
    }
}

/// Whether every thread of a process is stopped.
fn is_stopped(id: Pid) -> std::io::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        // The name in parentheses may hold anything; the state follows it.
        if !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(directory: &tempfile::TempDir, script: &str, ends_with_stdin: bool) -> Spec {
        Spec {
            name: "a shell".into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("GREETING".into(), "hello".into())],
            log: directory.path().join("sh.log"),
            ends_with_stdin,
        }
    }

    async fn log_has(process: &Process, text: &str) {
        let begin = Instant::now();
        while !process.tail().contains(text) {
            assert!(begin.elapsed() < Duration::from_secs(20), "no `{text}` in the log: {}", process.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_by_itself_is_found_with_its_log() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut process = Process::start(shell(&directory, "echo $GREETING; exit 3", false)).expect("starts");
        log_has(&process, "hello").await;
        let begin = Instant::now();
        let error = loop {
            if let Err(error) = process.check() {
                break error.to_string();
            }
            assert!(begin.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(error.contains("exit status: 3") && error.contains("hello"), "{error}");
    }

    #[tokio::test]
    async fn a_killed_process_is_gone_and_starts_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut process =
            Process::start(shell(&directory, "echo up $$; exec sleep 60", false)).expect("starts");
        let first = process.pid().expect("runs");
        let killed = process.kill().await.expect("can be killed");
        assert!(killed.before <= killed.after && process.pid().is_none());
        assert!(!std::path::Path::new(&format!("/proc/{first}")).exists());
        process.start_again().expect("starts");
        assert_ne!(process.pid().expect("runs"), first);
        process.check().expect("runs");
        assert!(!process.end(Duration::from_secs(20)).await.expect("can be ended"));
    }

    #[tokio::test]
    async fn a_frozen_process_does_nothing_until_it_is_thawed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
        let mut process = Process::start(shell(&directory, script, false)).expect("starts");
        log_has(&process, "3").await;
        process.freeze().await.expect("it can be frozen");
        let log = std::fs::metadata(&process.spec().log).expect("a log").len();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(std::fs::metadata(&process.spec().log).expect("a log").len(), log);
        process.check().expect("it has not ended");
        process.thaw().expect("it can be thawed");
        let begin = Instant::now();
        while std::fs::metadata(&process.spec().log).expect("a log").len() == log {
            assert!(begin.elapsed() < Duration::from_secs(20), "it does not go on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process.freeze().await.expect("it can be frozen");
        process.kill().await.expect("a frozen one can be killed");
        assert!(process.thaw().is_err(), "there is nothing to thaw");
    }

    #[tokio::test]
    async fn a_process_that_watches_its_input_ends_by_itself() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut process =
            Process::start(shell(&directory, "cat > /dev/null; echo bye", true)).expect("starts");
        assert!(process.end(Duration::from_secs(20)).await.expect("can be ended"));
        assert!(process.tail().contains("bye"));
    }

    #[tokio::test]
    async fn a_dropped_process_is_killed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let process = Process::start(shell(&directory, "exec sleep 60", false)).expect("starts");
        let path = format!("/proc/{}/stat", process.pid().expect("runs"));
        drop(process);
        let begin = Instant::now();
        // Until it is reaped it is there as a zombie, which runs nothing.
        while std::fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(begin.elapsed() < Duration::from_secs(20), "still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let spec = Spec { program: "/nowhere/meshfed".into(), ..shell(&directory, "", false) };
        let error = Process::start(spec).expect_err("not there").to_string();
        assert_eq!(error, "a shell cannot be started (/nowhere/meshfed)");
    }
}
