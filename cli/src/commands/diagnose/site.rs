//! What the site says of itself: its findings, its nodes, its certificates and its clock.

use super::{Checks, Verdict};
use crate::client::Client;
use crate::render::words;
use api::rest::status::{Finding, NodeStatus, StatusView};
use model::ids::SiteId;
use std::time::Duration;

/// Clocks that differ by more are not kept by anything, and will differ by more still.
const CLOCK_WARNING_MS: u64 = 10 * 1_000;
/// Clocks that differ by more make certificates of one side look as if they began in the future.
const CLOCK_MAX_MS: u64 = identity::ca::BACKDATE.as_secs() * 1_000;

/// `here_ms`: the time here when the status was made.
pub(super) fn check(
    client: &Client,
    status: &StatusView,
    here_ms: u64,
    peer: Option<&SiteId>,
    checks: &mut Checks,
) {
    let site = &status.site;
    if peer.is_none() {
        let up = words::age(Duration::from_secs(site.uptime_s));
        let seen = format!("answers at {}, version {}, up for {up}", client.address(), site.version);
        checks.ok(format!("federation of {}", site.name), seen);
        clock(&format!("clock of {}", site.name), site.now_at_ms, here_ms, checks);
    }
    let about = peer.map(|peer| format!("peer {peer}"));
    let findings =
        status.findings.iter().filter(|finding| about.as_ref().is_none_or(|a| *a == finding.subject));
    for found in findings {
        finding(found, checks);
    }
    if peer.is_none() {
        quiet(status, checks);
        status.nodes.iter().for_each(|node| self::node(node, checks));
    }
}

/// What was looked at and is well, so that nobody wonders whether it was.
fn quiet(status: &StatusView, checks: &mut Checks) {
    let site = &status.site;
    let silent = |subject: &str| status.findings.iter().all(|finding| finding.subject != subject);
    if silent("certificates") {
        let left = Duration::from_millis(site.certificates.expires_at_ms.saturating_sub(site.now_at_ms));
        let renewal = words::age(Duration::from_secs(site.certificates.next_renewal_s));
        let seen = format!("good for {}, next renewal in {renewal}", words::age(left));
        checks.ok(format!("certificates of {}", site.name), seen);
    }
    if silent("store") {
        let seen = format!("{} {}, can be written", site.store.kind, words::bytes(site.store.bytes));
        checks.ok(format!("store of {}", site.name), seen);
    }
    if status.findings.iter().all(|finding| !finding.subject.starts_with("connector ")) {
        checks.ok(format!("sources of {}", site.name), "no mistake in any of them");
    }
}

fn finding(finding: &Finding, checks: &mut Checks) {
    let verdict = match finding.severity.as_str() {
        "error" | "warning" => Verdict::Wrong,
        _ => Verdict::Note,
    };
    let why = if finding.why.is_empty() { String::new() } else { format!(" ({})", finding.why) };
    checks.add(verdict, &finding.subject, format!("{}{why}", finding.what), &finding.next);
}

/// A gateway or an agent: its stream, and the virtual IPs that it could not listen on.
fn node(node: &NodeStatus, checks: &mut Checks) {
    let what = format!("{} {}", node.kind, node.name);
    if node.problems.is_empty() {
        return checks.ok(what, "connected; every virtual IP is listened on");
    }
    for problem in &node.problems {
        // The way out follows the last semicolon, where there is one.
        let (seen, next) = problem.split_once("; ").unwrap_or((problem, ""));
        checks.add(judge(node, problem), &what, seen, next);
    }
}

/// Whether it is somebody's choice, or the host may be down on purpose.
fn judge(node: &NodeStatus, problem: &str) -> Verdict {
    let chosen =
        problem.contains("reserved_ports") || problem.contains("a workload of this host has the port");
    let away = node.kind == "agent" && !node.connected;
    if chosen || away { Verdict::Note } else { Verdict::Wrong }
}

/// Compares a clock with the one here.
pub(super) fn clock(what: &str, there_ms: u64, here_ms: u64, checks: &mut Checks) {
    let differ_ms = there_ms.abs_diff(here_ms);
    let next = "set both clocks (NTP)";
    let seconds = differ_ms / 1_000;
    if differ_ms > CLOCK_MAX_MS {
        let seen = format!(
            "{seconds} s from the clock here; handshakes fail, certificates seem to begin in the future"
        );
        checks.wrong(what, seen, next);
    } else if differ_ms > CLOCK_WARNING_MS {
        let limit = CLOCK_MAX_MS / 1_000;
        checks.wrong(
            what,
            format!("{seconds} s from the clock here; from {limit} s on handshakes fail"),
            next,
        );
    } else {
        checks.ok(what, format!("{:.1} s from the clock here", differ_ms as f64 / 1_000.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_far_apart_are_wrong_and_near_ones_are_not() {
        let mut checks = Checks::default();
        for there_ms in [1_000_000, 1_009_000, 1_011_000, 2_000_000] {
            clock("clock of west", there_ms, 1_000_000, &mut checks);
        }
        let verdicts: Vec<Verdict> = checks.0.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Ok, Verdict::Wrong, Verdict::Wrong]);
        assert!(checks.0[3].seen.contains("handshakes fail"), "{:?}", checks.0[3]);
    }

    #[test]
    fn what_a_node_cannot_do_is_said_with_the_way_out() {
        let mut checks = Checks::default();
        let problem =
            "cart is not served at 127.64.0.1:80: ports below 1024 need root; run `sudo meshfed agent setup`";
        let view = NodeStatus {
            kind: "agent".to_owned(),
            name: "vm-1".to_owned(),
            connected: true,
            problems: vec![problem.to_owned()],
            ..NodeStatus::default()
        };
        node(&view, &mut checks);
        let check = &checks.0[0];
        assert_eq!((check.verdict, check.what.as_str()), (Verdict::Wrong, "agent vm-1"));
        assert_eq!(check.next, "run `sudo meshfed agent setup`");
        assert!(check.seen.ends_with("need root"), "{check:?}");
    }
}
