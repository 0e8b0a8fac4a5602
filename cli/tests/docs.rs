//! The documents say what is so: commands parse, links lead somewhere, what the README promises to run is run.

use clap::Parser;
use meshfed::args::Cli;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli lies one folder deep").to_owned()
}

/// The documents at the top and in docs/, with their texts.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in [root(), root().join("docs")] {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "md") {
                let text = std::fs::read_to_string(entry.path()).expect("readable");
                found.push((entry.path(), text));
            }
        }
    }
    assert!(found.len() >= 5, "the documents were not found");
    found
}

/// Lines of fenced blocks of shell, without comments and redirections.
fn shell_lines(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside && language == "sh";
        } else if inside {
            let line = line.split(" #").next().unwrap_or_default();
            let line = line.split(" > ").next().unwrap_or_default().trim();
            if !line.is_empty() && !line.starts_with('#') {
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

#[test]
fn every_meshfed_command_in_the_documents_is_one_that_meshfed_takes() {
    let mut seen = 0;
    for (path, text) in documents() {
        for line in shell_lines(&text) {
            let words: Vec<&str> = match line.strip_prefix("cargo run --release -- ") {
                Some(rest) => ["meshfed"].into_iter().chain(rest.split_whitespace()).collect(),
                None => line.split_whitespace().collect(),
            };
            if words[0] != "meshfed" {
                continue;
            }
            seen += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{}: `{line}`: {error}", path.display());
            }
        }
    }
    assert!(seen > 10, "only {seen} commands were found");
}

#[test]
fn every_command_of_the_tour_in_the_readme_is_run_by_the_tour_test() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let tour = std::fs::read_to_string(root().join("cli/tests/tour.rs")).expect("tour.rs");
    let tour: String = tour.split_whitespace().collect();
    let begin = readme.find("## Five minutes by hand").expect("the tour stands in the README");
    for line in shell_lines(&readme[begin..]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] != "meshfed" {
            continue;
        }
        // Verb and noun as the test has them: `["drain","gateway"`.
        let verb = format!("[\"{}\",\"{}\"", words[1], words.get(2).copied().unwrap_or_default());
        let alone = format!("[\"{}\"", words[1]);
        let found = tour.contains(&verb) || (words.len() == 2 && tour.contains(&alone));
        assert!(found, "`{line}` is in the README and not in cli/tests/tour.rs");
    }
}

#[test]
fn every_link_between_documents_leads_to_a_file() {
    for (path, text) in documents() {
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap_or_default();
            let found = path.parent().expect("a folder").join(file);
            assert!(found.exists(), "{}: {target} does not exist", path.display());
        }
    }
}

#[test]
fn every_folder_in_the_map_of_the_code_exists() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut seen = 0;
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let folder = line.split('`').nth(1).unwrap_or_default();
        if folder.ends_with('/') {
            seen += 1;
            assert!(root().join(folder).is_dir(), "{folder} does not exist");
        }
    }
    assert!(seen > 15, "the map was not found");
}

/// All source files of the workspace, in one text.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_skipped = name.to_string_lossy().starts_with('.') || name == "target";
        if path.is_dir() && !is_skipped {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("readable"));
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut code = String::new();
    sources(&root(), &mut code);
    let mut seen = 0;
    for (path, text) in documents() {
        for name in text.split('`').skip(1).step_by(2) {
            let is_claim = name.matches('_').count() >= 4
                && !name.starts_with("meshfed_")
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_claim {
                seen += 1;
                assert!(code.contains(&format!("fn {name}(")), "{}: there is no test {name}", path.display());
            }
        }
    }
    assert!(seen > 20, "only {seen} names of tests were found");
}
