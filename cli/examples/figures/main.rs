//! Measures the figures of `docs/figures.md` on real processes: `figures NAME`.
//!
//! The processes of a mesh are this very program under another name: a link called `meshfed` in the mesh's directory
//! points to it, and under that name it is the binary. So one build serves, and the two cannot be of different age.

mod blow;
mod churn;
mod icmp;
mod machine;
mod outage;
mod pair;
mod routed;
mod scrape;
mod screen;
mod size;
mod slow;
mod stage;
mod ways;

use clap::{Parser, Subcommand};
use machine::Watch;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::{Format, Ui};
use serde::Serialize;
use stage::Setting;
use std::path::Path;
use std::process::ExitCode;

/// Measures the figures of docs/figures.md.
#[derive(Debug, Parser)]
#[command(name = "figures", disable_help_subcommand = true)]
struct Args {
    /// The result as one JSON document.
    #[arg(long, global = true)]
    json: bool,
    /// Keep logs and site directories here, an empty or new directory. Default: a temporary one.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
    /// Which figure.
    #[command(subcommand)]
    figure: Figure,
}

/// The figures.
#[derive(Debug, Subcommand)]
enum Figure {
    /// From a change in one site until a client in another one gets the new outcome
    Routed(routed::Args),
    /// An endpoint is killed under load, again and again
    Endpoint(outage::Rounds),
    /// A gateway is killed under load, again and again, while another site serves
    Gateway(outage::Rounds),
    /// A gateway is frozen (SIGSTOP) under load, again and again, while another site serves
    Frozen(outage::Rounds),
    /// The links to a site are cut both ways in silence, again and again, while another site serves
    Silent(outage::Rounds),
    /// A federation is dead for the whole run, and a gateway and an agent restart meanwhile
    Federation(outage::Dead),
    /// Bulk, small requests, new and idle connections: through two gateways, and direct
    Ways(ways::Args),
    /// Many services in one site: memory and bytes on the wire for the site that it is linked to
    Size(size::Args),
    /// Memory after many connections have come and gone
    Churn(churn::Args),
    /// Small requests over thousands of connections, beside some that read bulk slowly
    Slow(slow::Args),
}

/// A figure, as JSON has it.
#[derive(Debug, Serialize)]
struct Result_<T> {
    figure: &'static str,
    goal: String,
    held: bool,
    machine: machine::Machine,
    #[serde(flatten)]
    numbers: T,
}

fn main() -> ExitCode {
    let is_binary = std::env::args_os().next().is_some_and(|name| Path::new(&name).ends_with("meshfed"));
    if is_binary {
        return meshfed::run(std::env::args_os());
    }
    let args = Args::parse();
    let ui = Ui::detect(if args.json { Format::Json } else { Format::Text });
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_fail(|| "the threads do not start".to_owned())
        .and_then(|runtime| runtime.block_on(measure(&args, &ui)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            ui.progress(failure.text());
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and answers whether the goal was held.
async fn measure(args: &Args, ui: &Ui) -> Result<bool, Failure> {
    let program = std::env::current_exe().or_fail(|| "the program cannot find itself".to_owned())?;
    let setting = &Setting { dir: args.dir.clone(), program };
    match &args.figure {
        Figure::Routed(args) => {
            let (numbers, watch) = routed::measure(args, setting, ui).await?;
            let held = numbers.held();
            print(ui, "routed", routed::goal(), held, &watch, numbers, screen::routed)
        }
        Figure::Endpoint(args) => {
            let (numbers, watch) = outage::endpoint(args, setting, ui).await?;
            let held = numbers.failed == 0 && numbers.requests > 0;
            print(ui, "endpoint", "0 failed".to_owned(), held, &watch, numbers, screen::rounds)
        }
        Figure::Gateway(args) => {
            let measured = outage::gateway(args, setting, ui).await?;
            print_rounds(ui, "gateway", outage::GAP_GOAL_MS, measured)
        }
        Figure::Frozen(args) => {
            let measured = outage::frozen(args, setting, ui).await?;
            print_rounds(ui, "frozen", outage::SILENT_GOAL_MS, measured)
        }
        Figure::Silent(args) => {
            let measured = outage::silent(args, setting, ui).await?;
            print_rounds(ui, "silent", outage::SILENT_GOAL_MS, measured)
        }
        Figure::Federation(args) => {
            let (numbers, watch) = outage::federation(args, setting, ui).await?;
            let held = numbers.failed() == 0 && numbers.requests() > 0;
            print(ui, "federation", "0 failed".to_owned(), held, &watch, numbers, screen::dead)
        }
        Figure::Ways(args) => {
            let (numbers, watch) = ways::measure(args, setting, ui).await?;
            let held = numbers.goals().iter().all(ways::Goal::held);
            print(ui, "ways", "as in the rows".to_owned(), held, &watch, numbers, screen::ways)
        }
        Figure::Size(args) => {
            let (numbers, watch) = size::measure(args, setting, ui).await?;
            let goal = format!("one more endpoint takes less than {} bytes", size::GOAL_BYTES);
            let held = numbers.held();
            print(ui, "size", goal, held, &watch, numbers, screen::size)
        }
        Figure::Churn(args) => {
            let (numbers, watch) = churn::measure(args, setting, ui).await?;
            let goal = format!("memory of each process afterwards ≤ {} × before", churn::GOAL);
            let held = numbers.ratio() <= churn::GOAL;
            print(ui, "churn", goal, held, &watch, numbers, screen::churn)
        }
        Figure::Slow(args) => {
            let (numbers, watch) = slow::measure(args, setting, ui).await?;
            let goal = format!("p99 beside slow readers ≤ {} × without, and none fails", slow::GOAL);
            let held = numbers.held();
            print(ui, "slow", goal, held, &watch, numbers, screen::slow)
        }
    }
}

fn print_rounds(
    ui: &Ui,
    figure: &'static str,
    gap_ms: f64,
    (numbers, watch): (outage::Struck, Watch),
) -> Result<bool, Failure> {
    let held = numbers.held_in_flight() && numbers.gap.max_ms <= gap_ms;
    let goal = format!("longest gap ≤ {gap_ms} ms, failed only what was in flight");
    print(ui, figure, goal, held, &watch, numbers, screen::rounds)
}

fn print<T: Serialize>(
    ui: &Ui,
    figure: &'static str,
    goal: String,
    held: bool,
    watch: &Watch,
    numbers: T,
    text: fn(&T, meshfed::render::style::Style) -> String,
) -> Result<bool, Failure> {
    let result = Result_ { figure, goal, held, machine: watch.machine(), numbers };
    ui.result(&result, |style| {
        let verdict = if held { style.good("held") } else { style.bad("missed") };
        let table = text(&result.numbers, style);
        format!("{table}\n\ngoal: {} · {verdict}\n{}", result.goal, result.machine)
    })?;
    Ok(held)
}
