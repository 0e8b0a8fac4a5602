//! Agents that are connected to this gateway.

use model::ids::HostName;
use std::collections::BTreeMap;
use tunnel::Connection;
use tunnel::connection::State;

/// Agents at a time.
const AGENTS_MAX: usize = 10_000;
/// Connections of one agent at a time: a new one comes beside one that has fallen silent.
const CONNECTIONS_MAX: usize = 4;

/// Why an agent's connection is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    #[error("this gateway has {AGENTS_MAX} agents already")]
    Agents,
    #[error(
        "this agent has {CONNECTIONS_MAX} live connections already: does another host use its certificate?"
    )]
    Connections,
}

/// By host.
#[derive(Debug, Default)]
pub(super) struct Agents(BTreeMap<HostName, Vec<Connection>>);

impl Agents {
    pub(super) fn add(&mut self, host: HostName, connection: Connection) -> Result<(), TooMany> {
        self.forget_ended();
        if self.0.len() >= AGENTS_MAX && !self.0.contains_key(&host) {
            return Err(TooMany::Agents);
        }
        let connections = self.0.entry(host).or_default();
        let alive = connections.iter().filter(|held| held.health().state != State::Dead).count();
        if alive >= CONNECTIONS_MAX {
            return Err(TooMany::Connections);
        }
        // The newest first: an agent that has restarted is at the end of the newest only.
        connections.insert(0, connection);
        Ok(())
    }

    pub(super) fn forget_ended(&mut self) {
        self.0.retain(|_, connections| {
            connections.retain(|connection| connection.close_reason().is_none());
            !connections.is_empty()
        });
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Connection> {
        self.0.values().flatten()
    }

    /// All connections of a host.
    pub(super) fn of(&self, host: &HostName) -> Vec<Connection> {
        self.0.get(host).cloned().unwrap_or_default()
    }

    /// Those that take streams, the newest first.
    pub(super) fn live(&self, host: &HostName) -> Vec<Connection> {
        let takes = |connection: &Connection| {
            let health = connection.health();
            health.state == State::Live && !health.peer_draining && connection.close_reason().is_none()
        };
        self.of(host).into_iter().filter(takes).collect()
    }
}
