//! Ctrl-C in the demo: everything is ended and removed, and that is said.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::Home;

/// Processes whose command line names this directory.
fn processes(directory: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(directory))
        .map(|line| line.replace('\0', " "))
        .collect()
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let home = Home::new();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_meshfed"))
        .args(["demo", "--json"])
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let directory = home.path().display().to_string();
    let begin = Instant::now();
    // In the middle of the start: some processes run, others do not yet.
    while processes(&directory).len() < 4 {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "nothing was started: {:?}",
            processes(&directory)
        );
        assert!(demo.try_wait().expect("can be asked").is_none(), "it has ended already");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().expect("kill runs");
    assert!(interrupt.success());
    let output = demo.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped: every process is ended, the files are removed"), "{said}");
    assert!(output.stdout.is_empty());
    let begin = Instant::now();
    while !processes(&directory).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20), "left behind: {:?}", processes(&directory));
        std::thread::sleep(Duration::from_millis(50));
    }
    let left: Vec<_> =
        std::fs::read_dir(home.path()).expect("there").flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
