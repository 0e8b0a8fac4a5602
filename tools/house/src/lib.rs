//! Reads the repository as text, for the tests that keep its rules: `tests/*.rs`.
//!
//! What it deliberately does not do: build, run or change anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The top folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tools/house lies two folders deep")
        .to_owned()
}

/// All files below `folder` with one of these endings, in order of path; build output and hidden folders are left out.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    open.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// One manifest of the workspace, as far as the rules need it.
#[derive(Debug)]
pub struct Manifest {
    /// Folder, relative to the root.
    pub folder: String,
    /// Name of the package.
    pub name: String,
    /// Keys under `[dependencies]`.
    pub dependencies: Vec<String>,
    /// Keys under `[dev-dependencies]`.
    pub dev_dependencies: Vec<String>,
    /// Lines under the two that do not say `workspace = true`.
    pub not_from_workspace: Vec<String>,
}

/// All manifests of the workspace, by folder.
pub fn manifests() -> BTreeMap<String, Manifest> {
    let root = root();
    files(&root, &["Cargo.toml"])
        .into_iter()
        .filter(|path| path.parent() != Some(&root))
        .map(|path| {
            let manifest = read_manifest(&root, &path);
            (manifest.folder.clone(), manifest)
        })
        .collect()
}

fn read_manifest(root: &Path, path: &Path) -> Manifest {
    let text = std::fs::read_to_string(path).expect("a manifest can be read");
    let folder = path.parent().and_then(|p| p.strip_prefix(root).ok()).expect("below the root");
    let mut manifest = Manifest {
        folder: folder.to_string_lossy().into_owned(),
        name: String::new(),
        dependencies: Vec::new(),
        dev_dependencies: Vec::new(),
        not_from_workspace: Vec::new(),
    };
    let mut section = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let dependency = key.trim().split('.').next().unwrap_or_default().to_owned();
        match section.as_str() {
            "package" if key.trim() == "name" => manifest.name = value.trim().trim_matches('"').to_owned(),
            "dependencies" | "dev-dependencies" => {
                if !line.contains("workspace = true") {
                    manifest.not_from_workspace.push(line.to_owned());
                }
                if section == "dependencies" {
                    manifest.dependencies.push(dependency);
                } else {
                    manifest.dev_dependencies.push(dependency);
                }
            }
            _ => {}
        }
    }
    manifest
}
