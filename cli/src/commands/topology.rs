//! `meshfed topology`: checks, plans and draws topologies. Nothing is started.

use crate::args::{
    DrawingFormat, TopologyArgs, TopologyCheckArgs, TopologyCommand, TopologyPlanArgs, TopologyRenderArgs,
};
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::{Format, Ui, print};
use crate::render::topology::{Checked, Planned, checked, planned};
use serde::Serialize;
use std::path::Path;
use topologies::plan::{Plan, plan};

/// Second number of the addresses that are shown; a run takes the first block that is free.
const BLOCK: u8 = 16;

/// Does what was asked.
///
/// # Errors
/// A file cannot be read or has a mistake, or the drawing cannot be written.
pub fn run(args: &TopologyArgs, ui: &Ui) -> Outcome {
    match &args.command {
        TopologyCommand::Check(args) => check(args, ui),
        TopologyCommand::Plan(args) => show_plan(args, ui),
        TopologyCommand::Render(args) => render(args, ui),
    }
}

fn check(args: &TopologyCheckArgs, ui: &Ui) -> Outcome {
    let mut all = Vec::new();
    for file in &args.files {
        let text = super::read_input(file)?;
        let found = topologies::inspect(&file.display().to_string(), &text);
        all.push(Checked::of(&file.display().to_string(), found));
    }
    let is_good = all.iter().all(|file| file.errors.is_empty());
    ui.result(&all, |style| all.iter().map(|file| checked(file, style)).collect::<Vec<_>>().join("\n"))?;
    if is_good { Ok(()) } else { Err(Failure::silent()) }
}

fn show_plan(args: &TopologyPlanArgs, ui: &Ui) -> Outcome {
    let plan = read(&args.file)?;
    ui.result(&Planned::of(&plan), |_| planned(&plan))
}

fn read(file: &Path) -> Result<Plan, Failure> {
    let text = super::read_input(file)?;
    Ok(plan(&topologies::read(&file.display().to_string(), &text)?, BLOCK))
}

/// What was drawn where.
#[derive(Debug, Serialize)]
struct Drawn {
    file: String,
    bytes: usize,
}

fn render(args: &TopologyRenderArgs, ui: &Ui) -> Outcome {
    let is_svg = |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg"));
    let by_name =
        if args.to.as_deref().is_some_and(is_svg) { DrawingFormat::Svg } else { DrawingFormat::Text };
    let example = "meshfed topology render FILE --format svg --to FILE.svg";
    if ui.format != Format::Text {
        return Err(Failure::usage("a drawing is neither JSON nor YAML").fix(format!(
            "choose its form with --format, as in `{example}`, or use `meshfed topology plan`"
        )));
    }
    let plan = read(&args.file)?;
    let drawing = match args.format.unwrap_or(by_name) {
        DrawingFormat::Text => topologies::render::text(&plan),
        DrawingFormat::Svg => topologies::render::svg(&plan),
    };
    let Some(path) = &args.to else { return print(&drawing) };
    let mut bytes = drawing.into_bytes();
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    runtime::file::write_atomic(path, &bytes, runtime::file::MODE_PUBLIC)
        .or_fail(|| "the drawing cannot be kept".to_owned())?;
    let drawn = Drawn { file: path.display().to_string(), bytes: bytes.len() };
    ui.result(&drawn, |_| format!("{}: {} bytes", drawn.file, drawn.bytes))
}
