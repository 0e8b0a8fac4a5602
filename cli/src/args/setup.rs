//! Arguments of what is done once: sites, processes, tokens, contexts.

use super::{Address, FilePath};
use api::resource::site::VipCidr;
use clap::{Args, Subcommand, ValueEnum};
use model::identity::TrustDomain;
use model::ids::{Clusterset, GatewayName, HostName, Label, Namespace, SiteId};
use model::locality::Locality;
use std::net::SocketAddr;

/// `init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name of the site: a DNS label.
    pub name: SiteId,
    /// Where the site is: region/zone, for example `eu/fra`.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub locality: Locality,
    /// Address of the site's processes. Default: a free 127.0.N.1.
    #[arg(long, value_name = "IP")]
    pub address: Option<Address>,
    /// Address at which other sites reach the gateway, where it differs: `IP:PORT`.
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,
    /// Trust domain. Default: NAME.mesh.
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<TrustDomain>,
    /// The set of sites that share names.
    #[arg(long, default_value = "meshfed", value_name = "NAME")]
    pub clusterset: Clusterset,
    /// Where its virtual IPs are taken from: a /16 within 127.64.0.0/10. Its gateways and agents take the other ranges
    /// of the aligned block of 8 around it. Default: one in a block that no site of your contexts is in.
    #[arg(long, value_name = "CIDR")]
    pub vip_range: Option<VipCidr>,
    /// File with services that its gateways dial directly, relative to the directory; may be repeated.
    #[arg(long = "services", value_name = "FILE")]
    pub services: Vec<String>,
    /// Certificate of a CA to use instead of a new one (PEM): the one that signs, which becomes the site's only anchor.
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub ca_cert: Option<FilePath>,
    /// Its key (PEM, PKCS #8).
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    pub ca_key: Option<FilePath>,
    /// The same from a folder laid out as Istio's `cacerts`: ca-cert.pem and ca-key.pem; root-cert.pem, which other
    /// sites may share, is no anchor.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca_cert", "ca_key"])]
    pub cacerts: Option<FilePath>,
    /// Directory to make. Default: ./NAME.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<FilePath>,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What every process takes.
#[derive(Debug, Clone, Args)]
pub struct ProcessArgs {
    /// Which log lines to write: a level, or `TARGET=LEVEL` joined by commas.
    #[arg(
        long,
        default_value = "info",
        env = "MESHFED_LOG",
        value_name = "FILTER",
        help_heading = "Process"
    )]
    pub log: String,
    /// Form of the log lines; json: one document a line, with time, level, target, message and fields.
    #[arg(long, value_enum, default_value = "text", value_name = "FORM", help_heading = "Process")]
    pub log_format: LogFormat,
    /// End when standard input is closed: for a parent that must not leave processes behind.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
    /// Take the clock to be off by so many seconds: for trials of sites whose clocks differ.
    #[arg(long, hide = true, allow_negative_numbers = true, default_value_t = 0, value_name = "SECONDS")]
    pub clock_offset: i64,
}

/// `site`
#[derive(Debug, Args)]
pub struct SiteArgs {
    /// Directory that `init` made, or the name of its context.
    #[arg(value_name = "SITE")]
    pub site: String,
    /// What every process takes.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// `federation`
#[derive(Debug, Args)]
pub struct FederationArgs {
    /// Directory that `init` made, or the name of its context.
    #[arg(value_name = "SITE")]
    pub site: String,
    /// What every process takes.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// `gateway`
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Name of the gateway, unique within its site.
    pub name: GatewayName,
    /// File with a token from `meshfed token gateway`; `-`: standard input. Needed once.
    #[arg(long, value_name = "FILE")]
    pub join: Option<FilePath>,
    /// Address to listen on.
    #[arg(long, value_name = "IP")]
    pub address: Option<Address>,
    /// Address at which other sites reach this gateway, where it differs: `IP:PORT`.
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,
    /// Directory for key, certificate and last config. Default: ./NAME.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<FilePath>,
    /// Where its virtual IPs are taken from: a /16 within 127.64.0.0/10. Default: one of the site's block.
    #[arg(long, value_name = "CIDR")]
    pub vip_range: Option<VipCidr>,
    /// Serve no programs of this host: no virtual IPs, no DNS, no proxy port.
    #[arg(long)]
    pub no_ways_in: bool,
    /// Locality. Default: that of the site.
    #[arg(long)]
    pub locality: Option<Locality>,
    /// What every process takes.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// `agent`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct AgentArgs {
    /// Name of the host, unique within its site.
    #[arg(required = true)]
    pub host: Option<HostName>,
    /// File with a token from `meshfed token agent`; `-`: standard input. Needed once.
    #[arg(long, value_name = "FILE")]
    pub join: Option<FilePath>,
    /// Address to listen on.
    #[arg(long, value_name = "IP")]
    pub address: Option<Address>,
    /// File with the workloads of this host.
    #[arg(long, value_name = "FILE")]
    pub workloads: Option<FilePath>,
    /// Directory for key, certificate and last config. Default: ./HOST.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<FilePath>,
    /// Locality. Default: that of the site.
    #[arg(long)]
    pub locality: Option<Locality>,
    /// What every process takes.
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Instead of running it.
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
}

/// `agent …`
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Set the host up, once, as root: a redirect of the VIP range, and the resolver
    #[command(before_help = "Example: sudo meshfed agent setup --dir vm-1")]
    Setup(AgentSetupArgs),
}

/// `agent setup`
#[derive(Debug, Args)]
pub struct AgentSetupArgs {
    /// Directory of the agent.
    #[arg(long, value_name = "DIR")]
    pub dir: FilePath,
    /// Take everything back.
    #[arg(long)]
    pub revert: bool,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Who joins with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenKind {
    /// An agent on a host.
    Agent,
    /// A gateway.
    Gateway,
}

/// `token`
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Who joins with it.
    pub kind: TokenKind,
    /// Name of the host or gateway.
    pub name: Label,
    /// Namespace in which the agent may register workloads; may be repeated. Default: all.
    #[arg(long = "namespace", value_name = "NAME")]
    pub namespaces: Vec<Namespace>,
    /// Account whose identity the agent may assert; may be repeated. Default: none.
    #[arg(long = "account", value_name = "NAME")]
    pub accounts: Vec<Label>,
    /// How long it can be used.
    #[arg(long, default_value = "15m", value_name = "TIME")]
    pub valid: api::text::Span,
    /// Write it to this file (readable by you alone) instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub to: Option<FilePath>,
}

/// `context`
#[derive(Debug, Args)]
pub struct ContextArgs {
    /// What to do; default: list.
    #[command(subcommand)]
    pub command: Option<ContextCommand>,
}

/// `context …`
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List them
    List,
    /// Choose the one that commands use without --context
    Use {
        /// Name of the context.
        name: String,
    },
    /// Print one
    Show {
        /// Name of the context. Default: the chosen one.
        name: Option<String>,
    },
    /// Forget one; the site itself is not touched
    Remove {
        /// Name of the context.
        name: String,
    },
}
