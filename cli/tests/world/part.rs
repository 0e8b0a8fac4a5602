//! One process of a world.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A process. Dropping it kills it, by its own id.
pub struct Part {
    name: String,
    home: PathBuf,
    args: Vec<String>,
    child: Child,
}

impl Part {
    pub fn start(home: &Path, name: &str, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let child = spawn(home, name, &args);
        Self { name: name.to_owned(), home: home.to_owned(), args, child }
    }

    /// The arguments of the next start.
    #[must_use]
    pub fn with_args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// kill -9. When this returns, the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is gone");
    }

    /// Starts it again, after it was killed or has ended.
    pub fn again(&mut self) {
        assert!(self.child.try_wait().expect("can be asked").is_some(), "{} still runs", self.name);
        self.child = spawn(&self.home, &self.name, &self.args);
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("can be asked") {
                return status;
            }
            assert!(
                begin.elapsed() < limit,
                "{} has not ended in {} s\n{}",
                self.name,
                limit.as_secs(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("can be asked").is_none()
    }

    /// Everything that it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join(format!("{}.log", self.name))).unwrap_or_default()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(home: &Path, name: &str, args: &[String]) -> Child {
    let log =
        OpenOptions::new().create(true).append(true).open(home.join(format!("{name}.log"))).expect("a log");
    Command::new(env!("CARGO_BIN_EXE_meshfed"))
        .args(args)
        .arg("--exit-with-parent")
        .current_dir(home)
        .env("HOME", home)
        .env("NO_COLOR", "1")
        .env_remove("MESHFED_CONFIG")
        .env_remove("MESHFED_CONTEXT")
        .env_remove("MESHFED_LOG")
        .env_remove("XDG_CONFIG_HOME")
        // Kept open for as long as this process lives: it ends by itself when we are killed.
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("it starts")
}
