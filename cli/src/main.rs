//! `meshfed`

use std::process::ExitCode;

fn main() -> ExitCode {
    meshfed::run(std::env::args_os())
}
