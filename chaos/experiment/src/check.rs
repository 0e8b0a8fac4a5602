//! What serde cannot see: names that must exist in the topology, times that must fit into the run.

use crate::schema::{End, Experiment, FAULTS_MAX, Fault, LENGTH_MAX, Timed, Way};
use api::problem::Problem;
use api::suggest::nearest;
use std::time::Duration;
use topologies::impairment::{DELAY_MAX, Impairment};
use topologies::plan::{Plan, plan};
use topologies::schema::Topology;

/// Shortest run: below it no bound of time can be seen.
const LENGTH_MIN: Duration = Duration::from_secs(5);

/// Holds an experiment against its topology.
///
/// # Errors
/// The first problem, with the path of its value.
pub fn check(experiment: &Experiment, topology: &Topology) -> Result<(), Problem> {
    let length = experiment.length.0;
    if length < LENGTH_MIN || length > Duration::from_secs(LENGTH_MAX) {
        return Err(Problem::at("length", format!("a run cannot last {}", experiment.length))
            .help(format!("write 5s to {}m", LENGTH_MAX / 60)));
    }
    if topology.clients.is_empty() {
        return Err(Problem::at("topology", "the topology has no client, so there is no load to judge by")
            .help("add one under `clients:` of the topology"));
    }
    if experiment.faults.len() > FAULTS_MAX {
        return Err(Problem::at("faults", format!("there are {} faults", experiment.faults.len()))
            .help(format!("write at most {FAULTS_MAX}")));
    }
    // The block of addresses does not matter for names.
    let plan = plan(topology, 0);
    for (at, timed) in experiment.faults.iter().enumerate() {
        fault(timed, length, &plan).map_err(|problem| problem.under(&format!("faults.{at}")))?;
    }
    Ok(())
}

/// The fault that a line names, if the mesh of `plan` can have it.
///
/// # Errors
/// It names none or several, or what the plan does not have.
pub fn one_fault(timed: &Timed, plan: &Plan) -> Result<Fault, Problem> {
    let mut named = timed.named();
    if named.len() != 1 {
        let found = if named.is_empty() { "no fault is named" } else { "several faults are named at once" };
        return Err(Problem::at("", found)
            .help("write one of cut, impair, kill, freeze, restart for each line of `faults`"));
    }
    let fault = named.remove(0);
    match &fault {
        Fault::Cut(at) => way(at, plan).map_err(|problem| problem.under("cut"))?,
        Fault::Impair(impair) => {
            way(&impair.way(), plan).map_err(|problem| problem.under("impair"))?;
            // What is not named stays as the topology has it, which is checked there.
            let kept = Impairment { delay: DELAY_MAX, ..Impairment::NONE };
            impair.with.of(kept).check().map_err(|problem| problem.under("impair.with"))?;
        }
        Fault::Kill(target) => parts(target, plan, "kill")?,
        Fault::Freeze(target) => parts(target, plan, "freeze")?,
        Fault::Restart(target) => parts(target, plan, "restart")?,
    }
    Ok(fault)
}

fn fault(timed: &Timed, length: Duration, plan: &Plan) -> Result<(), Problem> {
    one_fault(timed, plan)?;
    if timed.at.0 >= length {
        return Err(Problem::at(
            "at",
            format!("at {} the run of {} is over", timed.at, api::text::Span(length)),
        )
        .help("let it begin earlier, or make `length` longer"));
    }
    if timed.every.is_none() && timed.times.is_some() {
        return Err(Problem::at("times", "it says how often, and not how far apart").help("add `every:`"));
    }
    if timed.times.is_some_and(|times| times == 0 || usize::from(times) > FAULTS_MAX) {
        return Err(
            Problem::at("times", "a fault cannot happen so often").help(format!("write 1 to {FAULTS_MAX}"))
        );
    }
    if let Some(every) = timed.every {
        let Some(lasts) = timed.lasts else {
            return Err(
                Problem::at("every", "a fault that is repeated must end in between").help("add `for:`")
            );
        };
        if lasts.0 >= every.0 {
            return Err(Problem::at("for", "it would still last when it begins again")
                .help("make `for` shorter than `every`"));
        }
    }
    Ok(())
}

fn parts(target: &crate::part::Target, plan: &Plan, field: &str) -> Result<(), Problem> {
    if target.parts(plan).is_empty() {
        let known: Vec<String> = crate::part::parts(plan)
            .into_iter()
            .map(|part| crate::part::Target::One(part).to_string())
            .collect();
        let near = nearest(&target.to_string(), known.iter().map(String::as_str));
        let help = near.map_or_else(
            || format!("the topology has {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(Problem::at(field, format!("the topology has no {target}")).help(help));
    }
    Ok(())
}

fn way(way: &Way, plan: &Plan) -> Result<(), Problem> {
    end(&way.from, plan).map_err(|problem| problem.under("from"))?;
    let Some(to) = &way.to else { return Ok(()) };
    end(to, plan).map_err(|problem| problem.under("to"))?;
    if plan.link(&way.from.site, &to.site).is_none() {
        return Err(Problem::at("to", format!("`{}` and `{}` are not linked", way.from.site, to.site))
            .help("name two sites that the topology links"));
    }
    Ok(())
}

fn end(end: &End, plan: &Plan) -> Result<(), Problem> {
    let Some(site) = plan.site(&end.site) else {
        let names: Vec<&str> = plan.sites.iter().map(|site| site.name.as_str()).collect();
        let help = nearest(end.site.as_str(), names.iter().copied()).map_or_else(
            || format!("the sites are {}", names.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(Problem::at("", format!("the topology has no site `{}`", end.site)).help(help));
    };
    if let Some(gateway) = &end.gateway
        && !site.gateways.iter().any(|g| g.name == *gateway)
    {
        let names: Vec<&str> = site.gateways.iter().map(|g| g.name.as_str()).collect();
        return Err(Problem::at("", format!("site `{}` has no gateway `{gateway}`", end.site))
            .help(format!("its gateways are {}", names.join(", "))));
    }
    Ok(())
}
