//! What an operator would tell of, each as a scenario that reads as text.

use crate::world::{PORT, caller, group, idle, import, own_group, service, site, start, view};
use model::decision::{Decision, ExplainRequest, RefusalCode, Verdict};
use model::ids::EndpointId;
use model::routing::{Import, PeerState};
use model::service::PortKey;
use model::tunnel::Target;
use policy::{Ask, Outcome, Router, Tried};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A router of site west, and a clock.
struct Story {
    router: Router,
    now: Instant,
}

impl Story {
    fn begin() -> Self {
        let now = start();
        let mut story = Self { router: Router::new(site("west"), "gateway gw-0".to_owned()), now };
        story.peer("east", PeerState::Connected, 61);
        story.peer("dc", PeerState::Connected, 74);
        story.endpoints("hh", 3, 1);
        story
    }

    fn peer(&mut self, name: &str, state: PeerState, rtt_ms: u64) {
        self.router.handle_peer(&site(name), view(state, rtt_ms), self.now);
    }

    /// Endpoints of west, healthy ones of east (of 3) and of dc (of 1).
    fn endpoints(&mut self, own: &str, east: u32, dc: u32) {
        let groups =
            vec![group("dc", "eu/ams", dc, 1), group("east", "eu/fra", east, 3), own_group("us/sjc/a", own)];
        self.router.handle_import(import(groups), self.now);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.router.handle_timeout(self.now);
    }

    fn decide(&self) -> Decision {
        self.ask(None, &BTreeSet::new())
    }

    fn ask(&self, target: Option<&Target>, tried: &BTreeSet<Tried>) -> Decision {
        let (service, caller) = (service(), caller("us/sjc/a"));
        let ask = Ask { service: &service, port: PORT, caller: &caller, target, tried, open_streams: &idle };
        self.router.decide(&ask, self.now, 7)
    }

    /// `west 100 east 0 dc 0`.
    #[track_caller]
    fn expect_shares(&self, expected: &str) {
        let reason = self.decide().reason;
        let share = |tier: &model::decision::TierReason| {
            format!("{} {:.0}", tier.groups[0].id.site, tier.share * 100.0)
        };
        assert_eq!(reason.tiers.iter().map(share).collect::<Vec<_>>().join(" "), expected, "{reason:#?}");
    }

    fn notes(&self) -> Vec<String> {
        self.decide().reason.tiers.into_iter().map(|tier| tier.note).collect()
    }
}

#[test]
fn traffic_goes_to_the_nearest_and_over_when_it_fails_and_back_gently() {
    let mut story = Story::begin();
    story.expect_shares("west 100 east 0 dc 0");
    story.endpoints("uu", 3, 1);
    story.expect_shares("west 0 east 100 dc 0");
    story.peer("east", PeerState::Unreachable, 61);
    story.expect_shares("west 0 east 0 dc 100");
    story.wait(60);
    story.peer("east", PeerState::Connected, 61);
    story.endpoints("hh", 3, 1);
    story.expect_shares("west 0 east 0 dc 100");
    assert_eq!(story.notes()[0], "recovered: load returns in 10 s");
    story.wait(15);
    // Half of west's two endpoints can take 70 %; then east, of which half of three can take 70 %, the rest.
    story.expect_shares("west 70 east 30 dc 0");
    assert_eq!(story.notes()[0], "recovered: 50 % of its load is back");
    story.wait(5);
    story.expect_shares("west 100 east 0 dc 0");
    assert_eq!(story.notes(), ["", "", ""]);
}

#[test]
fn a_recovered_site_takes_everything_at_once_when_nobody_else_can() {
    let mut story = Story::begin();
    story.endpoints("uu", 3, 1);
    story.wait(60);
    story.peer("east", PeerState::Unreachable, 61);
    story.peer("dc", PeerState::Unreachable, 74);
    story.endpoints("hh", 3, 1);
    story.expect_shares("west 100 east 0 dc 0");
    assert_eq!(story.notes()[0], "recovered: load returns in 10 s, but nobody else can take it");
}

#[test]
fn a_site_that_is_seen_for_the_first_time_waits_for_nothing() {
    let mut story = Story::begin();
    story.endpoints("uu", 0, 0);
    // East's path comes up only now, and its endpoints after that.
    story.wait(60);
    let mut late = Story { router: Router::new(site("west"), "gateway gw-0".to_owned()), now: story.now };
    late.endpoints("hh", 3, 1);
    late.expect_shares("west 100 dc 0 east 0");
    late.endpoints("uu", 3, 1);
    late.wait(3);
    late.peer("east", PeerState::Connected, 61);
    late.expect_shares("west 0 east 100 dc 0");
}

#[test]
fn a_flapping_site_pulls_no_traffic_to_and_fro() {
    let mut story = Story::begin();
    for _ in 0..10 {
        story.endpoints("uu", 3, 1);
        story.wait(5);
        story.endpoints("hh", 3, 1);
        story.expect_shares("west 0 east 100 dc 0");
        story.wait(5);
        story.expect_shares("west 0 east 100 dc 0");
    }
}

#[test]
fn endpoints_that_vanish_count_for_ten_minutes() {
    let mut story = Story::begin();
    story.wait(30);
    story.endpoints("h", 3, 1);
    story.expect_shares("west 70 east 30 dc 0");
    story.wait(599);
    story.expect_shares("west 70 east 30 dc 0");
    story.wait(1);
    story.expect_shares("west 100 east 0 dc 0");
}

#[test]
fn an_owner_may_declare_less_than_was_seen() {
    let mut story = Story::begin();
    story.wait(30);
    let mut groups = vec![group("east", "eu/fra", 3, 3), own_group("us/sjc/a", "h")];
    groups[1].declared_total = Some(1);
    story.router.handle_import(import(groups), story.now);
    story.expect_shares("west 100 east 0");
}

#[test]
fn an_endpoint_that_keeps_failing_is_set_aside_for_a_while() {
    let mut story = Story::begin();
    let bad: EndpointId = "west-us-sjc-a-0".parse().expect("valid");
    for _ in 0..3 {
        story.router.handle_outcome(&service(), &bad, Outcome::Failed, story.now);
    }
    story.expect_shares("west 70 east 30 dc 0");
    assert_eq!(story.decide().reason.tiers[0].groups[0].outliers, 1);
    story.wait(5);
    story.expect_shares("west 100 east 0 dc 0");
}

#[test]
fn an_endpoint_that_keeps_failing_is_used_when_nobody_else_is_healthy() {
    let mut story = Story::begin();
    story.endpoints("hu", 0, 0);
    let bad: EndpointId = "west-us-sjc-a-0".parse().expect("valid");
    (0..3).for_each(|_| story.router.handle_outcome(&service(), &bad, Outcome::Failed, story.now));
    let decision = story.decide();
    assert!(!decision.reason.panic, "its check passes");
    assert_eq!(Tried::of(&decision.verdict), Some(Tried::Endpoint(bad)));
}

#[test]
fn when_nothing_is_healthy_last_known_endpoints_are_used_local_first_and_it_says_so() {
    let mut story = Story::begin();
    story.endpoints("ud", 0, 0);
    let decision = story.decide();
    assert!(decision.reason.panic);
    assert_eq!(decision.reason.pick, "last known endpoints, since none is healthy");
    assert_eq!(
        Tried::of(&decision.verdict),
        Some(Tried::Endpoint("west-us-sjc-a-0".parse().expect("valid")))
    );
    assert_eq!(decision.reason.tiers[0].share, 1.0);
}

#[test]
fn a_site_that_sees_all_others_gone_says_so() {
    let mut story = Story::begin();
    story.endpoints("", 3, 1);
    story.peer("east", PeerState::Unreachable, 61);
    story.peer("dc", PeerState::Expired, 74);
    let decision = story.decide();
    assert!(decision.reason.isolated);
    let Verdict::Refused(refusal) = decision.verdict else { panic!("{decision:?}") };
    assert_eq!(refusal.code, RefusalCode::NoPath);
    assert_eq!(
        refusal.detail,
        "nobody can take shop/cart: west has no endpoint; east is unreachable; dc is expired"
    );
}

#[test]
fn what_is_unknown_is_refused_with_what_there_is() {
    let story = Story::begin();
    let (cart, other, caller, tried) =
        (service(), "shop/x".parse().expect("valid"), caller(""), BTreeSet::new());
    let detail = |service, port| {
        let ask = Ask { service, port, caller: &caller, target: None, tried: &tried, open_streams: &idle };
        match story.router.decide(&ask, story.now, 1).verdict {
            Verdict::Refused(refusal) => format!("{}: {}", refusal.code, refusal.detail),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(detail(&other, PORT), "unknown service: no service shop/x is known in west");
    assert_eq!(detail(&cart, PortKey::tcp(1)), "unknown port: shop/cart has no port 1/tcp; it has 8080/tcp");
}

#[test]
fn a_gateway_further_on_serves_only_what_was_asked_for_and_sends_the_rest_back() {
    let mut story = Story::begin();
    let site_target = Target::Site(site("west"));
    let there = Target::Locality(site("west"), "us/sjc/a".parse().expect("valid"));
    let elsewhere = Target::Locality(site("west"), "us/lax".parse().expect("valid"));
    for target in [&site_target, &there] {
        assert!(matches!(story.ask(Some(target), &BTreeSet::new()).verdict, Verdict::Endpoint { .. }));
    }
    let refused = |decision: Decision| match decision.verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let refusal = refused(story.ask(Some(&elsewhere), &BTreeSet::new()));
    assert_eq!((refusal.code, refusal.retryable), (RefusalCode::NoEndpoint, true));
    // Not healthy here, and healthy elsewhere: the first process moves on.
    story.endpoints("uu", 3, 1);
    assert!(refused(story.ask(Some(&site_target), &BTreeSet::new())).retryable);
    // Healthy nowhere: last known ones.
    story.endpoints("uu", 0, 0);
    assert!(story.ask(Some(&site_target), &BTreeSet::new()).reason.panic);
}

#[test]
fn a_stream_for_one_endpoint_reaches_that_one_or_none() {
    let story = Story::begin();
    let target = |id: &str| Target::Endpoint(site("west"), id.parse().expect("valid"));
    let second = target("west-us-sjc-a-1");
    let decision = story.ask(Some(&second), &BTreeSet::new());
    let id: EndpointId = "west-us-sjc-a-1".parse().expect("valid");
    assert_eq!(Tried::of(&decision.verdict), Some(Tried::Endpoint(id.clone())));
    assert!(matches!(
        story.ask(Some(&second), &BTreeSet::from([Tried::Endpoint(id)])).verdict,
        Verdict::Refused(_)
    ));
    assert!(matches!(story.ask(Some(&target("other")), &BTreeSet::new()).verdict, Verdict::Refused(_)));
}

#[test]
fn explain_tells_now_and_then_from_the_same_decision() {
    let story = Story::begin();
    let open = |id: &EndpointId| if id.as_str().ends_with('0') { 3 } else { 4 };
    let mut request = ExplainRequest {
        service: service(),
        port: None,
        caller: caller("us/sjc/a"),
        without: BTreeSet::new(),
    };
    let told = story.router.explain(&request, &open, story.now, 1);
    assert_eq!(told.node, "gateway gw-0");
    assert_eq!(told.port, Some(PORT));
    assert_eq!(told.now.iter().map(|(_, open)| *open).collect::<Vec<_>>(), [3, 4]);
    let then = told.then.expect("east takes over");
    assert_eq!((then.groups[0].id.site.as_str(), then.share), ("east", 1.0));
    assert_eq!(
        told.decision.reason.pick,
        "by least open streams of two: west-us-sjc-a-0 has 3, west-us-sjc-a-1 has 4"
    );

    request.without = BTreeSet::from([site("east"), site("west")]);
    let told = story.router.explain(&request, &open, story.now, 1);
    assert_eq!(told.now, []);
    assert!(matches!(&told.decision.verdict, Verdict::Site { group } if group.site == site("dc")));
    assert_eq!(told.decision.reason.tiers[0].note, "west is left out");
    assert_eq!(told.then, None, "nobody else could serve");
}

#[test]
fn names_of_endpoints_are_those_that_are_healthy_else_the_last_known() {
    let mut story = Story::begin();
    let names = |story: &Story| story.router.named_endpoints(&service()).len();
    story.endpoints("hu", 3, 1);
    assert_eq!(names(&story), 1);
    story.endpoints("uu", 3, 1);
    assert_eq!(names(&story), 2);
    assert!(story.router.is_served(&service(), None));
    assert!(!story.router.is_served(&"shop/x".parse().expect("valid"), None));
}

#[test]
fn streams_to_a_site_have_somewhere_else_to_go_while_another_is_healthy() {
    let mut story = Story::begin();
    story.endpoints("uu", 3, 0);
    assert!(!story.router.is_served(&service(), Some(&site("east"))));
    story.endpoints("uu", 3, 1);
    assert!(story.router.is_served(&service(), Some(&site("east"))));
    story.peer("dc", PeerState::Unreachable, 74);
    assert!(!story.router.is_served(&service(), Some(&site("east"))));
}

#[test]
fn what_is_gone_is_forgotten_in_the_end() {
    let mut story = Story::begin();
    story.router.handle_import_removed(&service(), story.now);
    let (at, why) = story.router.poll_timeout().expect("something to forget");
    assert!(at > story.now && !why.is_empty());
    story.wait(3_601);
    let again: Import = import(vec![group("east", "eu/fra", 1, 1), own_group("us/sjc/a", "h")]);
    story.router.handle_import(again, story.now);
    story.expect_shares("west 100 east 0");
}
