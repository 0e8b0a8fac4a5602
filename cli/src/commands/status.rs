//! `meshfed status`.

use crate::args::StatusArgs;
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::status as screen;
use api::rest::status::StatusView;
use std::time::{Duration, Instant};

const WATCH_PAUSE: Duration = Duration::from_secs(1);
const WAIT_PAUSE: Duration = Duration::from_millis(200);

/// Prints the status; exit code 1 when something needs a person.
///
/// # Errors
/// The site does not answer, or is not healthy.
pub async fn run(args: &StatusArgs, client: &Client, ui: &Ui) -> Outcome {
    if args.watch {
        return watch(client, ui).await;
    }
    let begin = Instant::now();
    let limit = args.wait.map_or(Duration::ZERO, |span| span.0);
    let status = loop {
        let asked: Result<StatusView, Failure> = client.get("/v1/status").await;
        let good = asked.as_ref().is_ok_and(|status| status.healthy);
        if good || begin.elapsed() >= limit {
            break asked?;
        }
        tokio::time::sleep(WAIT_PAUSE).await;
    };
    let now = runtime::clock::unix_ms();
    ui.result(&status, |style| screen::status(&status, now, style))?;
    if status.healthy { Ok(()) } else { Err(Failure::silent()) }
}

async fn watch(client: &Client, ui: &Ui) -> Outcome {
    let mut last = String::new();
    let show = async {
        loop {
            let status: StatusView = client.get("/v1/status").await?;
            let text = screen::status(&status, runtime::clock::unix_ms(), ui.style);
            if text != last {
                ui.result(&status, |_| format!("{text}\n"))?;
                last = text;
            }
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    };
    tokio::select! {
        outcome = show => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
