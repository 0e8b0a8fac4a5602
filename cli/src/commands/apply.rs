//! `meshfed apply` and `delete`: resources from files. All of it, or nothing.

use crate::args::{ApplyArgs, DeleteArgs};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::change as screen;
use api::rest::change::{ApplyReply, ApplyRequest, DeleteRequest, FileText};
use std::path::PathBuf;

/// Reads files, and checks them here already, so that a mistake is found also when the site is down.
fn read(paths: &[PathBuf]) -> Result<Vec<FileText>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let name =
            if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
        let text = super::read_input(path)?;
        api::resource::parse(&name, &text)?;
        files.push(FileText { name, text });
    }
    Ok(files)
}

/// Writes resources.
///
/// # Errors
/// A file has a mistake, or the site does not answer or refuses; nothing was changed then.
pub async fn apply(args: &ApplyArgs, client: &Client, ui: &Ui) -> Outcome {
    let request = ApplyRequest { files: read(&args.files)?, dry_run: args.dry_run };
    let reply: ApplyReply = client.post("/v1/apply", &request).await?;
    ui.result(&reply, |style| screen::changes(&reply, style))
}

/// Deletes the resources that files name, after saying which.
///
/// # Errors
/// As [`apply`], or the person says no.
pub async fn delete(args: &DeleteArgs, client: &Client, ui: &Ui) -> Outcome {
    let mut request = DeleteRequest { files: read(&args.files)?, names: Vec::new(), dry_run: true };
    let preview: ApplyReply = client.post("/v1/delete", &request).await?;
    if args.dry_run {
        return ui.result(&preview, |style| screen::changes(&preview, style));
    }
    let number = preview.changes.iter().filter(|change| change.change == "deleted").count();
    if number > 0 {
        ui.progress(screen::changes(&preview, ui.progress_style));
        ui.confirm(&format!("Delete {number} from {}?", client.name), args.yes)?;
    }
    request.dry_run = false;
    let reply: ApplyReply = client.post("/v1/delete", &request).await?;
    ui.result(&reply, |style| screen::changes(&reply, style))
}
