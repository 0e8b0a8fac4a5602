//! Sends datagrams on when they are due.
//!
//! It is a thread, because timers of tokio are up to two milliseconds late, and a thread that sleeps is not a tenth of one.

use crate::link::{Direction, Link};
use crate::pipe::Pipe;
use crate::shaper::{Passage, Reason, Retime, Verdict};
use crate::socket::{Socket, Train};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of the IPv4 and UDP headers in front of each datagram.
pub const HEADERS: usize = 28;
/// A thread wakes about so much after it should. So a datagram may go so much before it is due.
const EARLY: Duration = Duration::from_micros(50);
/// Datagrams that are sent on before the others may come in.
const BATCH: usize = 64;

/// What is under way to and from one gateway.
#[derive(Debug)]
pub(crate) struct Courier {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    pipe: Pipe<Parcel>,
    stopped: bool,
}

/// A way of a link, as far as it goes through one relay.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) link: Link,
    direction: Direction,
    courier: Arc<Courier>,
    number: usize,
    /// Datagrams that the courier has and has not sent.
    under_way: AtomicUsize,
}

/// Where a datagram leaves the relay.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    pub(crate) socket: Arc<Socket>,
    pub(crate) address: SocketAddr,
}

impl Exit {
    fn send(&self, bytes: &[u8], stride: usize) -> bool {
        self.socket.send(bytes, stride, self.address)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket) && self.address == other.address
    }
}

#[derive(Debug)]
struct Parcel {
    lane: Arc<Lane>,
    exit: Exit,
    bytes: Vec<u8>,
    is_copy: bool,
}

/// Datagrams of a train that go on at once, together.
struct Run<'b> {
    bytes: &'b [u8],
    stride: usize,
    begin: usize,
    end: usize,
}

impl Lane {
    pub(crate) fn new(link: Link, direction: Direction, courier: &Arc<Courier>, number: usize) -> Arc<Self> {
        let under_way = AtomicUsize::new(0);
        let lane = Arc::new(Self { link, direction, courier: Arc::clone(courier), number, under_way });
        lane.link.runs_over(direction, &lane);
        lane
    }

    /// Carries datagrams: drops each, sends it on at once, or gives it to the courier.
    pub(crate) fn carry(self: &Arc<Self>, train: Train<'_>, exit: &Exit) {
        let mut run = Run { bytes: train.bytes, stride: train.stride, begin: 0, end: 0 };
        let together = exit.socket.together(train.stride) * train.stride;
        for datagram in train.datagrams() {
            let at_once =
                self.link.admit(self.direction, datagram.len() + HEADERS, |verdict, now| match verdict {
                    Verdict::Pass { passage, copy: None }
                        if passage.due <= now && self.under_way.load(Ordering::Acquire) == 0 =>
                    {
                        true
                    }
                    Verdict::Pass { passage, copy } => {
                        self.flush(&mut run, exit);
                        self.post(passage, datagram, exit, false);
                        if let Some(copy) = copy {
                            self.post(copy, datagram, exit, true);
                        }
                        false
                    }
                    Verdict::Dropped(reason) => {
                        self.link.dropped(self.direction, reason);
                        false
                    }
                });
            if at_once && datagram.is_empty() {
                self.passes(0, false);
                self.unless(exit.send(datagram, 0), 0, false);
            } else if at_once {
                run.end += datagram.len();
                if run.end - run.begin >= together {
                    self.flush(&mut run, exit);
                }
            } else {
                self.flush(&mut run, exit);
                run.begin += datagram.len();
                run.end = run.begin;
            }
        }
        self.flush(&mut run, exit);
    }

    /// Sends a run, and begins the next behind it.
    fn flush(&self, run: &mut Run<'_>, exit: &Exit) {
        let train = Train { bytes: &run.bytes[run.begin..run.end], stride: run.stride };
        run.begin = run.end;
        if !train.bytes.is_empty() {
            train.datagrams().for_each(|datagram| self.passes(datagram.len(), false));
            let sent = exit.send(train.bytes, train.stride);
            train.datagrams().for_each(|datagram| self.unless(sent, datagram.len(), false));
        }
    }

    fn post(self: &Arc<Self>, passage: Passage, bytes: &[u8], exit: &Exit, is_copy: bool) {
        let parcel = Parcel { lane: Arc::clone(self), exit: exit.clone(), bytes: bytes.to_vec(), is_copy };
        self.under_way.fetch_add(1, Ordering::AcqRel);
        if !self.courier.take(self.number, passage, parcel) {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
            if !is_copy {
                self.link.dropped(self.direction, Reason::Queue);
            }
        }
    }

    /// Counts a datagram before it is sent, so that whoever receives it finds it counted.
    fn passes(&self, length: usize, is_copy: bool) {
        if is_copy { self.link.copied(self.direction) } else { self.link.passed(self.direction, length) }
    }

    /// Takes that back unless it was sent.
    fn unless(&self, sent: bool, length: usize, is_copy: bool) {
        if !sent {
            self.link.refused(self.direction, length, is_copy);
        }
    }

    /// Applies a change of rate to what is under way; answers when the last of what keeps the order is due.
    pub(crate) fn retime(&self, retime: Retime) -> Option<Instant> {
        let last = self.courier.lock().pipe.retime(self.number, retime);
        self.courier.changed.notify_one();
        last
    }
}

impl Courier {
    pub(crate) fn new(lanes: usize) -> Arc<Self> {
        let state = State { pipe: Pipe::new(lanes), stopped: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Starts its thread, which ends at [`Courier::stop`].
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let courier = Arc::clone(self);
        std::thread::Builder::new().name("relay".to_owned()).spawn(move || courier.run())
    }

    /// Forgets what is under way, and takes nothing more.
    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.pipe.clear();
        self.changed.notify_one();
    }

    fn take(&self, lane: usize, passage: Passage, parcel: Parcel) -> bool {
        let mut state = self.lock();
        if state.stopped {
            return false;
        }
        let first = state.pipe.next_due().is_none_or(|due| passage.due < due);
        let taken = state.pipe.push(lane, passage, parcel.bytes.len(), parcel).is_ok();
        drop(state);
        if taken && first {
            self.changed.notify_one();
        }
        taken
    }

    fn run(&self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut buffer = Vec::new();
        let mut state = self.lock();
        while !state.stopped {
            let now = Instant::now();
            let Some(due) = state.pipe.next_due() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if due > now + EARLY {
                let waited = self.changed.wait_timeout(state, due - now);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            while batch.len() < BATCH
                && let Some(parcel) = state.pipe.take(now + EARLY)
            {
                batch.push(parcel);
            }
            drop(state);
            let mut left = batch.as_slice();
            while !left.is_empty() {
                let (now, later) = left.split_at(together(left));
                send(now, &mut buffer);
                left = later;
            }
            batch.clear();
            state = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the first parcels can go in one call: to the same place, of the same length, and a last one of less.
fn together(parcels: &[Parcel]) -> usize {
    let Some(Parcel { exit, bytes, .. }) = parcels.first() else { return 0 };
    let stride = bytes.len();
    let most = exit.socket.together(stride).min(parcels.len());
    let mut count = 1;
    while count < most {
        let next = &parcels[count];
        if !exit.is(&next.exit) || next.bytes.is_empty() || next.bytes.len() > stride {
            break;
        }
        count += 1;
        if next.bytes.len() < stride {
            break;
        }
    }
    count
}

/// Sends parcels for which [`together`] holds.
fn send(parcels: &[Parcel], buffer: &mut Vec<u8>) {
    let Some(Parcel { exit, bytes, .. }) = parcels.first() else { return };
    parcels.iter().for_each(|parcel| parcel.lane.passes(parcel.bytes.len(), parcel.is_copy));
    let sent = if parcels.len() == 1 {
        exit.send(bytes, bytes.len())
    } else {
        buffer.clear();
        parcels.iter().for_each(|parcel| buffer.extend_from_slice(&parcel.bytes));
        exit.send(buffer, bytes.len())
    };
    for Parcel { lane, bytes, is_copy, .. } in parcels {
        lane.unless(sent, bytes.len(), *is_copy);
        lane.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
