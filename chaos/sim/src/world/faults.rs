//! Transitions that are faults of the network.

use super::World;
use crate::fabric::{self, Packet, Verdict};
use crate::transition::Transition;
use std::time::Duration;

impl World {
    pub(super) fn apply_fault(&mut self, transition: &Transition) {
        match *transition {
            Transition::Cut { a, b } => self.keep(fabric::cut(a, b)),
            Transition::CutOneWay { from, to } => self.keep(fabric::cut_one_way(from, to)),
            Transition::CutPath { a, b, path } => self.keep(fabric::cut_path(a, b, path)),
            Transition::Isolate { site } => self.keep(fabric::isolate(site)),
            Transition::Lossy { a, b, loss_percent } => self.keep(fabric::lossy(a, b, loss_percent)),
            Transition::Slow { a, b, more_ms } => {
                self.keep(fabric::slow(a, b, Duration::from_millis(more_ms)));
            }
            Transition::Heal { nth } => {
                if !self.faults.is_empty() {
                    let nth = nth % self.faults.len();
                    drop(self.faults.remove(nth));
                    self.fabric.heal();
                    self.release_stalled();
                }
            }
            Transition::Reset { a, b } => {
                let between: Vec<_> = self
                    .streams
                    .iter()
                    .filter(|(_, stream)| stream.ends == [a, b] || stream.ends == [b, a])
                    .map(|(id, _)| *id)
                    .collect();
                for id in between {
                    self.reset(id);
                }
            }
            Transition::Change { .. }
            | Transition::Restart { .. }
            | Transition::Crash { .. }
            | Transition::LoseStore { .. }
            | Transition::Backup { .. }
            | Transition::RestoreBackup { .. }
            | Transition::Offer { .. }
            | Transition::Want { .. }
            | Transition::Unlink { .. }
            | Transition::Relink { .. } => {}
        }
    }

    fn keep(&mut self, rule: impl Fn(&Packet, &mut fastrand::Rng) -> Verdict + 'static) {
        let fault = self.fabric.add(rule);
        self.faults.push(fault);
    }
}
