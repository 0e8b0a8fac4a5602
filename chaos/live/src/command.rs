//! Runs one command to its end.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A command that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be started.
    #[error("`{command}` cannot be started")]
    Start {
        /// As it would be typed.
        command: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("`{command}` was not done after {} s and was killed", limit.as_secs())]
    TooLong {
        /// As it would be typed.
        command: String,
        /// What it was given.
        limit: Duration,
    },
    /// It failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Failed {
        /// As it would be typed.
        command: String,
        /// How it ended.
        status: String,
        /// What it said on standard error.
        output: String,
    },
}

/// How commands are run.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The `meshfed` program.
    pub program: PathBuf,
    /// Environment, beside that of this process.
    pub env: Vec<(String, String)>,
    /// What each command is given.
    pub limit: Duration,
}

impl Runner {
    /// Runs `meshfed ARGS` and returns its standard output.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn run(&self, args: &[&str]) -> Result<String, CommandError> {
        let command = format!("meshfed {}", args.join(" "));
        let child = Command::new(&self.program)
            .args(args)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| CommandError::Start { command: command.clone(), source })?;
        let Ok(output) = tokio::time::timeout(self.limit, child.wait_with_output()).await else {
            return Err(CommandError::TooLong { command, limit: self.limit });
        };
        let output = output.map_err(|source| CommandError::Start { command: command.clone(), source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(CommandError::Failed { command, status: output.status.to_string(), output: said });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(limit: Duration) -> Runner {
        Runner { program: "/bin/sh".into(), env: vec![("WORD".into(), "yes".into())], limit }
    }

    #[tokio::test]
    async fn a_command_gives_its_output_or_its_complaint() {
        let runner = shell(Duration::from_secs(30));
        assert_eq!(runner.run(&["-c", "echo $WORD"]).await.expect("ends well"), "yes\n");
        let error = runner.run(&["-c", "echo no >&2; exit 2"]).await.expect_err("fails").to_string();
        assert_eq!(error, "`meshfed -c echo no >&2; exit 2` failed (exit status: 2):\nno");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed() {
        let error = shell(Duration::from_millis(100)).run(&["-c", "exec sleep 60"]).await.expect_err("hangs");
        assert!(matches!(error, CommandError::TooLong { .. }), "{error}");
    }
}
