//! What befalls a mesh in a round, and how it is lifted again.

use crate::stage::Stage;
use bench::load::OpenLoop;
use bench::report::Kill;
use live::mesh::{MeshError, Part};
use meshfed::commands::trial::kill;
use std::fmt;

/// Something that befalls a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blow {
    /// kill -9.
    Kill(Part),
    /// SIGSTOP: it keeps its sockets, and nobody is told.
    Freeze(Part),
    /// Every link between two sites drops all datagrams, both ways, and nobody is told.
    Cut(&'static str, &'static str),
}

impl Blow {
    /// The part that it befalls, where it is one.
    pub fn part(&self) -> Option<&Part> {
        match self {
            Self::Kill(part) | Self::Freeze(part) => Some(part),
            Self::Cut(..) => None,
        }
    }

    /// Strikes, and answers when, on the clock of a load.
    ///
    /// # Errors
    /// There is no such part, or it cannot be signalled.
    pub async fn strike(&self, stage: &mut Stage, load: &OpenLoop) -> Result<Kill, MeshError> {
        match self {
            Self::Kill(part) => kill(&mut stage.mesh, part, load).await,
            Self::Freeze(part) => {
                let before = load.now();
                stage.mesh.freeze(part).await?;
                Ok(Kill { before, after: load.now() })
            }
            Self::Cut(one, other) => {
                let before = load.now();
                stage.mesh.relays().between(one, other).iter().for_each(|(link, _)| link.cut());
                Ok(Kill { before, after: load.now() })
            }
        }
    }

    /// Whether the load goes on while it is lifted. What was killed is started again without one, since its own start
    /// is not what is measured.
    pub fn is_lifted_under_load(&self) -> bool {
        !matches!(self, Self::Kill(_))
    }

    /// Lifts it.
    ///
    /// # Errors
    /// There is no such part, or it cannot be started or signalled.
    pub fn lift(&self, stage: &mut Stage) -> Result<(), MeshError> {
        match self {
            Self::Kill(part) => stage.mesh.start_again(part),
            Self::Freeze(part) => stage.mesh.thaw(part),
            Self::Cut(one, other) => {
                stage.mesh.relays().between(one, other).iter().for_each(|(link, _)| link.heal());
                Ok(())
            }
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(part) => write!(f, "{part} killed (kill -9)"),
            Self::Freeze(part) => write!(f, "{part} frozen (SIGSTOP)"),
            Self::Cut(one, other) => write!(f, "all links of {one} and {other} cut both ways, in silence,"),
        }
    }
}
