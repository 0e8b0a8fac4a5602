//! A service with fixed endpoints, for the connector that reads files.

use super::Envelope;
use super::port::{Port, check_number, ports};
use super::workload::{CheckSpec, health_check, weight};
use crate::problem::Problem;
use crate::text::Text;
use model::catalog::ServiceSpec as Spec;
use model::config::{HealthCheck, HealthProbe};
use model::endpoint::{Endpoint, Health, Reach};
use model::ids::{EndpointId, Label, NetworkName};
use model::locality::Locality;
use model::service::{ServiceKind, ServiceName, ServicePort, Subset};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A service with fixed endpoints.
pub type Service = Envelope<ServiceSpec>;

/// What such a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// Its ports.
    pub ports: Vec<Port>,
    /// How it is reached. Default `ClusterSetIP`.
    #[serde(rename = "type", default)]
    pub kind: ServiceType,
    /// Its endpoints; may be empty.
    #[serde(default)]
    pub endpoints: Vec<EndpointSpec>,
    /// How the health of each is found out. Default: a TCP connect to its first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckSpec>,
    /// How many endpoints each group should have. Default: the most that were seen in ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_total: Option<u32>,
}

/// How a service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ServiceType {
    /// Through one virtual IP.
    #[default]
    #[serde(rename = "ClusterSetIP")]
    ClusterSetIp,
    /// By the names of its endpoints.
    Headless,
}

impl From<ServiceType> for ServiceKind {
    fn from(kind: ServiceType) -> Self {
        match kind {
            ServiceType::ClusterSetIp => Self::ClusterSetIp,
            ServiceType::Headless => Self::Headless,
        }
    }
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointSpec {
    /// Address.
    pub address: Text<IpAddr>,
    /// Its id. Default `ADDRESS:PORT` of its first port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Text<EndpointId>>,
    /// Ports that it listens on, where they differ from those of the service: service port to own port.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<u16, u16>,
    /// Where it is. Default: where the site is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Text<Locality>>,
    /// Who can dial it directly. Default: the network of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Text<NetworkName>>,
    /// Subset that it belongs to, for example a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Text<Label>>,
    /// Share of the load, 1 to 1 000. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Its own name in DNS, for headless services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Text<Label>>,
}

/// A service with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticService {
    /// Name.
    pub service: ServiceName,
    /// The service.
    pub spec: Spec,
    /// Its endpoints, each with its check, ordered by id.
    pub endpoints: Vec<StaticEndpoint>,
}

/// An endpoint with everything filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEndpoint {
    /// The endpoint; healthy when it has no check, else unhealthy until it has passed.
    pub endpoint: Endpoint,
    /// Address that the check asks.
    pub address: IpAddr,
    /// How its health is found out.
    pub check: HealthCheck,
}

/// Most endpoints of one service in a file.
pub const ENDPOINTS_MAX: usize = 4_096;

impl Service {
    /// Name of the service.
    ///
    /// # Errors
    /// When the namespace is missing.
    pub fn service(&self) -> Result<ServiceName, Problem> {
        Ok(ServiceName { namespace: self.namespace()?.clone(), name: self.metadata.name.0.clone() })
    }

    /// Checks every rule that can be checked without knowing the site.
    ///
    /// # Errors
    /// The first value that breaks one.
    pub fn check(&self) -> Result<(), Problem> {
        let network = "network".parse().expect("a label");
        self.resolve(&Locality::default(), &network).map(drop)
    }

    /// The service, with every default filled in, in a site at `locality` whose own network is `network`.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub fn resolve(&self, locality: &Locality, network: &NetworkName) -> Result<StaticService, Problem> {
        let service = self.service()?;
        let spec = &self.spec;
        let ports = ports(&spec.ports).map_err(|problem| problem.under("spec.ports"))?;
        if spec.endpoints.len() > ENDPOINTS_MAX {
            return Err(Problem::at(
                "spec.endpoints",
                format!("at most {ENDPOINTS_MAX} endpoints are possible"),
            ));
        }
        if spec.declared_total == Some(0) {
            return Err(Problem::at("spec.declaredTotal", "0 endpoints are none").help("leave it out"));
        }
        let mut seen = BTreeSet::new();
        let mut endpoints = Vec::new();
        for (at, endpoint) in spec.endpoints.iter().enumerate() {
            let path = format!("spec.endpoints.{at}");
            let resolved = endpoint.resolve(&ports, spec.check.as_ref(), (locality, network));
            // The check stands beside the endpoints, not within them.
            let resolved = resolved.map_err(|problem| {
                let common = problem.path.first().is_some_and(|part| part == "check");
                problem.under(if common { "spec" } else { &path })
            })?;
            let id = &resolved.endpoint.id;
            if !seen.insert(id.clone()) {
                return Err(Problem::at(&path, format!("two endpoints have the id `{id}`"))
                    .help("give each an `id:` of its own"));
            }
            endpoints.push(resolved);
        }
        endpoints.sort_by(|a, b| a.endpoint.id.cmp(&b.endpoint.id));
        let ports = ports.into_iter().map(|(port, _)| port).collect();
        let kind = spec.kind.into();
        Ok(StaticService {
            service,
            spec: Spec { ports, kind, declared_total: spec.declared_total },
            endpoints,
        })
    }
}

impl EndpointSpec {
    fn resolve(
        &self,
        ports: &[(ServicePort, u16)],
        check: Option<&CheckSpec>,
        (locality, network): (&Locality, &NetworkName),
    ) -> Result<StaticEndpoint, Problem> {
        let address = self.address.0;
        if address.is_unspecified() || address.is_multicast() {
            return Err(Problem::at("address", format!("nothing can be reached at {address}")));
        }
        let mut own = BTreeMap::new();
        for (port, target) in ports {
            own.insert(port.key, *target);
        }
        for (port, target) in &self.ports {
            let path = format!("ports.{port}");
            check_number(&path, *target)?;
            let Some(slot) = own.get_mut(&model::service::PortKey::tcp(*port)) else {
                return Err(Problem::at(&path, format!("the service has no port {port}")));
            };
            *slot = *target;
        }
        let first = own.values().next().copied().unwrap_or_default();
        let check = health_check(check, first)?;
        let id = match &self.id {
            Some(id) => id.0.clone(),
            None => {
                std::net::SocketAddr::new(address, first).to_string().parse().expect("an address is an id")
            }
        };
        let unchecked = check.probe == HealthProbe::None;
        let endpoint = Endpoint {
            id,
            locality: self.locality.as_ref().map_or_else(|| locality.clone(), |locality| locality.0.clone()),
            network: self.network.as_ref().map_or_else(|| network.clone(), |network| network.0.clone()),
            subset: Subset(self.subset.as_ref().map(ToString::to_string).unwrap_or_default()),
            weight: weight("weight", self.weight)?,
            health: if unchecked { Health::Healthy } else { Health::Unhealthy },
            reach: Reach::Direct(address),
            ports: own,
            hostname: self.hostname.as_ref().map(|hostname| hostname.0.clone()),
        };
        Ok(StaticEndpoint { endpoint, address, check })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resource, parse};

    fn service(spec: &str) -> Result<StaticService, String> {
        let text = format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {{name: cart, namespace: shop}}\nspec:\n{spec}"
        );
        let mut resources = parse("s.yaml", &text).map_err(|error| error.to_string())?;
        let Resource::Service(service) = resources.remove(0) else { unreachable!("it is one") };
        let network = "east".parse().expect("valid");
        Ok(service.resolve(&"eu/fra".parse().expect("valid"), &network).expect("was checked"))
    }

    #[test]
    fn a_service_fills_in_its_endpoints() {
        let service = service(
            "  ports: [{port: 80, targetPort: 8080, protocol: http}]\n  endpoints:\n    - address: 10.0.0.2\n    - {address: \
             10.0.0.1, ports: {80: 9090}, locality: eu/ams, weight: 5, subset: v2, hostname: a, id: one}\n",
        )
        .expect("valid");
        assert_eq!(service.spec.kind, ServiceKind::ClusterSetIp);
        let [plain, full] = &service.endpoints[..] else { unreachable!("two") };
        assert_eq!(plain.endpoint.id.as_str(), "10.0.0.2:8080");
        assert_eq!(plain.endpoint.health, Health::Unhealthy);
        assert_eq!(plain.endpoint.locality.to_string(), "eu/fra");
        assert_eq!(plain.check.probe, HealthProbe::Tcp { port: 8080 });
        assert_eq!(full.endpoint.ports.values().copied().collect::<Vec<_>>(), [9090]);
        assert_eq!(full.check.probe, HealthProbe::Tcp { port: 9090 });
        assert_eq!(full.endpoint.subset, Subset("v2".to_owned()));
    }

    #[test]
    fn an_endpoint_without_a_check_is_healthy() {
        let service =
            service("  ports: [{port: 80}]\n  check: {type: none}\n  endpoints: [{address: '::1'}]\n");
        let endpoint = &service.expect("valid").endpoints[0].endpoint;
        assert_eq!((endpoint.health, endpoint.id.as_str()), (Health::Healthy, "[::1]:80"));
    }

    #[test]
    fn a_service_that_cannot_be_is_refused_at_its_place() {
        for (spec, at, why) in [
            ("  endpoints: []\n", "5:3", "field `ports` is missing"),
            ("  ports: []\n", "5:10", "there are no ports"),
            ("  ports: [{port: 1}]\n  type: Headles\n", "6:9", "did you mean `Headless`?"),
            (
                "  ports: [{port: 1}]\n  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.1}]\n",
                "6:36",
                "two endpoints",
            ),
            (
                "  ports: [{port: 1}]\n  endpoints: [{address: 10.0.0.1, ports: {2: 3}}]\n",
                "6:46",
                "has no port 2",
            ),
            ("  ports: [{port: 1}]\n  endpoints: [{address: 10.0.0.300}]\n", "6:25", "invalid IP address"),
            (
                "  ports: [{port: 1}]\n  check: {type: http, path: x}\n  endpoints: [{address: 10.0.0.1}]\n",
                "6:29",
                "begins with `/`",
            ),
            ("  ports: [{port: 1}]\n  declaredTotal: 0\n", "6:18", "0 endpoints are none"),
        ] {
            let error = service(spec).expect_err(spec);
            assert!(error.starts_with(&format!("error: s.yaml:{at}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
