//! Flags of `trust`.

use clap::{Args, Subcommand};

/// `trust`
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TrustCommand,
}

/// `trust …`: the root of a site, rotated in three steps.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Which root signs, which are published, who has taken them, and the next command
    #[command(before_help = "Example: meshfed trust status --context east")]
    Status,
    /// The next step: first publish the next root, then, once everybody has it, sign with it
    #[command(before_help = "Example: meshfed trust rotate --context east")]
    Rotate(TrustStepArgs),
    /// The last step: the old root counts no more
    #[command(before_help = "Example: meshfed trust finish --context east --yes")]
    Finish(TrustStepArgs),
}

/// `trust rotate`, `trust finish`
#[derive(Debug, Args)]
pub struct TrustStepArgs {
    /// Also when somebody is not ready; says who, and what that means for them.
    #[arg(long)]
    pub force: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until everybody is ready for the step after it, at most this long; 0s: do not wait.
    #[arg(long, default_value = "10s", value_name = "TIME")]
    pub wait: api::text::Span,
}
