//! What people write in an experiment file.

use crate::expect::Expectations;
use crate::part::Target;
use api::text::{Span, Text};
use model::ids::{GatewayName, SiteId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use topologies::impairment::{Change, Impairment};

/// An experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Experiment {
    /// `meshfed.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: topologies::schema::Version,
    /// `Experiment`.
    pub kind: Kind,
    /// Name, for people.
    pub name: String,
    /// What it rehearses, in a sentence.
    #[serde(default)]
    pub about: String,
    /// The topology: a path, seen from the experiment's own file, or the name of a shipped one. Its first client is
    /// the load.
    pub topology: String,
    /// How long the load runs. 5 s to [`LENGTH_MAX`].
    pub length: Span,
    /// What is done to it.
    #[serde(default)]
    pub faults: Vec<Timed>,
    /// What is expected.
    #[serde(default)]
    pub expect: Expectations,
}

/// Longest run of an experiment, in seconds: ten minutes.
pub const LENGTH_MAX: u64 = 600;
/// Most faults of an experiment, and most times that one of them is repeated.
pub const FAULTS_MAX: usize = 200;

/// The only kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// An experiment.
    Experiment,
}

/// One fault and when it is there. Exactly one of the fields behind `times` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Timed {
    /// When it begins, from the start of the load.
    pub at: Span,
    /// How long it lasts. Without one it stays to the end.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// From one beginning to the next, when it is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// How often it happens. Default 1, or as often as `every` fits into the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u16>,
    /// Nothing passes between two sites, or two gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Way>,
    /// The way between two sites, or two gateways, becomes worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impair: Option<Impair>,
    /// Processes are killed (SIGKILL), and started again at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Text<Target>>,
    /// Processes stand still (SIGSTOP), and go on at the end (SIGCONT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Text<Target>>,
    /// Processes are asked to end, one after the other, and each is started again when it has; those that drain do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Text<Target>>,
}

/// Where a fault of the network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Way {
    /// A site, or one of its gateways: `aws`, `aws/gw-0`.
    pub from: Text<End>,
    /// The other end. Without one: every other site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Text<End>>,
    /// What is sent from `from` to `to` alone. Default false: both ways.
    #[serde(default)]
    pub one_way: bool,
}

/// A way that becomes worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Impair {
    /// A site, or one of its gateways.
    pub from: Text<End>,
    /// The other end. Without one: every other site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Text<End>>,
    /// What is sent from `from` to `to` alone. Default false: both ways.
    #[serde(default)]
    pub one_way: bool,
    /// What each direction does to packets meanwhile; what is not named stays as the topology says.
    pub with: Change,
}

impl Impair {
    /// Where it is.
    pub fn way(&self) -> Way {
        Way { from: self.from.clone(), to: self.to.clone(), one_way: self.one_way }
    }
}

/// A site, or one gateway of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The site.
    pub site: SiteId,
    /// The gateway; none: all of them.
    pub gateway: Option<GatewayName>,
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (site, gateway) = match text.split_once('/') {
            Some((site, gateway)) => (site, Some(gateway)),
            None => (text, None),
        };
        let gateway =
            gateway.map(|name| name.parse::<GatewayName>().map_err(|e| e.to_string())).transpose()?;
        Ok(Self { site: site.parse().map_err(|e: model::ids::InvalidId| e.to_string())?, gateway })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.site)?;
        self.gateway.as_ref().map_or(Ok(()), |gateway| write!(f, "/{gateway}"))
    }
}

/// The fault of a [`Timed`].
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Nothing passes.
    Cut(Way),
    /// The way is worse.
    Impair(Impair),
    /// Killed.
    Kill(Target),
    /// Stopped.
    Freeze(Target),
    /// Ended and started again, in turn.
    Restart(Target),
}

impl Fault {
    /// What it does, in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::Cut(way) => format!("cut {}", between(way)),
            Self::Impair(impair) => {
                format!("{} on {}", impair.with.of(Impairment::NONE), between(&impair.way()))
            }
            Self::Kill(target) => format!("kill {target}"),
            Self::Freeze(target) => format!("freeze {target}"),
            Self::Restart(target) => format!("restart {target}"),
        }
    }
}

fn between(way: &Way) -> String {
    let arrow = if way.one_way { "→" } else { "↔" };
    let other = way.to.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
    format!("{}{arrow}{other}", way.from)
}

impl Timed {
    /// The faults that it names; a right file has exactly one.
    pub fn named(&self) -> Vec<Fault> {
        let mut named = Vec::new();
        named.extend(self.cut.clone().map(Fault::Cut));
        named.extend(self.impair.clone().map(Fault::Impair));
        named.extend(self.kill.clone().map(|target| Fault::Kill(target.0)));
        named.extend(self.freeze.clone().map(|target| Fault::Freeze(target.0)));
        named.extend(self.restart.clone().map(|target| Fault::Restart(target.0)));
        named
    }
}
