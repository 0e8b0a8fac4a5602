//! Dialling an endpoint by TCP, with errors that say which way it failed.

use model::decision::{Refusal, RefusalCode};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a dial may take. Two lost SYNs fit in (they are sent again after 1 s).
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Why an endpoint was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody listens there.
    #[error("{address} refused the connection: nothing listens there")]
    Refused {
        /// Dialled.
        address: SocketAddr,
    },
    /// It did not answer.
    #[error("{address} did not answer within {after:?}")]
    TimedOut {
        /// Dialled.
        address: SocketAddr,
        /// Given.
        after: Duration,
    },
    /// No way leads there.
    #[error("no route to {address}")]
    Unreachable {
        /// Dialled.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// This process is at a limit of its own: no descriptors, ports or memory left.
    #[error("cannot dial {address}: this host is out of descriptors, ports or memory")]
    Exhausted {
        /// Dialled.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Something else.
    #[error("cannot dial {address}")]
    Other {
        /// Dialled.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl DialError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        /// `EMFILE` and `ENFILE`, which have no stable kind.
        const OUT_OF_DESCRIPTORS: [i32; 2] = [24, 23];
        match source.kind() {
            Kind::ConnectionRefused | Kind::ConnectionReset => Self::Refused { address },
            Kind::TimedOut => Self::TimedOut { address, after: TIMEOUT },
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                Self::Unreachable { address, source }
            }
            Kind::AddrNotAvailable | Kind::OutOfMemory => Self::Exhausted { address, source },
            _ if source.raw_os_error().is_some_and(|code| OUT_OF_DESCRIPTORS.contains(&code)) => {
                Self::Exhausted { address, source }
            }
            _ => Self::Other { address, source },
        }
    }

    /// What is told to the process that asked for the endpoint. Another candidate may always take it: no byte of
    /// the client has gone anywhere.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Self::Exhausted { .. } => RefusalCode::Overloaded,
            Self::Refused { .. } | Self::TimedOut { .. } | Self::Unreachable { .. } | Self::Other { .. } => {
                RefusalCode::EndpointFailed
            }
        };
        Refusal { code, retryable: true, detail: self.to_string() }
    }
}

/// Dials with [`TIMEOUT`]; the socket has TCP_NODELAY.
///
/// # Errors
/// By the way in which it failed.
pub async fn dial(address: SocketAddr) -> Result<TcpStream, DialError> {
    dial_within(address, TIMEOUT).await
}

/// Dials; the socket has TCP_NODELAY.
///
/// # Errors
/// By the way in which it failed.
pub async fn dial_within(address: SocketAddr, timeout: Duration) -> Result<TcpStream, DialError> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Err(_) => Err(DialError::TimedOut { address, after: timeout }),
        Ok(Err(source)) => Err(DialError::new(address, source)),
        Ok(Ok(tcp)) => {
            // Only a socket that is already dead refuses this; the first read says so better.
            let _ = tcp.set_nodelay(true);
            Ok(tcp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_closed_port_is_refused_and_may_be_tried_elsewhere() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let tcp = dial(address).await.expect("listens");
        assert!(tcp.nodelay().expect("open"));
        drop((listener, tcp));
        let error = dial(address).await.expect_err("closed");
        assert!(matches!(error, DialError::Refused { .. }), "{error}");
        let refusal = error.refusal();
        assert!(refusal.retryable && refusal.code == RefusalCode::EndpointFailed, "{refusal:?}");
    }

    #[tokio::test]
    async fn a_silent_endpoint_times_out() {
        // A listener whose backlog is full does not answer further SYNs.
        let socket = tokio::net::TcpSocket::new_v4().expect("socket");
        socket.bind("127.0.0.1:0".parse().expect("valid")).expect("binds");
        let listener = socket.listen(1).expect("listens");
        let address = listener.local_addr().expect("bound");
        let mut open = Vec::new();
        let error = loop {
            match dial_within(address, Duration::from_millis(300)).await {
                Ok(tcp) => open.push(tcp),
                Err(error) => break error,
            }
            assert!(open.len() < 64, "the backlog never filled");
        };
        assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
    }
}
