//! `site.yaml`: what a site is, and how its processes run.

use super::Envelope;
use super::port::check_number;
use crate::problem::Problem;
use crate::text::{Span, Text};
use model::config::VipRange;
use model::identity::{Proof, TrustDomain};
use model::ids::{Clusterset, SiteId};
use model::locality::Locality;
use model::routing::{AccessRule, CallerMatch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A site.
pub type Site = Envelope<SiteSpec>;

/// What `site.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteSpec {
    /// SPIFFE trust domain. Default `NAME.mesh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<Text<TrustDomain>>,
    /// Locality of its endpoints that say nothing else. Default: unknown, and near nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Text<Locality>>,
    /// Address that its processes bind.
    pub address: Text<IpAddr>,
    /// Where other sites reach its gateway, `IP` or `IP:PORT`. Default: `address` and the tunnel port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<Text<Advertise>>,
    /// Sites that share names. Default `meshfed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusterset: Option<Text<Clusterset>>,
    /// Where virtual IPs are taken from: a /16 within 127.64.0.0/10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip_range: Option<Text<VipCidr>>,
    /// Ports of its processes.
    #[serde(default, skip_serializing_if = "PortsSpec::is_default")]
    pub ports: PortsSpec,
    /// Ports on which no VIP listens, because local programs bind them on all addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved_ports: Vec<u16>,
    /// How long open streams may take to end at shutdown. Default 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Span>,
    /// Files with resources of kinds `Service` and `ServiceExport` and policies, relative to `site.yaml`. They are
    /// watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// How long the imports of an unreachable site are kept. Default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    /// How long certificates of its federation, gateways and agents are good; they are renewed at half of it. Default 7d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_lifetime: Option<Span>,
    /// Callers of other sites need an `AccessPolicy` that allows them. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_deny: bool,
}

/// Ports of the processes of a site; those left out have their default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PortsSpec {
    /// Tunnel, UDP: the only one that other sites need.
    pub tunnel: u16,
    /// Config and enrolment, TCP with TLS.
    pub config: u16,
    /// API, HTTPS with client certificates.
    pub api: u16,
    /// Health of the federation, plain HTTP.
    pub health: u16,
    /// Health of a gateway of its own process, plain HTTP.
    pub gateway_health: u16,
    /// Health of an agent, plain HTTP.
    pub agent_health: u16,
    /// DNS, UDP and TCP.
    pub dns: u16,
    /// SOCKS5 and HTTP CONNECT.
    pub proxy: u16,
}

impl Default for PortsSpec {
    fn default() -> Self {
        Self {
            tunnel: 4430,
            config: 15010,
            api: 15080,
            health: 15081,
            gateway_health: 15082,
            agent_health: 15083,
            dns: 15053,
            proxy: 15054,
        }
    }
}

impl PortsSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self) -> Result<(), Problem> {
        let all = [
            ("ports.tunnel", self.tunnel),
            ("ports.config", self.config),
            ("ports.api", self.api),
            ("ports.health", self.health),
            ("ports.gatewayHealth", self.gateway_health),
            ("ports.agentHealth", self.agent_health),
            ("ports.dns", self.dns),
            ("ports.proxy", self.proxy),
        ];
        let mut seen = BTreeSet::new();
        for (path, number) in all {
            check_number(path, number)?;
            if !seen.insert(number) {
                return Err(
                    Problem::at(path, format!("port {number} has two uses")).help("each needs its own")
                );
            }
        }
        Ok(())
    }
}

/// Where others reach a gateway: an address, with a port where it is not the tunnel port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise {
    /// Address.
    pub ip: IpAddr,
    /// Port; none: the tunnel port.
    pub port: Option<u16>,
}

impl FromStr for Advertise {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        if let Ok(ip) = value.parse() {
            return Ok(Self { ip, port: None });
        }
        match value.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(Self { ip: address.ip(), port: Some(address.port()) }),
            Ok(_) => Err(format!("`{}` has port 0", cut(value))),
            Err(_) => Err(format!("`{}` is neither an IP address nor IP:PORT", cut(value))),
        }
    }
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.ip, port)),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// A range of virtual IPs, `127.X.0.0/16` with X from 64 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VipCidr(pub VipRange);

impl FromStr for VipCidr {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let bad = || format!("`{}` is not a /16 within 127.64.0.0/10, as in 127.71.0.0/16", cut(value));
        let base: Ipv4Addr = value.strip_suffix("/16").and_then(|base| base.parse().ok()).ok_or_else(bad)?;
        match base.octets() {
            [127, 64..=127, 0, 0] => Ok(Self(VipRange { base })),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for VipCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/16", self.0.base)
    }
}

fn cut(value: &str) -> String {
    value.chars().take(80).collect()
}

/// A site with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSettings {
    /// Name.
    pub site: SiteId,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Locality of endpoints that say nothing else.
    pub locality: Locality,
    /// Address that its processes bind.
    pub address: IpAddr,
    /// Where others reach its gateway.
    pub advertise: SocketAddr,
    /// Sites that share names.
    pub clusterset: Clusterset,
    /// Where virtual IPs are taken from; none: the process chooses.
    pub vip_range: Option<VipRange>,
    /// Ports.
    pub ports: PortsSpec,
    /// Ports on which no VIP listens.
    pub reserved_ports: BTreeSet<u16>,
    /// How long open streams may take to end.
    pub drain_timeout: Duration,
    /// Files with resources, relative to `site.yaml`.
    pub services: Vec<String>,
    /// How long the imports of an unreachable site are kept.
    pub lease: Duration,
    /// How long certificates of its processes are good.
    pub leaf_lifetime: Duration,
    /// Rule that applies to every service beside those of its policies; none: everyone may call what no policy
    /// speaks of.
    pub default_access: Option<AccessRule>,
}

/// Longest that a shutdown may wait.
const DRAIN_MAX: Duration = Duration::from_secs(3600);
/// Bounds of a lease: shorter would withdraw on a blip, longer than a week is no lease.
const LEASE_SECONDS: std::ops::RangeInclusive<u32> = 5..=604_800;
/// How long a certificate may be good: shorter leaves no time to renew it; since nothing revokes it, one
/// that is stolen should not be good for more than a year.
const LEAF_LIFETIME: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(4)..=Duration::from_secs(366 * 86_400);
/// How long one is good when nothing else is said: the federation may be dead for three days.
const LEAF_LIFETIME_DEFAULT: Duration = Duration::from_secs(7 * 86_400);
/// Most files of services.
const FILES_MAX: usize = 256;

impl Site {
    /// Name of the site.
    ///
    /// # Errors
    /// When it is a word of the command line.
    pub fn site(&self) -> Result<SiteId, Problem> {
        let name = self.metadata.name.as_str();
        // `meshfed link invite` and `meshfed link accept` would be ambiguous.
        if matches!(name, "invite" | "accept") {
            return Err(Problem::at("metadata.name", format!("a site may not be named `{name}`"))
                .help("it is a word of `meshfed link`"));
        }
        name.parse().map_err(|error: model::ids::InvalidId| Problem::at("metadata.name", error.to_string()))
    }

    /// Checks the site and fills in its defaults.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn settings(&self) -> Result<SiteSettings, Problem> {
        let site = self.site()?;
        let spec = &self.spec;
        let trust_domain = match &spec.trust_domain {
            Some(domain) => domain.0.clone(),
            None => {
                format!("{site}.mesh").parse().expect("a label and a suffix of letters are a trust domain")
            }
        };
        spec.ports.check().map_err(|problem| problem.under("spec"))?;
        let address = spec.address.0;
        if address.is_multicast() {
            return Err(Problem::at("spec.address", format!("{address} is a multicast address")));
        }
        let advertise = match spec.advertise {
            Some(Text(Advertise { ip, port })) => SocketAddr::new(ip, port.unwrap_or(spec.ports.tunnel)),
            None => SocketAddr::new(address, spec.ports.tunnel),
        };
        if spec.advertise.is_some() && advertise.ip().is_unspecified() {
            return Err(Problem::at("spec.advertise", format!("nobody can dial {}", advertise.ip()))
                .help("write the address under which other sites reach this one"));
        }
        for (at, port) in spec.reserved_ports.iter().enumerate() {
            check_number(&format!("spec.reservedPorts.{at}"), *port)?;
        }
        let drain_timeout = spec.drain_timeout.map_or(Duration::from_secs(30), |span| span.0);
        if drain_timeout > DRAIN_MAX {
            return Err(Problem::at("spec.drainTimeout", "a shutdown may not wait longer than 1h"));
        }
        let lease_seconds = spec.lease_seconds.unwrap_or(900);
        if !LEASE_SECONDS.contains(&lease_seconds) {
            return Err(Problem::at("spec.leaseSeconds", "a lease lasts 5 to 604800 seconds"));
        }
        let leaf_lifetime = spec.leaf_lifetime.map_or(LEAF_LIFETIME_DEFAULT, |span| span.0);
        if !LEAF_LIFETIME.contains(&leaf_lifetime) {
            return Err(Problem::at("spec.leafLifetime", "a certificate is good for 4s to 366d"));
        }
        if spec.services.len() > FILES_MAX {
            return Err(Problem::at("spec.services", format!("at most {FILES_MAX} files are possible")));
        }
        if let Some(at) = spec.services.iter().position(String::is_empty) {
            return Err(Problem::at(&format!("spec.services.{at}"), "the name of a file is empty"));
        }
        Ok(SiteSettings {
            default_access: spec.default_deny.then(|| default_access(&site)),
            site,
            trust_domain,
            locality: spec.locality.as_ref().map(|text| text.0.clone()).unwrap_or_default(),
            address,
            advertise,
            clusterset: match &spec.clusterset {
                Some(clusterset) => clusterset.0.clone(),
                None => "meshfed".parse().expect("a label"),
            },
            vip_range: spec.vip_range.map(|text| text.0.0),
            ports: spec.ports,
            reserved_ports: spec.reserved_ports.iter().copied().collect(),
            drain_timeout,
            services: spec.services.clone(),
            lease: Duration::from_secs(lease_seconds.into()),
            leaf_lifetime,
        })
    }
}

/// Allows the site's own callers, so that any other needs a policy.
fn default_access(site: &SiteId) -> AccessRule {
    let own = CallerMatch { site: Some(site.clone()), ..CallerMatch::default() };
    AccessRule {
        policy: "default of the site".to_owned(),
        allow: true,
        from: vec![own],
        min_proof: Proof::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resource, parse};

    fn site(spec: &str) -> Result<SiteSettings, String> {
        let text =
            format!("apiVersion: meshfed.dev/v1alpha1\nkind: Site\nmetadata: {{name: east}}\nspec:\n{spec}");
        let mut resources = parse("site.yaml", &text).map_err(|error| error.to_string())?;
        let Resource::Site(site) = resources.remove(0) else { unreachable!("it is a Site") };
        Ok(site.settings().expect("was checked"))
    }

    #[test]
    fn a_site_needs_little() {
        let settings = site("  address: 127.0.1.1\n").expect("valid");
        assert_eq!(settings.trust_domain.as_str(), "east.mesh");
        assert_eq!(settings.advertise.to_string(), "127.0.1.1:4430");
        assert_eq!(settings.clusterset.as_str(), "meshfed");
        assert_eq!(settings.lease, Duration::from_secs(900));
        assert_eq!(settings.drain_timeout, Duration::from_secs(30));
        assert_eq!(settings.leaf_lifetime, Duration::from_secs(7 * 86_400));
        assert_eq!(settings.default_access, None);
    }

    #[test]
    fn everything_of_a_site_can_be_said() {
        let settings = site(
            "  trustDomain: east.example\n  locality: eu/fra/a\n  address: 10.0.0.1\n  advertise: 198.18.4.10:443\n  \
             clusterset: prod\n  vipRange: 127.71.0.0/16\n  ports: {tunnel: 443, api: 8443}\n  reservedPorts: [8080]\n  \
             drainTimeout: 5s\n  services: [services.yaml]\n  leaseSeconds: 60\n  defaultDeny: true\n",
        )
        .expect("valid");
        assert_eq!(settings.advertise.to_string(), "198.18.4.10:443");
        assert_eq!(settings.vip_range, Some(VipRange { base: Ipv4Addr::new(127, 71, 0, 0) }));
        assert_eq!((settings.ports.tunnel, settings.ports.api, settings.ports.dns), (443, 8443, 15053));
        assert!(settings.default_access.is_some());
    }

    #[test]
    fn a_site_that_cannot_be_is_refused_at_its_place() {
        for (spec, at, why) in [
            ("  address: here\n", "5:12", "invalid IP address"),
            ("  address: 10.0.0.1\n  vipRange: 10.0.0.0/16\n", "6:13", "is not a /16 within 127.64.0.0/10"),
            ("  address: 10.0.0.1\n  vipRange: 127.71.1.0/16\n", "6:13", "is not a /16"),
            ("  address: 10.0.0.1\n  advertise: 0.0.0.0\n", "6:14", "nobody can dial 0.0.0.0"),
            ("  address: 10.0.0.1\n  advertise: east.example\n", "6:14", "neither an IP address nor IP:PORT"),
            ("  address: 10.0.0.1\n  ports: {api: 4430}\n", "6:16", "port 4430 has two uses"),
            ("  address: 10.0.0.1\n  ports: {dns: 0}\n", "6:16", "0 is not a port"),
            ("  address: 10.0.0.1\n  leaseSeconds: 1\n", "6:17", "5 to 604800 seconds"),
            ("  address: 10.0.0.1\n  drainTimeout: 2h\n", "6:17", "longer than 1h"),
            ("  address: 10.0.0.1\n  leafLifetime: 1s\n", "6:17", "good for 4s to 366d"),
            ("  address: 10.0.0.1\n  drainTimeout: 30\n", "6:17", "not a span of time"),
            ("  address: 10.0.0.1\n  adress: 10.0.0.1\n", "6:3", "did you mean `address`?"),
            ("  address: 10.0.0.1\n  trustDomain: East\n", "6:16", "not a valid trust domain"),
        ] {
            let error = site(spec).expect_err(spec);
            assert!(error.starts_with(&format!("error: site.yaml:{at}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn words_of_the_command_line_are_no_names_of_sites() {
        let text = "apiVersion: meshfed.dev/v1alpha1\nkind: Site\nmetadata: {name: invite}\nspec: {address: 10.0.0.1}\n";
        assert!(
            parse("site.yaml", text).expect_err("reserved").message.contains("may not be named `invite`")
        );
    }
}
