//! Services: names, ports, kinds.

use crate::ids::{InvalidId, Label, Namespace};
use std::fmt;
use std::str::FromStr;

/// `namespace/name`. Services of one name in several sites are one service (namespace sameness).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: Namespace,
    /// Name within the namespace.
    pub name: Label,
}

impl ServiceName {
    /// Its name in DNS, `NAME.NAMESPACE.svc.clusterset.local` (MCS DNS specification 1.0.0), without a final dot.
    pub fn dns_name(&self) -> String {
        format!("{}.{}.svc.clusterset.local", self.name, self.namespace)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.namespace, self.name))
    }
}

impl FromStr for ServiceName {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let Some((namespace, name)) = value.split_once('/') else {
            return Err(InvalidId::new("service name", value, "it must be NAMESPACE/NAME"));
        };
        Ok(Self { namespace: namespace.parse()?, name: name.parse()? })
    }
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Ports are keyed by protocol and number everywhere: 53/udp and 53/tcp are two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub number: u16,
}

impl PortKey {
    /// A TCP port.
    pub const fn tcp(number: u16) -> Self {
        Self { protocol: Protocol::Tcp, number }
    }
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// What flows over a port, as far as it matters to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AppProtocol {
    /// Opaque bytes.
    #[default]
    Tcp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS.
    Http2,
    /// gRPC.
    Grpc,
    /// TLS from end to end.
    Tls,
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tls => "tls",
        })
    }
}

impl FromStr for AppProtocol {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        Ok(match value {
            "tcp" => Self::Tcp,
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "tls" => Self::Tls,
            _ => {
                return Err(InvalidId::new("protocol", value, "it must be tcp, http, http2, grpc or tls"));
            }
        })
    }
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// Protocol and number that callers use.
    pub key: PortKey,
    /// Name, for SRV records; unnamed ports have no SRV record.
    pub name: Option<Label>,
    /// What flows over it.
    pub app: AppProtocol,
    /// `retry: safe`: the first bytes of a client may be sent to several endpoints, so they may travel ahead of
    /// `accepted`. Default false: bytes follow `accepted`.
    pub retry_safe: bool,
}

/// How a service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ServiceKind {
    /// Through one virtual IP.
    #[default]
    ClusterSetIp,
    /// By the names of its endpoints.
    Headless,
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ClusterSetIp => "ClusterSetIP",
            Self::Headless => "Headless",
        })
    }
}

/// A label that splits the endpoints of a service, for example a version. Empty when there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Subset(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_one_dns_name() {
        let cart: ServiceName = "shop/cart".parse().expect("valid");
        assert_eq!(cart.dns_name(), "cart.shop.svc.clusterset.local");
        assert_eq!(cart.to_string(), "shop/cart");
        assert!("cart".parse::<ServiceName>().is_err());
        assert!("shop/cart/x".parse::<ServiceName>().is_err());
    }
}
