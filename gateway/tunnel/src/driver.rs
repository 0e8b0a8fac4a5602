//! The probes of one connection: the shell around `gateway_core::liveness`, one task per connection.
//!
//! Streams report to the core directly, through a lock that is never held across an await; what comes of it, the task
//! carries out.

use crate::connection::{Health, Load, State};
use crate::counters::Tally;
use crate::credit::{Credit, Taken};
use crate::knock::Knocker;
use crate::room::Room;
use crate::unacked::{self, Unacked};
use gateway_core::liveness::{Event, Liveness, ProbeOut, Timers};
use model::ids::StreamId;
use quinn::FrameStats;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often round trip and loss are published.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What the task and the streams of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Liveness>,
    wake: Notify,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) health: watch::Receiver<Health>,
    heard: watch::Receiver<bool>,
    streams: AtomicU32,
    bulk: AtomicU32,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    /// Bytes that came for a stream that was given up.
    bytes_discarded: AtomicU64,
}

/// The ends of the channels that the task holds; receivers see that the connection is over when they are dropped.
struct Senders {
    state: watch::Sender<State>,
    health: watch::Sender<Health>,
    heard: watch::Sender<bool>,
}

/// What the task keeps in line with what its connection carries.
pub(crate) struct Buffers {
    pub(crate) room: Arc<Room>,
    pub(crate) credit: Arc<Credit>,
}

/// Starts the task of a connection whose handshake has just finished.
pub(crate) fn start(
    quic: quinn::Connection,
    timers: Timers,
    buffers: Buffers,
    tally: Arc<Tally>,
    id: u64,
) -> Arc<Shared> {
    let now = Instant::now();
    let rtt = Some(quic.rtt());
    let knocker = Knocker::new(quic.remote_address(), &timers);
    let core = Liveness::new(timers, rtt, fastrand_seed(id, now), now);
    let health = Health { state: core.state(), rtt, loss_permille: 0, peer_draining: false };
    let (state_in, state) = watch::channel(core.state());
    let (health_in, health) = watch::channel(health);
    let (heard_in, heard) = watch::channel(false);
    let shared = Arc::new(Shared {
        core: Mutex::new(core),
        wake: Notify::new(),
        state,
        health,
        heard,
        streams: AtomicU32::new(0),
        bulk: AtomicU32::new(0),
        bytes_sent: AtomicU64::new(0),
        bytes_received: AtomicU64::new(0),
        bytes_discarded: AtomicU64::new(0),
    });
    let senders = Senders { state: state_in, health: health_in, heard: heard_in };
    let driver = Driver {
        shared: Arc::clone(&shared),
        senders,
        knocker,
        unacked: unacked::of(&quic),
        unacked_told: None,
        remote: quic.remote_address(),
        quic,
        buffers,
        tally,
        frames: 0,
        heard_at: now,
        published_at: now,
        id,
    };
    tokio::spawn(driver.run());
    shared
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Liveness> {
        self.core.lock().expect("nobody panics with it")
    }

    /// Tells the core something, and wakes the task when that leaves it something to do earlier than it would.
    fn tell(&self, what: impl FnOnce(&mut Liveness, Instant)) {
        let mut core = self.core();
        let before = core.poll_timeout();
        what(&mut core, Instant::now());
        let after = core.poll_timeout();
        drop(core);
        if before != after {
            self.wake.notify_one();
        }
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            streams: self.streams.load(Ordering::Relaxed),
            bulk: self.bulk.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn stream_opened(&self, stream: StreamId, awaits_answer: bool) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.tell(|core, now| core.handle_stream_opened(stream, awaits_answer, now));
    }

    pub(crate) fn stream_answered(&self, stream: StreamId) {
        self.tell(|core, now| core.handle_stream_answered(stream, now));
    }

    pub(crate) fn stream_closed(&self, stream: StreamId, bulk: bool) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
        if bulk {
            self.bulk.fetch_sub(1, Ordering::Relaxed);
        }
        self.tell(|core, now| core.handle_stream_closed(stream, now));
    }

    pub(crate) fn bulk_began(&self) {
        self.bulk.fetch_add(1, Ordering::Relaxed);
        // More credit is due at once.
        self.wake.notify_one();
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_discarded(&self, bytes: usize) {
        self.bytes_discarded.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of streams that do not lie in the transport any more.
    fn taken(&self) -> u64 {
        self.bytes_received.load(Ordering::Relaxed) + self.bytes_discarded.load(Ordering::Relaxed)
    }

    pub(crate) fn set_draining(&self, draining: bool) {
        self.tell(|core, now| core.handle_draining(draining, now));
        // The probe is due at once, which need not change the time of the next one.
        self.wake.notify_one();
    }

    /// Waits for the first probe of the peer; `false`: the connection is over before that.
    pub(crate) async fn heard(&self) -> bool {
        self.heard.clone().wait_for(|heard| *heard).await.is_ok()
    }
}

/// A seed that differs between connections. It spreads probes in time and protects nothing.
fn fastrand_seed(id: u64, now: Instant) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((id, now))
}

/// All frames that were received, so that any authenticated packet counts as heard.
fn received(frames: &FrameStats) -> u64 {
    [
        frames.acks,
        frames.crypto,
        frames.data_blocked,
        frames.datagram,
        frames.max_data,
        frames.max_stream_data,
        frames.max_streams_bidi,
        frames.new_connection_id,
        frames.path_challenge,
        frames.path_response,
        frames.ping,
        frames.reset_stream,
        frames.retire_connection_id,
        frames.stop_sending,
        frames.stream,
        frames.stream_data_blocked,
        frames.streams_blocked_bidi,
    ]
    .iter()
    .sum()
}

struct Driver {
    quic: quinn::Connection,
    shared: Arc<Shared>,
    senders: Senders,
    knocker: Knocker,
    /// Of the path to `remote`.
    unacked: Option<Arc<Unacked>>,
    unacked_told: Option<Instant>,
    remote: SocketAddr,
    buffers: Buffers,
    tally: Arc<Tally>,
    /// Frames received up to the last look.
    frames: u64,
    heard_at: Instant,
    published_at: Instant,
    id: u64,
}

/// All that can wake the task.
enum Input {
    Time,
    Datagram(bytes::Bytes),
    /// A stream or its user told the core something.
    Told,
    /// The peer's host refused a packet.
    Refused,
    Over,
}

impl Driver {
    async fn run(mut self) {
        loop {
            self.carry_out();
            let next = self.shared.core().poll_timeout().map(|(at, _)| at);
            let input = tokio::select! {
                read = self.quic.read_datagram() => match read {
                    Ok(datagram) => Input::Datagram(datagram),
                    Err(_) => Input::Over,
                },
                () = self.shared.wake.notified() => Input::Told,
                () = self.knocker.refused() => Input::Refused,
                () = sleep_until(next) => Input::Time,
            };
            if !self.take_in(input, Instant::now()) {
                return;
            }
        }
    }

    fn take_in(&mut self, input: Input, now: Instant) -> bool {
        // First what came in, so that a packet is never judged as missing because the timer was read before it.
        let stats = self.quic.stats();
        let frames = received(&stats.frame_rx);
        self.buffers.room.fit(stats.path.cwnd);
        let taken = Taken { bytes: self.shared.taken(), bulk: self.shared.load().bulk > 0 };
        self.buffers.credit.fit(taken, stats.frame_rx.data_blocked, now);
        let unacked = self.unacked.as_ref().and_then(|unacked| unacked.since());
        let mut core = self.shared.core();
        if frames != self.frames {
            self.frames = frames;
            self.heard_at = now;
            core.handle_heard(now);
        }
        // Told once: the core counts on from there by its own rules.
        if unacked != self.unacked_told {
            self.unacked_told = unacked;
            core.handle_unacked(unacked, probe_timeout(self.quic.rtt()), now);
        }
        match input {
            Input::Datagram(datagram) => match wire::probe::decode(&datagram) {
                Ok(probe) => {
                    core.handle_probe(probe, now);
                    self.senders.heard.send_if_modified(|heard| !std::mem::replace(heard, true));
                }
                Err(error) => {
                    self.tally.datagrams_dropped.add(1);
                    tracing::trace!(connection = self.id, %error, "ignored a datagram");
                }
            },
            Input::Time => core.handle_timeout(now),
            Input::Refused => core.handle_refused(now),
            Input::Told => {}
            Input::Over => return false,
        }
        let streams = core.streams();
        drop(core);
        self.knocker.maybe_knock(self.heard_at, streams, now);
        true
    }

    /// Carries out what the core wants.
    fn carry_out(&mut self) {
        loop {
            let mut core = self.shared.core();
            let (probe, event) = (core.poll_transmit(), core.poll_event());
            drop(core);
            if let Some(probe) = probe {
                self.send(probe);
            }
            match event {
                Some(Event::State(state, cause)) => {
                    tracing::debug!(connection = self.id, remote = %self.quic.remote_address(), ?state, %cause, "liveness");
                    self.senders.state.send_replace(state);
                    self.publish();
                }
                Some(Event::PeerDraining(draining)) => {
                    tracing::debug!(connection = self.id, draining, "the peer drains");
                    self.publish();
                }
                Some(Event::LowerMtu) => {
                    // The transport has its own search for the MTU and falls back by itself; it offers no way to be
                    // told.
                    tracing::debug!(connection = self.id, "packets of full size are lost");
                }
                None => break,
            }
        }
        if self.published_at.elapsed() >= PUBLISH_EVERY {
            self.publish();
        }
    }

    fn send(&self, out: ProbeOut) {
        let size = if out.padded { self.quic.max_datagram_size().unwrap_or(0) } else { 0 };
        // A full buffer drops the oldest; a lost connection ends this task by itself.
        let _ = self.quic.send_datagram(wire::probe::encode(&out.probe, size));
    }

    fn publish(&mut self) {
        self.published_at = Instant::now();
        if self.remote != self.quic.remote_address() {
            // The peer has moved, and a new path has a new controller.
            self.remote = self.quic.remote_address();
            self.unacked = unacked::of(&self.quic);
        }
        let core = self.shared.core();
        let health = Health {
            state: core.state(),
            rtt: core.rtt(),
            loss_permille: core.loss().worse_permille(),
            peer_draining: core.peer_draining(),
        };
        drop(core);
        self.senders.health.send_if_modified(|known| std::mem::replace(known, health) != health);
    }
}

/// Roughly the transport's probe timeout, which it does not show: round trip, four times its variation, and the time
/// for which an acknowledgement may be held back (RFC 9002 section 6.2.1).
fn probe_timeout(rtt: Duration) -> Duration {
    rtt * 2 + Duration::from_millis(25)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
