//! The narrow place of a way: a rate and a queue, both ways. The relay behind it has neither.

use crate::Fallible;
use socket2::SockRef;
use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How exactly a datagram leaves at its time.
const TICK: Duration = Duration::from_micros(200);
/// Enough for what arrives while the thread is not scheduled.
const BUFFER: usize = 4 << 20;

/// What a narrow place lets through.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Of UDP payload.
    pub bits_per_second: u64,
    /// What would wait longer is dropped.
    pub queue: Duration,
}

/// Runs until it is dropped.
pub struct Narrow {
    /// Where it listens, one for each target.
    pub addresses: Vec<SocketAddr>,
    counted: Arc<Counted>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Bytes towards the targets.
#[derive(Default)]
struct Counted {
    offered: AtomicU64,
    dropped: AtomicU64,
}

/// A way through the narrow place: of one source to one target, and back.
struct Lane {
    front: UdpSocket,
    back: UdpSocket,
    source: Option<SocketAddr>,
}

impl Narrow {
    /// Carries datagrams to each of these targets, and back. All share the rate and the queue.
    pub fn start(targets: &[SocketAddr], rate: Rate) -> Fallible<Self> {
        let (mut lanes, mut addresses) = (Vec::new(), Vec::new());
        for target in targets {
            let (front, back) = (socket()?, socket()?);
            back.connect(target)?;
            addresses.push(front.local_addr()?);
            lanes.push(Lane { front, back, source: None });
        }
        let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::<Counted>::default());
        let thread = {
            let (stop, counted) = (Arc::clone(&stop), Arc::clone(&counted));
            std::thread::spawn(move || carry(lanes, rate, &stop, &counted))
        };
        Ok(Self { addresses, counted, stop, thread: Some(thread) })
    }

    /// Bytes towards the targets that came here, and those of them that found the queue full.
    pub fn counted(&self) -> (u64, u64) {
        (self.counted.offered.load(Ordering::Relaxed), self.counted.dropped.load(Ordering::Relaxed))
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn socket() -> Fallible<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    SockRef::from(&socket).set_send_buffer_size(BUFFER)?;
    Ok(socket)
}

fn carry(mut lanes: Vec<Lane>, rate: Rate, stop: &AtomicBool, counted: &Counted) {
    let (mut forth, mut return_way) = (Way::default(), Way::default());
    let mut buffer = vec![0; 65_535];
    while !stop.load(Ordering::Relaxed) {
        for (at, lane) in lanes.iter_mut().enumerate() {
            while let Ok((n, from)) = lane.front.recv_from(&mut buffer) {
                lane.source = Some(from);
                counted.offered.fetch_add(n as u64, Ordering::Relaxed);
                if !forth.take(at, &buffer[..n], rate) {
                    counted.dropped.fetch_add(n as u64, Ordering::Relaxed);
                }
            }
            while let Ok(n) = lane.back.recv(&mut buffer) {
                return_way.take(at, &buffer[..n], rate);
            }
        }
        // Sending fails only where nobody listens any more.
        forth.deliver(|at, bytes| drop(lanes[at].back.send(bytes)));
        return_way.deliver(|at, bytes| {
            if let Some(source) = lanes[at].source {
                drop(lanes[at].front.send_to(bytes, source));
            }
        });
        std::thread::sleep(TICK);
    }
}

#[derive(Default)]
struct Way {
    free_at: Option<Instant>,
    queue: VecDeque<(Instant, usize, Vec<u8>)>,
}

impl Way {
    /// Whether the queue had room.
    fn take(&mut self, lane: usize, bytes: &[u8], rate: Rate) -> bool {
        let now = Instant::now();
        let start = self.free_at.map_or(now, |free| free.max(now));
        if start - now > rate.queue {
            return false;
        }
        let done = start + Duration::from_secs_f64(bytes.len() as f64 * 8.0 / rate.bits_per_second as f64);
        self.free_at = Some(done);
        self.queue.push_back((done, lane, bytes.to_vec()));
        true
    }

    fn deliver(&mut self, send: impl Fn(usize, &[u8])) {
        let now = Instant::now();
        while self.queue.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, lane, bytes)) = self.queue.pop_front() {
                send(lane, &bytes);
            }
        }
    }
}
