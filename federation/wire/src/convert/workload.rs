//! Workloads and their health checks.

use super::check::*;
use super::{Cause, WireError, limits};
use crate::pb;
use model::config::{HealthCheck, HealthProbe, WorkloadSpec};
use std::time::Duration;

/// Shortest interval of a health check.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Longest interval and longest timeout of a health check.
const CHECK_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most passes or failures in a row that a check may wait for.
const THRESHOLD_MAX: u32 = 1000;
/// Longest path of an HTTP check, and longest service name of a gRPC one.
const NAME_MAX: usize = 1024;

impl From<&WorkloadSpec> for pb::WorkloadSpec {
    fn from(workload: &WorkloadSpec) -> Self {
        Self {
            service: Some((&workload.service).into()),
            id: workload.id.to_string(),
            host: workload.host.to_string(),
            address: workload.address.to_string(),
            ports: (workload.ports.iter())
                .map(|(port, target)| pb::WorkloadPort { port: Some(port.into()), target: (*target).into() })
                .collect(),
            locality: workload.locality.to_string(),
            weight: workload.weight,
            check: Some((&workload.check).into()),
            account: workload.account.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::WorkloadSpec> for WorkloadSpec {
    type Error = WireError;

    fn try_from(workload: pb::WorkloadSpec) -> Result<Self, WireError> {
        let ports = list_of("ports", workload.ports, limits::PORTS_MAX, |of| {
            Ok((convert("port", of.port)?, port("target", of.target)?))
        })?;
        Ok(Self {
            service: convert("service", workload.service)?,
            id: parse("id", &workload.id)?,
            host: parse("host", &workload.host)?,
            address: ip("address", &workload.address)?,
            ports,
            locality: parse("locality", &workload.locality)?,
            weight: range("weight", workload.weight, 1, limits::WEIGHT_MAX)?,
            check: convert("check", workload.check)?,
            account: parse_some("account", &workload.account)?,
        })
    }
}

impl From<&HealthCheck> for pb::HealthCheck {
    fn from(check: &HealthCheck) -> Self {
        use pb::health_check::Probe;
        Self {
            probe: Some(match &check.probe {
                HealthProbe::None => Probe::None(pb::NoProbe {}),
                HealthProbe::Tcp { port } => Probe::Tcp(pb::TcpProbe { port: (*port).into() }),
                HealthProbe::Http { port, path } => {
                    Probe::Http(pb::HttpProbe { port: (*port).into(), path: path.clone() })
                }
                HealthProbe::Grpc { port, service } => {
                    Probe::Grpc(pb::GrpcProbe { port: (*port).into(), service: service.clone() })
                }
                HealthProbe::Exec { command } => Probe::Exec(pb::ExecProbe { command: command.clone() }),
            }),
            interval_us: unduration_us(check.interval),
            timeout_us: unduration_us(check.timeout),
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
        }
    }
}

impl TryFrom<pb::HealthCheck> for HealthCheck {
    type Error = WireError;

    fn try_from(check: pb::HealthCheck) -> Result<Self, WireError> {
        Ok(Self {
            probe: probe_of(need("probe", check.probe)?)?,
            interval: within("interval_us", check.interval_us, INTERVAL_MIN)?,
            timeout: within("timeout_us", check.timeout_us, Duration::from_millis(1))?,
            healthy_threshold: range("healthy_threshold", check.healthy_threshold, 1, THRESHOLD_MAX)?,
            unhealthy_threshold: range("unhealthy_threshold", check.unhealthy_threshold, 1, THRESHOLD_MAX)?,
        })
    }
}

fn within(field: &'static str, us: u64, min: Duration) -> Result<Duration, WireError> {
    let duration = duration_us(field, us)?;
    if duration < min || duration > CHECK_MAX {
        let cause =
            Cause::Range { found: us, min: min.as_micros() as u64, max: CHECK_MAX.as_micros() as u64 };
        return Err(WireError::new(field, cause));
    }
    Ok(duration)
}

fn probe_of(probe: pb::health_check::Probe) -> Result<HealthProbe, WireError> {
    use pb::health_check::Probe;
    Ok(match probe {
        Probe::None(_) => HealthProbe::None,
        Probe::Tcp(of) => HealthProbe::Tcp { port: port("tcp.port", of.port)? },
        Probe::Http(of) => {
            if !of.path.starts_with('/') {
                return Err(WireError::new("http.path", Cause::Rule("it does not begin with /")));
            }
            HealthProbe::Http {
                port: port("http.port", of.port)?,
                path: text("http.path", of.path, NAME_MAX)?,
            }
        }
        Probe::Grpc(of) => HealthProbe::Grpc {
            port: port("grpc.port", of.port)?,
            service: text("grpc.service", of.service, NAME_MAX)?,
        },
        Probe::Exec(of) => HealthProbe::Exec { command: command(of.command)? },
    })
}

fn command(command: Vec<String>) -> Result<Vec<String>, WireError> {
    if command.is_empty() {
        return Err(WireError::new("exec.command", Cause::Missing));
    }
    list_of("exec.command", command, limits::COMMAND_MAX, |word| {
        count("", word.len(), "bytes", limits::ARGUMENT_MAX)?;
        if word.contains('\0') {
            return Err(WireError::new("", Cause::Rule("it has a zero byte")));
        }
        Ok(word)
    })
}
