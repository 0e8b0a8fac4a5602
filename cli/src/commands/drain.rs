//! `meshfed drain` and `undrain`.

use crate::args::{DrainArgs, DrainKind, UndrainArgs};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::drain as screen;
use api::rest::drain::{DrainReply, DrainRequest, DrainTarget};
use api::text::Text;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(200);
const BAR: usize = 30;

fn target(kind: DrainKind, name: &str, client: &Client) -> Result<DrainTarget, Failure> {
    let wrong = |e: model::ids::InvalidId| Failure::usage(e.to_string());
    match kind {
        DrainKind::Gateway => Ok(DrainTarget::Gateway { name: Text(name.parse().map_err(wrong)?) }),
        DrainKind::Site => {
            if name != client.context.site.as_str() {
                return Err(Failure::usage(format!(
                    "context {} is site {}, not {name}",
                    client.name, client.context.site.0
                ))
                .fix(format!("a site is drained through its own context: add --context {name}")));
            }
            Ok(DrainTarget::Site)
        }
        DrainKind::Endpoint => {
            let (service, id) =
                name.rsplit_once('/').filter(|(service, _)| service.contains('/')).ok_or_else(|| {
                    Failure::usage(format!("`{name}` is not NAMESPACE/NAME/ENDPOINT"))
                        .fix("see the endpoints with `meshfed describe service NAMESPACE/NAME`")
                })?;
            Ok(DrainTarget::Endpoint {
                service: Text(service.parse().map_err(wrong)?),
                id: Text(id.parse().map_err(wrong)?),
            })
        }
    }
}

/// Lets something take nothing new, and waits until what is open is done.
///
/// # Errors
/// There is no such thing, the site does not answer, or the person says no.
pub async fn drain(args: &DrainArgs, client: &Client, ui: &Ui) -> Outcome {
    let target = target(args.kind, &args.name, client)?;
    let mut request = DrainRequest { target, drain: true, dry_run: true };
    let preview: DrainReply = client.post("/v1/drain", &request).await?;
    for line in screen::plan(&preview) {
        ui.progress(line);
    }
    if args.dry_run {
        return ui.result(&preview, |_| screen::done(&preview));
    }
    if args.kind == DrainKind::Site {
        ui.confirm(&format!("Drain the whole site {}?", args.name), args.yes)?;
    }
    request.dry_run = false;
    let begin = Instant::now();
    let mut reply: DrainReply = client.post("/v1/drain", &request).await?;
    let at_first = reply.open_streams;
    let mut shown = String::new();
    while !reply.done && begin.elapsed() < args.wait.0 {
        let bar = format!("  {} {} open", screen::bar(reply.open_streams, at_first, BAR), reply.open_streams);
        if bar != shown {
            ui.progress(&bar);
            shown = bar;
        }
        tokio::time::sleep(PAUSE).await;
        reply = client.post("/v1/drain", &request).await?;
    }
    ui.result(&reply, |_| screen::done(&reply))
}

/// Lets it take load again.
///
/// # Errors
/// There is no such thing, or the site does not answer.
pub async fn undrain(args: &UndrainArgs, client: &Client, ui: &Ui) -> Outcome {
    let target = target(args.kind, &args.name, client)?;
    let request = DrainRequest { target, drain: false, dry_run: args.dry_run };
    let reply: DrainReply = client.post("/v1/drain", &request).await?;
    ui.result(&reply, |_| screen::done(&reply))
}
