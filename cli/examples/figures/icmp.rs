//! Whether ICMP tells the survivors of a killed gateway that it is gone.
//!
//! Gateways notice a port unreachable, and would then find a dead one sooner than over most real links, which carry no
//! such message. Here all that a gateway sends to another site goes to a socket of a link's relay: the one that stands
//! where the peer is advertised, or, on a connection that the peer has opened, the one from which the relay carries it
//! on. So a datagram is sent to every socket at those addresses, after the kill; the kernel turns a port unreachable
//! into an error of the socket that sent. The control goes to the address where the gateway really was.

use meshfed::failure::{Failure, OrFail};
use serde::Serialize;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use topologies::plan::{Plan, TUNNEL_PORT};

/// How long a message is waited for; on one host it takes microseconds.
const LIMIT: Duration = Duration::from_millis(300);

/// What a sender hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Icmp {
    /// Sockets of the links.
    pub sockets: usize,
    /// Those of them at which a datagram was refused.
    pub refused: usize,
    /// The control: a datagram to the killed gateway's own address was refused.
    pub directly: bool,
}

impl Icmp {
    /// Whether nobody who sends over a link is told.
    pub fn is_suppressed(self) -> bool {
        self.sockets > 0 && self.refused == 0
    }
}

/// Listens, at every socket of the links and at the own address of a gateway that was just killed.
///
/// # Errors
/// The site has no such gateway, or no socket can be made.
pub async fn listen(plan: &Plan, site: &str, gateway: &str) -> Result<Icmp, Failure> {
    let gateways = || plan.sites.iter().flat_map(|site| &site.gateways);
    let links: Vec<IpAddr> = gateways().map(|gateway| gateway.advertise.ip()).collect();
    let killed = plan
        .sites
        .iter()
        .find(|known| known.name.as_str() == site)
        .and_then(|site| site.gateways.iter().find(|known| known.name.as_str() == gateway))
        .ok_or_else(|| Failure::new(format!("there is no gateway {gateway} in {site}")))?;
    let mut asked = JoinSet::new();
    let sockets: Vec<SocketAddr> = open()?.into_iter().filter(|s| links.contains(&s.ip())).collect();
    for socket in &sockets {
        asked.spawn(is_refused(*socket));
    }
    let what = || "ICMP cannot be listened for".to_owned();
    let mut refused = 0;
    for answer in asked.join_all().await {
        refused += usize::from(answer.or_fail(what)?);
    }
    let own = SocketAddr::new(killed.address.into(), TUNNEL_PORT);
    Ok(Icmp { sockets: sockets.len(), refused, directly: is_refused(own).await.or_fail(what)? })
}

async fn is_refused(address: SocketAddr) -> std::io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    let answer = tokio::time::timeout(LIMIT, socket.recv(&mut [0; 64])).await;
    Ok(matches!(answer, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused))
}

/// Addresses of all UDP sockets over IPv4 of this host.
fn open() -> Result<Vec<SocketAddr>, Failure> {
    let table =
        std::fs::read_to_string("/proc/net/udp").or_fail(|| "the sockets are not known".to_owned())?;
    let parse = |line: &str| {
        let (address, port) = line.split_whitespace().nth(1)?.split_once(':')?;
        // The four bytes as a number of this host, in hexadecimal.
        let bytes = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        Some(SocketAddr::new(IpAddr::from(bytes), u16::from_str_radix(port, 16).ok()?))
    };
    Ok(table.lines().skip(1).filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_found_and_refuses_once_it_is_closed() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        assert!(open().expect("a table").contains(&address));
        assert!(!is_refused(address).await.expect("sent"));
        drop(socket);
        assert!(is_refused(address).await.expect("sent"));
    }
}
