//! What can be said on the command line.

use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;

mod chaos;
mod connect;
mod look;
mod setup;
mod topology;
mod trial;
mod trust;

pub use chaos::{
    ChaosArgs, ChaosCommand, ChaosHealArgs, ChaosInjectArgs, ChaosReportArgs, ChaosRunArgs, ChaosShowArgs,
    FaultArg, ImpairArgs, TargetArgs, WayArgs,
};
pub use connect::{
    AcceptArgs, ApplyArgs, CheckArg, DeleteArgs, ExportArgs, ExposeArgs, InviteArgs, LinkArgs, LinkCommand,
    UnexportArgs, UnexposeArgs, UnlinkArgs,
};
pub use look::{
    BackupArgs, CallerArg, DescribeArgs, DiagnoseArgs, DrainArgs, DrainKind, EventsArgs, ExplainArgs,
    GetArgs, StatusArgs, UndrainArgs,
};
pub use setup::{
    AgentArgs, AgentCommand, AgentSetupArgs, ContextArgs, ContextCommand, FederationArgs, GatewayArgs,
    InitArgs, LogFormat, ProcessArgs, SiteArgs, TokenArgs, TokenKind,
};
pub use topology::{
    DrawingFormat, TopologyArgs, TopologyCheckArgs, TopologyCommand, TopologyPlanArgs, TopologyRenderArgs,
};
pub use trial::{CompletionArgs, DemoArgs, EchoArgs, UpArgs};
pub use trust::{TrustArgs, TrustCommand, TrustStepArgs};

/// `meshfed`, as a whole.
#[derive(Debug, Parser)]
#[command(
    name = "meshfed",
    version,
    about = "Joins services in different sites into one network of services, without a shared CA, control plane or network.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What is the same for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do; nothing: a map of the commands.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Site to talk to, by the name of its context (`meshfed context list`).
    #[arg(long, global = true, value_name = "NAME", env = "MESHFED_CONTEXT", help_heading = "Everywhere")]
    pub context: Option<String>,
    /// Form of the result.
    #[arg(long, short, global = true, value_enum, value_name = "FORM", help_heading = "Everywhere")]
    pub output: Option<Format>,
    /// The same as `-o json`.
    #[arg(long, global = true, conflicts_with = "output", help_heading = "Everywhere")]
    pub json: bool,
}

impl Global {
    /// Form of the result.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output.unwrap_or_default() }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new site: its directory, its CA, and a context for it
    #[command(before_help = "Example: meshfed init east --locality eu/fra --address 127.0.1.1")]
    Init(InitArgs),
    /// Run a whole site in one process: federation, gateway and connectors
    #[command(before_help = "Example: meshfed site east")]
    Site(SiteArgs),
    /// Run the federation of a site: its catalog, trust and API
    #[command(before_help = "Example: meshfed federation east")]
    Federation(FederationArgs),
    /// Run a gateway of a site
    #[command(before_help = "Example: meshfed gateway gw-1 --join gw-1.token --address 127.0.1.3")]
    Gateway(GatewayArgs),
    /// Run the agent on a VM or server
    #[command(before_help = "Example: meshfed agent vm-1 --join vm-1.token --address 127.0.3.1")]
    Agent(AgentArgs),
    /// Make a token with which an agent or a gateway joins
    #[command(before_help = "Example: meshfed token agent vm-1 --context east > vm-1.token")]
    Token(TokenArgs),
    /// List, choose and forget contexts
    #[command(before_help = "Example: meshfed context use west")]
    Context(ContextArgs),
    /// Link two sites
    #[command(before_help = "Example: meshfed link east west")]
    Link(LinkArgs),
    /// End a link; takes effect at once, also when the peer is dead
    #[command(
        before_help = "Example: meshfed unlink east west\n         In a script: meshfed unlink east west --yes"
    )]
    Unlink(UnlinkArgs),
    /// Offer a service to linked sites
    #[command(before_help = "Example: meshfed export shop/cart --context east")]
    Export(ExportArgs),
    /// Stop offering a service
    #[command(before_help = "Example: meshfed unexport shop/cart --context east")]
    Unexport(UnexportArgs),
    /// Make a program on a host with an agent an endpoint of a service, and offer it
    #[command(before_help = "Example: meshfed expose shop/cart --on vm-1 --port 8080 --context east")]
    Expose(ExposeArgs),
    /// Take it back
    #[command(before_help = "Example: meshfed unexpose shop/cart --on vm-1 --context east")]
    Unexpose(UnexposeArgs),
    /// Write resources from a file
    #[command(before_help = "Example: meshfed apply -f failover.yaml --context west")]
    Apply(ApplyArgs),
    /// Delete resources that a file names
    #[command(before_help = "Example: meshfed delete -f failover.yaml --context west")]
    Delete(DeleteArgs),
    /// List services, links or other resources
    #[command(before_help = "Example: meshfed get services --context west")]
    Get(GetArgs),
    /// All that is known of one service or link
    #[command(before_help = "Example: meshfed describe service shop/cart")]
    Describe(DescribeArgs),
    /// Say where a request would go, and why
    #[command(before_help = "Example: meshfed explain shop/cart --from west --without east")]
    Explain(ExplainArgs),
    /// The site and its peers at a glance; exit code 1 when something is not healthy
    #[command(before_help = "Example: meshfed status --context east")]
    Status(StatusArgs),
    /// Find out what is wrong: ports, paths, clocks, certificates; exit code 1 when something is
    #[command(before_help = "Example: meshfed diagnose west --context east")]
    Diagnose(DiagnoseArgs),
    /// What happened, newest last
    #[command(before_help = "Example: meshfed events --watch")]
    Events(EventsArgs),
    /// Move load away from an endpoint, a gateway or a site
    #[command(before_help = "Example: meshfed drain gateway gw-0 --context east")]
    Drain(DrainArgs),
    /// Let it take load again
    #[command(before_help = "Example: meshfed undrain gateway gw-0 --context east")]
    Undrain(UndrainArgs),
    /// Rotate the root of a site, in three steps, while everything runs
    #[command(before_help = "Example: meshfed trust status --context east")]
    Trust(TrustArgs),
    /// Copy the store of a site, while it runs
    #[command(before_help = "Example: meshfed backup --context east --to east.redb")]
    Backup(BackupArgs),
    /// Three sites on loopback under load; kills parts of them and says what happened
    #[command(before_help = "Example: meshfed demo --keep")]
    Demo(DemoArgs),
    /// Run a topology as real processes on loopback
    #[command(before_help = "Example: meshfed up topologies/examples/three-clouds.yaml")]
    Up(UpArgs),
    /// Rehearse failures: run an experiment under load and see what callers saw
    #[command(before_help = "Example: meshfed chaos run one-way-cut")]
    Chaos(ChaosArgs),
    /// Check, plan and draw topologies; starts nothing
    #[command(before_help = "Example: meshfed topology check topologies/examples/three-clouds.yaml")]
    Topology(TopologyArgs),
    /// Print the version
    #[command(before_help = "Example: meshfed version --json")]
    Version,
    /// Print completions for a shell
    #[command(before_help = "Example: meshfed completion bash > /etc/bash_completion.d/meshfed")]
    Completion(CompletionArgs),
    /// The built-in workload of topologies
    #[command(hide = true)]
    Echo(EchoArgs),
}

impl Command {
    /// It runs a process, and all that it says on standard error is to be JSON.
    pub fn speaks_json(&self) -> bool {
        let process = match self {
            Self::Site(args) => &args.process,
            Self::Federation(args) => &args.process,
            Self::Gateway(args) => &args.process,
            Self::Agent(args) => &args.process,
            _ => return false,
        };
        process.log_format == LogFormat::Json
    }
}

/// An address to bind to, with what it means when it is missing left to the command.
pub type Address = IpAddr;

/// A path as the person wrote it.
pub type FilePath = PathBuf;
