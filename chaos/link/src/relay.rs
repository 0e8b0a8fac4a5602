//! The relay in front of one gateway.

use crate::flow::{DATAGRAM_MAX, Ends, Flow, millis};
use crate::link::{Direction, Link, Profile};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most flows of one relay. At the limit the flow that was idle longest makes room.
pub const FLOWS_MAX: usize = 1024;

/// A relay that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address cannot be used.
    #[error("cannot listen on {address}/udp for the relay to {target}; is the address free?")]
    Bind {
        /// Where the relay should listen.
        address: SocketAddr,
        /// What it should relay to.
        target: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// What a relay is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the gateway really is.
    pub target: SocketAddr,
    /// The link of each source. A source that is not named goes through unharmed: it is of the same site.
    pub sources: Vec<Source>,
}

/// Sends from an address go over a link.
#[derive(Debug, Clone)]
pub struct Source {
    /// Address that datagrams come from.
    pub address: IpAddr,
    /// Link that they take.
    pub link: Link,
    /// Direction of the link in which this source sends.
    pub direction: Direction,
}

/// A relay that runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`RelayError::Bind`].
    pub async fn bind(config: Config) -> Result<Self, RelayError> {
        let error = |source| RelayError::Bind { address: config.listen, target: config.target, source };
        let socket = UdpSocket::bind(config.listen).await.map_err(error)?;
        let address = socket.local_addr().map_err(error)?;
        let stop = CancellationToken::new();
        let local = Link::new(format!("local to {}", config.target), Profile::default(), 0);
        let server = Server {
            listening: Arc::new(socket),
            target: config.target,
            sources: config.sources,
            local,
            flows: HashMap::new(),
            started: Instant::now(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(server.run());
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the relay and waits until its address is free again.
    pub async fn close(mut self) {
        self.stop.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Server {
    listening: Arc<UdpSocket>,
    target: SocketAddr,
    sources: Vec<Source>,
    local: Link,
    /// At most [`FLOWS_MAX`].
    flows: HashMap<SocketAddr, Flow>,
    started: Instant,
    stop: CancellationToken,
}

impl Server {
    async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let received = tokio::select! {
                () = self.stop.cancelled() => return,
                received = self.listening.recv_from(&mut buffer) => received,
            };
            // An error belongs to an earlier datagram to a source that is gone (ICMP); the socket stays good.
            let Ok((length, source)) = received else { continue };
            if !self.flows.contains_key(&source) {
                match self.flow(source).await {
                    Ok(flow) => self.flows.insert(source, flow),
                    Err(error) => {
                        tracing::warn!(%source, target = %self.target, %error, "no socket for a flow");
                        continue;
                    }
                };
            }
            self.flows[&source].send(&buffer[..length], self.started);
        }
    }

    async fn flow(&mut self, source: SocketAddr) -> std::io::Result<Flow> {
        if self.flows.len() >= FLOWS_MAX {
            let idle = self.flows.iter().min_by_key(|(_, flow)| flow.last_used.load(Ordering::Relaxed));
            if let Some(idle) = idle.map(|(source, _)| *source) {
                tracing::debug!(source = %idle, at_ms = millis(self.started), "an idle flow makes room");
                self.flows.remove(&idle);
            }
        }
        let own = self.listening.local_addr()?.ip();
        let upstream = UdpSocket::bind(SocketAddr::new(own, 0)).await?;
        let (link, forth) = self.sources.iter().find(|known| known.address == source.ip()).map_or_else(
            || (self.local.clone(), Direction::Forth),
            |known| (known.link.clone(), known.direction),
        );
        tracing::debug!(%source, target = %self.target, link = link.name(), "new flow");
        let ends = Ends {
            upstream: Arc::new(upstream),
            target: self.target,
            listening: Arc::clone(&self.listening),
            source,
            started: self.started,
        };
        Ok(Flow::start(ends, link, forth, self.stop.child_token()))
    }
}
