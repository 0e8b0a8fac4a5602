//! `meshfed trust`: the root of a site, rotated in three steps.

use crate::args::{TrustArgs, TrustCommand, TrustStepArgs};
use crate::client::Client;
use crate::contexts::Context;
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use crate::render::trust as screen;
use api::rest::trust::{AdminCertificate, TrustReply, TrustRequest, TrustView};
use identity::key::NodeKey;
use runtime::file::{MODE_PUBLIC, MODE_SECRET, write_atomic};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at who is ready.
const PAUSE: Duration = Duration::from_millis(200);

/// Shows how the roots stand, or takes a step.
///
/// # Errors
/// The site does not answer, the step is not the next one, somebody holds it up, or the person says no.
pub async fn run(args: &TrustArgs, context: Option<&str>, ui: &Ui) -> Outcome {
    let client = Client::of(context)?;
    match &args.command {
        TrustCommand::Status => {
            let view: TrustView = client.get("/v1/trust").await?;
            let now_ms = runtime::clock::unix_ms();
            ui.result(&view, |style| screen::trust(&view, now_ms, style))
        }
        TrustCommand::Rotate(args) => step("rotate", args, client, ui).await,
        TrustCommand::Finish(args) => step("finish", args, client, ui).await,
    }
}

async fn step(verb: &str, args: &TrustStepArgs, client: Client, ui: &Ui) -> Outcome {
    let path = format!("/v1/trust/{verb}");
    let mut request = TrustRequest { force: args.force, dry_run: true, csr_hex: None };
    let preview: TrustReply = client.post(&path, &request).await?;
    let now_ms = runtime::clock::unix_ms();
    if args.dry_run {
        return ui.result(&preview, |style| screen::step(&preview, now_ms, style));
    }
    // What nobody holds up the site refuses or does by itself; what is passed over has to be seen first.
    if args.force {
        preview.passed_over.iter().for_each(|line| ui.progress(format!("  passed over  {line}")));
    }
    let is_held_up = !preview.passed_over.is_empty();
    let finishes = verb == "finish";
    if (finishes && !is_held_up) || (args.force && is_held_up) {
        ui.confirm(&screen::question(&client.name, finishes, is_held_up), args.yes)?;
    }
    let key = NodeKey::generate().or_fail(|| "a key for your certificate cannot be made".to_owned())?;
    request.csr_hex = Some(key.csr_der().iter().map(|byte| format!("{byte:02x}")).collect());
    request.dry_run = false;
    let mut reply: TrustReply = client.post(&path, &request).await?;
    let client = match reply.admin.take() {
        Some(admin) => {
            write_admin(&client.context, &key, &admin)?;
            ui.progress("your certificate was made anew, by the root that signs");
            Client::new(&client.name, &client.context)?
        }
        None => client,
    };
    reply.trust = wait(&client, reply.trust, args.wait.0, ui).await?;
    ui.result(&reply, |style| screen::step(&reply, now_ms, style))
}

/// Waits until nobody holds up the next step, or the time is over.
async fn wait(client: &Client, mut view: TrustView, limit: Duration, ui: &Ui) -> Result<TrustView, Failure> {
    let begin = Instant::now();
    let mut shown = 0;
    while !view.waits_for.is_empty() && begin.elapsed() < limit {
        if view.waits_for.len() != shown {
            shown = view.waits_for.len();
            ui.progress(screen::waiting(&view));
        }
        tokio::time::sleep(PAUSE).await;
        view = client.get("/v1/trust").await?;
    }
    Ok(view)
}

/// Puts the certificate in the place of the one of the context. Where the site's directory is on this host, its CA is read
/// from there, and the site keeps that up to date.
fn write_admin(context: &Context, key: &NodeKey, admin: &AdminCertificate) -> Outcome {
    let write = |path: &Path, text: &str, mode| {
        write_atomic(path, text.as_bytes(), mode).or_fail(|| {
            format!("the step was taken, but your certificate in {} cannot be written", path.display())
        })
    };
    let kept_by_site = context.directory.as_ref().is_some_and(|directory| context.ca.starts_with(directory));
    if !kept_by_site {
        write(&context.ca, &admin.anchors, MODE_PUBLIC)?;
    }
    write(&context.key, &key.to_pem(), MODE_SECRET)?;
    write(&context.certificate, &admin.certificate, MODE_PUBLIC)
}
