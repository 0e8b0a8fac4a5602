//! What people write: YAML of resources and topologies, JSON of the REST API.

#[path = "../../api/tests/decoders/mod.rs"]
mod of_api;
#[path = "../../topologies/tests/decoders/mod.rs"]
mod of_topologies;

pub fn resources(bytes: &[u8]) {
    of_api::read_resources(&String::from_utf8_lossy(bytes));
}

pub fn resources_seeds() -> Vec<Vec<u8>> {
    let documents = of_api::RESOURCES.split("---").map(|document| document.as_bytes().to_vec());
    documents.chain([of_api::RESOURCES.as_bytes().to_vec()]).collect()
}

pub fn topology(bytes: &[u8]) {
    of_topologies::check(&String::from_utf8_lossy(bytes));
}

pub fn topology_seeds() -> Vec<Vec<u8>> {
    let small =
        "kind: Topology\nsites: {a: {hosts: {h: {}}}}\nworkloads: [{service: x/y, site: a, port: 1}]\n";
    vec![topologies::DEMO.as_bytes().to_vec(), small.as_bytes().to_vec()]
}

pub fn rest(bytes: &[u8]) {
    of_api::read_bodies(bytes);
    let _ = serde_json::from_slice::<api::rest::error::ErrorBody>(bytes).map(|body| {
        body.error.diagnostics.iter().map(|diagnostic| diagnostic.to_string().len()).sum::<usize>()
    });
}

pub fn rest_seeds() -> Vec<Vec<u8>> {
    let error = r#"{"error": {"message": "m", "cause": "c", "help": "h", "diagnostics": [{"file": "a.yaml",
        "line": 2, "column": 3, "message": "m", "help": "h", "excerpt": ["a: 1", "b: 2"], "width": 1}]}}"#;
    of_api::BODIES.iter().chain([&error]).map(|body| body.as_bytes().to_vec()).collect()
}
