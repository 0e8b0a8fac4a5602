//! `meshfed chaos inject` and `heal`: faults in what `meshfed up` runs, from another terminal.

use crate::args::{ChaosHealArgs, ChaosInjectArgs, FaultArg, ImpairArgs, TargetArgs, WayArgs};
use crate::contexts::Store;
use crate::failure::{Failure, Outcome};
use crate::output::Ui;
use api::text::{Span, Text};
use experiment::part::Target;
use experiment::schema::{Impair, Timed, Way};
use live::control::{Answer, Order, tell};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use topologies::impairment::{Change, Loss, Reorder};

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    done: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasts: Option<Span>,
}

/// Begins a fault.
///
/// # Errors
/// No mesh runs there, or it refuses.
pub async fn inject(args: &ChaosInjectArgs, ui: &Ui) -> Outcome {
    let timed = timed(&args.fault, args.lasts)?;
    let done = order(args.dir.as_deref(), Order::Inject(Box::new(timed))).await?;
    ui.result(&Done { done: done.clone(), lasts: args.lasts }, |_| match (args.lasts, &args.fault) {
        (_, FaultArg::Restart(_)) => format!("{done}: done"),
        (Some(lasts), _) => format!("{done}, for {lasts}"),
        (None, _) => format!("{done}, until `meshfed chaos heal`"),
    })
}

/// Ends all faults.
///
/// # Errors
/// No mesh runs there.
pub async fn heal(args: &ChaosHealArgs, ui: &Ui) -> Outcome {
    let done = order(args.dir.as_deref(), Order::Heal).await?;
    ui.result(&Done { done: done.clone(), lasts: None }, |_| done)
}

async fn order(folder: Option<&Path>, order: Order) -> Result<String, Failure> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => beside_contexts()?,
    };
    match tell(&folder, &order).await {
        Ok(Answer::Done(words)) => Ok(words),
        Ok(Answer::Refused(why)) => Err(Failure::new("that was not done").seen(why)),
        Err(error) => Err(Failure::caused("no fault was injected", &error).fix(
            "start one with `meshfed up TOPOLOGY`, and set MESHFED_CONFIG as it says, or name its directory with --dir",
        )),
    }
}

fn beside_contexts() -> Result<PathBuf, Failure> {
    let contexts = Store::of_user()?;
    contexts
        .path()
        .parent()
        .map(Path::to_owned)
        .ok_or_else(|| Failure::new(format!("{} has no directory", contexts.path().display())))
}

fn timed(fault: &FaultArg, lasts: Option<Span>) -> Result<Timed, Failure> {
    let mut timed = Timed {
        at: Span(Duration::ZERO),
        lasts,
        every: None,
        times: None,
        cut: None,
        impair: None,
        kill: None,
        freeze: None,
        restart: None,
    };
    match fault {
        FaultArg::Cut(args) => timed.cut = Some(way(args)),
        FaultArg::Impair(args) => timed.impair = Some(impair(args)),
        FaultArg::Kill(args) => timed.kill = Some(target(args)?),
        FaultArg::Freeze(args) => timed.freeze = Some(target(args)?),
        FaultArg::Restart(args) => timed.restart = Some(target(args)?),
    }
    Ok(timed)
}

fn way(args: &WayArgs) -> Way {
    Way { from: Text(args.from.clone()), to: args.to.clone().map(Text), one_way: args.one_way }
}

fn impair(args: &ImpairArgs) -> Impair {
    let Way { from, to, one_way } = way(&args.way);
    let with = Change {
        delay: args.delay,
        jitter: args.jitter,
        loss: args.loss.map(Loss::from),
        rate: args.rate,
        queue: None,
        mtu: args.mtu,
        duplicate: args.duplicate,
        reorder: args.reorder.map(Reorder::from),
        cut: None,
    };
    Impair { from, to, one_way, with }
}

fn target(args: &TargetArgs) -> Result<Text<Target>, Failure> {
    args.target.join(" ").parse().map(Text).map_err(Failure::usage)
}
