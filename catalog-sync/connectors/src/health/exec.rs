//! A probe by a command.

use super::ProbeFailure;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How much of what a command prints is kept.
const OUTPUT_MAX: usize = 300;
/// How long after its end the output of a command is waited for: a process that it left behind may hold it open.
const OUTPUT_WAIT: Duration = Duration::from_millis(50);

/// Runs a command, without a shell; it passes when it ends with 0 in time. Past that, it is killed with all that it
/// started.
pub(super) async fn run(command: &[String], limit: Duration) -> Result<(), ProbeFailure> {
    let (program, arguments) = command.split_first().map_or(("", command), |(p, rest)| (p.as_str(), rest));
    let cannot = |error: std::io::Error| ProbeFailure::CannotRun {
        program: program.to_owned(),
        reason: error.to_string(),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what it started can be killed with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut output = String::new();
    let ended = {
        let reading = async {
            let (out, err) = tokio::join!(read(stdout), read(stderr));
            if err.is_empty() { out } else { err }
        };
        tokio::pin!(reading);
        let ending = async {
            let mut read = None;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    text = &mut reading, if read.is_none() => read = Some(text),
                }
            };
            output = match read {
                Some(text) => text,
                None => timeout(OUTPUT_WAIT, &mut reading).await.unwrap_or_default(),
            };
            status
        };
        timeout(limit, ending).await
    };
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(ProbeFailure::Exit { program: program.to_owned(), how: how(status), output }),
        Ok(Err(error)) => Err(cannot(error)),
        Err(_) => {
            kill(&mut child).await;
            Err(ProbeFailure::TimedOut { limit })
        }
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no code".to_owned(),
    }
}

/// Kills the group, then the process itself in case there is no `kill`, and takes its status away.
async fn kill(child: &mut Child) {
    /// A kill takes effect at once, unless the process hangs in the kernel; nothing waits for that.
    const KILL_WAIT: Duration = Duration::from_secs(1);
    if let Some(id) = child.id() {
        let group = Command::new("kill")
            .args(["-KILL", "--", &format!("-{id}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = timeout(KILL_WAIT, group).await;
    }
    let _ = timeout(KILL_WAIT, child.kill()).await;
}

/// Reads to the end, so that the command is never held up; keeps the beginning, in one line.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut piece) = (Vec::new(), [0; 1_024]);
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        let room = OUTPUT_MAX.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&piece[..room]);
    }
    let text = String::from_utf8_lossy(&kept);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
