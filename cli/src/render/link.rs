//! Screens of `link` and `unlink`.

use super::style::Style;
use super::words;
use api::rest::link::{LinkView, UnlinkReply};
use api::rest::site::SiteView;
use std::net::SocketAddr;
use std::time::Duration;

/// One site, as it was found.
pub fn checking(first: bool, name: &str, address: SocketAddr, site: &SiteView) -> String {
    let word = if first { "checking" } else { "" };
    format!(
        "  {word:<10} {name:<6} {:<16} meshfed {:<6} trust domain {}   ok",
        address.to_string(),
        site.version,
        site.trust_domain
    )
}

/// What was compared.
pub fn checked(clock_difference_ms: u64, gateways: &str) -> String {
    format!(
        "  {0:<10} clocks differ by {clock_difference_ms} ms · names, ids and trust domains are distinct\n  {0:<10} \
         {gateways}",
        ""
    )
}

/// The result of `link`; `links` are the link as the first and as the second site see it.
pub fn linked(one: &str, other: &str, took: Duration, links: &[LinkView], style: Style) -> String {
    let first = links.first();
    let paths = first.map_or(0, |link| link.paths_live);
    let mut parts = vec![words::plural(paths.into(), "path", "paths")];
    if let Some(rtt) = first.and_then(|link| link.rtt_ms) {
        parts.push(format!("RTT {rtt:.1} ms"));
    }
    if let Some(link) = first {
        let offered = u64::try_from(link.offers.len()).unwrap_or(u64::MAX);
        let taken = u64::try_from(link.takes.len()).unwrap_or(u64::MAX);
        parts.push(format!("{} offered by {one}", words::plural(offered, "service", "services")));
        parts.push(format!("{taken} by {other}"));
    }
    format!(
        "{}: {}\n\n{}",
        style.good(&format!("linked {one} and {other} in {:.1} s", took.as_secs_f64())),
        parts.join(", "),
        next(one)
    )
}

/// The result of `link accept`.
pub fn accepted(own: &str, link: &LinkView, took: Duration, style: Style) -> String {
    let state = match link.state.as_str() {
        "pending" => format!("{} has to confirm it, which takes a moment", link.site),
        state => format!("{} is {state}", link.site),
    };
    format!(
        "{}: {state}\n\n{}",
        style.good(&format!(
            "linked {own} and {} ({}) in {:.1} s",
            link.site,
            link.trust_domain,
            took.as_secs_f64()
        )),
        next(own)
    )
}

fn next(site: &str) -> String {
    let export = format!("meshfed export shop/cart --context {site}");
    format!(
        "next: {export:<44} offer a service to linked sites\n      {:<44} see paths and catalogs",
        "meshfed status"
    )
}

/// What `unlink` will stop, before it asks.
pub fn would_unlink(own: &str, reply: &UnlinkReply) -> String {
    let names =
        |services: &[String]| if services.is_empty() { "nothing".to_owned() } else { words::list(services) };
    format!(
        "{own} and {} part:\n  no longer offered to {}  {}\n  no longer taken from {}  {}",
        reply.site,
        reply.site,
        names(&reply.offered),
        reply.site,
        names(&reply.taken)
    )
}

/// The result of `unlink` at one site.
pub fn unlinked(own: &str, reply: &UnlinkReply, took: Duration) -> String {
    let told = if reply.peer_told {
        "peer told".to_owned()
    } else if reply.note.is_empty() {
        "peer does not answer; it will withdraw ours when its lease ends".to_owned()
    } else {
        format!("{}; it will withdraw ours when its lease ends", reply.note)
    };
    format!("unlinked {own} from {} in {:.1} s, {told}", reply.site, took.as_secs_f64())
}
