//! The UDP socket of a tunnel, with buffers that hold a burst.

use runtime::bind::{BindError, bind_udp};
use socket2::SockRef;
use std::net::{SocketAddr, UdpSocket};

/// Binds the socket, and asks for buffers of `wanted` bytes each way. The system cuts such a wish silently, so the
/// result is read back, and the setting that limits it is named.
pub(crate) fn bind(address: SocketAddr, wanted: usize) -> Result<UdpSocket, BindError> {
    let socket = bind_udp(address, "address")?;
    let view = SockRef::from(&socket);
    // A refused wish shows when the size is read back.
    let _ = view.set_recv_buffer_size(wanted);
    let _ = view.set_send_buffer_size(wanted);
    check("receive", "net.core.rmem_max", view.recv_buffer_size().unwrap_or(0), wanted);
    check("send", "net.core.wmem_max", view.send_buffer_size().unwrap_or(0), wanted);
    Ok(socket)
}

/// Linux gives twice what was asked for, for its own bookkeeping, and shows that.
const BOOKKEEPING: usize = 2;

fn check(direction: &'static str, sysctl: &'static str, bytes: usize, wanted: usize) {
    let got = bytes / BOOKKEEPING;
    if got < wanted {
        tracing::warn!(
            direction,
            got,
            wanted,
            "the UDP buffer of the tunnel is smaller than asked for, so bursts are lost; raise it with \
             `sysctl -w {sysctl}={wanted}`"
        );
    }
}
