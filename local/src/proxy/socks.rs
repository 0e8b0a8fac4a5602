//! SOCKS5 (RFC 1928): no authentication, CONNECT, names and IPv4.

use super::{Trouble, write};
use crate::names::{NameTable, NotServed, Target};
use bytes::Bytes;
use model::decision::RefusalCode;
use std::net::Ipv4Addr;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const TYPE_IPV4: u8 = 1;
const TYPE_NAME: u8 = 3;
const TYPE_IPV6: u8 = 4;

/// Codes of a reply, RFC 1928 section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Reply {
    Granted = 0,
    Failure = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

/// Reads greeting and request, and answers all that can be answered here.
pub(super) async fn request(stream: &mut TcpStream, names: &NameTable) -> Result<Target, Trouble> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    let mut methods = [0; 255];
    let methods = &mut methods[..usize::from(greeting[1])];
    stream.read_exact(methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        write(stream, &[VERSION, NO_METHOD]).await?;
        return Err(Trouble::Protocol("the caller insists on authentication, and there is none here"));
    }
    write(stream, &[VERSION, NO_AUTHENTICATION]).await?;

    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, command, _, address_type] = head;
    if version != VERSION {
        write(stream, &reply(Reply::Failure)).await?;
        return Err(Trouble::Protocol("the request is not of SOCKS version 5"));
    }
    let host = match address_type {
        TYPE_IPV4 => {
            let mut address = [0; 4];
            stream.read_exact(&mut address).await?;
            Ipv4Addr::from(address).to_string()
        }
        TYPE_NAME => {
            let length = stream.read_u8().await?;
            let mut name = [0; 255];
            let name = &mut name[..usize::from(length)];
            stream.read_exact(name).await?;
            String::from_utf8_lossy(name).into_owned()
        }
        TYPE_IPV6 => {
            write(stream, &reply(Reply::AddressTypeNotSupported)).await?;
            return Err(Trouble::Protocol("IPv6 addresses are not served; no virtual IP is one"));
        }
        _ => {
            write(stream, &reply(Reply::AddressTypeNotSupported)).await?;
            return Err(Trouble::Protocol("the request has an unknown type of address"));
        }
    };
    let port = stream.read_u16().await?;
    if command != CONNECT {
        write(stream, &reply(Reply::CommandNotSupported)).await?;
        return Err(Trouble::Protocol("only the command CONNECT is served"));
    }
    match names.target(&host, port) {
        Ok(target) => Ok(target),
        Err(not_served) => {
            write(stream, &reply(code_of(&not_served))).await?;
            Err(Trouble::NotServed(not_served))
        }
    }
}

fn code_of(not_served: &NotServed) -> Reply {
    match not_served {
        NotServed::Foreign { .. } => Reply::NotAllowed,
        NotServed::UnknownVip { .. } | NotServed::UnknownInstance { .. } | NotServed::Malformed { .. } => {
            Reply::HostUnreachable
        }
        NotServed::NoPort { .. } => Reply::ConnectionRefused,
    }
}

pub(super) fn granted() -> Bytes {
    reply(Reply::Granted)
}

pub(super) fn refused(code: RefusalCode) -> Bytes {
    reply(match code {
        RefusalCode::Denied => Reply::NotAllowed,
        RefusalCode::UnknownService => Reply::HostUnreachable,
        RefusalCode::UnknownPort | RefusalCode::NoEndpoint | RefusalCode::EndpointFailed => {
            Reply::ConnectionRefused
        }
        RefusalCode::NoPath | RefusalCode::TooManyHops => Reply::NetworkUnreachable,
        RefusalCode::Draining | RefusalCode::Overloaded | RefusalCode::BadHeader => Reply::Failure,
    })
}

/// A refusal that a client of SOCKS4 understands.
pub(super) fn refused_version_4() -> [u8; 8] {
    const REFUSED: u8 = 0x5b;
    [0, REFUSED, 0, 0, 0, 0, 0, 0]
}

/// A reply. The address in it, which nobody uses after CONNECT, is 0.0.0.0:0.
fn reply(reply: Reply) -> Bytes {
    Bytes::copy_from_slice(&[VERSION, reply as u8, 0, TYPE_IPV4, 0, 0, 0, 0, 0, 0])
}
