//! Experiments: a topology, a load, faults at stated times, and what is expected of the whole.
//!
//! [`read`] turns a file into an [`Experiment`], or says where the mistake is. [`schedule`] turns its faults into
//! moments. Whoever runs it, live or simulated, hands a [`record::Record`] of what was seen to [`judge`], which gives
//! the [`report::Report`]; [`html`] draws that. All of it is pure: nothing here starts, waits for or sends anything.

pub mod check;
pub mod expect;
pub mod html;
pub mod judge;
pub mod part;
pub mod record;
pub mod report;
pub mod schedule;
pub mod schema;
pub mod shipped;

use api::diagnostic::Diagnostic;
use schema::Experiment;
use topologies::schema::Topology;

/// Reads an experiment. `file` is its name as the person gave it, for messages.
///
/// It is checked by itself only; [`check::check`] holds it against its topology.
///
/// # Errors
/// The first mistake, with its place and what to do.
pub fn read(file: &str, text: &str) -> Result<Experiment, Diagnostic> {
    api::yaml::read(file, text)
}

/// Reads an experiment and holds it against the topology that it names.
///
/// # Errors
/// The first mistake of the experiment, with its place and what to do.
pub fn read_for(file: &str, text: &str, topology: &Topology) -> Result<Experiment, Diagnostic> {
    let document = api::yaml::documents(file, text)?.into_iter().next();
    let experiment = read(file, text)?;
    if let (Err(problem), Some(document)) = (check::check(&experiment, topology), document) {
        return Err(document.diagnose(&problem));
    }
    Ok(experiment)
}
