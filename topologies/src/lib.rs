//! Topologies: sites, links, workloads and clients in one YAML file, and the plan of processes that comes of it.
//!
//! [`read`] turns a file into a [`Topology`] or says where the mistake is; [`inspect`] names every mistake, and what is
//! suspicious. [`plan::plan`] turns a topology into addresses, processes and links, [`render`] into a drawing. All are
//! pure. What a link does to packets is an [`impairment::Impairment`] for each direction.
//!
//! What this crate deliberately does not know: how a process is started (`chaos/live`), and how the mesh works.

pub mod check;
pub mod impairment;
pub mod link;
pub mod plan;
pub mod quantity;
pub mod render;
pub mod schema;

use api::diagnostic::Diagnostic;
use api::problem::Problem;
use api::yaml::Document;
use schema::Topology;

/// The demo's topology, which is shipped in the binary.
pub const DEMO: &str = include_str!("../examples/demo.yaml");
/// Name under which mistakes in [`DEMO`] are reported.
pub const DEMO_FILE: &str = "topologies/examples/demo.yaml";

/// Reads and checks a topology. `file` is its name as the person gave it, for messages.
///
/// # Errors
/// The first mistake, with its place and what to do.
pub fn read(file: &str, text: &str) -> Result<Topology, Diagnostic> {
    let document = document(file, text)?;
    let topology: Topology = document.read()?;
    match check::check(&topology).errors.first() {
        None => Ok(topology),
        Some(problem) => Err(document.diagnose(problem)),
    }
}

/// What is wrong with a file, and what is suspicious.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The topology, when nothing is wrong.
    pub topology: Option<Topology>,
    /// Mistakes, at most [`check::FINDINGS_MAX`].
    pub errors: Vec<Diagnostic>,
    /// What can be and is probably not meant, at most as many.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a topology and names all that is wrong or suspicious. A mistake in the form of the file hides what comes after.
pub fn inspect(file: &str, text: &str) -> Inspection {
    let read = document(file, text).and_then(|document| Ok((document.read::<Topology>()?, document)));
    let (topology, document) = match read {
        Ok(read) => read,
        Err(mistake) => return Inspection { topology: None, errors: vec![mistake], warnings: Vec::new() },
    };
    let findings = check::check(&topology);
    let placed = |problems: &[Problem]| problems.iter().map(|p| document.diagnose(p)).collect::<Vec<_>>();
    let (errors, warnings) = (placed(&findings.errors), placed(&findings.warnings));
    Inspection { topology: errors.is_empty().then_some(topology), errors, warnings }
}

fn document(file: &str, text: &str) -> Result<Document, Diagnostic> {
    let mut documents = api::yaml::documents(file, text)?.into_iter();
    let Some(document) = documents.next() else {
        return Err(Diagnostic::of_file(file, "the file is empty")
            .help("write a topology: `kind: Topology`, `sites:`"));
    };
    if documents.next().is_some() {
        return Err(
            Diagnostic::of_file(file, "the file has several documents").help("a topology is one document")
        );
    }
    Ok(document)
}
