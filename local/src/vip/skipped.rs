//! Virtual IPs that have no listener, and the way out of it.

use crate::names::Vip;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// A virtual IP and port without a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Which one.
    pub vip: Vip,
    /// Why.
    pub reason: SkipReason,
    /// Where the proxy listens, which serves the name all the same.
    pub proxy: Option<SocketAddr>,
}

/// Why there is no listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// Ports below 1024 need root.
    Privileged,
    /// The configuration reserves the port.
    Reserved,
    /// A workload of this host has the port.
    Workload,
    /// A program on this host has the port.
    InUse,
    /// There are too many listeners.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// Something else, in the words of the system.
    Failed(String),
}

impl SkipReason {
    /// All words that [`Self::word`] gives.
    pub const WORDS: [&str; 6] = ["privileged", "reserved", "workload", "in use", "too many", "failed"];

    /// In one or two words.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Privileged => Self::WORDS[0],
            Self::Reserved => Self::WORDS[1],
            Self::Workload => Self::WORDS[2],
            Self::InUse => Self::WORDS[3],
            Self::TooMany { .. } => Self::WORDS[4],
            Self::Failed(_) => Self::WORDS[5],
        }
    }

    pub(super) fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Privileged,
            io::ErrorKind::AddrInUse => Self::InUse,
            _ => Self::Failed(error.to_string()),
        }
    }

    /// Whether it may pass by itself, so that trying again makes sense.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::InUse | Self::TooMany { .. } | Self::Failed(_) => true,
            Self::Privileged | Self::Reserved | Self::Workload => false,
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => f.write_str("ports below 1024 need root"),
            Self::Reserved => f.write_str("the port is in reserved_ports"),
            Self::Workload => f.write_str("a workload of this host has the port"),
            Self::InUse => f.write_str("another program on this host has the port"),
            Self::TooMany { max } => write!(f, "this process has {max} listeners, the most it opens"),
            Self::Failed(words) => f.write_str(words),
        }
    }
}

impl Skipped {
    /// What a person can do.
    pub fn way_out(&self) -> String {
        let setup = "run `sudo meshfed agent setup` once";
        let name = self.vip.service.dns_name();
        match self.proxy {
            Some(proxy) => {
                format!("{setup}, or use the proxy: `curl --socks5-hostname {proxy} {name}:{}`", self.port())
            }
            None => setup.to_owned(),
        }
    }

    fn port(&self) -> u16 {
        self.vip.address.port()
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.vip.service.dns_name();
        write!(f, "{name}:{} is not served at {}: {}", self.port(), self.vip.address, self.reason)
    }
}
