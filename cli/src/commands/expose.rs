//! `meshfed expose` and `unexpose`.

use crate::args::{CheckArg, ExposeArgs, UnexposeArgs};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::service as screen;
use api::resource::Kind;
use api::resource::port::{Port, Retry};
use api::resource::workload::{CheckKind, CheckSpec, Workload, WorkloadSpec};
use api::rest::change::ChangeReply;
use api::rest::workload::{WorkloadReply, WorkloadRequest};
use api::text::Text;

/// Registers a program on a host, and offers its service.
///
/// # Errors
/// A value is wrong, the site does not answer or refuses.
pub async fn expose(args: &ExposeArgs, client: &Client, ui: &Ui) -> Outcome {
    let workload = workload(args)?;
    let request = WorkloadRequest { workload, export: !args.no_export, dry_run: args.dry_run };
    let reply: WorkloadReply = client.put("/v1/workloads", Some(&request)).await?;
    ui.result(&reply, |style| screen::exposed(&client.name, &reply, style))
}

fn workload(args: &ExposeArgs) -> Result<Workload, Failure> {
    let ports = args
        .ports
        .iter()
        .map(|pair| Port {
            target_port: (pair.target != pair.service).then_some(pair.target),
            protocol: args.protocol.into(),
            retry: if args.retry_safe { Retry::Safe } else { Retry::Never },
            ..Port::new(pair.service)
        })
        .collect();
    let mut check = match &args.check {
        CheckArg::None => CheckSpec::new(CheckKind::None),
        CheckArg::Tcp => CheckSpec::new(CheckKind::Tcp),
        CheckArg::Http(path) => CheckSpec { path: Some(path.clone()), ..CheckSpec::new(CheckKind::Http) },
        CheckArg::Grpc(service) => {
            let service = (!service.is_empty()).then(|| service.clone());
            CheckSpec { service, ..CheckSpec::new(CheckKind::Grpc) }
        }
    };
    check.interval = args.check_interval;
    let spec = WorkloadSpec {
        service: Some(Text(args.service.name.clone())),
        id: args.id.clone().map(Text),
        host: Some(Text(args.on.clone())),
        address: Some(Text(args.target)),
        ports,
        check: Some(check),
        weight: Some(args.weight),
        locality: args.locality.clone().map(Text),
        account: args.account.clone().map(Text),
        ..WorkloadSpec::default()
    };
    let name = args.service.name.clone();
    let workload = Workload::new(Kind::Workload, Some(args.service.namespace.clone()), name, spec);
    workload.check().map_err(|problem| Failure::usage(problem.to_string()))?;
    Ok(workload)
}

/// Takes it back.
///
/// # Errors
/// The site does not answer, or has no such workload.
pub async fn unexpose(args: &UnexposeArgs, client: &Client, ui: &Ui) -> Outcome {
    let id = args.id.as_ref().map_or_else(|| args.on.to_string(), ToString::to_string);
    let query = if args.dry_run { "?dry_run=true" } else { "" };
    let service = &args.service;
    let path = format!("/v1/workloads/{}/{}/{}{query}", service.namespace, service.name, escape(&id));
    let reply: ChangeReply = client.delete(&path).await?;
    ui.result(&reply, |_| screen::unexposed(&service.to_string(), args.on.as_str(), &reply))
}

/// Percent-encodes what a path segment cannot carry (RFC 3986, section 3.3).
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_fits_into_a_path() {
        assert_eq!(escape("vm-1"), "vm-1");
        assert_eq!(escape("10.2.0.14:8080"), "10.2.0.14:8080");
        assert_eq!(escape("a?b#c%d[e]"), "a%3Fb%23c%25d%5Be%5D");
    }
}
