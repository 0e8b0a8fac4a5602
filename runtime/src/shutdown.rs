//! Leaving: who says so, and how long it may take.

use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

/// One word for "this process is leaving". Clones share it.
///
/// It can be said by a signal ([`Shutdown::on_signals`]) or by code ([`Shutdown::begin`]), and is never taken back.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Builds one that only [`Shutdown::begin`] begins: for tests, and for parts that run inside another process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds one that the first SIGTERM or SIGINT begins. The second such signal ends the process at once, with
    /// exit code 128 plus the signal's number, as a shell would report it.
    ///
    /// Must be called within a tokio runtime; the signals are caught from then on.
    ///
    /// # Errors
    /// The handlers could not be installed.
    pub fn on_signals() -> io::Result<Self> {
        let mut signals = Signals::install()?;
        let shutdown = Self::new();
        let token = shutdown.token.clone();
        tokio::spawn(async move {
            let (name, _) = signals.next().await;
            info!(signal = name, "shutdown begins; the same signal again ends it at once");
            token.cancel();
            let (name, number) = signals.next().await;
            warn!(signal = name, "second signal: ending at once");
            std::process::exit(128 + number);
        });
        Ok(shutdown)
    }

    /// Says that the process leaves.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it was said.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it is said.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The token behind it, for `select!` and for APIs that take one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// A word for a part of the process: it begins with this one, and can begin alone.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        }
    }
}

/// Tasks that a process waits for when it leaves, and cuts off when they take too long. Clones share them.
///
/// A task that ends leaves nothing behind, so the set does not grow with time.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl Tasks {
    /// Builds an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task until it ends or [`Tasks::finish`] cuts it off.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = task => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until all have ended, at most for `limit`, then cuts off the rest and says how many those were.
    pub async fn finish(&self, limit: Duration) -> usize {
        self.tracker.close();
        if drain_within(limit, self.tracker.wait()).await {
            return 0;
        }
        let left = self.tracker.len();
        debug!(left, ?limit, "drain timeout: cutting off what still runs");
        self.cut.cancel();
        self.tracker.wait().await;
        left
    }
}

/// Waits for `work`, at most for `limit`. Answers whether it came to its end.
pub async fn drain_within<F: Future>(limit: Duration, work: F) -> bool {
    tokio::time::timeout(limit, work).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_begins_with_its_parent_and_alone() {
        let parent = Shutdown::new();
        let (one, two) = (parent.child(), parent.child());
        one.begin();
        assert!(one.has_begun() && !two.has_begun() && !parent.has_begun());
        parent.begin();
        two.begun().await;
    }

    #[tokio::test]
    async fn tasks_that_end_are_waited_for_and_others_are_cut_off() {
        let tasks = Tasks::new();
        tasks.spawn(async {});
        assert_eq!(tasks.finish(Duration::from_secs(30)).await, 0);

        let tasks = Tasks::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async {});
        assert_eq!(tasks.finish(Duration::from_millis(200)).await, 1);
        assert_eq!(tasks.running(), 0);
    }

    fn signal(process: u32) {
        let status = std::process::Command::new("kill").args(["-TERM", &process.to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// What [`the_second_signal_ends_the_process_at_once`] starts; does nothing when it is not started by it.
    #[tokio::test]
    async fn a_process_that_never_leaves() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let shutdown = Shutdown::on_signals().expect("handlers");
        println!("\nready");
        shutdown.begun().await;
        println!("\nleaving");
        std::future::pending().await
    }

    const CHILD: &str = "MESHFED_TEST_NEVER_LEAVES";

    #[test]
    fn the_second_signal_ends_the_process_at_once() {
        use std::io::{BufRead, BufReader};
        let mut child = std::process::Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "shutdown::tests::a_process_that_never_leaves", "--nocapture"])
            .env(CHILD, "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for word in ["ready", "leaving"] {
            assert!(lines.any(|line| line.is_ok_and(|line| line == word)), "it says {word}");
            signal(child.id());
        }
        assert_eq!(child.wait().expect("ends").code(), Some(128 + 15));
    }
}
