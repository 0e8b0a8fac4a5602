//! `meshfed token`: lets an agent or a gateway join.

use crate::args::{TokenArgs, TokenKind};
use crate::client::Client;
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::{Format, Ui};
use crate::render::words;
use api::rest::token::{TokenKind as ApiKind, TokenReply, TokenRequest};
use api::text::Text;
use std::time::Duration;

/// Makes a token. For people the token alone goes to standard output, so that it can be redirected to a file.
///
/// # Errors
/// The site does not answer or refuses.
pub async fn run(args: &TokenArgs, client: &Client, ui: &Ui) -> Outcome {
    let expires_in_s = u32::try_from(args.valid.0.as_secs())
        .map_err(|_| Failure::usage(format!("a token cannot be valid for {}", args.valid)))?;
    let (kind, word, flag) = match args.kind {
        TokenKind::Agent => (ApiKind::Agent, "agent", "agent"),
        TokenKind::Gateway => (ApiKind::Gateway, "gateway", "gateway"),
    };
    let request = TokenRequest {
        kind,
        name: Text(args.name.clone()),
        namespaces: args.namespaces.iter().cloned().map(Text).collect(),
        accounts: args.accounts.iter().cloned().map(Text).collect(),
        expires_in_s: Some(expires_in_s),
    };
    let reply: TokenReply = client.post("/v1/tokens", &request).await?;
    let left = Duration::from_millis(reply.expires_at_ms.saturating_sub(runtime::clock::unix_ms()));
    let file =
        args.to.as_ref().map_or_else(|| format!("{}.token", args.name), |path| path.display().to_string());
    ui.progress(format!(
        "token for {word} {} of {}: works once, within {}; next, on its host:\n  meshfed {flag} {} --join {file}",
        args.name,
        client.name,
        words::age(left + Duration::from_millis(500)),
        args.name
    ));
    if let Some(path) = &args.to {
        let text = format!("{}\n", reply.token);
        runtime::file::write_atomic(path, text.as_bytes(), runtime::file::MODE_SECRET)
            .or_fail(|| "the token cannot be kept".to_owned())?;
        let told = TokenReply { token: String::new(), ..reply };
        return if ui.format == Format::Text { Ok(()) } else { ui.result(&told, |_| String::new()) };
    }
    ui.result(&reply, |_| reply.token.clone())
}
