//! `meshfed export` and `unexport`.

use crate::args::{ExportArgs, UnexportArgs};
use crate::client::Client;
use crate::failure::Outcome;
use crate::output::Ui;
use crate::render::service as screen;
use api::rest::change::ChangeReply;

fn path(service: &model::service::ServiceName, dry_run: bool) -> String {
    let query = if dry_run { "?dry_run=true" } else { "" };
    format!("/v1/exports/{}/{}{query}", service.namespace, service.name)
}

/// Offers a service.
///
/// # Errors
/// The site does not answer, or has no such service.
pub async fn export(args: &ExportArgs, client: &Client, ui: &Ui) -> Outcome {
    let reply: ChangeReply = client.put(&path(&args.service, args.dry_run), None::<&()>).await?;
    ui.result(&reply, |style| screen::exported(&args.service.to_string(), &client.name, &reply, style))
}

/// Stops offering it, after saying who loses it.
///
/// # Errors
/// The site does not answer, or the person says no.
pub async fn unexport(args: &UnexportArgs, client: &Client, ui: &Ui) -> Outcome {
    let preview: ChangeReply = client.delete(&path(&args.service, true)).await?;
    if args.dry_run {
        return ui
            .result(&preview, |_| screen::unexported(&args.service.to_string(), &client.name, &preview));
    }
    if !preview.sites.is_empty() {
        let lose = crate::render::words::list(&preview.sites);
        ui.confirm(&format!("{lose} will no longer be offered {}. Go on?", args.service), args.yes)?;
    }
    let reply: ChangeReply = client.delete(&path(&args.service, false)).await?;
    ui.result(&reply, |_| screen::unexported(&args.service.to_string(), &client.name, &reply))
}
