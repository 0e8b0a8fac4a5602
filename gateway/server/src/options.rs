//! What a gateway is told by whoever starts it.

use gateway_core::admission::Limits;
use identity::invite::JoinToken;
use local::dns::Forward;
use local::vip::VipSettings;
use model::config::VipRange;
use model::locality::Locality;
use node::enroll::Membership;
use runtime::metrics::Registry;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How the gateway is a member of its site.
#[derive(Debug)]
pub enum Entry {
    /// It has joined before, and its folder says so.
    Folder,
    /// It joins with this token, unless its folder says that it has joined before, with a certificate that is still good.
    Token(Box<JoinToken>),
    /// Whoever starts it has made it one: the site process, which has the certificate authority at hand.
    Given(Box<Membership>),
}

/// Ways in for programs of this host.
#[derive(Debug)]
pub struct Local {
    /// The /16 from which this process takes virtual IPs; none: the one that its site gave it, if any.
    pub range: Option<VipRange>,
    /// Which virtual IPs and ports are left to others.
    pub vips: VipSettings,
    /// Port of SOCKS5 and HTTP CONNECT.
    pub proxy: Option<SocketAddr>,
    /// DNS port.
    pub dns: Option<SocketAddr>,
    /// Where names go that are not ours.
    pub forward: Forward,
}

/// What a gateway is told.
#[derive(Debug)]
pub struct Options {
    /// Folder of this gateway: key, certificate, last config.
    pub folder: PathBuf,
    /// Address on which it listens.
    pub address: IpAddr,
    /// UDP port of the tunnel. Default 4430; 0: any free one.
    pub port: u16,
    /// Where others can dial the tunnel port; none: `address` and `port`.
    pub advertise: Option<SocketAddr>,
    /// Config port (TCP) of the federation of its site.
    pub federation: SocketAddr,
    /// How it is a member of its site.
    pub entry: Entry,
    /// Where it is; none: where its site is.
    pub locality: Option<Locality>,
    /// Settings of the tunnel. Who may dial in is set by the gateway.
    pub tunnel: tunnel::Config,
    /// How many connections, and when a path is poor.
    pub paths: gateway_core::path::Settings,
    /// Most streams at a time.
    pub limits: Limits,
    /// Where health and metrics are served; none: nowhere.
    pub health: Option<SocketAddr>,
    /// Metrics of the process that it is part of; none: it is a process of its own.
    pub metrics: Option<Registry>,
    /// Ways in for programs of this host; none: there are none.
    pub local: Option<Local>,
    /// How long open streams may take to finish when the process leaves. Default 30 s.
    pub drain_timeout: Duration,
}

impl Options {
    /// The defaults for a gateway on this address.
    pub fn new(folder: PathBuf, address: IpAddr, federation: SocketAddr, entry: Entry) -> Self {
        Self {
            folder,
            address,
            port: 4430,
            advertise: None,
            federation,
            entry,
            locality: None,
            // A gateway that was killed comes back within seconds, and a fresh dial finds it sooner than one whose
            // first packets met nobody.
            tunnel: tunnel::Config { connect_timeout: Duration::from_secs(3), ..tunnel::Config::wan() },
            paths: gateway_core::path::Settings::default(),
            limits: Limits::default(),
            health: Some(SocketAddr::new(address, 15_082)),
            metrics: None,
            local: None,
            drain_timeout: Duration::from_secs(30),
        }
    }
}
