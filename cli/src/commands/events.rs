//! `meshfed events`.

use crate::args::EventsArgs;
use crate::client::Client;
use crate::failure::Outcome;
use crate::output::{Format, Ui, print};
use crate::render::event as screen;
use api::rest::event::EventList;

/// How long one question of `--watch` waits; the API allows 60 s.
const WATCH_MS: u64 = 30_000;

/// Prints events, oldest first; with `--watch` until Ctrl-C.
///
/// # Errors
/// The site does not answer.
pub async fn run(args: &EventsArgs, client: &Client, ui: &Ui) -> Outcome {
    let ask = |after: u64, wait_ms: u64| async move {
        client.get::<EventList>(&format!("/v1/events?after={after}&wait_ms={wait_ms}")).await
    };
    let first = ask(args.after, 0).await?;
    if !args.watch {
        return ui.result(&first, |style| text(&first, style));
    }
    let follow = async {
        let mut list = first;
        loop {
            if !list.events.is_empty() {
                match ui.format {
                    Format::Text => print(&text(&list, ui.style))?,
                    // One document per event, so that each can be read when it comes.
                    Format::Json | Format::Yaml => {
                        for event in &list.events {
                            ui.result(event, |_| String::new())?;
                        }
                    }
                }
            }
            list = ask(list.next, WATCH_MS).await?;
        }
    };
    tokio::select! {
        outcome = follow => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn text(list: &EventList, style: crate::render::style::Style) -> String {
    if list.events.is_empty() {
        return "no events".to_owned();
    }
    let now = runtime::clock::unix_ms();
    let mut lines: Vec<String> = Vec::new();
    if list.dropped {
        lines.push(style.dim("(older ones are no longer kept)"));
    }
    lines.extend(list.events.iter().map(|event| screen::line(event, now, style)));
    lines.join("\n")
}
