//! The words in which liveness speaks to its shell.

use model::tunnel::Probe;
use std::fmt;
use std::time::Duration;

/// State of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It answers.
    Live,
    /// It takes no new streams; streams without an answer move on.
    Suspect,
    /// It is given up.
    Dead,
}

/// Why a connection changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Packets come again.
    Answers,
    /// Nothing was heard for this long.
    Silent(Duration),
    /// The other side reports that it has heard nothing for this long.
    Unheard(Duration),
    /// The other side's host refused a packet, and nothing was heard since.
    Refused,
    /// Small packets pass and full ones do not.
    BlackHole,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers => f.write_str("it answers again"),
            Self::Silent(time) => write!(f, "nothing was heard from it for {} ms", time.as_millis()),
            Self::Unheard(time) => write!(f, "it has heard nothing from here for {} ms", time.as_millis()),
            Self::Refused => f.write_str("its host refuses packets"),
            Self::BlackHole => f.write_str("small packets pass and full ones do not"),
        }
    }
}

/// What a shell must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The state has changed.
    State(State, Cause),
    /// The other side takes no new streams (true), or takes them again (false).
    PeerDraining(bool),
    /// Packets of full size seem to be lost: fall back to an MTU of 1200.
    LowerMtu,
}

/// A probe to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOut {
    /// The probe.
    pub probe: Probe,
    /// Pad the datagram to what the path's MTU allows.
    pub padded: bool,
}

/// Loss over the last 10 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LossReport {
    /// From the other side to here, in 1/1000.
    pub in_permille: u32,
    /// From here to the other side, in 1/1000.
    pub out_permille: u32,
}

impl LossReport {
    /// The worse direction, in 1/1000.
    pub fn worse_permille(&self) -> u32 {
        self.in_permille.max(self.out_permille)
    }
}
