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
    /// Where it listens.
    pub address: SocketAddr,
    dropped: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Narrow {
    /// Carries datagrams of one source to `target`, and back.
    pub fn start(target: SocketAddr, rate: Rate) -> Fallible<Self> {
        let front = socket()?;
        let back = socket()?;
        back.connect(target)?;
        let address = front.local_addr()?;
        let (stop, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, dropped) = (Arc::clone(&stop), Arc::clone(&dropped));
            std::thread::spawn(move || carry(&front, &back, rate, &stop, &dropped))
        };
        Ok(Self { address, dropped, stop, thread: Some(thread) })
    }

    /// Datagrams that found the queue full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
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

fn carry(front: &UdpSocket, back: &UdpSocket, rate: Rate, stop: &AtomicBool, dropped: &AtomicU64) {
    let (mut forth, mut return_way) = (Way::default(), Way::default());
    let mut buffer = vec![0; 65_535];
    let mut source = None;
    while !stop.load(Ordering::Relaxed) {
        while let Ok((n, from)) = front.recv_from(&mut buffer) {
            source = Some(from);
            forth.take(&buffer[..n], rate, dropped);
        }
        while let Ok(n) = back.recv(&mut buffer) {
            return_way.take(&buffer[..n], rate, dropped);
        }
        // Sending fails only where nobody listens any more.
        forth.deliver(|bytes| drop(back.send(bytes)));
        if let Some(source) = source {
            return_way.deliver(|bytes| drop(front.send_to(bytes, source)));
        }
        std::thread::sleep(TICK);
    }
}

#[derive(Default)]
struct Way {
    free_at: Option<Instant>,
    queue: VecDeque<(Instant, Vec<u8>)>,
}

impl Way {
    fn take(&mut self, bytes: &[u8], rate: Rate, dropped: &AtomicU64) {
        let now = Instant::now();
        let start = self.free_at.map_or(now, |free| free.max(now));
        if start - now > rate.queue {
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let done = start + Duration::from_secs_f64(bytes.len() as f64 * 8.0 / rate.bits_per_second as f64);
        self.free_at = Some(done);
        self.queue.push_back((done, bytes.to_vec()));
    }

    fn deliver(&mut self, send: impl Fn(&[u8])) {
        let now = Instant::now();
        while self.queue.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, bytes)) = self.queue.pop_front() {
                send(&bytes);
            }
        }
    }
}
