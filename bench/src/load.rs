//! The two loops that send requests.

use crate::http1::{Target, get};
use crate::sample::{Cause, Failure, Outcome, Sample, Stage};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most samples of one run (about 300 MB). A run that reaches it ends by itself.
pub const SAMPLES_MAX: u64 = 4_000_000;
/// Most requests of an open loop that are open at once. At the limit a request fails as
/// [`Cause::Overrun`], which blames the generator.
pub const OPEN_MAX: usize = 20_000;
/// Highest rate of an open loop, per second: beyond it the schedule is finer than the timer can keep.
pub const RATE_MAX: f64 = 100_000.0;

/// A load that cannot be generated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// The rate is not usable.
    #[error("a rate of {0} requests/s cannot be kept: it must be over 0 and at most {RATE_MAX}")]
    Rate(f64),
    /// The number of workers is not usable.
    #[error("{0} workers cannot run: there must be 1 to {OPEN_MAX}")]
    Workers(usize),
}

/// Samples of a run, and its clock.
struct Record {
    start: Instant,
    samples: Mutex<Vec<Sample>>,
    complete: AtomicU64,
    failed: AtomicU64,
}

impl Record {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            samples: Mutex::new(Vec::new()),
            complete: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    fn add(&self, sample: Sample) {
        let counter = if sample.is_complete() { &self.complete } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }

    /// Takes the samples, ordered by index.
    fn take(&self) -> Vec<Sample> {
        let mut samples = std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        samples.sort_by_key(|s| s.index);
        samples
    }
}

/// An open loop that runs: one request each 1/rate seconds, whatever becomes of them.
///
/// Dropping it stops the sending.
#[derive(Debug)]
pub struct OpenLoop {
    record: Arc<Record>,
    sent: watch::Receiver<u64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    rate: f64,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("complete", &self.complete).field("failed", &self.failed).finish()
    }
}

impl OpenLoop {
    /// Starts to send at `rate` requests per second. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`LoadError::Rate`].
    pub fn start(target: Target, rate: f64) -> Result<Self, LoadError> {
        if !(rate > 0.0 && rate <= RATE_MAX) {
            return Err(LoadError::Rate(rate));
        }
        let record = Record::new();
        let stop = CancellationToken::new();
        let (tell, sent) = watch::channel(0);
        let task = tokio::spawn(send_by_schedule(target, rate, Arc::clone(&record), tell, stop.clone()));
        Ok(Self { record, sent, stop, task, rate })
    }

    /// Time since the start, on the clock of the samples.
    pub fn now(&self) -> Duration {
        self.record.start.elapsed()
    }

    /// When the request with this index is due, on the clock of the samples.
    pub fn due(&self, index: u64) -> Duration {
        due(self.rate, index)
    }

    /// Requests begun so far.
    pub fn sent(&self) -> u64 {
        *self.sent.borrow()
    }

    /// Waits until so many requests were begun (since the start).
    pub async fn until_sent(&self, count: u64) {
        // The sender lives as long as the task, which ends only after `stop` or at the limit of samples.
        let _ = self.sent.clone().wait_for(|sent| *sent >= count).await;
    }

    /// Complete and failed requests so far, for progress.
    pub fn counts(&self) -> (u64, u64) {
        (self.record.complete.load(Ordering::Relaxed), self.record.failed.load(Ordering::Relaxed))
    }

    /// Stops sending, waits for what is open, and returns all samples ordered by index.
    pub async fn finish(mut self) -> Vec<Sample> {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        self.record.take()
    }
}

impl Drop for OpenLoop {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn due(rate: f64, index: u64) -> Duration {
    // `as`: indices stay far below 2^53.
    Duration::from_secs_f64(index as f64 / rate)
}

/// Idle connections of an open loop with keepalive; at most [`OPEN_MAX`], since each was open in a request.
type Idle = Arc<Mutex<Vec<TcpStream>>>;

async fn send_by_schedule(
    target: Target,
    rate: f64,
    record: Arc<Record>,
    tell: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let target = Arc::new(target);
    let slots = Arc::new(Semaphore::new(OPEN_MAX));
    let idle: Idle = Arc::default();
    let mut open = JoinSet::new();
    for index in 0..SAMPLES_MAX {
        let due = due(rate, index);
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(record.start + due) => {}
        }
        // Finished tasks are taken out as we go, so the set stays as small as what is open.
        while open.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            let at = record.start.elapsed();
            let outcome = Outcome::Failed(Failure { stage: Stage::Connect, cause: Cause::Overrun });
            record.add(Sample { index, due, started: at, ended: at, outcome });
            tell.send_replace(index + 1);
            continue;
        };
        let (target, record, idle) = (Arc::clone(&target), Arc::clone(&record), Arc::clone(&idle));
        open.spawn(async move {
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let (sample, connection) = request(&target, connection, &record, index, Some(due)).await;
            record.add(sample);
            if let Some(connection) = connection {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            drop(slot);
        });
        tell.send_replace(index + 1);
    }
    while open.join_next().await.is_some() {}
}

async fn request(
    target: &Target,
    connection: Option<TcpStream>,
    record: &Record,
    index: u64,
    due: Option<Duration>,
) -> (Sample, Option<TcpStream>) {
    let started = record.start.elapsed();
    let (outcome, connection) = match get(target, connection).await {
        Ok((answer, connection)) => (Outcome::Complete { site: answer.site }, connection),
        Err(failure) => (Outcome::Failed(failure), None),
    };
    let ended = record.start.elapsed();
    (Sample { index, due: due.unwrap_or(started), started, ended, outcome }, connection)
}

/// Runs a closed loop: `workers` of them, each sending its next request when its last one has ended, until the
/// time is up or `stop` is called. What is open at the end is finished and counted.
///
/// # Errors
/// [`LoadError::Workers`].
pub async fn closed_loop(
    target: Target,
    workers: usize,
    duration: Duration,
    stop: CancellationToken,
) -> Result<Vec<Sample>, LoadError> {
    if workers == 0 || workers > OPEN_MAX {
        return Err(LoadError::Workers(workers));
    }
    let record = Record::new();
    let target = Arc::new(target);
    let next = Arc::new(AtomicU64::new(0));
    let until = record.start + duration;
    let mut set = JoinSet::new();
    for _ in 0..workers {
        let (target, record, next, stop) =
            (Arc::clone(&target), Arc::clone(&record), Arc::clone(&next), stop.clone());
        set.spawn(async move {
            let mut connection = None;
            while Instant::now() < until && !stop.is_cancelled() {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= SAMPLES_MAX {
                    return;
                }
                let (sample, kept) = request(&target, connection, &record, index, None).await;
                connection = kept;
                // A server that refuses at once must not turn the loop into a busy one.
                let pause = !sample.is_complete();
                record.add(sample);
                if pause {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    while set.join_next().await.is_some() {}
    Ok(record.take())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::{Identity, serve};
    use tokio::net::TcpListener;

    async fn echo() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let identity = Identity { site: "west".into(), instance: "w".into() };
        tokio::spawn(serve(listener, identity, CancellationToken::new()));
        Target::new(address)
    }

    #[tokio::test]
    async fn an_open_loop_keeps_its_schedule() {
        let run = OpenLoop::start(echo().await, 500.0).expect("a good rate");
        run.until_sent(100).await;
        assert_eq!(run.due(100), Duration::from_millis(200));
        assert!(run.now() >= run.due(99));
        let samples = run.finish().await;
        assert!(samples.len() >= 100);
        for (index, sample) in samples.iter().enumerate() {
            assert_eq!(sample.index, index as u64);
            assert!(sample.started >= sample.due);
            assert_eq!(sample.outcome, Outcome::Complete { site: Arc::from("west") });
        }
    }

    #[tokio::test]
    async fn a_slow_server_does_not_slow_the_schedule() {
        let target = Target { path: "/delay/300".into(), ..echo().await };
        let run = OpenLoop::start(target, 100.0).expect("a good rate");
        run.until_sent(20).await;
        let (complete, failed) = run.counts();
        assert!(complete < 20, "{complete} of 20 were complete although each takes longer than the schedule");
        assert_eq!(failed, 0);
        let samples = run.finish().await;
        assert!(samples.iter().all(|s| s.is_complete() && s.latency() >= Duration::from_millis(300)));
    }

    #[tokio::test]
    async fn a_failed_request_is_counted_and_not_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let target = Target::new(listener.local_addr().expect("bound"));
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                drop(stream);
            }
        });
        let run = OpenLoop::start(target, 1000.0).expect("a good rate");
        run.until_sent(30).await;
        let samples = run.finish().await;
        assert!(samples.iter().all(|s| !s.is_complete()));
        assert_eq!(taken.load(Ordering::Relaxed), samples.len() as u64);
    }

    #[tokio::test]
    async fn a_closed_loop_has_no_more_open_than_workers() {
        let target = Target { keepalive: true, ..echo().await };
        let stop = CancellationToken::new();
        let samples = closed_loop(target, 3, Duration::from_millis(300), stop).await.expect("good workers");
        assert!(samples.len() > 10);
        for sample in &samples {
            let open =
                samples.iter().filter(|s| s.started <= sample.started && sample.started < s.ended).count();
            assert!(open <= 3, "{open} were open at once");
        }
    }

    #[tokio::test]
    async fn a_load_that_cannot_be_kept_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(OpenLoop::start(Target::new(([127, 0, 0, 1], 1).into()), rate).is_err(), "{rate}");
        }
        let target = Target::new(([127, 0, 0, 1], 1).into());
        let none = closed_loop(target, 0, Duration::from_secs(1), CancellationToken::new()).await;
        assert_eq!(none, Err(LoadError::Workers(0)));
    }
}
