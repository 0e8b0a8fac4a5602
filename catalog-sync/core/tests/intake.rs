//! Claims about the intake, one scenario each.

mod support;

use model::endpoint::Health;
use model::node::{SourceChange, SourceEvent};
use std::time::Duration;
use support::{Bench, agent, config, files, instance, secs, service, spec};
use sync_core::event::Cause;
use sync_core::intake::{Limits, Restored};
use sync_core::refused::Refused;
use sync_core::source::SourceState;

#[test]
fn silence_and_a_lost_connection_remove_nothing() {
    let (mut bench, one, _, files) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    bench.list(&files, &[("shop/web", "web-1", 80)]);
    bench.gone(&one);
    bench.gone(&files);
    bench.run_for(secs(10));
    assert_eq!(bench.health("shop/cart", "vm-1"), Some(Health::Healthy));
    bench.run_for(secs(100_000));
    assert_eq!(bench.health("shop/web", "web-1"), Some(Health::Healthy), "a file has no lease");
}

#[test]
fn half_a_list_removes_nothing_and_a_complete_one_does() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "a", 80), ("shop/cart", "b", 80)]);
    bench.open(&one);
    bench.say(&one, SourceChange::Init).expect("taken");
    bench.say(&one, SourceChange::InitApply(instance(&one, "shop/cart", "a", 80, 1))).expect("taken");
    bench.settle();
    assert!(bench.endpoint("shop/cart", "b").is_some());
    // The connection is lost before the end: the half list counts for nothing.
    bench.open(&one);
    bench.settle();
    assert!(bench.endpoint("shop/cart", "b").is_some());
    bench.list(&one, &[("shop/cart", "a", 80)]);
    bench.settle();
    assert!(bench.endpoint("shop/cart", "b").is_none());
    assert_eq!(bench.changes.last().expect("told").cause, Cause::NotListed(one));
}

#[test]
fn a_service_goes_with_its_last_endpoint_and_after_it() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "a", 80), ("shop/cart", "b", 80)]);
    bench.settle();
    bench.delete(&one, "shop/cart", "a");
    bench.settle();
    assert!(bench.service("shop/cart").is_some());
    bench.delete(&one, "shop/cart", "b");
    bench.settle();
    assert!(bench.catalog.is_empty());
    let keys: Vec<_> = bench.changes.iter().map(|change| change.key.clone()).collect();
    let of = |wanted: &model::catalog::OwnKey, from: usize| {
        keys.iter().skip(from).position(|key| key == wanted).map(|at| at + from).expect("told")
    };
    let service_key = model::catalog::OwnKey::Service(service("shop/cart"));
    let endpoint_key = model::catalog::OwnKey::Endpoint(service("shop/cart"), "b".parse().expect("valid"));
    assert!(of(&service_key, 0) < of(&endpoint_key, 0));
    assert!(of(&endpoint_key, 3) < of(&service_key, 3));
}

#[test]
fn three_missed_renewals_make_unhealthy_and_two_minutes_make_gone() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    bench.run_with(secs(60), &[&one]);
    assert_eq!(bench.health("shop/cart", "vm-1"), Some(Health::Healthy));
    bench.run_for(secs(16));
    assert_eq!(bench.health("shop/cart", "vm-1"), Some(Health::Unhealthy));
    bench.say(&one, SourceChange::Renew).expect("taken");
    bench.settle();
    assert_eq!(bench.health("shop/cart", "vm-1"), Some(Health::Healthy), "a renewal brings it back");
    bench.run_for(secs(119));
    assert_eq!(bench.health("shop/cart", "vm-1"), Some(Health::Unhealthy));
    bench.run_for(secs(2));
    assert_eq!(bench.health("shop/cart", "vm-1"), None);
    let refused = bench.say(&one, SourceChange::Renew).expect_err("nothing is left to renew");
    assert!(refused.needs_list(), "{refused}");
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    assert_eq!(bench.health("shop/cart", "vm-1"), Some(Health::Healthy));
}

#[test]
fn a_process_that_stood_still_ends_no_lease() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    bench.settle();
    // The whole process was stopped for an hour: its first timer fires late, and the renewals are still in the socket.
    bench.now += secs(3_600);
    bench.intake.handle_timeout(bench.now);
    bench.drain();
    bench.say(&one, SourceChange::Renew).expect("taken");
    bench.settle();
    assert_eq!(bench.health("shop/cart", "vm-1"), Some(Health::Healthy));
    bench.run_for(secs(125));
    assert_eq!(bench.health("shop/cart", "vm-1"), None);
}

#[test]
fn an_endpoint_belongs_to_the_source_that_first_said_it() {
    let (mut bench, one, two, _) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "x", 80)]);
    bench.list(&two, &[("shop/cart", "x", 80)]);
    bench.settle();
    assert_eq!(bench.owner("shop/cart", "x"), Some(&one));
    let conflict = bench.conflicts.first().cloned().expect("told");
    assert_eq!((&conflict.winner, &conflict.loser), (&one, &two));
    assert_eq!(
        conflict.to_string(),
        "agent vm-2 claims endpoint x of shop/cart, which belongs to agent vm-1"
    );
    assert_eq!(bench.intake.conflicts().collect::<Vec<_>>(), vec![conflict]);
    // What the loser says or deletes does not touch it.
    bench.delete(&two, "shop/cart", "x");
    bench.settle();
    assert_eq!(bench.owner("shop/cart", "x"), Some(&one));
    assert!(bench.conflicts.is_empty());
    bench.apply(&two, "shop/cart", "x", 80);
    bench.settle();
    bench.delete(&one, "shop/cart", "x");
    bench.settle();
    assert_eq!(bench.owner("shop/cart", "x"), Some(&two), "it frees when its owner deletes it");
    assert!(bench.conflicts.is_empty());
}

#[test]
fn of_two_specs_the_older_stands_and_both_serve() {
    let (mut bench, one, two, _) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "a", 80)]);
    bench.list(&two, &[("shop/cart", "b", 81)]);
    bench.settle();
    assert_eq!(bench.service("shop/cart"), Some(&spec(80)));
    assert!(bench.endpoint("shop/cart", "b").is_some());
    assert_eq!(bench.conflicts.len(), 1);
    bench.apply(&two, "shop/cart", "b", 80);
    bench.settle();
    assert!(bench.conflicts.is_empty());
    bench.apply(&two, "shop/cart", "b", 81);
    bench.delete(&one, "shop/cart", "a");
    bench.settle();
    assert_eq!(bench.service("shop/cart"), Some(&spec(81)));
    assert!(bench.conflicts.is_empty());
}

#[test]
fn an_event_outside_the_scope_is_refused_and_changes_nothing() {
    let one = agent("vm-1");
    let mut bench = Bench::new(&[(one.clone(), config(&one, Some(&["shop"])))], Restored::default());
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    bench.settle();
    let before = bench.catalog.clone();
    let of = |source, name| SourceChange::Apply(instance(&source, name, "vm-1", 80, 2));
    for (change, says) in [
        (of(one.clone(), "pay/api"), "namespace pay is outside its scope"),
        (of(agent("vm-2"), "shop/cart"), "reached through the agent on vm-2"),
        (of(files(), "shop/cart"), "reached directly at 10.0.0.1"),
        (SourceChange::Delete(service("pay/api"), "x".parse().expect("valid")), "namespace pay"),
    ] {
        let refused = bench.say(&one, change).expect_err("refused").to_string();
        assert!(refused.contains(says), "{refused}");
    }
    bench.settle();
    assert_eq!(bench.catalog, before);
}

#[test]
fn a_file_cannot_speak_for_an_agent() {
    let (mut bench, one, _, files) = Bench::of_three();
    bench.list(&files, &[]);
    let change = SourceChange::Apply(instance(&one, "shop/cart", "vm-1", 80, 1));
    assert!(matches!(bench.say(&files, change), Err(Refused::ReachOutsideScope { .. })));
}

#[test]
fn a_narrower_scope_withdraws_what_lies_outside() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "vm-1", 80), ("pay/api", "vm-1", 80)]);
    bench.settle();
    bench.intake.register(one.clone(), config(&one, Some(&["shop"])), bench.now).expect("known");
    bench.settle();
    assert!(bench.endpoint("shop/cart", "vm-1").is_some());
    assert!(bench.endpoint("pay/api", "vm-1").is_none());
    assert_eq!(bench.changes.last().expect("told").cause, Cause::OutOfScope(one));
}

#[test]
fn an_invalid_instance_is_refused_and_does_not_end_what_was_said_before() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    bench.open(&one);
    bench.say(&one, SourceChange::Init).expect("taken");
    for breaks in [
        |i: &mut model::node::Instance| i.endpoint.weight = 0,
        |i: &mut model::node::Instance| i.endpoint.weight = 1_001,
        |i: &mut model::node::Instance| i.endpoint.ports.clear(),
        |i: &mut model::node::Instance| i.spec.ports.clear(),
        |i: &mut model::node::Instance| i.spec.ports.push(i.spec.ports[0].clone()),
        |i: &mut model::node::Instance| i.endpoint.ports.values_mut().for_each(|port| *port = 0),
    ] {
        let mut broken = instance(&one, "shop/cart", "vm-1", 80, 1);
        breaks(&mut broken);
        let refused = bench.say(&one, SourceChange::InitApply(broken)).expect_err("refused");
        assert!(matches!(refused, Refused::Invalid { .. }), "{refused}");
    }
    bench.say(&one, SourceChange::InitDone).expect("taken");
    bench.settle();
    assert!(bench.endpoint("shop/cart", "vm-1").is_some());
}

#[test]
fn changes_before_the_full_list_and_across_a_gap_are_refused() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.open(&one);
    let apply = SourceChange::Apply(instance(&one, "shop/cart", "vm-1", 80, 1));
    for change in [apply.clone(), SourceChange::Renew, SourceChange::InitDone] {
        assert!(bench.say(&one, change).expect_err("refused").needs_list());
    }
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    bench.sessions.get_mut(&one).expect("open").1 += 1;
    let gap = bench.say(&one, SourceChange::Renew).expect_err("one event is missing");
    assert!(matches!(gap, Refused::Gap { .. }) && gap.needs_list());
    assert!(bench.say(&one, apply).expect_err("refused").needs_list());
    bench.sessions.get_mut(&one).expect("open").1 -= 1;
    assert!(matches!(bench.say(&one, SourceChange::Renew), Err(Refused::Repeated { .. })));
    assert!(bench.endpoint("shop/cart", "vm-1").is_some());
}

#[test]
fn a_list_may_begin_after_any_gap() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.open(&one);
    // What was meant for the connection before arrives on this one, and is refused.
    bench.sessions.get_mut(&one).expect("open").1 = 56;
    assert!(bench.say(&one, SourceChange::Renew).expect_err("refused").needs_list());
    for next in [99, 0] {
        bench.sessions.get_mut(&one).expect("open").1 = next;
        bench.say(&one, SourceChange::Init).expect("taken");
        bench.say(&one, SourceChange::InitDone).expect("taken");
        bench.say(&one, SourceChange::Renew).expect("taken");
    }
}

#[test]
fn an_older_connection_of_the_same_source_is_stale() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    let (old, sequence) = bench.sessions[&one].clone();
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    let event = SourceEvent { sequence: sequence + 1, change: SourceChange::Init };
    let refused = bench.intake.handle_source_event(&old, event, bench.now).expect_err("stale");
    assert!(matches!(refused, Refused::StaleSession { .. }));
    // That the old one ends says nothing of the new one.
    bench.intake.handle_source_gone(&old, bench.now);
    bench.say(&one, SourceChange::Renew).expect("taken");
    assert_eq!(bench.intake.sources().find(|of| of.source == one).expect("known").state, SourceState::Live);
}

#[test]
fn after_a_restart_nothing_goes_before_its_source_has_spoken_or_let_its_lease_pass() {
    let (mut before, one, two, files) = Bench::of_three();
    before.list(&one, &[("shop/cart", "a", 80), ("shop/cart", "old", 80)]);
    before.list(&two, &[("shop/cart", "b", 81)]);
    before.list(&files, &[("shop/web", "w", 80)]);
    before.settle();

    let sources = [&one, &two, &files].map(|source| (source.clone(), config(source, None)));
    let mut bench = Bench::new(&sources, before.stored());
    bench.settle();
    assert_eq!(bench.catalog, before.catalog, "a restart changes nothing");
    assert!(bench.changes.is_empty() && bench.recovered == 0);
    bench.list(&files, &[("shop/web", "w", 80)]);
    // The loser of a conflict comes back first, and does not win by that.
    bench.list(&two, &[("shop/cart", "b", 81), ("shop/cart", "a", 81)]);
    bench.settle();
    assert!(!bench.intake.all_complete());
    assert_eq!(bench.service("shop/cart"), Some(&spec(80)));
    assert_eq!(bench.owner("shop/cart", "a"), Some(&one));
    bench.list(&one, &[("shop/cart", "a", 80)]);
    bench.settle();
    assert_eq!(bench.recovered, 1);
    assert!(bench.endpoint("shop/cart", "old").is_none());

    let mut bench = Bench::new(&sources, before.stored());
    bench.list(&files, &[("shop/web", "w", 80)]);
    bench.list(&two, &[("shop/cart", "b", 81)]);
    bench.run_with(secs(25), &[&two]);
    assert_eq!(bench.health("shop/cart", "a"), Some(Health::Healthy), "it has time to connect anew");
    bench.run_with(secs(20), &[&two]);
    assert_eq!(bench.health("shop/cart", "a"), Some(Health::Unhealthy));
    assert_eq!(bench.recovered, 0);
    bench.run_with(secs(80), &[&two]);
    assert_eq!((bench.health("shop/cart", "a"), bench.recovered), (None, 1));
}

#[test]
fn what_an_unknown_source_left_behind_runs_out() {
    let one = agent("vm-1");
    let mut before = Bench::new(&[(one.clone(), config(&one, None))], Restored::default());
    before.list(&one, &[("shop/cart", "a", 80)]);
    before.settle();
    let mut bench = Bench::new(&[], before.stored());
    bench.run_for(secs(100));
    assert!(bench.endpoint("shop/cart", "a").is_some());
    bench.run_for(secs(25));
    assert!(bench.catalog.is_empty());
    assert_eq!(bench.recovered, 1);
}

#[test]
fn half_of_what_was_stored_is_no_service() {
    let (mut before, one, ..) = Bench::of_three();
    before.list(&one, &[("shop/cart", "a", 80), ("shop/web", "a", 80)]);
    before.settle();
    let mut stored = before.stored();
    stored.services.retain(|(name, ..)| *name == service("shop/cart"));
    stored.endpoints.retain(|(name, ..)| *name == service("shop/web"));
    let mut bench = Bench::new(&[(one.clone(), config(&one, None))], stored);
    bench.settle();
    assert!(bench.catalog.is_empty());
}

#[test]
fn with_nobody_to_wait_for_it_is_recovered_at_once() {
    let one = agent("vm-1");
    let mut bench = Bench::new(&[(one.clone(), config(&one, None))], Restored::default());
    assert_eq!(bench.recovered, 1);
    let late = agent("vm-9");
    bench.intake.register(late.clone(), config(&late, None), bench.now).expect("there is room");
    assert!(bench.intake.all_complete(), "who joins later holds nothing up");
}

#[test]
fn a_flapping_key_is_told_at_most_once_per_coalescing_time() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "vm-1", 80)]);
    bench.run_for(secs(1));
    bench.changes.clear();
    for round in 0..1_000 {
        let change = SourceChange::Apply(instance(&one, "shop/cart", "vm-1", 80, 1 + round % 2));
        bench.say(&one, change).expect("taken");
        bench.run_for(Duration::from_millis(1));
    }
    bench.settle();
    assert!(bench.changes.len() <= 52, "{} changes in one second", bench.changes.len());
    assert_eq!(bench.endpoint("shop/cart", "vm-1").expect("there").weight, 2, "the last word counts");
}

#[test]
fn the_first_change_is_told_at_once() {
    let (mut bench, one, ..) = Bench::of_three();
    bench.list(&one, &[]);
    bench.apply(&one, "shop/cart", "vm-1", 80);
    assert!(bench.endpoint("shop/cart", "vm-1").is_some());
}

#[test]
fn sources_and_endpoints_are_bounded() {
    let limits = Limits { sources: 2, instances_per_source: 2, instances: 3, ..Limits::default() };
    let (one, two) = (agent("vm-1"), agent("vm-2"));
    let sources = [&one, &two].map(|source| (source.clone(), config(source, None)));
    let mut bench = Bench::with(limits, &sources, Restored::default());
    bench.list(&one, &[("shop/cart", "a", 80), ("shop/cart", "b", 80)]);
    let third = SourceChange::Apply(instance(&one, "shop/cart", "c", 80, 1));
    assert!(matches!(bench.say(&one, third), Err(Refused::TooManyInstances { max: 2, .. })));
    bench.list(&two, &[("shop/cart", "x", 80)]);
    let fourth = SourceChange::Apply(instance(&two, "shop/cart", "y", 80, 1));
    assert!(matches!(bench.say(&two, fourth), Err(Refused::SiteFull { max: 3 })));
    // What is there can still change.
    bench.apply(&two, "shop/cart", "x", 80);
    let late = agent("vm-9");
    let refused = bench.intake.register(late.clone(), config(&late, None), bench.now);
    assert!(matches!(refused, Err(Refused::TooManySources { max: 2, .. })));
    assert!(matches!(bench.intake.handle_source_open(&late, bench.now), Err(Refused::UnknownSource { .. })));
}

#[test]
fn a_source_that_is_forgotten_leaves_nothing() {
    let (mut bench, one, two, _) = Bench::of_three();
    bench.list(&one, &[("shop/cart", "x", 80)]);
    bench.list(&two, &[("shop/cart", "x", 80)]);
    bench.intake.forget(&one, bench.now);
    bench.settle();
    assert_eq!(bench.owner("shop/cart", "x"), Some(&two));
    bench.intake.forget(&two, bench.now);
    bench.settle();
    assert!(bench.catalog.is_empty() && bench.conflicts.is_empty());
    assert_eq!(bench.intake.sources().count(), 1);
}
