//! TCP listeners on virtual IPs.

mod skipped;

use crate::names::{NameTable, Target, Vip};
use futures_util::future::{AbortHandle, Abortable, BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
pub use skipped::{SkipReason, Skipped};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

/// How long a port that was taken is left alone before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How long a listener rests that could not accept, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait in the kernel per listener.
const BACKLOG: i32 = 1_024;

/// What may be listened on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VipSettings {
    /// Ports that are left to others, as the configuration says.
    pub reserved_ports: BTreeSet<u16>,
    /// Ports of the workloads of this host: one that binds 0.0.0.0 could not start beside a virtual IP with its port.
    pub workload_ports: BTreeSet<u16>,
    /// Where the proxy listens, for the way out that `status` names.
    pub proxy: Option<SocketAddr>,
    /// Most listeners; none: 512, half of the file descriptors that a process has by default.
    pub listeners_max: Option<usize>,
}

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// What the caller connected to.
    pub target: Target,
    /// The virtual IP and port.
    pub vip: SocketAddrV4,
    /// Who it is.
    pub peer: SocketAddr,
}

/// A listener that is open.
#[derive(Debug)]
struct Open {
    vip: Vip,
    close: AbortHandle,
}

/// Where a connection was accepted.
#[derive(Debug, Clone, Copy)]
enum Door {
    Vip(SocketAddrV4),
    Redirect,
}

type Accepting = Abortable<BoxFuture<'static, (Door, Arc<TcpListener>, io::Result<(TcpStream, SocketAddr)>)>>;

/// The listeners of one process, driven by whoever calls [`Self::accept`]; there is no task per listener.
///
/// With a redirect (see [`crate::setup`]) one listener receives the connections to all virtual IPs, on any port, and
/// nothing has to be skipped.
#[derive(Debug)]
pub struct VipListeners {
    settings: VipSettings,
    names: Arc<NameTable>,
    /// Open listeners, at most `settings.listeners_max`.
    open: BTreeMap<SocketAddrV4, Open>,
    skipped: BTreeMap<SocketAddrV4, Skipped>,
    /// One future per open listener, and one for the redirect.
    accepting: FuturesUnordered<Accepting>,
    redirected: bool,
    retry_at: Instant,
}

impl VipListeners {
    /// Builds listeners that are opened one by one as [`Self::reconcile`] says.
    pub fn new(settings: VipSettings, names: Arc<NameTable>) -> Self {
        Self {
            settings,
            names,
            open: BTreeMap::new(),
            skipped: BTreeMap::new(),
            accepting: FuturesUnordered::new(),
            redirected: false,
            retry_at: Instant::now(),
        }
    }

    /// Builds the one listener behind the redirect of `agent setup`.
    pub fn redirected(settings: VipSettings, names: Arc<NameTable>, listener: TcpListener) -> Self {
        let listeners = Self { redirected: true, ..Self::new(settings, names) };
        let (accepting, _) = accepting(Door::Redirect, Arc::new(listener), Duration::ZERO);
        listeners.accepting.push(accepting);
        listeners
    }

    /// Whether this is the one listener behind a redirect.
    pub fn is_redirected(&self) -> bool {
        self.redirected
    }

    /// Opens and closes listeners until they are those of the table. Others are not touched; connections that were
    /// accepted live on.
    pub fn reconcile(&mut self, names: Arc<NameTable>) {
        self.names = names;
        if !self.redirected {
            self.open_and_close();
        }
    }

    /// Changes the settings, and opens and closes what follows from that.
    pub fn set_settings(&mut self, settings: VipSettings) {
        if self.settings != settings {
            self.settings = settings;
            self.skipped.clear();
            let names = Arc::clone(&self.names);
            self.reconcile(names);
        }
    }

    fn open_and_close(&mut self) {
        let wanted = self.names.vips();
        let settings = &self.settings;
        self.open.retain(|address, open| {
            let keep = wanted.get(address) == Some(&open.vip) && settings.refuses(*address).is_none();
            if !keep {
                open.close.abort();
            }
            keep
        });
        self.skipped.retain(|address, skipped| wanted.get(address) == Some(&skipped.vip));
        for (address, vip) in wanted {
            if self.open.contains_key(&address) {
                self.skipped.remove(&address);
                continue;
            }
            if let Err(reason) = self.listen(&vip) {
                let known = self.skipped.get(&address).map(|skipped| &skipped.reason);
                let skipped = Skipped { vip, reason, proxy: self.settings.proxy };
                if known != Some(&skipped.reason) {
                    debug!(%skipped, "no listener");
                }
                self.skipped.insert(address, skipped);
            } else {
                self.skipped.remove(&address);
            }
        }
        self.retry_at = Instant::now() + RETRY_AFTER;
    }

    fn listen(&mut self, vip: &Vip) -> Result<(), SkipReason> {
        if let Some(reason) = self.settings.refuses(vip.address) {
            return Err(reason);
        }
        let max = self.settings.listeners_max();
        if self.open.len() >= max {
            return Err(SkipReason::TooMany { max });
        }
        let listener = bind(vip.address).map_err(SkipReason::of)?;
        let (accepting, close) = accepting(Door::Vip(vip.address), Arc::new(listener), Duration::ZERO);
        self.accepting.push(accepting);
        self.open.insert(vip.address, Open { vip: vip.clone(), close });
        Ok(())
    }

    /// The next connection. Waits for ever while nothing is open. Dropping the future loses nothing.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            let may_free = self.skipped.values().any(|skipped| skipped.reason.may_pass());
            tokio::select! {
                Some(done) = self.accepting.next(), if !self.accepting.is_empty() => {
                    // A listener that was closed leaves an empty word behind.
                    let Ok((door, listener, accepted)) = done else { continue };
                    if let Some(accepted) = self.accepted(door, listener, accepted) {
                        return accepted;
                    }
                }
                () = sleep_until(self.retry_at), if may_free => self.open_and_close(),
                else => std::future::pending().await,
            }
        }
    }

    fn accepted(
        &mut self,
        door: Door,
        listener: Arc<TcpListener>,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> Option<Accepted> {
        let pause = if accepted.is_ok() { Duration::ZERO } else { ACCEPT_PAUSE };
        let (again, close) = accepting(door, listener, pause);
        if let Door::Vip(address) = door {
            // It may have been closed in the very moment of this connection.
            let open = self.open.get_mut(&address)?;
            open.close = close;
        }
        self.accepting.push(again);
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept on a virtual IP");
                return None;
            }
        };
        let vip = match door {
            Door::Vip(address) => address,
            Door::Redirect => original_destination(&stream)?,
        };
        match self.names.vip_target(vip) {
            Ok(target) => Some(Accepted { stream, target, vip, peer }),
            Err(error) => {
                debug!(%error, %peer, "connection refused");
                reset(&stream);
                None
            }
        }
    }

    /// What is not listened on, and why, ordered by address.
    pub fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.skipped.values()
    }

    /// What is listened on, ordered by address; nothing when redirected.
    pub fn open(&self) -> impl Iterator<Item = &Vip> {
        self.open.values().map(|open| &open.vip)
    }
}

impl VipSettings {
    fn listeners_max(&self) -> usize {
        self.listeners_max.unwrap_or(512)
    }

    fn refuses(&self, address: SocketAddrV4) -> Option<SkipReason> {
        let port = address.port();
        if self.reserved_ports.contains(&port) {
            Some(SkipReason::Reserved)
        } else if self.workload_ports.contains(&port) {
            Some(SkipReason::Workload)
        } else {
            None
        }
    }
}

/// Accepts one connection, after a pause; with the means to close the listener.
fn accepting(door: Door, listener: Arc<TcpListener>, pause: Duration) -> (Accepting, AbortHandle) {
    let (close, registration) = AbortHandle::new_pair();
    let accept = async move {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let accepted = listener.accept().await;
        (door, listener, accepted)
    };
    (Abortable::new(accept.boxed(), registration), close)
}

/// Binds and listens at once: a listener that the caller of this process sees is ready.
fn bind(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former run in TIME_WAIT must not keep the port; another listener still does.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(address).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Where a redirected connection was going. None when it was not redirected: somebody dialled the port itself.
fn original_destination(stream: &TcpStream) -> Option<SocketAddrV4> {
    let original = SockRef::from(stream).original_dst_v4().ok().and_then(|address| address.as_socket_ipv4());
    let own = stream.local_addr().ok();
    match original {
        Some(original) if Some(SocketAddr::V4(original)) != own => Some(original),
        Some(_) | None => {
            debug!("a connection to the redirect port was not redirected");
            None
        }
    }
}

/// The caller sees a reset instead of an orderly end, since nobody served it.
fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "cannot reset a connection");
    }
}

#[cfg(test)]
mod tests;
