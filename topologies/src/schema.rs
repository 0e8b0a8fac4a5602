//! What people write in a topology file.

pub use crate::link::Link;
use api::text::{Span, Text};
use model::ids::{GatewayName, HostName, Label, NetworkName, SiteId};
use model::locality::Locality;
use model::service::{AppProtocol, ServiceName};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
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
/// Most workloads of one host.
pub const HOST_WORKLOADS_MAX: usize = 64;
/// Most policies, and most clients.
pub const POLICIES_MAX: usize = 1000;

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
    /// What it is, for people and drawings; nothing else comes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SiteKind>,
    /// The network that its endpoints are in. Default: the name of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Text<NetworkName>>,
    /// It is behind a NAT: its gateways dial those of other sites, and nobody can dial them. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nat: bool,
    /// Its gateways. Default: one.
    #[serde(default)]
    pub gateways: Gateways,
    /// VMs and servers with an agent, by name; at most [`HOSTS_MAX`].
    #[serde(default)]
    pub hosts: BTreeMap<Text<HostName>, Host>,
}

/// What a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SiteKind {
    /// A Kubernetes or other cluster, whose gateways dial pods.
    Cluster,
    /// A network of virtual machines.
    Vms,
    /// Physical servers.
    Rack,
}

impl fmt::Display for SiteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Vms => "VMs",
            Self::Rack => "rack",
        })
    }
}

/// The gateways of a site, 1 to [`GATEWAYS_MAX`]: how many, or each by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gateways {
    /// So many, named `gw-0` and so on.
    Count(u8),
    /// By name.
    Named(BTreeMap<Text<GatewayName>, Gateway>),
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// Where it is. Default: as its site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Text<Locality>>,
}

impl Default for Gateways {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl Gateways {
    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => usize::from(*count),
            Self::Named(named) => named.len(),
        }
    }

    /// Each with its name, in order.
    pub fn each(&self) -> Vec<(GatewayName, Gateway)> {
        match self {
            Self::Count(count) => {
                let name = |n| format!("gw-{n}").parse().expect("a valid label");
                (0..*count).map(|n| (name(n), Gateway::default())).collect()
            }
            Self::Named(named) => {
                named.iter().map(|(name, gateway)| (name.0.clone(), gateway.clone())).collect()
            }
        }
    }
}

impl Serialize for Gateways {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u8(*count),
            Self::Named(named) => named.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Gateways {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountOrNames;

        impl<'de> Visitor<'de> for CountOrNames {
            type Value = Gateways;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of gateways, or their names as in `{ gw-a: {}, gw-b: {} }`,")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Gateways, E> {
                // What is too much is refused by the check, with its place.
                Ok(Gateways::Count(u8::try_from(value).unwrap_or(u8::MAX)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Gateways, E> {
                self.visit_u64(u64::try_from(value).unwrap_or_default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Gateways, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(Gateways::Named)
            }
        }

        deserializer.deserialize_any(CountOrNames)
    }
}

/// A VM or server with an agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Host {
    /// Where it is. Default: as its site.
    #[serde(default)]
    pub locality: Option<Text<Locality>>,
    /// What it is, for people and drawings. Default vm.
    #[serde(default)]
    pub kind: HostKind,
}

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostKind {
    /// A virtual machine.
    #[default]
    Vm,
    /// A physical server.
    Server,
}

impl fmt::Display for HostKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vm => "VM",
            Self::Server => "server",
        })
    }
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
    /// Program and arguments; what [`PLACEHOLDERS`] name is filled in. Default: the built-in echo, which says its site.
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

/// What is filled in within a command: where the program listens, its site, and its unique name.
pub const PLACEHOLDERS: [&str; 4] = ["${ADDRESS}", "${PORT}", "${SITE}", "${INSTANCE}"];

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
    /// How long it waits for a complete answer, 10 ms to 5 min. Default 2 s. It never tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

fn root() -> String {
    "/".to_owned()
}
