//! Topologies: sites, links, workloads and clients in one YAML file, and the plan of processes that comes of it.
//!
//! [`read`] turns a file into a [`Topology`] or says where the mistake is; [`plan::plan`] turns a topology into
//! addresses, processes and links. Both are pure.
//!
//! What this crate deliberately does not know: how a process is started (`chaos/live`), and how the mesh works.

pub mod check;
pub mod plan;
pub mod schema;

use api::diagnostic::Diagnostic;
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
    let topology: Topology = document.read()?;
    check::check(&topology).map_err(|problem| document.diagnose(&problem))?;
    Ok(topology)
}
