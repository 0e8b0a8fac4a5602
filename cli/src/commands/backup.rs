//! `meshfed backup`: a copy of a site's store, while it runs.

use crate::args::BackupArgs;
use crate::client::Client;
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::{Format, Ui};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// What a backup was written to.
#[derive(Debug, Serialize)]
struct Written {
    site: String,
    file: String,
    bytes: usize,
}

/// Writes a copy of the store to a file, or to standard output.
///
/// # Errors
/// The site does not answer, or the copy cannot be written.
pub async fn run(args: &BackupArgs, client: &Client, ui: &Ui) -> Outcome {
    let example = format!("meshfed backup --context {} --to store.redb", client.name);
    let Some(path) = &args.to else {
        if ui.format != Format::Text {
            return Err(Failure::usage("a copy of a store is neither JSON nor YAML").fix(example));
        }
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("a copy of a store is not for a terminal").fix(example));
        }
        let bytes = client.backup().await?;
        let mut out = std::io::stdout().lock();
        let written = out.write_all(&bytes).and_then(|()| out.flush());
        return written.or_fail(|| "the backup cannot be written to standard output".to_owned());
    };
    let bytes = client.backup().await?;
    // It has the secrets of invites and tokens that were not used yet.
    runtime::file::write_atomic(path, &bytes, runtime::file::MODE_SECRET)
        .or_fail(|| "the backup cannot be kept".to_owned())?;
    let written = Written { site: client.name.clone(), file: path.display().to_string(), bytes: bytes.len() };
    ui.result(&written, |_| {
        format!(
            "{}: {} bytes, the store of {} as it was just now\nto restore it: stop the site, put it in the place of \
             store.redb in the site's directory, start the site",
            written.file, written.bytes, written.site
        )
    })
}
