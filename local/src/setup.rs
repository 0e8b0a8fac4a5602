//! What `agent setup` changes on a host, and how it is taken back.
//!
//! Two things: an nftables table that redirects the virtual IPs of a process to one listener of it, with the original
//! destination kept by the kernel, so that every port works without root; and, where systemd-resolved runs, a drop-in
//! that sends the names of the mesh to the DNS port of the process.

mod apply;

pub use apply::SetupError;

use crate::names::{PINNED_ZONE, ZONE};
use model::config::VipRange;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

/// Name of the nftables table. A second process on the host needs another one.
const TABLE: &str = "meshfed";
/// Bits of a process's own range of virtual IPs.
const RANGE_PREFIX: u8 = 16;

/// What is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Virtual IPs of the process.
    pub range: VipRange,
    /// Where its redirect listener is.
    pub redirect: SocketAddrV4,
    /// Where its DNS is; none: the resolver is left alone.
    pub dns: Option<SocketAddr>,
    /// Top of the file system, `/` but for tests.
    pub root: PathBuf,
    /// systemd-resolved runs, so its drop-in is written and it is reloaded.
    pub resolved: bool,
    /// systemd runs, so a unit restores the redirect after a reboot.
    pub systemd: bool,
}

/// One change of the host, in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes a file, and makes the folders above it.
    Write {
        /// Where.
        path: PathBuf,
        /// What.
        text: String,
    },
    /// Removes a file, if it is there.
    Remove {
        /// Where.
        path: PathBuf,
    },
    /// Runs a program.
    Run {
        /// Program and arguments.
        command: Vec<String>,
        /// What it reads.
        input: String,
        /// That it fails is borne, since what it takes away may not be there.
        may_fail: bool,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, .. } => write!(f, "write {}", path.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
            Self::Run { command, .. } => write!(f, "run `{}`", command.join(" ")),
        }
    }
}

impl Setup {
    /// Builds a setup of this host: looks which of systemd and systemd-resolved run.
    pub fn of_this_host(range: VipRange, redirect: SocketAddrV4, dns: Option<SocketAddr>) -> Self {
        let is_there = |path: &str| PathBuf::from(path).exists();
        Self {
            range,
            redirect,
            dns,
            root: PathBuf::from("/"),
            resolved: is_there("/run/systemd/resolve"),
            systemd: is_there("/run/systemd/system"),
        }
    }

    /// The nftables script. It replaces the table of an earlier setup, so it can be run again.
    ///
    /// Connections of the host's own programs pass `output`. No others can be meant: an address in 127.0.0.0/8 never
    /// leaves the host, or the container, whose program dials it.
    pub fn script(&self) -> String {
        let range = format!("{}/{RANGE_PREFIX}", self.range.base);
        let to = self.redirect;
        format!(
            "table ip {TABLE}\n\
             delete table ip {TABLE}\n\
             table ip {TABLE} {{\n\
             \tchain output {{\n\
             \t\ttype nat hook output priority -100; policy accept;\n\
             \t\tip daddr {range} meta l4proto tcp dnat to {to}\n\
             \t}}\n\
             }}\n"
        )
    }

    /// The drop-in of systemd-resolved: names of the mesh, and only these, go to the process.
    pub fn drop_in(&self) -> Option<String> {
        let dns = self.dns?;
        Some(format!(
            "# Names of the mesh go to meshfed. Removed by `meshfed agent setup --revert`.\n\
             [Resolve]\nDNS={dns}\nDomains=~{ZONE} ~{PINNED_ZONE}\n"
        ))
    }

    /// What [`Self::apply`] does.
    pub fn plan(&self) -> Vec<Step> {
        let mut steps = vec![
            Step::Write { path: self.script_path(), text: self.script() },
            run(&["nft", "-f", "-"], self.script(), false),
        ];
        if self.systemd {
            steps.push(Step::Write { path: self.unit_path(), text: self.unit() });
            steps.push(run(&["systemctl", "daemon-reload"], String::new(), false));
            steps.push(run(&["systemctl", "enable", "meshfed-redirect.service"], String::new(), false));
        }
        if self.resolved
            && let Some(text) = self.drop_in()
        {
            steps.push(Step::Write { path: self.drop_in_path(), text });
            steps.push(restart_resolved());
        }
        steps
    }

    /// What [`Self::revert`] does. It takes back what any earlier setup did, also one with other settings.
    pub fn plan_revert(&self) -> Vec<Step> {
        let gone = format!("table ip {TABLE}\ndelete table ip {TABLE}\n");
        let mut steps =
            vec![run(&["nft", "-f", "-"], gone, false), Step::Remove { path: self.script_path() }];
        if self.systemd {
            steps.push(run(&["systemctl", "disable", "meshfed-redirect.service"], String::new(), true));
            steps.push(Step::Remove { path: self.unit_path() });
            steps.push(run(&["systemctl", "daemon-reload"], String::new(), true));
        }
        if self.resolved {
            steps.push(Step::Remove { path: self.drop_in_path() });
            steps.push(restart_resolved());
        }
        steps
    }

    /// What a person has to do by hand, because it differs from host to host.
    pub fn by_hand(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(dns) = self.dns.filter(|_| !self.resolved) {
            notes.push(format!(
                "systemd-resolved does not run here: have your resolver forward {ZONE} and {PINNED_ZONE} to {dns}"
            ));
        }
        if !self.systemd {
            let script = self.script_path();
            notes.push(format!(
                "systemd does not run here: have `nft -f {}` run when the host starts",
                script.display()
            ));
        }
        notes
    }

    /// Whether a setup with these very settings was made and not taken back. The kernel forgets its part when the
    /// host restarts and no unit restores it; that cannot be seen without root.
    pub fn is_applied(&self) -> bool {
        std::fs::read_to_string(self.script_path()).is_ok_and(|text| text == self.script())
    }

    fn script_path(&self) -> PathBuf {
        self.root.join("etc/meshfed/redirect.nft")
    }

    fn unit_path(&self) -> PathBuf {
        self.root.join("etc/systemd/system/meshfed-redirect.service")
    }

    fn drop_in_path(&self) -> PathBuf {
        self.root.join("etc/systemd/resolved.conf.d/meshfed.conf")
    }

    fn unit(&self) -> String {
        let script = self.script_path();
        let script = script.display();
        format!(
            "[Unit]\nDescription=Redirect of meshfed's virtual IPs\nBefore=network-pre.target\n\
             Wants=network-pre.target\nConditionPathExists={script}\n\n\
             [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'exec nft -f {script}'\n\n\
             [Install]\nWantedBy=multi-user.target\n"
        )
    }
}

fn run(command: &[&str], input: String, may_fail: bool) -> Step {
    Step::Run { command: command.iter().map(|word| (*word).to_owned()).collect(), input, may_fail }
}

fn restart_resolved() -> Step {
    // It reads its drop-ins only when it starts.
    run(&["systemctl", "restart", "systemd-resolved.service"], String::new(), false)
}

#[cfg(test)]
mod tests;
