//! The relay in front of one gateway.

use crate::courier::{Courier, Exit, Lane};
use crate::flow::{Flow, Inlet, Lanes, millis};
use crate::link::{Direction, Link};
use crate::shape::Shape;
use crate::socket::Socket;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::{JoinHandle, JoinSet};
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
    /// The operating system gives no thread.
    #[error("cannot start a thread for a relay; is the limit on processes reached (`ulimit -u`)?")]
    Thread(#[source] std::io::Error),
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
    courier: Arc<Courier>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn bind(config: Config) -> Result<Self, RelayError> {
        let error = |source| RelayError::Bind { address: config.listen, target: config.target, source };
        let socket = Socket::open(config.listen).await.map_err(error)?;
        let address = socket.address().map_err(error)?;
        let stop = CancellationToken::new();
        let unharmed = Link::new(format!("local to {}", config.target), [Shape::default(); 2], 0);
        let courier = Courier::new(2 * (config.sources.len() + 1));
        let lanes = |number: usize, link: &Link, forth: Direction| Lanes {
            forth: Lane::new(link.clone(), forth, &courier, 2 * number),
            back: Lane::new(link.clone(), forth.reverse(), &courier, 2 * number + 1),
        };
        let of_source = |(number, source): (usize, &Source)| {
            (source.address, lanes(number, &source.link, source.direction))
        };
        let server = Server {
            listening: Arc::new(socket),
            target: config.target,
            own: address.ip(),
            sources: config.sources.iter().enumerate().map(of_source).collect(),
            local: lanes(config.sources.len(), &unharmed, Direction::Forth),
            flows: HashMap::new(),
            answers: JoinSet::new(),
            started: Instant::now(),
            stop: stop.clone(),
        };
        let thread = courier.start().map_err(RelayError::Thread)?;
        let task = tokio::spawn(server.run());
        Ok(Self { address, stop, task, courier, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the relay and waits until its address is free again.
    pub async fn close(mut self) {
        self.stop.cancel();
        self.courier.stop();
        let _ = (&mut self.task).await;
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
        self.courier.stop();
    }
}

struct Server {
    listening: Arc<Socket>,
    target: SocketAddr,
    /// Address of the sockets towards the target.
    own: IpAddr,
    sources: Vec<(IpAddr, Lanes)>,
    local: Lanes,
    /// At most [`FLOWS_MAX`].
    flows: HashMap<SocketAddr, Flow>,
    /// One for each flow, and those of evicted ones for a moment.
    answers: JoinSet<()>,
    started: Instant,
    stop: CancellationToken,
}

impl Server {
    async fn run(mut self) {
        let mut inlet = Inlet::new();
        while inlet.ready(&self.listening, &self.stop).await {
            while let Some((train, source)) = inlet.take(&self.listening) {
                if !self.flows.contains_key(&source) {
                    match self.flow(source).await {
                        Ok(flow) => self.flows.insert(source, flow),
                        Err(error) => {
                            tracing::warn!(%source, target = %self.target, %error, "no socket for a flow");
                            continue;
                        }
                    };
                }
                self.flows[&source].send(train);
            }
        }
        self.flows.clear();
        while self.answers.join_next().await.is_some() {}
    }

    async fn flow(&mut self, source: SocketAddr) -> std::io::Result<Flow> {
        if self.flows.len() >= FLOWS_MAX {
            let idle = self.flows.iter().min_by_key(|(_, flow)| flow.last_used());
            if let Some(idle) = idle.map(|(source, _)| *source) {
                tracing::debug!(source = %idle, at_ms = millis(self.started), "an idle flow makes room");
                self.flows.remove(&idle);
            }
        }
        while self.answers.try_join_next().is_some() {}
        let upstream = Socket::open(SocketAddr::new(self.own, 0)).await?;
        let known = self.sources.iter().find(|(address, _)| *address == source.ip());
        let lanes = known.map_or(&self.local, |(_, lanes)| lanes).clone();
        tracing::debug!(%source, target = %self.target, link = lanes.forth.link.name(), "new flow");
        let target = Exit { socket: Arc::new(upstream), address: self.target };
        let back = Exit { socket: Arc::clone(&self.listening), address: source };
        let (flow, answers) = Flow::new(lanes, target, back, self.started, self.stop.child_token());
        self.answers.spawn(answers.run());
        Ok(flow)
    }
}
