//! Whether the agent takes new streams.

use crate::gateways::Gateways;
use std::sync::Arc;
use tokio::sync::watch;

/// Who wants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wanted {
    asked: bool,
    leaves: bool,
}

/// The word that the agent takes nothing new. Its gateways are told with the next probe.
#[derive(Debug)]
pub(crate) struct Draining {
    wanted: std::sync::Mutex<Wanted>,
    effective: watch::Sender<bool>,
    gateways: Arc<Gateways>,
}

impl Draining {
    pub(crate) fn new(gateways: Arc<Gateways>) -> Arc<Self> {
        Arc::new(Self { wanted: Default::default(), effective: watch::Sender::new(false), gateways })
    }

    /// A person asks for it, or takes that back.
    pub(crate) fn ask(&self, drain: bool) {
        self.want(|wanted| wanted.asked = drain);
    }

    /// The process leaves, which is never taken back.
    pub(crate) fn leave(&self) {
        self.want(|wanted| wanted.leaves = true);
    }

    /// Whether nothing new is taken, now and later.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.effective.subscribe()
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        let mut wanted = self.wanted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut wanted);
        let draining = wanted.asked || wanted.leaves;
        self.effective.send_replace(draining);
        for (_, connection) in self.gateways.connections() {
            connection.set_draining(draining);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_leaves_does_not_come_back_for_being_asked() {
        let draining = Draining::new(Gateways::new());
        let now = draining.watch();
        draining.ask(true);
        assert!(*now.borrow());
        draining.ask(false);
        assert!(!*now.borrow());
        draining.leave();
        draining.ask(true);
        draining.ask(false);
        assert!(*now.borrow());
    }
}
