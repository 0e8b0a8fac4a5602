//! What is looked at before two sites are linked. Nothing is changed here.

use crate::client::Client;
use crate::failure::Failure;
use crate::output::Ui;
use crate::render::link as screen;
use api::rest::link::LinkList;
use api::rest::reach::{ReachReply, ReachRequest};
use api::rest::site::SiteView;
use api::text::Text;

/// Clocks that differ by more make certificates of one side look as if they began in the future. Less than a second more
/// may come of how they were read.
const CLOCK_MAX_MS: u64 = identity::ca::BACKDATE.as_secs() * 1000 + 999;
/// Clocks that differ by more are not kept by anything, and will differ by more still.
const CLOCK_WARNING_MS: u64 = 10 * 1000;

/// A warning about clocks with which the link still works.
pub(super) fn clock_warning(difference_ms: u64) -> Option<String> {
    (CLOCK_WARNING_MS..=CLOCK_MAX_MS).contains(&difference_ms).then(|| {
        format!(
            "  warning: the clocks differ by {} s; from {} s on new connections fail, since certificates seem to begin in \
             the future: set both clocks (NTP)",
            difference_ms / 1000,
            CLOCK_MAX_MS / 1000
        )
    })
}

/// One side.
pub(super) struct End {
    pub client: Client,
    pub site: SiteView,
    /// Its clock against ours.
    offset_ms: i64,
}

/// Both sides.
pub(super) struct Ends {
    pub one: End,
    pub other: End,
    pub clock_difference_ms: u64,
}

/// Asks both sites who they are, and makes sure that they can be linked.
pub(super) async fn inspect(one: &Client, other: &Client, ui: &Ui) -> Result<Ends, Failure> {
    let mut found = Vec::new();
    for (at, client) in [one, other].into_iter().enumerate() {
        let before = runtime::clock::unix_ms();
        let site: SiteView = client.get("/v1/site").await?;
        let now = runtime::clock::unix_ms();
        let here = before + now.saturating_sub(before) / 2;
        ui.progress(screen::checking(at == 0, &client.name, client.address(), &site));
        let offset_ms =
            i64::try_from(site.now_at_ms).unwrap_or(i64::MAX) - i64::try_from(here).unwrap_or(i64::MAX);
        found.push(End { client: client.clone(), site, offset_ms });
    }
    let (Some(other), Some(one)) = (found.pop(), found.pop()) else { unreachable!("two were pushed") };
    let clock_difference_ms = one.offset_ms.abs_diff(other.offset_ms);
    let ends = Ends { one, other, clock_difference_ms };
    distinct(&ends)?;
    let links: LinkList = ends.one.client.get("/v1/links").await?;
    if links.links.iter().any(|link| link.uid == ends.other.site.uid && link.state != "pending") {
        return Err(nothing(format!(
            "{} and {} are linked already",
            ends.one.site.name, ends.other.site.name
        ))
        .fix("see `meshfed status`"));
    }
    Ok(ends)
}

fn nothing(what: String) -> Failure {
    Failure::new(format!("{what}; nothing was changed"))
}

fn distinct(ends: &Ends) -> Result<(), Failure> {
    let (a, b) = (&ends.one.site, &ends.other.site);
    if a.uid == b.uid {
        return Err(nothing(format!(
            "{} and {} are the same site",
            ends.one.client.name, ends.other.client.name
        ))
        .seen(format!("both have the uid {}", a.uid))
        .fix("name two sites; a copied site directory is no second site, make one with `meshfed init`"));
    }
    if a.name == b.name {
        return Err(nothing(format!("both sites are named {}", a.name))
            .fix("make one of them anew with another name"));
    }
    if a.trust_domain == b.trust_domain {
        return Err(nothing(format!("both sites have the trust domain {}", a.trust_domain))
            .fix("make one of them anew with another --trust-domain"));
    }
    if a.clusterset != b.clusterset {
        return Err(nothing(format!("{} and {} are in different clustersets", a.name, b.name))
            .seen(format!("{} is in {}, {} in {}", a.name, a.clusterset, b.name, b.clusterset))
            .fix("only sites that share names can be linked: set the same `clusterset` in both site.yaml files"));
    }
    if ends.clock_difference_ms > CLOCK_MAX_MS {
        return Err(nothing(format!(
            "the clocks of {} and {} differ by {} s",
            a.name,
            b.name,
            ends.clock_difference_ms / 1000
        ))
        .fix("set both clocks (NTP), then run this again"));
    }
    for site in [a, b] {
        if !site.gateways.iter().any(|gateway| gateway.connected) {
            return Err(nothing(format!("no gateway of {} runs", site.name)).fix(format!(
                "start one: `meshfed site {0}`, or `meshfed gateway` with a token",
                site.name
            )));
        }
    }
    Ok(())
}

/// Who can dial whom.
pub(super) struct Way {
    /// The first site can be dialled by the second, so it may invite.
    pub inviter_is_first: bool,
    /// In words.
    pub summary: String,
}

/// Lets the gateways of each side probe those of the other.
pub(super) async fn reach(ends: &Ends) -> Result<Way, Failure> {
    let (to_one, to_other) = tokio::try_join!(probe(&ends.other, &ends.one), probe(&ends.one, &ends.other))?;
    let answered = |reply: &ReachReply, end: &End| {
        end.site
            .gateways
            .iter()
            .filter(|g| reply.probes.iter().any(|p| p.address == g.address && p.outcome == "answered"))
            .count()
    };
    let (one, other) = (&ends.one.site, &ends.other.site);
    if !to_one.reached() && !to_other.reached() {
        let tried: Vec<String> =
            to_one.lines(&other.name).into_iter().chain(to_other.lines(&one.name)).collect();
        let private = |site: &SiteView| site.gateways.iter().any(|g| is_private(&g.address));
        let likely = if private(one) || private(other) {
            "a firewall blocks UDP 4430, or the advertised address is private"
        } else {
            "a firewall or security group blocks UDP 4430"
        };
        return Err(Failure::new(format!(
            "{} cannot reach any gateway of {}, nor the reverse",
            other.name, one.name
        ))
        .note("tried", tried.join("\n"))
        .note("likely", likely)
        .fix(format!(
            "open UDP 4430, or set `advertise` in {}'s site.yaml, then run this again; nothing was changed",
            one.name
        )));
    }
    let (a, b) = (answered(&to_one, &ends.one), answered(&to_other, &ends.other));
    let (all_a, all_b) = (one.gateways.len(), other.gateways.len());
    let summary = if a == b && all_a == all_b {
        format!("{a} of {all_a} gateways reachable each way")
    } else {
        format!("{a} of {all_a} gateways of {} and {b} of {all_b} of {} reachable", one.name, other.name)
    };
    Ok(Way { inviter_is_first: to_one.reached(), summary })
}

async fn probe(from: &End, to: &End) -> Result<ReachReply, Failure> {
    let addresses =
        to.site.gateways.iter().filter_map(|gateway| gateway.address.parse().ok().map(Text)).collect();
    from.client.post("/v1/reach", &ReachRequest { addresses }).await
}

fn is_private(address: &str) -> bool {
    match address.parse().map(|address: std::net::SocketAddr| address.ip()) {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_drift_apart_are_warned_of_while_the_link_still_works() {
        assert_eq!(clock_warning(9_999), None);
        for ms in [10_000, 5 * 60_000, 10 * 60_000] {
            let warning = clock_warning(ms).expect("a warning");
            assert!(
                warning.contains(&format!("differ by {} s", ms / 1000)) && warning.contains("NTP"),
                "{warning}"
            );
        }
        assert_eq!(clock_warning(CLOCK_MAX_MS + 1), None, "that is an error");
    }
}
