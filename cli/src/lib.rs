//! The one binary, `meshfed`: reads arguments, calls the parts, and prints what came of it.
//!
//! [`run`] is the whole program. A command lives in `commands/`, its arguments in `args/`, its screen in `render/`.
//! Configuration is read here and nowhere else.

pub mod args;
pub mod client;
pub mod commands;
pub mod contexts;
pub mod failure;
pub mod map;
pub mod output;
pub mod render;

use args::Cli;
use clap::Parser;
use failure::{FAILED, Failure, USAGE};
use output::Ui;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `meshfed` with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; anything else is wrong usage. Clap sends each to the right stream.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let mut ui = Ui::detect(cli.global.format());
    let Some(command) = cli.command else {
        return finish(&ui, output::print(&map::map(ui.style)));
    };
    if command.speaks_json() {
        ui = ui.with_json_lines();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return finish(&ui, Err(Failure::caused("the program cannot start its threads", &error)));
        }
    };
    let outcome = runtime.block_on(commands::run(command, &cli.global, &ui));
    // A read of standard input cannot be cancelled, and must not hold up the end.
    runtime.shutdown_background();
    finish(&ui, outcome)
}

fn finish(ui: &Ui, outcome: failure::Outcome) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let text = failure.text();
    if !text.is_empty() {
        let text = match text.strip_prefix("error:") {
            Some(rest) => format!("{}{rest}", ui.progress_style.bad("error:")),
            None => text,
        };
        ui.error(text);
    }
    debug_assert!(failure.code == FAILED || failure.code == USAGE);
    ExitCode::from(failure.code)
}
