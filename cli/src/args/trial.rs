//! Arguments of what is tried out.

use super::FilePath;
use clap::Args;
use std::net::SocketAddr;

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave everything running at the end, until Ctrl-C, and say which commands to try.
    #[arg(long)]
    pub keep: bool,
    /// Keep logs and site directories here. Default: a temporary directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<FilePath>,
}

/// `up`
#[derive(Debug, Args)]
pub struct UpArgs {
    /// A topology.
    #[arg(value_name = "FILE")]
    pub file: FilePath,
    /// Keep logs and site directories here. Default: a temporary directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<FilePath>,
    /// Print the plan (addresses, processes, links), and start nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `completion`
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `echo`, hidden: the workload that topologies start.
#[derive(Debug, Args)]
pub struct EchoArgs {
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Site that it says it is in.
    #[arg(long)]
    pub site: String,
    /// Instance that it says it is.
    #[arg(long)]
    pub instance: String,
    /// End when standard input is closed.
    #[arg(long)]
    pub exit_with_parent: bool,
}
