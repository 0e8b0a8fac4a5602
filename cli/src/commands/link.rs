//! `meshfed link`: both ends through two contexts, or one end with an invite.

mod check;

use crate::args::{AcceptArgs, InviteArgs, LinkArgs, LinkCommand};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use crate::render::link as screen;
use crate::render::words;
use api::resource::link::ScopeSpec;
use api::rest::link::{InviteReply, InviteRequest, LinkList, LinkRequest, LinkView};
use api::text::{Span, Text};
use check::{Ends, clock_warning, inspect, reach};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long both sides are given to connect and to exchange their catalogs.
const SYNC_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Runs `meshfed link`.
///
/// # Errors
/// A check failed and nothing was changed, or a side refused.
pub async fn run(args: LinkArgs, context: Option<&str>, ui: &Ui) -> Outcome {
    match args.command {
        Some(LinkCommand::Invite(invite)) => self::invite(&invite, &Client::of(context)?, ui).await,
        Some(LinkCommand::Accept(accept)) => self::accept(&accept, &Client::of(context)?, ui).await,
        None => {
            let (Some(one), Some(other)) = (&args.one, &args.other) else {
                return Err(Failure::usage("two sites are needed").fix("as in `meshfed link east west`"));
            };
            both(&Client::of(Some(one))?, &Client::of(Some(other))?, args.dry_run, ui).await
        }
    }
}

/// What came of `meshfed link A B`.
#[derive(Debug, Serialize)]
struct Linked {
    took_ms: u64,
    dry_run: bool,
    links: Vec<LinkView>,
}

async fn both(one: &Client, other: &Client, dry_run: bool, ui: &Ui) -> Outcome {
    let begin = Instant::now();
    let ends = inspect(one, other, ui).await?;
    let way = reach(&ends).await?;
    ui.progress(screen::checked(ends.clock_difference_ms, &way.summary));
    if let Some(warning) = clock_warning(ends.clock_difference_ms) {
        ui.progress(warning);
    }
    if dry_run {
        let linked = Linked { took_ms: millis(begin), dry_run, links: Vec::new() };
        let text =
            format!("{} and {} can be linked; nothing was changed", ends.one.site.name, ends.other.site.name);
        return ui.result(&linked, |_| text);
    }
    // Whoever can be dialled invites; one direction is enough.
    let (inviter, accepter) =
        if way.inviter_is_first { (&ends.one, &ends.other) } else { (&ends.other, &ends.one) };
    let request = InviteRequest {
        to: accepter.site.trust_domain.parse().ok().map(Text),
        offer: Some(ScopeSpec::all()),
        accept: Some(ScopeSpec::all()),
        expires_in_s: None,
    };
    let invite: InviteReply = inviter.client.post("/v1/invites", &request).await?;
    let request = LinkRequest {
        invite: invite.invite,
        offer: Some(ScopeSpec::all()),
        accept: Some(ScopeSpec::all()),
        dry_run: false,
    };
    let _: LinkView = accepter.client.post("/v1/links", &request).await?;
    let links = synced(&ends).await?;
    ui.progress(format!(
        "  linking    invite from {} … accepted by {} … bundles exchanged … catalogs synced",
        inviter.site.name, accepter.site.name
    ));
    let linked = Linked { took_ms: millis(begin), dry_run, links };
    ui.result(&linked, |style| {
        screen::linked(&ends.one.site.name, &ends.other.site.name, begin.elapsed(), &linked.links, style)
    })
}

fn millis(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Waits until each side has a path and the whole catalog of the other; gives the link as each side sees it.
async fn synced(ends: &Ends) -> Result<Vec<LinkView>, Failure> {
    let begin = Instant::now();
    loop {
        let (a, b) = tokio::try_join!(
            find(&ends.one.client, &ends.other.site.name),
            find(&ends.other.client, &ends.one.site.name)
        )?;
        let done = |link: &Option<LinkView>| {
            link.as_ref().is_some_and(|l| l.synced && matches!(l.state.as_str(), "connected" | "degraded"))
        };
        if done(&a) && done(&b) {
            return Ok([a, b].into_iter().flatten().collect());
        }
        if begin.elapsed() > SYNC_LIMIT {
            let seen: Vec<String> = [(&ends.one, &a), (&ends.other, &b)]
                .iter()
                .map(|(end, link)| seen(&end.site.name, link))
                .collect();
            return Err(Failure::new(format!(
                "{} and {} are linked, but their catalogs were not exchanged in {} s",
                ends.one.site.name,
                ends.other.site.name,
                SYNC_LIMIT.as_secs()
            ))
            .seen(seen.join("\n"))
            .fix(format!(
                "see `meshfed status --context {}`; the sites go on trying",
                ends.one.client.name
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn seen(site: &str, link: &Option<LinkView>) -> String {
    match link {
        None => format!("{site} does not know of the link"),
        Some(link) => {
            let catalog = if link.synced { "catalog complete" } else { "catalog not complete" };
            format!(
                "{site}: {} is {}, {} of {} paths, {catalog}",
                link.site, link.state, link.paths_live, link.paths_total
            )
        }
    }
}

async fn find(client: &Client, peer: &str) -> Result<Option<LinkView>, Failure> {
    let list: LinkList = client.get("/v1/links").await?;
    Ok(list.links.into_iter().find(|link| link.site == peer))
}

async fn invite(args: &InviteArgs, client: &Client, ui: &Ui) -> Outcome {
    let request = InviteRequest {
        to: args.to.clone().map(Text),
        offer: Some(ScopeSpec::from(&args.offer.0)),
        accept: args.accept.as_ref().map(|scope| ScopeSpec::from(&scope.0)),
        expires_in_s: Some(seconds(args.valid)?),
    };
    let reply: InviteReply = client.post("/v1/invites", &request).await?;
    let who = args.to.as_ref().map_or_else(|| "any site".to_owned(), |to| format!("a site of {to}"));
    let left = Duration::from_millis(reply.expires_at_ms.saturating_sub(runtime::clock::unix_ms()) + 500);
    ui.progress(format!(
        "invite of {} for {who}: works once, within {}; the other side dials {}\nnext, there: meshfed link accept FILE \
         (it is a secret: send it over a channel that you trust)",
        client.name,
        words::age(left),
        words::list(&reply.addresses)
    ));
    ui.result(&reply, |_| reply.invite.clone())
}

fn seconds(span: Span) -> Result<u32, Failure> {
    u32::try_from(span.0.as_secs())
        .map_err(|_| Failure::usage(format!("an invite cannot be valid for {span}")))
}

async fn accept(args: &AcceptArgs, client: &Client, ui: &Ui) -> Outcome {
    let begin = Instant::now();
    let text = super::read_input(&args.invite)?;
    let request = LinkRequest {
        invite: text.trim().to_owned(),
        offer: Some(ScopeSpec::from(&args.offer.0)),
        accept: args.accept.as_ref().map(|scope| ScopeSpec::from(&scope.0)),
        dry_run: args.dry_run,
    };
    let link: LinkView = client.post("/v1/links", &request).await?;
    let own = client.context.site.to_string();
    ui.result(&link, |style| {
        if args.dry_run {
            format!("the invite is of {} ({}); nothing was changed", link.site, link.trust_domain)
        } else {
            screen::accepted(&own, &link, begin.elapsed(), style)
        }
    })
}
