//! Faults on a running mesh: begun, and taken back.

use crate::mesh::{Mesh, MeshError, Part};
use crate::relays::{End, Relays};
use crate::shapes::apply;
use experiment::part::Target;
use experiment::record::Happened;
use experiment::schedule::{Occurrence, steps};
use experiment::schema::{self, Fault, Way};
use relay::{Direction, Imposed, Link};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use topologies::impairment::Change;

/// How long a gateway or an agent that is restarted may drain before it is killed.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);

/// The clock of a run: that of its load.
pub trait Clock {
    /// Time since the start of the load.
    fn now(&self) -> Duration;
}

impl Clock for bench::load::OpenLoop {
    fn now(&self) -> Duration {
        Self::now(self)
    }
}

/// Carries out all occurrences at their times, and answers when `length` is over. `tell` hears of each step when it is
/// done, with what has happened so far.
///
/// Steps never overlap: one that takes long makes the next one late, and what is answered says when each really was.
///
/// # Errors
/// A part cannot be controlled, or has ended by itself.
pub async fn carry_out(
    mesh: &mut Mesh,
    clock: &(impl Clock + Sync),
    occurrences: &[Occurrence],
    length: Duration,
    tell: &mut (dyn FnMut(&[Happened]) + Send),
) -> Result<Vec<Happened>, MeshError> {
    let mut injector = Injector::default();
    let mut happened: Vec<Happened> = Vec::new();
    for step in steps(occurrences) {
        wait_until(mesh, clock, step.at).await?;
        let fault = &occurrences[step.occurrence].fault;
        if step.ends {
            injector.end(mesh, step.occurrence, fault)?;
            if let Some(fault) = happened.get_mut(step.occurrence) {
                fault.ended = Some(clock.now());
            }
        } else {
            let before = clock.now();
            injector.begin(mesh, step.occurrence, fault).await?;
            let after = clock.now();
            // A restart is taken back by itself.
            let ended = matches!(fault, Fault::Restart(_)).then_some(after);
            happened.push(Happened { words: fault.words(), before, after, ended });
        }
        tell(&happened);
    }
    wait_until(mesh, clock, length).await?;
    Ok(happened)
}

async fn wait_until(mesh: &mut Mesh, clock: &impl Clock, at: Duration) -> Result<(), MeshError> {
    while let Some(left) = at.checked_sub(clock.now()).filter(|left| !left.is_zero()) {
        mesh.check()?;
        tokio::time::sleep(left.min(Duration::from_millis(500))).await;
    }
    Ok(())
}

/// What is injected now. Dropping it heals all links; processes stay as they are.
#[derive(Debug, Default)]
pub struct Injector {
    /// Changes of links, by the number of the fault.
    imposed: BTreeMap<usize, Vec<Imposed>>,
}

impl Injector {
    /// Begins a fault. `number` names it for [`Injector::end`].
    ///
    /// # Errors
    /// A part cannot be controlled.
    pub async fn begin(&mut self, mesh: &mut Mesh, number: usize, fault: &Fault) -> Result<(), MeshError> {
        match fault {
            Fault::Cut(way) => {
                let cut = Change { cut: Some(true), ..Change::default() };
                self.imposed.insert(number, impose(mesh.relays(), way, cut));
            }
            Fault::Impair(impair) => {
                self.imposed.insert(number, impose(mesh.relays(), &impair.way(), impair.with));
            }
            Fault::Kill(target) => {
                for part in target.parts(mesh.plan()) {
                    mesh.kill(&part).await?;
                }
            }
            Fault::Freeze(target) => {
                for part in running(mesh, target) {
                    mesh.freeze(&part).await?;
                }
            }
            Fault::Restart(target) => {
                for part in target.parts(mesh.plan()) {
                    restart(mesh, &part).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes a fault back.
    ///
    /// # Errors
    /// A part cannot be controlled, or started.
    pub fn end(&mut self, mesh: &mut Mesh, number: usize, fault: &Fault) -> Result<(), MeshError> {
        self.imposed.remove(&number);
        match fault {
            Fault::Cut(_) | Fault::Impair(_) | Fault::Restart(_) => Ok(()),
            Fault::Kill(target) => {
                target.parts(mesh.plan()).iter().try_for_each(|part| mesh.start_again(part))
            }
            Fault::Freeze(target) => running(mesh, target).iter().try_for_each(|part| mesh.thaw(part)),
        }
    }
}

/// Faults that somebody injects while a mesh runs, each with its own end.
#[derive(Debug, Default)]
pub struct Standing {
    injector: Injector,
    next: usize,
    /// Faults that are there, and when each ends by itself.
    active: BTreeMap<usize, (Fault, Option<Instant>)>,
}

impl Standing {
    /// Begins a fault, which ends by itself after `lasts`.
    ///
    /// # Errors
    /// A part cannot be controlled.
    pub async fn begin(
        &mut self,
        mesh: &mut Mesh,
        fault: Fault,
        lasts: Option<Duration>,
    ) -> Result<(), MeshError> {
        let number = self.next;
        self.next += 1;
        self.injector.begin(mesh, number, &fault).await?;
        if !matches!(fault, Fault::Restart(_)) {
            let ends = lasts.map(|lasts| Instant::now() + lasts);
            self.active.insert(number, (fault, ends));
        }
        Ok(())
    }

    /// When the next fault ends by itself.
    pub fn next_end(&self) -> Option<Instant> {
        self.active.values().filter_map(|(_, ends)| *ends).min()
    }

    /// Ends the faults whose time is up, or all; answers what they were, in words.
    ///
    /// # Errors
    /// A part cannot be controlled, or started.
    pub fn end(&mut self, mesh: &mut Mesh, all: bool) -> Result<Vec<String>, MeshError> {
        let now = Instant::now();
        let over = |ends: &Option<Instant>| all || ends.is_some_and(|ends| ends <= now);
        let numbers: Vec<usize> =
            self.active.iter().filter(|(_, (_, ends))| over(ends)).map(|(number, _)| *number).collect();
        let mut ended = Vec::new();
        for number in numbers {
            if let Some((fault, _)) = self.active.remove(&number) {
                self.injector.end(mesh, number, &fault)?;
                ended.push(fault.words());
            }
        }
        Ok(ended)
    }
}

/// The parts of a target that run: one that another fault has killed stands still already, and has nothing to go on with.
fn running(mesh: &Mesh, target: &Target) -> Vec<Part> {
    target.parts(mesh.plan()).into_iter().filter(|part| mesh.pid(part).is_some()).collect()
}

async fn restart(mesh: &mut Mesh, part: &Part) -> Result<(), MeshError> {
    mesh.stop(part, DRAIN_LIMIT).await?;
    mesh.start_again(part)?;
    mesh.ready(part).await
}

fn impose(relays: &Relays, way: &Way, change: Change) -> Vec<Imposed> {
    let mut imposed = Vec::new();
    for (link, direction) in ways(relays, way) {
        imposed.push(link.impose(direction, move |shape| apply(&change, shape)));
        if !way.one_way {
            imposed.push(link.impose(direction.reverse(), move |shape| apply(&change, shape)));
        }
    }
    imposed
}

/// The links that a way names, each with the direction that it names.
fn ways(relays: &Relays, way: &Way) -> Vec<(Link, Direction)> {
    let is = |end: &End, named: &schema::End| {
        end.site == named.site.as_str()
            && named.gateway.as_ref().is_none_or(|name| end.gateway == name.as_str())
    };
    relays.ways(|end| is(end, &way.from), |end| way.to.as_ref().is_none_or(|to| is(end, to)))
}
