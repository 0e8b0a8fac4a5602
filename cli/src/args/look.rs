//! Arguments of what looks and what operates.

use clap::{Args, ValueEnum};
use model::identity::SpiffeId;
use model::ids::SiteId;
use model::locality::Locality;
use model::service::ServiceName;

/// `backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Write it to this file (readable by you alone) instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub to: Option<super::FilePath>,
}

/// `get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// services, links, workloads, policies, or a kind of resource.
    pub kind: String,
    /// Only this one: a name, or NAMESPACE/NAME.
    pub name: Option<String>,
}

/// `describe`
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// service or link.
    pub kind: String,
    /// A name, or NAMESPACE/NAME.
    pub name: String,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// NAMESPACE/NAME, with `:PORT` where it has several.
    #[arg(value_name = "SERVICE[:PORT]")]
    pub service: ServicePortArg,
    /// Site that the caller is in, by its context. Default: the site that is talked to.
    #[arg(long, value_name = "SITE")]
    pub from: Option<String>,
    /// Locality of the caller. Default: that of the site.
    #[arg(long)]
    pub locality: Option<Locality>,
    /// Who calls: NAMESPACE/ACCOUNT of that site, or a whole SPIFFE id.
    #[arg(long = "as", value_name = "NAMESPACE/ACCOUNT")]
    pub caller: Option<CallerArg>,
    /// What if these sites were gone; joined by commas.
    #[arg(long, value_delimiter = ',', value_name = "SITE,…")]
    pub without: Vec<SiteId>,
}

/// A service and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePortArg {
    /// Service.
    pub service: ServiceName,
    /// Port.
    pub port: Option<u16>,
}

impl std::str::FromStr for ServicePortArg {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let (service, port) = match value.split_once(':') {
            Some((service, port)) => {
                let port = port.parse().ok().filter(|p| *p != 0);
                (
                    service,
                    Some(port.ok_or_else(|| format!("`{value}` ends in no port: it must be 1 to 65535"))?),
                )
            }
            None => (value, None),
        };
        Ok(Self { service: service.parse().map_err(|e: model::ids::InvalidId| e.to_string())?, port })
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerArg {
    /// A workload of the site that the caller is in.
    Workload(ServiceName),
    /// Anyone.
    Id(SpiffeId),
}

impl std::str::FromStr for CallerArg {
    type Err = model::ids::InvalidId;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        if value.starts_with("spiffe://") {
            value.parse().map(Self::Id)
        } else {
            value.parse().map(Self::Workload)
        }
    }
}

/// `status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print it again whenever it changes.
    #[arg(long)]
    pub watch: bool,
    /// Wait until everything is healthy, at most this long.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "60s", conflicts_with = "watch")]
    pub wait: Option<api::text::Span>,
}

/// `diagnose`
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// Look at this linked site alone. Default: this host, the site, and all that it is linked with.
    pub peer: Option<SiteId>,
}

/// `events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on as they happen, until Ctrl-C.
    #[arg(long, short)]
    pub watch: bool,
    /// Only those after the one with this number.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub after: u64,
}

/// What can be drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DrainKind {
    /// One endpoint of a service: NAMESPACE/NAME/ENDPOINT.
    Endpoint,
    /// A gateway, by name.
    Gateway,
    /// The whole site, by name.
    Site,
}

/// `drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// What it is.
    pub kind: DrainKind,
    /// Its name; for an endpoint NAMESPACE/NAME/ENDPOINT.
    pub name: String,
    /// Wait until its open streams are done, at most this long; 0s: do not wait.
    #[arg(long, default_value = "30s", value_name = "TIME")]
    pub wait: api::text::Span,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Say what would move where, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `undrain`
#[derive(Debug, Args)]
pub struct UndrainArgs {
    /// What it is.
    pub kind: DrainKind,
    /// Its name; for an endpoint NAMESPACE/NAME/ENDPOINT.
    pub name: String,
    /// Say what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}
