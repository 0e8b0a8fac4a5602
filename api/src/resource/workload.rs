//! A workload on a host with an agent, and its health check.

use super::port::{Port, PortProtocol, Retry, check_number, ports};
use super::{Envelope, Kind};
use crate::problem::Problem;
use crate::text::{Span, Text};
use model::config::{HealthCheck, HealthProbe, WorkloadSpec as Spec};
use model::ids::{EndpointId, HostName, Label};
use model::locality::Locality;
use model::service::ServiceName;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A workload. Its namespace is that of the service.
pub type Workload = Envelope<WorkloadSpec>;

/// What a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadSpec {
    /// Service that it is an instance of, within the namespace. Default: the name of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Text<Label>>,
    /// Id of the endpoint that it becomes. Default: the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Text<EndpointId>>,
    /// Host that it runs on. In a file that an agent reads, it is that of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Text<HostName>>,
    /// Address on which the agent reaches it. Default 127.0.0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Text<IpAddr>>,
    /// Its port, when there is one; else `ports`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// With `port`: the number that the workload listens on. Default: the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    /// With `port`: what flows over it. Default `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PortProtocol>,
    /// With `port`: whether the first bytes of a client may be sent twice. Default `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Its ports, when there are several; else `port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Health check. Default: a TCP connect to the first port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckSpec>,
    /// Share of the load, 1 to 1 000. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Where it is. Default: where the host is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<Text<Locality>>,
    /// Account whose identity it may assert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Text<Label>>,
}

/// How health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckSpec {
    /// What is done.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// For `tcp`, `http` and `grpc`: port that is asked. Default: the one that the workload listens on first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// For `http`: path, begins with `/`. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For `grpc`: service that is asked about. Default: the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// For `exec`: program and arguments; run directly, without a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// From the end of one probe to the start of the next, 50 ms to 1 h. Default 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// After this a probe has failed, 10 ms to 5 min. Default 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Passes in a row that make it healthy, 1 to 100. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<u32>,
    /// Failures in a row that make it unhealthy, 1 to 100. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<u32>,
}

/// Kinds of health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// No check: always healthy.
    None,
    /// A TCP connect.
    Tcp,
    /// A GET; 200 to 399 is healthy.
    Http,
    /// The standard gRPC health service.
    Grpc,
    /// A command that exits with 0.
    Exec,
}

/// Weights that make sense: 0 would be an endpoint that is none.
const WEIGHTS: RangeInclusive<u32> = 1..=1_000;
/// Thresholds that make sense.
const THRESHOLDS: RangeInclusive<u32> = 1..=100;
/// Longest path, name of a gRPC service, or command line.
const TEXT_MAX: usize = 1_024;
/// Most words of a command.
const COMMAND_MAX: usize = 64;

impl CheckSpec {
    /// A check of this kind with all defaults.
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            port: None,
            path: None,
            service: None,
            command: Vec::new(),
            interval: None,
            timeout: None,
            healthy_threshold: None,
            unhealthy_threshold: None,
        }
    }

    /// Checks it, and fills in what is left out; `port` is the one that the instance listens on first.
    ///
    /// # Errors
    /// The first value that breaks a rule, or has no meaning for this kind of check.
    pub fn health_check(&self, port: u16) -> Result<HealthCheck, Problem> {
        self.check_fields()?;
        let port = self.port.unwrap_or(port);
        check_number("port", port)?;
        let probe = match self.kind {
            CheckKind::None => HealthProbe::None,
            CheckKind::Tcp => HealthProbe::Tcp { port },
            CheckKind::Http => {
                let path = self.path.clone().unwrap_or_else(|| "/".to_owned());
                let plain = path.bytes().all(|b| b.is_ascii_graphic());
                if !path.starts_with('/') || !plain || path.len() > TEXT_MAX {
                    return Err(Problem::at(
                        "path",
                        "a path begins with `/` and has neither spaces nor other letters",
                    )
                    .help("as in `/healthz`"));
                }
                HealthProbe::Http { port, path }
            }
            CheckKind::Grpc => {
                let service = self.service.clone().unwrap_or_default();
                if service.len() > TEXT_MAX {
                    return Err(Problem::at("service", format!("it has more than {TEXT_MAX} characters")));
                }
                HealthProbe::Grpc { port, service }
            }
            CheckKind::Exec => {
                if self.command.first().is_none_or(String::is_empty) {
                    return Err(Problem::at("command", "a check of type exec needs a command")
                        .help("as in `command: [/usr/bin/test, -e, /run/ready]`"));
                }
                if self.command.len() > COMMAND_MAX
                    || self.command.iter().map(String::len).sum::<usize>() > TEXT_MAX
                {
                    return Err(Problem::at("command", "the command is too long").help("put it in a script"));
                }
                HealthProbe::Exec { command: self.command.clone() }
            }
        };
        Ok(HealthCheck {
            probe,
            interval: span("interval", self.interval, (50, 3_600_000))?,
            timeout: span("timeout", self.timeout, (10, 300_000))?,
            healthy_threshold: within("healthyThreshold", self.healthy_threshold.unwrap_or(1), THRESHOLDS)?,
            unhealthy_threshold: within(
                "unhealthyThreshold",
                self.unhealthy_threshold.unwrap_or(2),
                THRESHOLDS,
            )?,
        })
    }

    fn check_fields(&self) -> Result<(), Problem> {
        use CheckKind::{Exec, Grpc, Http, Tcp};
        for (field, present, kinds) in [
            ("port", self.port.is_some(), &[Tcp, Http, Grpc][..]),
            ("path", self.path.is_some(), &[Http]),
            ("service", self.service.is_some(), &[Grpc]),
            ("command", !self.command.is_empty(), &[Exec]),
        ] {
            if present && !kinds.contains(&self.kind) {
                return Err(Problem::at(field, format!("`{field}` has no meaning for this type of check"))
                    .help("remove it, or change `type`"));
            }
        }
        Ok(())
    }
}

fn span(path: &str, span: Option<Span>, (least_ms, most_ms): (u64, u64)) -> Result<Duration, Problem> {
    let span = span.unwrap_or(Span(Duration::from_secs(1))).0;
    let (least, most) = (Duration::from_millis(least_ms), Duration::from_millis(most_ms));
    if (least..=most).contains(&span) {
        return Ok(span);
    }
    Err(Problem::at(path, format!("it must lie between {} and {}", Span(least), Span(most))))
}

fn within(path: &str, value: u32, range: RangeInclusive<u32>) -> Result<u32, Problem> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Problem::at(path, format!("it must lie between {} and {}", range.start(), range.end())))
}

/// The weight of an endpoint; left out: 1.
pub(crate) fn weight(path: &str, weight: Option<u32>) -> Result<u32, Problem> {
    within(path, weight.unwrap_or(1), WEIGHTS)
}

/// The check of an instance that listens on `port`; left out: a TCP connect to it.
pub(crate) fn health_check(check: Option<&CheckSpec>, port: u16) -> Result<HealthCheck, Problem> {
    let default = CheckSpec::new(CheckKind::Tcp);
    check.unwrap_or(&default).health_check(port).map_err(|problem| problem.under("check"))
}

impl Workload {
    /// The service that it is an instance of.
    ///
    /// # Errors
    /// When the resource has no namespace.
    pub fn service(&self) -> Result<ServiceName, Problem> {
        let name = self.spec.service.as_ref().unwrap_or(&self.metadata.name);
        Ok(ServiceName { namespace: self.namespace()?.clone(), name: name.0.clone() })
    }

    /// Checks every rule that can be checked without knowing the host.
    ///
    /// # Errors
    /// The first value that breaks one.
    pub fn check(&self) -> Result<(), Problem> {
        let anywhere: HostName = "host".parse().expect("a label");
        let host = self.spec.host.as_ref().map_or(anywhere, |host| host.0.clone());
        self.workload(&host, &Locality::default()).map(drop)
    }

    /// The workload, with every default filled in, as one of `host`, which is at `locality`.
    ///
    /// # Errors
    /// The first value that breaks a rule; or it names another host.
    pub fn workload(&self, host: &HostName, locality: &Locality) -> Result<Spec, Problem> {
        let service = self.service()?;
        let spec = &self.spec;
        if let Some(named) = spec.host.as_ref().filter(|named| named.0 != *host) {
            return Err(Problem::at("spec.host", format!("this is host {host}, not {named}"))
                .help("remove the line, or move the workload to that host's file"));
        }
        let ports = spec.port_list().map_err(|problem| problem.under("spec"))?;
        let first = ports.first().map_or(0, |(_, target)| *target);
        let address = spec.address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.0);
        if address.is_unspecified() || address.is_multicast() {
            return Err(Problem::at("spec.address", format!("nothing can be reached at {address}")));
        }
        Ok(Spec {
            service,
            id: match &spec.id {
                Some(id) => id.0.clone(),
                None => host.as_str().parse().expect("a label is an endpoint id"),
            },
            host: host.clone(),
            address,
            ports,
            locality: spec.locality.as_ref().map_or_else(|| locality.clone(), |locality| locality.0.clone()),
            weight: weight("spec.weight", spec.weight)?,
            check: health_check(spec.check.as_ref(), first).map_err(|problem| problem.under("spec"))?,
            account: spec.account.as_ref().map(|account| account.0.clone()),
        })
    }

    /// The resource of a workload, as `expose` sends it and `get` shows it.
    pub fn of(spec: &Spec) -> Self {
        let name = format!("{}-{}", spec.service.name, spec.host);
        // Two labels of full length make none; then the host alone has to do.
        let name =
            name.parse().unwrap_or_else(|_| spec.host.as_str().parse().expect("a host name is a label"));
        let body = WorkloadSpec {
            service: Some(Text(spec.service.name.clone())),
            id: Some(Text(spec.id.clone())),
            host: Some(Text(spec.host.clone())),
            address: Some(Text(spec.address)),
            ports: spec
                .ports
                .iter()
                .map(|(port, target)| Port {
                    port: port.key.number,
                    target_port: Some(*target),
                    name: port.name.clone().map(Text),
                    protocol: port.app.into(),
                    retry: if port.retry_safe { Retry::Safe } else { Retry::Never },
                })
                .collect(),
            check: Some(CheckSpec::from(&spec.check)),
            weight: Some(spec.weight),
            locality: (spec.locality != Locality::default()).then(|| Text(spec.locality.clone())),
            account: spec.account.clone().map(Text),
            ..WorkloadSpec::default()
        };
        Self::new(Kind::Workload, Some(spec.service.namespace.clone()), name, body)
    }
}

impl WorkloadSpec {
    fn port_list(&self) -> Result<Vec<(model::service::ServicePort, u16)>, Problem> {
        let Some(port) = self.port else {
            for (field, present) in [
                ("targetPort", self.target_port.is_some()),
                ("protocol", self.protocol.is_some()),
                ("retry", self.retry.is_some()),
            ] {
                if present {
                    return Err(Problem::at(field, format!("`{field}` belongs to `port`, which is missing"))
                        .help("add `port:`, or write it in the list `ports`"));
                }
            }
            return ports(&self.ports).map_err(|problem| problem.under("ports"));
        };
        if !self.ports.is_empty() {
            return Err(
                Problem::at("ports", "`port` and `ports` exclude each other").help("keep one of them")
            );
        }
        let single = Port {
            port,
            target_port: self.target_port,
            name: None,
            protocol: self.protocol.unwrap_or_default(),
            retry: self.retry.unwrap_or_default(),
        };
        ports(&[single]).map_err(|mut problem| {
            // The list is ours; the person wrote its fields themselves.
            problem.path.retain(|part| part != "0");
            problem
        })
    }
}

impl From<&HealthCheck> for CheckSpec {
    fn from(check: &HealthCheck) -> Self {
        let kind = match &check.probe {
            HealthProbe::None => CheckKind::None,
            HealthProbe::Tcp { .. } => CheckKind::Tcp,
            HealthProbe::Http { .. } => CheckKind::Http,
            HealthProbe::Grpc { .. } => CheckKind::Grpc,
            HealthProbe::Exec { .. } => CheckKind::Exec,
        };
        let mut spec = Self {
            interval: Some(Span(check.interval)),
            timeout: Some(Span(check.timeout)),
            healthy_threshold: Some(check.healthy_threshold),
            unhealthy_threshold: Some(check.unhealthy_threshold),
            ..Self::new(kind)
        };
        match &check.probe {
            HealthProbe::None => {}
            HealthProbe::Tcp { port } => spec.port = Some(*port),
            HealthProbe::Http { port, path } => {
                spec.port = Some(*port);
                spec.path = Some(path.clone());
            }
            HealthProbe::Grpc { port, service } => {
                spec.port = Some(*port);
                spec.service = Some(service.clone());
            }
            HealthProbe::Exec { command } => spec.command.clone_from(command),
        }
        spec
    }
}

/// The check in one line, as `agent` prints it: `http 8080/healthz every 1s`.
pub fn check_text(check: &HealthCheck) -> String {
    let what = match &check.probe {
        HealthProbe::None => return "no check".to_owned(),
        HealthProbe::Tcp { port } => format!("tcp {port}"),
        HealthProbe::Http { port, path } => format!("http {port}{path}"),
        HealthProbe::Grpc { port, service } if service.is_empty() => format!("grpc {port}"),
        HealthProbe::Grpc { port, service } => format!("grpc {port} {service}"),
        HealthProbe::Exec { command } => format!("exec {}", command.join(" ")),
    };
    format!("{what} every {}", Span(check.interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Resource, parse};

    fn workload(spec: &str) -> Result<Spec, String> {
        let text = format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: Workload\nmetadata: {{name: cart, namespace: shop}}\nspec:\n{spec}"
        );
        let mut resources = parse("w.yaml", &text).map_err(|error| error.to_string())?;
        let Resource::Workload(workload) = resources.remove(0) else { unreachable!("it is a Workload") };
        let host = "vm-1".parse().expect("valid");
        workload.workload(&host, &"eu/fra".parse().expect("valid")).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_workload_needs_only_a_port() {
        let spec = workload("  port: 8080\n").expect("valid");
        assert_eq!(spec.service.to_string(), "shop/cart");
        assert_eq!(spec.id.as_str(), "vm-1");
        assert_eq!(spec.address.to_string(), "127.0.0.1");
        assert_eq!(spec.locality.to_string(), "eu/fra");
        assert_eq!(spec.weight, 1);
        assert_eq!(spec.check.probe, HealthProbe::Tcp { port: 8080 });
        assert_eq!(check_text(&spec.check), "tcp 8080 every 1s");
    }

    #[test]
    fn a_workload_survives_its_resource() {
        let spec = workload(
            "  service: basket\n  id: a:1\n  host: vm-1\n  address: 10.0.0.9\n  ports:\n    - {port: 80, targetPort: 8080, \
             name: http, protocol: http, retry: safe}\n    - port: 90\n  check: {type: http, path: /healthz, interval: \
             500ms, timeout: 200ms, healthyThreshold: 2, unhealthyThreshold: 3}\n  weight: 10\n  locality: eu/ams\n  \
             account: cart\n",
        )
        .expect("valid");
        assert_eq!(spec.check.probe, HealthProbe::Http { port: 8080, path: "/healthz".to_owned() });
        let again = Workload::of(&spec).workload(&spec.host, &Locality::default()).expect("valid");
        assert_eq!(again, spec);
    }

    #[test]
    fn each_kind_of_check_is_read() {
        for (check, probe) in [
            ("{type: none}", HealthProbe::None),
            ("{type: tcp, port: 1}", HealthProbe::Tcp { port: 1 }),
            ("{type: http}", HealthProbe::Http { port: 8080, path: "/".to_owned() }),
            ("{type: grpc, service: a.B}", HealthProbe::Grpc { port: 8080, service: "a.B".to_owned() }),
            (
                "{type: exec, command: [a, b]}",
                HealthProbe::Exec { command: vec!["a".to_owned(), "b".to_owned()] },
            ),
        ] {
            let spec = workload(&format!("  port: 8080\n  check: {check}\n")).expect(check);
            assert_eq!(spec.check.probe, probe);
            assert_eq!(CheckSpec::from(&spec.check).health_check(8080), Ok(spec.check));
        }
    }

    #[test]
    fn a_workload_that_cannot_be_is_refused_at_its_place() {
        for (spec, at, why) in [
            ("  weight: 1\n", "5:3", "there are no ports"),
            ("  port: 0\n", "5:9", "0 is not a port"),
            ("  port: 1\n  ports: [{port: 2}]\n", "6:10", "exclude each other"),
            ("  protocol: http\n  ports: [{port: 2}]\n", "5:13", "belongs to `port`"),
            ("  port: 1\n  protocol: htp\n", "6:13", "did you mean `http`?"),
            ("  port: 1\n  weight: 0\n", "6:11", "between 1 and 1000"),
            ("  port: 1\n  check: {type: icmp}\n", "6:17", "unknown value `icmp`"),
            ("  port: 1\n  check: {type: tcp, path: /x}\n", "6:28", "no meaning for this type"),
            ("  port: 1\n  check: {type: http, path: x}\n", "6:29", "begins with `/`"),
            ("  port: 1\n  check: {type: exec}\n", "6:10", "needs a command"),
            ("  port: 1\n  check: {type: tcp, interval: 1ms}\n", "6:32", "between 50ms and 1h"),
            ("  port: 1\n  check: {type: tcp, unhealthyThreshold: 0}\n", "6:42", "between 1 and 100"),
            ("  port: 1\n  address: 0.0.0.0\n", "6:12", "nothing can be reached"),
            ("  port: 1\n  id: a b\n", "6:7", "not a valid endpoint id"),
        ] {
            let error = workload(spec).expect_err(spec);
            assert!(error.starts_with(&format!("error: w.yaml:{at}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
        assert!(
            workload("  port: 1\n  host: vm-2\n").expect_err("other").contains("this is host vm-1, not vm-2")
        );
    }
}
