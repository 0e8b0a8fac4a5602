//! Runs the real binary in a directory of its own.

#![allow(
    dead_code,
    reason = "each file of tests is a program of its own, and not every one uses all of this"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A person with a home directory of their own.
pub struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn contexts(&self) -> PathBuf {
        self.path().join(".config/meshfed/contexts.yaml")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("written");
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        self.run_from(args, env, Stdio::null())
    }

    /// Runs a command with a text on its standard input.
    pub fn run_piped(&self, args: &[&str], text: &str) -> Ran {
        self.write("piped", text);
        self.run_from(args, &[], std::fs::File::open(self.path().join("piped")).expect("there").into())
    }

    fn run_from(&self, args: &[&str], env: &[(&str, &str)], input: Stdio) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshfed"));
        command.args(args).current_dir(self.path()).stdin(input);
        for name in ["MESHFED_CONFIG", "MESHFED_CONTEXT", "MESHFED_LOG", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.path()).envs(env.iter().copied());
        let output = command.output().expect("the binary runs");
        Ran {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Runs a command that must do what it should.
    #[track_caller]
    pub fn good(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "meshfed {}\n{}{}", args.join(" "), ran.out, ran.err);
        ran
    }
}
