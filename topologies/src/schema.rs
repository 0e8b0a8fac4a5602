//! What people write in a topology file.

use api::text::{Span, Text};
use model::ids::{HostName, Label, SiteId};
use model::locality::Locality;
use model::service::{AppProtocol, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Most sites of a topology: each has a /24 of the loopback range, and its own processes.
pub const SITES_MAX: usize = 50;
/// Most gateways of a site.
pub const GATEWAYS_MAX: u8 = 8;
/// Most hosts of a site.
pub const HOSTS_MAX: usize = 32;
/// Most workloads that are dialled directly, in one site, replicas counted.
pub const REPLICAS_MAX: usize = 64;

/// A topology.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Topology {
    /// `meshfed.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: Version,
    /// `Topology`.
    pub kind: Kind,
    /// Name, for people.
    #[serde(default)]
    pub name: String,
    /// Sites by name; at least one, at most [`SITES_MAX`].
    pub sites: BTreeMap<Text<SiteId>, Site>,
    /// Which sites are linked. Sites without a link stand alone.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Programs that serve.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// Resources that are applied when everything is linked.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// Programs that call.
    #[serde(default)]
    pub clients: Vec<Client>,
}

/// The only kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A topology.
    Topology,
}

/// The only version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Version {
    /// `meshfed.dev/v1alpha1`
    #[default]
    #[serde(rename = "meshfed.dev/v1alpha1")]
    V1Alpha1,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Site {
    /// Where it is, `region/zone`.
    #[serde(default)]
    pub locality: Text<Locality>,
    /// How many gateways, `gw-0` and so on. 1 to [`GATEWAYS_MAX`], default 1.
    #[serde(default = "one")]
    pub gateways: u8,
    /// VMs and servers with an agent, by name; at most [`HOSTS_MAX`].
    #[serde(default)]
    pub hosts: BTreeMap<Text<HostName>, Host>,
}

fn one() -> u8 {
    1
}

/// A VM or server with an agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Host {
    /// Where it is. Default: as its site.
    #[serde(default)]
    pub locality: Option<Text<Locality>>,
}

/// A link of two sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Link {
    /// The two sites.
    pub between: (Text<SiteId>, Text<SiteId>),
    /// Round trip between any gateway of one and any of the other, on top of the host's own. Default 0, at most 10 s.
    #[serde(default)]
    pub rtt: Option<Span>,
    /// Per cent of datagrams that are lost each way, 0 to 100. Default 0.
    #[serde(default)]
    pub loss_pct: f64,
}

/// A program that serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Workload {
    /// Service that it is an instance of, `NAMESPACE/NAME`.
    pub service: Text<ServiceName>,
    /// Site that it is in.
    pub site: Text<SiteId>,
    /// Host that it runs on, behind the agent there. Without one the site's gateways dial it directly.
    #[serde(default)]
    pub host: Option<Text<HostName>>,
    /// How many of it. Default 1; on a host always 1.
    #[serde(default)]
    pub replicas: Option<u8>,
    /// Port that callers use.
    pub port: u16,
    /// What flows over it. Default tcp.
    #[serde(default)]
    pub protocol: Text<AppProtocol>,
    /// The first bytes of a client may reach several endpoints. Default false.
    #[serde(default)]
    pub retry_safe: bool,
    /// Program and arguments; `${ADDRESS}`, `${PORT}`, `${SITE}` and `${INSTANCE}` are filled in. Default: the
    /// built-in echo, which says its site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Health check. Default tcp.
    #[serde(default)]
    pub check: Text<Check>,
    /// From one check to the next, 50 ms to 1 h. Default 1 s.
    #[serde(default)]
    pub check_interval: Option<Span>,
    /// Offer it to linked sites. Default true.
    #[serde(default = "yes")]
    pub export: bool,
}

fn yes() -> bool {
    true
}

/// A health check: `tcp`, `http:/PATH` or `none`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Check {
    /// A TCP connect.
    #[default]
    Tcp,
    /// GET of this path.
    Http(String),
    /// Always healthy.
    None,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Http(path) => write!(f, "http:{path}"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Check {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        match value.split_once(':') {
            None if value == "tcp" => Ok(Self::Tcp),
            None if value == "none" => Ok(Self::None),
            Some(("http", path)) if path.starts_with('/') => Ok(Self::Http(path.to_owned())),
            _ => Err(format!("`{value}` is not a check: it must be tcp, http:/PATH or none")),
        }
    }
}

/// A resource of the API, and where it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    /// Sites at which it is applied. Default: all.
    #[serde(default)]
    pub sites: Vec<Text<SiteId>>,
    /// The resource, as `meshfed apply` takes it.
    pub resource: api::resource::Resource,
}

/// A program that calls: the load generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Client {
    /// Name, for people.
    pub name: Text<Label>,
    /// Site that it is in.
    pub site: Text<SiteId>,
    /// Host that it runs on; it calls through the VIP of the agent there.
    pub host: Text<HostName>,
    /// Service that it calls.
    pub service: Text<ServiceName>,
    /// Port of the service. Default: its only one.
    #[serde(default)]
    pub port: Option<u16>,
    /// Path of its requests. Default `/`.
    #[serde(default = "root")]
    pub path: String,
    /// Requests per second, by a constant schedule. 1 to 10 000.
    pub rate: u32,
    /// Use connections again. Default false: a new one for each request.
    #[serde(default)]
    pub keepalive: bool,
}

fn root() -> String {
    "/".to_owned()
}
