//! The verbs. Each has a function that does it; screens are in [`crate::render`].

pub mod apply;
pub mod backup;
pub mod chaos;
pub mod context;
pub mod demo;
pub mod diagnose;
pub mod drain;
pub mod events;
pub mod explain;
pub mod export;
pub mod expose;
pub mod get;
pub mod init;
pub mod link;
pub mod process;
pub mod status;
pub mod token;
pub mod topology;
pub mod trial;
pub mod trust;
pub mod unlink;
pub mod up;

use crate::args::{Cli, Command, CompletionArgs, Global};
use crate::client::Client;
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use clap::CommandFactory;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// Longest text that is taken from a file or standard input.
const TEXT_MAX: usize = api::yaml::FILE_MAX;

/// Does what was asked.
///
/// # Errors
/// What failed, for a person.
pub async fn run(command: Command, global: &Global, ui: &Ui) -> Outcome {
    let name = global.context.as_deref();
    let client = || Client::of(name);
    match command {
        Command::Init(args) => init::run(&args, ui),
        Command::Context(args) => context::run(args, ui),
        Command::Site(args) => process::site::run(&args).await,
        Command::Federation(args) => process::federation(&args).await,
        Command::Gateway(args) => process::gateway::run(args, ui).await,
        Command::Agent(args) => process::agent::run(args, ui).await,
        Command::Token(args) => token::run(&args, &client()?, ui).await,
        Command::Link(args) => link::run(args, name, ui).await,
        Command::Unlink(args) => unlink::run(&args, name, ui).await,
        Command::Export(args) => export::export(&args, &client()?, ui).await,
        Command::Unexport(args) => export::unexport(&args, &client()?, ui).await,
        Command::Expose(args) => expose::expose(&args, &client()?, ui).await,
        Command::Unexpose(args) => expose::unexpose(&args, &client()?, ui).await,
        Command::Apply(args) => apply::apply(&args, &client()?, ui).await,
        Command::Delete(args) => apply::delete(&args, &client()?, ui).await,
        Command::Get(args) => get::get(&args, &client()?, ui).await,
        Command::Describe(args) => get::describe(&args, &client()?, ui).await,
        Command::Explain(args) => explain::run(&args, name, ui).await,
        Command::Status(args) => status::run(&args, &client()?, ui).await,
        Command::Diagnose(args) => diagnose::run(&args, &client()?, ui).await,
        Command::Events(args) => events::run(&args, &client()?, ui).await,
        Command::Drain(args) => drain::drain(&args, &client()?, ui).await,
        Command::Undrain(args) => drain::undrain(&args, &client()?, ui).await,
        Command::Trust(args) => trust::run(&args, name, ui).await,
        Command::Backup(args) => backup::run(&args, &client()?, ui).await,
        Command::Demo(args) => demo::run(&args, ui).await,
        Command::Up(args) => up::run(&args, ui).await,
        Command::Chaos(args) => chaos::run(args, ui).await,
        Command::Topology(args) => topology::run(&args, ui),
        Command::Version => version(ui),
        Command::Completion(args) => completion(&args),
        Command::Echo(args) => process::echo(args).await,
    }
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    protocol: &'static str,
}

fn version(ui: &Ui) -> Outcome {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        protocol: std::str::from_utf8(model::tunnel::ALPN).expect("an ASCII constant"),
    };
    ui.result(&version, |_| format!("meshfed {} (tunnel {})", version.version, version.protocol))
}

fn completion(args: &CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "meshfed", &mut script);
    crate::output::print(&String::from_utf8_lossy(&script))
}

/// Reads a file that the person named; `-` is standard input.
pub(crate) fn read_input(path: &Path) -> Result<String, Failure> {
    if path.as_os_str() != "-" {
        return runtime::file::read_text(path, TEXT_MAX).or_fail(|| format!("cannot use {}", path.display()));
    }
    let mut text = String::new();
    let limit = u64::try_from(TEXT_MAX).unwrap_or(u64::MAX);
    std::io::stdin()
        .take(limit)
        .read_to_string(&mut text)
        .or_fail(|| "standard input cannot be read".to_owned())?;
    Ok(text)
}
