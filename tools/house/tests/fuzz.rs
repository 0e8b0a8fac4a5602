//! Every decoder that has a fuzz target is fuzzed by the one command.

use house::{files, root};

/// The names in the list of `tools/fuzz`.
fn listed() -> Vec<String> {
    let script = std::fs::read_to_string(root().join("tools/fuzz")).expect("tools/fuzz");
    let (_, list) = script.split_once("targets=(").expect("a list of targets");
    let (list, _) = list.split_once(')').expect("it ends");
    let mut names: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn the_command_runs_every_target_that_there_is() {
    let folder = root().join("fuzz/targets");
    let stem = |path: &std::path::PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut there: Vec<String> = files(&folder, &[".rs"]).iter().filter_map(stem).collect();
    there.sort();
    assert!(there.len() > 10, "{there:?}");
    assert_eq!(listed(), there, "tools/fuzz does not list what is in fuzz/targets");
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("fuzz/Cargo.toml");
    for target in there {
        assert!(
            manifest.contains(&format!("path = \"targets/{target}.rs\"")),
            "{target} is not in fuzz/Cargo.toml"
        );
        let line = std::fs::read_to_string(folder.join(format!("{target}.rs"))).expect("readable");
        assert!(
            line.contains(&format!("fuzz::plant(\"{target}\"")),
            "{target} plants the seeds of another target"
        );
    }
}
