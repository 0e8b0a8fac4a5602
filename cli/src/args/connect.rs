//! Arguments of what connects: links, exports, workloads, resources.

use super::{Address, FilePath};
use clap::{Args, Subcommand};
use model::identity::TrustDomain;
use model::ids::{EndpointId, HostName, Label, SiteId};
use model::locality::Locality;
use model::service::{AppProtocol, ServiceName};
use std::str::FromStr;

/// `link`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LinkArgs {
    /// Context of the site that invites.
    #[arg(required = true, value_name = "SITE")]
    pub one: Option<String>,
    /// Context of the site that accepts.
    #[arg(required = true, value_name = "SITE")]
    pub other: Option<String>,
    /// Check everything, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// With one context at each end.
    #[command(subcommand)]
    pub command: Option<LinkCommand>,
}

/// `link …`: two teams that share nothing.
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// Make an invite for another team; it is printed, and works once
    #[command(before_help = "Example: meshfed link invite --to partner.mesh --context east > east.invite")]
    Invite(InviteArgs),
    /// Accept an invite of another team
    #[command(before_help = "Example: meshfed link accept east.invite --context west")]
    Accept(AcceptArgs),
}

/// `link invite`
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// Only a site of this trust domain may accept.
    #[arg(long, value_name = "TRUST-DOMAIN")]
    pub to: Option<TrustDomain>,
    /// How long it can be used.
    #[arg(long, default_value = "15m", value_name = "TIME")]
    pub valid: api::text::Span,
    /// What is offered over the link: `all`, or namespaces and services, joined by commas.
    #[arg(long, default_value = "all", value_name = "SCOPE")]
    pub offer: ScopeArg,
    /// Names that the other site may join although this site exports them: `all`, or a list. Default: none.
    #[arg(long, value_name = "SCOPE")]
    pub accept: Option<ScopeArg>,
}

/// `link accept`
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// File with the invite; `-`: standard input.
    #[arg(value_name = "FILE")]
    pub invite: FilePath,
    /// What is offered over the link: `all`, or namespaces and services, joined by commas.
    #[arg(long, default_value = "all", value_name = "SCOPE")]
    pub offer: ScopeArg,
    /// Names that the other site may join although this site exports them: `all`, or a list. Default: none.
    #[arg(long, value_name = "SCOPE")]
    pub accept: Option<ScopeArg>,
    /// Show what the invite says, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// A set of services: `all`, `none`, or namespaces and services joined by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeArg(pub model::catalog::Scope);

impl FromStr for ScopeArg {
    type Err = model::ids::InvalidId;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        use model::catalog::Scope;
        if value == "all" {
            return Ok(Self(Scope::All));
        }
        let (mut namespaces, mut services) =
            (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        if value != "none" {
            for word in value.split(',') {
                if word.contains('/') {
                    services.insert(word.parse()?);
                } else {
                    namespaces.insert(word.parse()?);
                }
            }
        }
        Ok(Self(Scope::Only { namespaces, services }))
    }
}

/// `unlink`
#[derive(Debug, Args)]
pub struct UnlinkArgs {
    /// Site to part from; with two names, both ends are told through their contexts.
    #[arg(value_name = "SITE")]
    pub one: SiteId,
    /// The other site.
    #[arg(value_name = "SITE")]
    pub other: Option<SiteId>,
    /// Do not ask. Where no person types, as in a script, this is needed, or a `y` on standard input.
    #[arg(long, short)]
    pub yes: bool,
    /// Say what would stop, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// NAMESPACE/NAME.
    pub service: ServiceName,
    /// Say what would be offered to whom, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `unexport`
#[derive(Debug, Args)]
pub struct UnexportArgs {
    /// NAMESPACE/NAME.
    pub service: ServiceName,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Say who would lose it, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `expose`
#[derive(Debug, Args)]
pub struct ExposeArgs {
    /// NAMESPACE/NAME.
    pub service: ServiceName,
    /// Host with an agent.
    #[arg(long, value_name = "HOST")]
    pub on: HostName,
    /// Port that callers use, and the port of the program where it differs: `80`, `80:8080`; may be repeated.
    #[arg(long = "port", value_name = "PORT[:PORT]", required = true)]
    pub ports: Vec<PortPair>,
    /// What flows over the ports: tcp, http, http2, grpc or tls.
    #[arg(long, default_value = "tcp", value_name = "PROTOCOL")]
    pub protocol: AppProtocol,
    /// The first bytes of a client may reach several endpoints, so they can travel ahead and save a round trip.
    #[arg(long)]
    pub retry_safe: bool,
    /// Health check: `tcp`, `http:/PATH`, `grpc`, `grpc:SERVICE` or `none`.
    #[arg(long, default_value = "tcp", value_name = "CHECK")]
    pub check: CheckArg,
    /// From one check to the next.
    #[arg(long, value_name = "TIME")]
    pub check_interval: Option<api::text::Span>,
    /// Address at which the agent reaches the program.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub target: Address,
    /// Name of the endpoint. Default: that of the host.
    #[arg(long, value_name = "NAME")]
    pub id: Option<EndpointId>,
    /// Share of the load, 1 to 1000.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub weight: u32,
    /// Locality. Default: that of the host.
    #[arg(long)]
    pub locality: Option<Locality>,
    /// Account whose identity the program has.
    #[arg(long, value_name = "NAME")]
    pub account: Option<Label>,
    /// Keep it to this site: do not offer it to linked ones.
    #[arg(long)]
    pub no_export: bool,
    /// Say what would be registered, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Port of the service and port of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortPair {
    /// That callers use.
    pub service: u16,
    /// That the program listens on.
    pub target: u16,
}

impl FromStr for PortPair {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let port = |text: &str| match text.parse::<u16>() {
            Ok(0) | Err(_) => Err(format!("`{text}` is not a port: it must be 1 to 65535")),
            Ok(port) => Ok(port),
        };
        let (service, target) = value.split_once(':').unwrap_or((value, value));
        Ok(Self { service: port(service)?, target: port(target)? })
    }
}

/// A health check as it is written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckArg {
    /// Always healthy.
    None,
    /// A TCP connect.
    Tcp,
    /// GET of this path.
    Http(String),
    /// The standard health service, asked for this service.
    Grpc(String),
}

impl FromStr for CheckArg {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let (kind, rest) = value.split_once(':').unwrap_or((value, ""));
        match (kind, rest) {
            ("none", "") => Ok(Self::None),
            ("tcp", "") => Ok(Self::Tcp),
            ("http", "") => Ok(Self::Http("/".to_owned())),
            ("http", path) if path.starts_with('/') => Ok(Self::Http(path.to_owned())),
            ("grpc", service) => Ok(Self::Grpc(service.to_owned())),
            _ => Err(format!(
                "`{value}` is not a check: it must be tcp, http:/PATH, grpc, grpc:SERVICE or none"
            )),
        }
    }
}

/// `unexpose`
#[derive(Debug, Args)]
pub struct UnexposeArgs {
    /// NAMESPACE/NAME.
    pub service: ServiceName,
    /// Host with the agent.
    #[arg(long, value_name = "HOST")]
    pub on: HostName,
    /// Name of the endpoint. Default: that of the host.
    #[arg(long, value_name = "NAME")]
    pub id: Option<EndpointId>,
    /// Say what would be taken back, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `apply`
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// File with resources; `-`: standard input; may be repeated.
    #[arg(long = "file", short, value_name = "FILE", required = true)]
    pub files: Vec<FilePath>,
    /// Check everything, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `delete`
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// File with resources; `-`: standard input; may be repeated.
    #[arg(long = "file", short, value_name = "FILE", required = true)]
    pub files: Vec<FilePath>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Say what would be deleted, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::catalog::Scope;

    #[test]
    fn a_scope_is_all_or_a_list() {
        assert_eq!("all".parse::<ScopeArg>().expect("valid").0, Scope::All);
        assert_eq!("none".parse::<ScopeArg>().expect("valid").0, Scope::none());
        let scope = "shop,pay/api".parse::<ScopeArg>().expect("valid").0;
        assert!(scope.contains(&"shop/cart".parse().expect("valid")));
        assert!(scope.contains(&"pay/api".parse().expect("valid")));
        assert!(!scope.contains(&"pay/other".parse().expect("valid")));
        assert!("shop,".parse::<ScopeArg>().is_err());
    }

    #[test]
    fn ports_and_checks_are_read() {
        assert_eq!("80:8080".parse(), Ok(PortPair { service: 80, target: 8080 }));
        assert_eq!("80".parse(), Ok(PortPair { service: 80, target: 80 }));
        assert!("0".parse::<PortPair>().is_err() && "80:x".parse::<PortPair>().is_err());
        assert_eq!("http:/healthz".parse(), Ok(CheckArg::Http("/healthz".into())));
        assert_eq!("grpc".parse(), Ok(CheckArg::Grpc(String::new())));
        assert!("http:x".parse::<CheckArg>().is_err() && "udp".parse::<CheckArg>().is_err());
    }
}
