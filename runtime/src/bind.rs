//! Sockets of a process, with errors that name the port and the way out.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use tokio::net::TcpListener;

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Why a port could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "port {}/{transport} on {} is in use by another process: stop it or set `{setting}`",
        address.port(), address.ip()
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// The setting that chooses the port, or the flag that does.
        setting: String,
    },
    /// The process may not bind it.
    #[error(
        "port {}/{transport} on {} may not be bound by this user: set `{setting}` to a port of 1024 or above, or \
         give the process CAP_NET_BIND_SERVICE",
        address.port(), address.ip()
    )]
    Forbidden {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// The setting that chooses the port, or the flag that does.
        setting: String,
    },
    /// The host does not have the address.
    #[error("{} is no address of this host, so {}/{transport} cannot be bound there: check the address", address.ip(), address.port())]
    NotHere {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
    },
    /// Something else.
    #[error("cannot bind {}/{transport} on {} (`{setting}`)", address.port(), address.ip())]
    Other {
        /// The address.
        address: SocketAddr,
        /// The transport.
        transport: Transport,
        /// The setting that chooses the port, or the flag that does.
        setting: String,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    /// Sorts what the system said on binding `address`; `setting` is what a person would change.
    pub fn new(address: SocketAddr, transport: Transport, setting: &str, source: io::Error) -> Self {
        let setting = setting.to_owned();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, transport, setting },
            io::ErrorKind::PermissionDenied => Self::Forbidden { address, transport, setting },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address, transport },
            _ => Self::Other { address, transport, setting, source },
        }
    }
}

/// Binds a TCP listener. `setting` names what a person would change to get another port, for example `ports.api`.
///
/// # Errors
/// The port is taken, forbidden, or the address is not of this host.
pub async fn bind_tcp(address: SocketAddr, setting: &str) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| BindError::new(address, Transport::Tcp, setting, source))
}

/// Binds a UDP socket that does not block. `setting` names what a person would change to get another port.
///
/// # Errors
/// The port is taken, forbidden, or the address is not of this host.
pub fn bind_udp(address: SocketAddr, setting: &str) -> Result<UdpSocket, BindError> {
    let bound = UdpSocket::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|source| BindError::new(address, Transport::Udp, setting, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_way_out() {
        let first = bind_tcp("127.0.0.1:0".parse().expect("valid"), "ports.api").await.expect("binds");
        let address = first.local_addr().expect("bound");
        let error = bind_tcp(address, "ports.api").await.expect_err("taken");
        let expected = format!(
            "port {}/tcp on 127.0.0.1 is in use by another process: stop it or set `ports.api`",
            address.port()
        );
        assert_eq!(error.to_string(), expected);

        let first = bind_udp("127.0.0.1:0".parse().expect("valid"), "ports.tunnel").expect("binds");
        let error = bind_udp(first.local_addr().expect("bound"), "ports.tunnel").expect_err("taken");
        assert!(error.to_string().contains("/udp on 127.0.0.1 is in use"), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_said_to_be_one() {
        // 192.0.2.0/24 is for documentation (RFC 5737), so no host has it.
        let error = bind_tcp("192.0.2.1:0".parse().expect("valid"), "address").await.expect_err("not here");
        assert!(matches!(error, BindError::NotHere { .. }), "{error}");
    }
}
