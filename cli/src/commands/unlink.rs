//! `meshfed unlink`: ends a link at one end, or at both through two contexts.

use crate::args::UnlinkArgs;
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::link as screen;
use api::rest::link::UnlinkReply;
use serde::Serialize;
use std::time::Instant;

#[derive(Debug, Serialize)]
struct Unlinked {
    /// What each end said; the second is missing when it could not be asked.
    ends: Vec<UnlinkReply>,
    /// Why an end could not be asked.
    notes: Vec<String>,
}

/// Ends a link. It takes effect at the first site even if the other is dead.
///
/// # Errors
/// The first site does not answer, or knows no such link.
pub async fn run(args: &UnlinkArgs, context: Option<&str>, ui: &Ui) -> Outcome {
    let (own, peer) = match &args.other {
        Some(other) => (Client::of(Some(args.one.as_str()))?, other),
        None => (Client::of(context)?, &args.one),
    };
    let preview: UnlinkReply = own.delete(&format!("/v1/links/{peer}?dry_run=true")).await?;
    ui.progress(screen::would_unlink(&own.name, &preview));
    if args.dry_run {
        let result = Unlinked { ends: vec![preview], notes: Vec::new() };
        return ui.result(&result, |_| "nothing was changed".to_owned());
    }
    ui.confirm(&format!("Part {} and {peer}?", own.name), args.yes)?;
    let begin = Instant::now();
    let reply: UnlinkReply = own.delete(&format!("/v1/links/{peer}")).await?;
    let mut lines = vec![screen::unlinked(&own.name, &reply, begin.elapsed())];
    let mut result = Unlinked { ends: vec![reply], notes: Vec::new() };
    if args.other.is_some() {
        // The peer may have heard it from the other end already, or be dead; both are fine.
        match other_end(peer.as_str(), own.context.site.as_str()).await {
            Ok(Some(reply)) => result.ends.push(reply),
            Ok(None) => {}
            Err(failure) => {
                lines.push(format!("{peer}: {}", failure.what));
                result.notes.push(failure.what);
            }
        }
    }
    ui.result(&result, |_| lines.join("\n"))
}

async fn other_end(context: &str, peer: &str) -> Result<Option<UnlinkReply>, Failure> {
    let client = Client::of(Some(context))?;
    let links: api::rest::link::LinkList = client.get("/v1/links").await?;
    if !links.links.iter().any(|link| link.site == peer) {
        return Ok(None);
    }
    match client.delete(&format!("/v1/links/{peer}")).await {
        Ok(reply) => Ok(Some(reply)),
        // Between the two calls the word of the peer may have arrived.
        Err(failure) => {
            let links: api::rest::link::LinkList = client.get("/v1/links").await?;
            if links.links.iter().any(|link| link.site == peer) { Err(failure) } else { Ok(None) }
        }
    }
}
