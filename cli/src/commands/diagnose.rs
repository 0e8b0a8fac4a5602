//! `meshfed diagnose`: what is wrong, seen from outside of the processes where that is possible; and what to do.
//!
//! What the site itself knows comes from its status. Beside that, ports are tried, clocks compared, and the settings of
//! this host looked at, when the site's directory is here.

mod far;
mod here;
mod site;

use crate::args::DiagnoseArgs;
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::diagnose as screen;
use api::rest::status::{PeerStatus, StatusView};
use serde::Serialize;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// Good to know; nothing fails for it.
    Note,
    /// It has to be put right.
    Wrong,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do; empty when nothing.
    pub next: String,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Site that was looked at.
    pub site: String,
    /// Nothing is wrong. Decides the exit code.
    pub healthy: bool,
    /// In the order in which they were made: this host, the site, its peers.
    pub checks: Vec<Check>,
}

/// Where checks note what they find.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    fn ok(&mut self, what: impl Into<String>, seen: impl Into<String>) {
        self.add(Verdict::Ok, what, seen, "");
    }

    fn note(&mut self, what: impl Into<String>, seen: impl Into<String>, next: impl Into<String>) {
        self.add(Verdict::Note, what, seen, next);
    }

    fn wrong(&mut self, what: impl Into<String>, seen: impl Into<String>, next: impl Into<String>) {
        self.add(Verdict::Wrong, what, seen, next);
    }

    fn add(
        &mut self,
        verdict: Verdict,
        what: impl Into<String>,
        seen: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.0.push(Check { what: what.into(), verdict, seen: seen.into(), next: next.into() });
    }

    /// Something that a command would have failed with.
    fn failed(&mut self, verdict: Verdict, what: impl Into<String>, failure: &Failure) {
        let notes = |label: &str| {
            let of_label = failure.notes.iter().filter(|(found, _)| *found == label);
            of_label.map(|(_, text)| text.replace('\n', "; ")).collect::<Vec<_>>().join("; ")
        };
        let because = notes("because");
        let seen =
            if because.is_empty() { failure.what.clone() } else { format!("{}: {because}", failure.what) };
        self.add(verdict, what, seen, notes("do"));
    }
}

/// Makes all checks; exit code 1 when something is wrong.
///
/// # Errors
/// Something is wrong, or the peer that was named is not linked.
pub async fn run(args: &DiagnoseArgs, client: &Client, ui: &Ui) -> Outcome {
    let mut checks = Checks::default();
    let before = runtime::clock::unix_ms();
    let asked = client.get::<StatusView>("/v1/status").await;
    let middle = before + runtime::clock::unix_ms().saturating_sub(before) / 2;
    match asked {
        Err(failure) => {
            checks.failed(Verdict::Wrong, format!("federation of {}", client.context.site), &failure);
            here::check(client, None, &mut checks).await;
        }
        Ok(status) => {
            let peers = chosen(&status, args)?;
            site::check(client, &status, middle, args.peer.as_ref(), &mut checks);
            if args.peer.is_none() {
                here::check(client, Some(&status), &mut checks).await;
            }
            for peer in peers {
                far::check(client, &status, peer, &mut checks).await;
            }
        }
    }
    let healthy = checks.0.iter().all(|check| check.verdict != Verdict::Wrong);
    let report = Report { site: client.context.site.to_string(), healthy, checks: checks.0 };
    ui.result(&report, |style| screen::report(&report, style))?;
    if healthy { Ok(()) } else { Err(Failure::silent()) }
}

/// The peers that are to be looked at.
fn chosen<'a>(status: &'a StatusView, args: &DiagnoseArgs) -> Result<Vec<&'a PeerStatus>, Failure> {
    let Some(wanted) = &args.peer else { return Ok(status.peers.iter().collect()) };
    match status.peers.iter().find(|peer| peer.site == wanted.as_str()) {
        Some(peer) => Ok(vec![peer]),
        None => {
            let linked: Vec<&String> = status.peers.iter().map(|peer| &peer.site).collect();
            let seen = match linked.is_empty() {
                true => "it has no link at all".to_owned(),
                false => format!("it is linked with {}", crate::render::words::list(&linked)),
            };
            Err(Failure::new(format!("{} has no link with {wanted}", status.site.name))
                .seen(seen)
                .fix(format!("link them: meshfed link {} {wanted}", status.site.name)))
        }
    }
}
