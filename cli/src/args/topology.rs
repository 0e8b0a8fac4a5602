//! Arguments of `topology`.

use super::FilePath;
use clap::{Args, Subcommand, ValueEnum};

/// `topology`
#[derive(Debug, Args)]
pub struct TopologyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TopologyCommand,
}

/// `topology …`
#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Name every mistake of topologies, and what is suspicious; exit code 1 when there is a mistake
    #[command(before_help = "Example: meshfed topology check topologies/examples/three-clouds.yaml")]
    Check(TopologyCheckArgs),
    /// Print what `meshfed up` would start: processes, addresses, ports, files
    #[command(before_help = "Example: meshfed topology plan topologies/examples/three-clouds.yaml")]
    Plan(TopologyPlanArgs),
    /// Draw a topology, as text or as SVG
    #[command(
        before_help = "Example: meshfed topology render topologies/examples/three-clouds.yaml --to clouds.svg"
    )]
    Render(TopologyRenderArgs),
}

/// `topology check`
#[derive(Debug, Args)]
pub struct TopologyCheckArgs {
    /// Topologies; `-`: standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<FilePath>,
}

/// `topology plan`
#[derive(Debug, Args)]
pub struct TopologyPlanArgs {
    /// A topology; `-`: standard input.
    #[arg(value_name = "FILE")]
    pub file: FilePath,
}

/// `topology render`
#[derive(Debug, Args)]
pub struct TopologyRenderArgs {
    /// A topology; `-`: standard input.
    #[arg(value_name = "FILE")]
    pub file: FilePath,
    /// Form of the drawing. Default: svg when it is written to a file that ends in .svg, else text.
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<DrawingFormat>,
    /// Write it to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub to: Option<FilePath>,
}

/// Form of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DrawingFormat {
    /// For a terminal.
    Text,
    /// One image that needs nothing else, for light and dark grounds.
    Svg,
}
