//! A UDP socket that takes and sends many datagrams in one call of the operating system, where that can (GRO and GSO).

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Longest datagram, and most bytes of several that come in together.
pub(crate) const BYTES_IN_MAX: usize = 65_535;
/// Most bytes of several datagrams that go out together, headers left out.
const BYTES_OUT_MAX: usize = 65_000;
/// Room for what has come in and was not yet taken, bytes; the usual default holds 140 full-size datagrams. The host gives
/// what it allows, and counts what it drops for want of room; no counter of a link does.
const RECEIVE_BUFFER: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Datagrams that came in together from one address: of the same length, and a last one of at most that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Train<'b> {
    pub(crate) bytes: &'b [u8],
    /// Length of each but the last.
    pub(crate) stride: usize,
}

impl<'b> Train<'b> {
    /// The datagrams. An empty train is one empty datagram.
    pub(crate) fn datagrams(self) -> impl Iterator<Item = &'b [u8]> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        self.bytes.chunks(self.stride.max(1)).chain(empty)
    }
}

impl Socket {
    /// One that can be sent from at once.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let state = UdpSocketState::new((&socket).into())?;
        state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER)?;
        socket.writable().await?;
        Ok(Self { socket, state })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// What is there, from one address.
    pub(crate) fn take<'b>(&self, buffer: &'b mut [u8]) -> io::Result<(Train<'b>, SocketAddr)> {
        let mut meta = [RecvMeta::default()];
        self.socket.try_io(Interest::READABLE, || {
            self.state.recv((&self.socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta)
        })?;
        let [RecvMeta { addr, len, stride, .. }] = meta;
        Ok((Train { bytes: &buffer[..len], stride }, addr))
    }

    /// Sends datagrams of `stride` bytes and a last one of at most that; see [`Socket::together`] for how many may be.
    pub(crate) fn send(&self, bytes: &[u8], stride: usize, to: SocketAddr) -> bool {
        let segment_size = (bytes.len() > stride).then_some(stride);
        let transmit = Transmit { destination: to, ecn: None, contents: bytes, segment_size, src_ip: None };
        self.socket
            .try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit))
            .is_ok()
    }

    /// How many datagrams of this length can go in one call.
    pub(crate) fn together(&self, stride: usize) -> usize {
        let room = BYTES_OUT_MAX.checked_div(stride).unwrap_or(1);
        room.min(self.state.max_gso_segments()).max(1)
    }
}
