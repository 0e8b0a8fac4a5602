//! Everything that may happen to the world, and plans drawn from a seed.

use crate::chance;
use crate::truth::{Change, ENDPOINTS, PLACES, SERVICES};
use federation_core::settings::Settings;
use std::time::Duration;

/// When a process dies while it stores something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Before the commit is durable: it is lost.
    BeforeCommit,
    /// After it, and before anything that depends on it is sent.
    BeforeTransmit,
}

/// One thing that happens to the world. Each is possible in any state; where it makes no sense it does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// The sources of a site say something else.
    Change {
        /// Site.
        site: usize,
        /// What.
        change: Change,
    },
    /// Nothing passes between two sites.
    Cut {
        /// One.
        a: usize,
        /// The other.
        b: usize,
    },
    /// Nothing passes from one site to another.
    CutOneWay {
        /// From.
        from: usize,
        /// To.
        to: usize,
    },
    /// One of the two paths between two sites is dead.
    CutPath {
        /// One.
        a: usize,
        /// The other.
        b: usize,
        /// Path.
        path: u8,
    },
    /// A site is alone.
    Isolate {
        /// Site.
        site: usize,
    },
    /// Packets between two sites are lost.
    Lossy {
        /// One.
        a: usize,
        /// The other.
        b: usize,
        /// Share of packets.
        loss_percent: u8,
    },
    /// Packets between two sites take longer.
    Slow {
        /// One.
        a: usize,
        /// The other.
        b: usize,
        /// By this much.
        more_ms: u64,
    },
    /// One fault of the network is over.
    Heal {
        /// Which of those that last, counted round.
        nth: usize,
    },
    /// Sessions between two sites are reset.
    Reset {
        /// One.
        a: usize,
        /// The other.
        b: usize,
    },
    /// The process of a site dies and comes back with its store.
    Restart {
        /// Site.
        site: usize,
        /// It is away for this long.
        down_ms: u64,
        /// Its host dies with it: peers are not told.
        silent: bool,
    },
    /// The process of a site dies at its next commit, and comes back with its store.
    Crash {
        /// Site.
        site: usize,
        /// When.
        point: CrashPoint,
        /// It is away for this long.
        down_ms: u64,
    },
    /// The process of a site dies and comes back with an empty store.
    LoseStore {
        /// Site.
        site: usize,
        /// It is away for this long.
        down_ms: u64,
    },
    /// The store of a site is copied.
    Backup {
        /// Site.
        site: usize,
    },
    /// The process of a site dies and comes back with the copy of its store.
    RestoreBackup {
        /// Site.
        site: usize,
        /// It is away for this long.
        down_ms: u64,
    },
    /// A site offers other services to a peer.
    Offer {
        /// Site.
        site: usize,
        /// Peer.
        peer: usize,
        /// Number of the scope.
        scope: u8,
    },
    /// A site wants to hear of other services of a peer, or in another view.
    Want {
        /// Site.
        site: usize,
        /// Peer.
        peer: usize,
        /// Number of the scope.
        scope: u8,
        /// View `endpoints` instead of `summary`.
        endpoints: bool,
    },
    /// A site removes its link to a peer.
    Unlink {
        /// Site.
        site: usize,
        /// Peer.
        peer: usize,
    },
    /// Two sites are linked again.
    Relink {
        /// One.
        a: usize,
        /// The other.
        b: usize,
    },
}

/// What happens, and when: after how long each.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Seed of the world and of the plan.
    pub seed: u64,
    /// Number of sites, all linked with each other.
    pub sites: usize,
    /// Settings of all replicators.
    pub settings: Settings,
    /// Steps, each after a pause.
    pub steps: Vec<(Duration, Transition)>,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(seed: u64, sites: usize) -> Self {
        let mut rng = chance::child(seed, "plan", 0);
        let settings = settings(&mut chance::child(seed, "settings", 0));
        let mut steps = Vec::new();
        for site in 0..sites {
            for service in 0..SERVICES {
                if rng.u8(0..10) < 6 {
                    first_service(&mut steps, site, service, &mut rng);
                }
            }
        }
        // Some seeds are quiet, some wild.
        let hostile = rng.u32(1..=10);
        let count = rng.usize(30..110);
        for _ in 0..count {
            let pause = match rng.u8(0..10) {
                0..=4 => rng.u64(0..30),
                5..=7 => rng.u64(0..800),
                _ => rng.u64(0..4_000),
            };
            steps.push((Duration::from_millis(pause), draw(&mut rng, sites, hostile)));
        }
        Self { seed, sites, settings, steps }
    }
}

/// Settings that reach the rare paths: small batches, small windows, short leases and horizons.
fn settings(rng: &mut fastrand::Rng) -> Settings {
    Settings {
        batch_bytes: [250, 1_500, 1 << 20][rng.usize(0..3)],
        window_batches: [1, 3, 64][rng.usize(0..3)],
        tombstones_max: [3, 20, 100_000][rng.usize(0..3)],
        lease: Duration::from_secs([8, 20, 900][rng.usize(0..3)]),
        tombstone_horizon: Duration::from_secs([20, 86_400][rng.usize(0..2)]),
        ..Settings::default()
    }
}

fn first_service(steps: &mut Vec<(Duration, Transition)>, site: usize, service: u8, rng: &mut fastrand::Rng) {
    let mut say = |change| steps.push((Duration::ZERO, Transition::Change { site, change }));
    say(Change::Service { service, headless: rng.u8(0..8) == 0, ports: 1 });
    if rng.u8(0..10) < 8 {
        say(Change::Export { service, at_ms: rng.u64(1..1_000) });
    }
    for id in 0..rng.u8(0..4) {
        say(endpoint(service, id, rng));
    }
}

fn endpoint(service: u8, id: u8, rng: &mut fastrand::Rng) -> Change {
    let health = if rng.u8(0..10) < 7 { 0 } else { rng.u8(0..3) };
    Change::Endpoint { service, id, place: rng.u8(0..PLACES), health, weight: rng.u32(1..4) }
}

fn draw(rng: &mut fastrand::Rng, sites: usize, hostile: u32) -> Transition {
    let site = rng.usize(0..sites);
    let other = (site + rng.usize(1..sites)) % sites;
    if rng.u32(0..14) >= hostile {
        return Transition::Change { site, change: change(rng) };
    }
    let (a, b) = (site, other);
    let down_ms = if rng.bool() { rng.u64(1..300) } else { rng.u64(0..12_000) };
    match rng.u8(0..38) {
        0..=2 => Transition::Cut { a, b },
        3..=5 => Transition::CutOneWay { from: a, to: b },
        6 => Transition::CutPath { a, b, path: rng.u8(0..2) },
        7 => Transition::Isolate { site },
        8 | 9 => Transition::Lossy { a, b, loss_percent: rng.u8(1..40) },
        10 => Transition::Slow { a, b, more_ms: rng.u64(50..1_500) },
        11..=16 => Transition::Heal { nth: rng.usize(0..8) },
        17 | 18 => Transition::Reset { a, b },
        19..=21 => Transition::Restart { site, down_ms, silent: rng.bool() },
        22 | 23 => {
            let point = if rng.bool() { CrashPoint::BeforeCommit } else { CrashPoint::BeforeTransmit };
            Transition::Crash { site, point, down_ms }
        }
        24 | 25 => Transition::LoseStore { site, down_ms },
        26 | 27 => Transition::Backup { site },
        28 | 29 => Transition::RestoreBackup { site, down_ms },
        30..=32 => Transition::Offer { site, peer: other, scope: rng.u8(0..5) },
        33 | 34 => Transition::Want { site, peer: other, scope: rng.u8(0..5), endpoints: rng.bool() },
        35 => Transition::Unlink { site, peer: other },
        _ => Transition::Relink { a, b },
    }
}

fn change(rng: &mut fastrand::Rng) -> Change {
    let service = rng.u8(0..SERVICES);
    let id = rng.u8(0..ENDPOINTS);
    match rng.u8(0..20) {
        0..=8 => endpoint(service, id, rng),
        9..=11 => Change::EndpointGone { service, id },
        12 | 13 => Change::Service { service, headless: rng.u8(0..5) == 0, ports: rng.u8(1..3) },
        14 => Change::ServiceGone { service },
        15 | 16 => Change::Export { service, at_ms: rng.u64(1..1_000) },
        17 | 18 => Change::ExportGone { service },
        _ => Change::Gateways { count: rng.u8(0..3) },
    }
}
