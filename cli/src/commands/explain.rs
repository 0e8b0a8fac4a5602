//! `meshfed explain`: where a request would go, and why.

use crate::args::{CallerArg, ExplainArgs};
use crate::client::Client;
use crate::failure::Outcome;
use crate::output::Ui;
use crate::render::explain as screen;
use api::rest::explain::{ExplainRequest, ExplanationView};
use api::text::Text;

/// Asks the site that the caller is in.
///
/// # Errors
/// The site does not answer, or knows no such service.
pub async fn run(args: &ExplainArgs, context: Option<&str>, ui: &Ui) -> Outcome {
    let client = Client::of(args.from.as_deref().or(context))?;
    let request = ExplainRequest {
        service: Text(args.service.service.clone()),
        port: args.service.port,
        identity: args.caller.as_ref().map(|caller| match caller {
            CallerArg::Workload(name) => name.to_string(),
            CallerArg::Id(id) => id.to_string(),
        }),
        locality: args.locality.clone().map(Text),
        node: None,
        without: args.without.iter().cloned().map(Text).collect(),
    };
    let view: ExplanationView = client.post("/v1/explain", &request).await?;
    ui.result(&view, |style| screen::explanation(&view, style))
}
