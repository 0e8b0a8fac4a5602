//! Ports, as services and workloads list them.

use crate::problem::Problem;
use crate::text::Text;
use model::ids::Label;
use model::service::{AppProtocol, PortKey, ServicePort};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most ports of one service.
pub const PORTS_MAX: usize = 64;

/// What flows over a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
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

impl From<PortProtocol> for AppProtocol {
    fn from(protocol: PortProtocol) -> Self {
        match protocol {
            PortProtocol::Tcp => Self::Tcp,
            PortProtocol::Http => Self::Http,
            PortProtocol::Http2 => Self::Http2,
            PortProtocol::Grpc => Self::Grpc,
            PortProtocol::Tls => Self::Tls,
        }
    }
}

impl From<AppProtocol> for PortProtocol {
    fn from(protocol: AppProtocol) -> Self {
        match protocol {
            AppProtocol::Tcp => Self::Tcp,
            AppProtocol::Http => Self::Http,
            AppProtocol::Http2 => Self::Http2,
            AppProtocol::Grpc => Self::Grpc,
            AppProtocol::Tls => Self::Tls,
        }
    }
}

/// Whether the first bytes of a client may be sent to more than one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Never: they follow when an endpoint has accepted.
    #[default]
    Never,
    /// They may: repeating them does no harm. They travel ahead, which saves a round trip.
    Safe,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Number that callers use, from 1.
    pub port: u16,
    /// Number that the instance listens on. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// Name, for SRV records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<Label>>,
    /// What flows over it. Default `tcp`.
    #[serde(default)]
    pub protocol: PortProtocol,
    /// Default `never`.
    #[serde(default)]
    pub retry: Retry,
}

impl Port {
    /// A TCP port that the instance listens on under the same number.
    pub fn new(port: u16) -> Self {
        Self { port, target_port: None, name: None, protocol: PortProtocol::Tcp, retry: Retry::Never }
    }
}

/// Checks a list of ports; gives each with the number that the instance listens on, ordered by key.
///
/// # Errors
/// When there are none or too many, a number is 0, or a number or name comes twice.
pub fn ports(list: &[Port]) -> Result<Vec<(ServicePort, u16)>, Problem> {
    if list.is_empty() {
        return Err(Problem::at("", "there are no ports").help("list at least one, as in `- port: 8080`"));
    }
    if list.len() > PORTS_MAX {
        return Err(Problem::at(
            "",
            format!("there are {} ports; at most {PORTS_MAX} are possible", list.len()),
        ));
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut found = Vec::new();
    for (at, port) in list.iter().enumerate() {
        check_number(&format!("{at}.port"), port.port)?;
        let target = port.target_port.unwrap_or(port.port);
        check_number(&format!("{at}.targetPort"), target)?;
        if !numbers.insert(port.port) {
            return Err(Problem::at(&format!("{at}.port"), format!("port {} is listed twice", port.port)));
        }
        if let Some(name) = &port.name
            && !names.insert(name)
        {
            return Err(Problem::at(&format!("{at}.name"), format!("two ports are named `{name}`")));
        }
        let key = PortKey::tcp(port.port);
        let name = port.name.as_ref().map(|name| name.0.clone());
        let retry_safe = port.retry == Retry::Safe;
        found.push((ServicePort { key, name, app: port.protocol.into(), retry_safe }, target));
    }
    found.sort_by_key(|(port, _)| port.key);
    Ok(found)
}

/// Port numbers begin at 1.
pub(crate) fn check_number(path: &str, number: u16) -> Result<(), Problem> {
    if number == 0 { Err(Problem::at(path, "0 is not a port").help("use 1 to 65535")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_out_in_order_with_their_targets() {
        let list = [Port { target_port: Some(80), ..Port::new(9090) }, Port::new(8080)];
        let found = ports(&list).expect("valid");
        assert_eq!(
            found.iter().map(|(port, target)| (port.key.number, *target)).collect::<Vec<_>>(),
            [(8080, 8080), (9090, 80)]
        );
    }

    #[test]
    fn a_port_list_that_contradicts_itself_is_refused() {
        assert!(ports(&[]).is_err());
        assert!(ports(&[Port::new(0)]).is_err());
        assert!(ports(&[Port::new(1), Port::new(1)]).is_err());
        assert!(ports(&[Port { target_port: Some(0), ..Port::new(1) }]).is_err());
        let many: Vec<Port> = (1..=65).map(Port::new).collect();
        assert!(ports(&many).is_err());
        let name = |port| Port { name: Some(Text("http".parse().expect("valid"))), ..Port::new(port) };
        assert_eq!(
            ports(&[name(1), name(2)]).expect_err("twice").to_string(),
            "1.name: two ports are named `http`"
        );
    }
}
