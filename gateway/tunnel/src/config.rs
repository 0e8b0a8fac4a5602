//! What a tunnel can be told, with the reasons for its defaults.

use crate::bbr::BbrConfig;
use crate::credit::Windows;
use crate::room;
use crate::unacked::Listening;
use identity::peer::RoleKind;
use identity::secret::Secret;
use quinn::congestion::{self, CubicConfig};
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Controller of the sending rate.
///
/// Measured with the example `wan`, see docs/figures.md. At 50 ms and 1 % loss each way Cubic carries 5 Mbit/s, however
/// many streams it has; ours fills a narrow place of 100 Mbit/s with and without loss and drops 2 % there while it finds
/// the rate. The transport's BBR drops more than half of what it sends, and leaves nothing to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// Bottleneck bandwidth and round trip, a controller of our own: the default across a WAN.
    Bbr,
    /// Cubic: the default within a LAN.
    Cubic,
    /// The transport's own BBR, to measure against. It overruns short queues.
    QuinnBbr,
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
            Self::QuinnBbr => "quinn-bbr",
        })
    }
}

impl FromStr for Congestion {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        match value {
            "bbr" => Ok(Self::Bbr),
            "cubic" => Ok(Self::Cubic),
            "quinn-bbr" => Ok(Self::QuinnBbr),
            _ => Err(ConfigError::Congestion { value: value.chars().take(80).collect() }),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such controller.
    #[error("`{value}` is no congestion control: it must be bbr, cubic or quinn-bbr")]
    Congestion {
        /// What was given, cut to 80 characters.
        value: String,
    },
    /// A number lies outside what the transport can do.
    #[error("{setting} is {value}, it must be from {min} to {max}: {why}")]
    Range {
        /// Name of the setting.
        setting: &'static str,
        /// What was given.
        value: u64,
        /// Least that works.
        min: u64,
        /// Most that works.
        max: u64,
        /// What would go wrong.
        why: &'static str,
    },
}

/// Who may dial in, by the role in the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Roles of the own trust domain.
    pub own: Vec<RoleKind>,
    /// Roles of linked trust domains.
    pub linked: Vec<RoleKind>,
}

impl Roles {
    /// Those who may dial a gateway: gateways and agents of its own site, gateways of linked ones.
    pub fn of_gateway() -> Self {
        Self { own: vec![RoleKind::Gateway, RoleKind::Agent], linked: vec![RoleKind::Gateway] }
    }
}

/// Settings of a tunnel. [`Config::wan`] is the default; [`Config::lan`] suits sites with under 2 ms between them.
#[derive(Debug, Clone)]
pub struct Config {
    /// Controller of the sending rate. Default: see [`Congestion`].
    pub congestion: Congestion,
    /// Who may dial in. None: nobody, as on an agent, which only dials.
    pub accept: Option<Roles>,
    /// Bidirectional streams that a peer may have open on one connection at a time, 1 to 4 096. The transport
    /// allocates their slots when the connection is made: 2 048 cost 0.2 MB, 100 000 would cost 4.9 MB. It gives slots
    /// back in batches of an eighth, so a peer can count on seven eighths of them.
    pub streams_max: u32,
    /// Credit of one stream, bytes. It caps one stream at window / round trip: 16 MiB are 1.3 Gbit/s at 100 ms.
    pub stream_window: u32,
    /// Credit of a connection that carries bulk, bytes; at least four streams' worth. An idle connection has 1 MiB, and
    /// a busy one a stream's worth more for each stream whose reader takes nothing, as far as `buffer_max` allows.
    pub connection_window: u32,
    /// Bytes that all connections together may have in buffers, beyond the first 1 MiB that each may receive and the
    /// first 2 MiB that each may send: credit that peers were given, and send windows. Default 512 MiB. When no more
    /// is left, the streams whose readers take least are reset.
    pub buffer_max: u64,
    /// Of these, those of one peer. Default 256 MiB.
    pub buffer_per_peer_max: u64,
    /// Bytes that a connection keeps until they are acknowledged, at most: three congestion windows are kept, from
    /// 2 MiB up to this. Small streams may use 4 MiB more. 32 MiB are 1.3 Gbit/s at 200 ms.
    pub send_window: u64,
    /// Bytes that may be in flight before the first acknowledgement. 128 KiB save about three round trips of slow
    /// start; it must exceed one packet, or nothing is ever sent.
    pub initial_window: u64,
    /// Largest UDP payload that path MTU discovery tries. It begins with 1200, which passes overlays and VPNs.
    pub mtu_max: u16,
    /// A connection that has heard nothing for so long is over. Default 10 s: a blip should not kill a session
    /// that has nowhere else to go.
    pub idle_timeout: Duration,
    /// Socket buffers that are asked for, each way. Default 8 MiB: the usual kernel default of 208 KiB holds
    /// fewer than 100 full packets, so that a late burst becomes loss.
    pub socket_buffer: usize,
    /// From the first bytes of an incoming stream to the end of its header. Default 5 s.
    pub header_timeout: Duration,
    /// How long dialling may take, all handshake included. Default 5 s.
    pub connect_timeout: Duration,
    /// How long `open` waits for a free stream slot of the peer, and for room for the header, before it gives up.
    /// Default 500 ms.
    pub open_timeout: Duration,
    /// Connections that others may have with this process, in all. Default 1 024; the slots of their streams are 0.2 MB
    /// each.
    pub connections_max: usize,
    /// Of these, those of one peer. Default 32: a few live ones, and those before them that are not yet known to be dead.
    pub connections_per_peer_max: usize,
    /// Handshakes of strangers under way at a time, beyond which more are refused. Default 256.
    pub handshakes_max: usize,
    /// Handshakes under way above which a stranger's address is checked by a retry first. Default 32. While links
    /// are open it is checked always.
    pub retry_above: usize,
    /// Probes and what silence means.
    pub liveness: gateway_core::liveness::Timers,
    /// From what a process that comes back after a crash knows the connections that its peers still hold; no two
    /// processes may share it. None: the private key, which a renewal replaces.
    pub reset_secret: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self::wan()
    }
}

const MIB: u32 = 1 << 20;

impl Config {
    /// Between sites: BBR, and windows for 1.3 Gbit/s at 100 ms.
    pub fn wan() -> Self {
        Self {
            congestion: Congestion::Bbr,
            accept: None,
            streams_max: 2_048,
            stream_window: 16 * MIB,
            connection_window: 64 * MIB,
            buffer_max: u64::from(512 * MIB),
            buffer_per_peer_max: u64::from(256 * MIB),
            send_window: u64::from(32 * MIB),
            initial_window: 128 << 10,
            mtu_max: 1_452,
            idle_timeout: Duration::from_secs(10),
            socket_buffer: 8 << 20,
            header_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            open_timeout: Duration::from_millis(500),
            connections_max: 1_024,
            connections_per_peer_max: 32,
            handshakes_max: 256,
            retry_above: 32,
            liveness: gateway_core::liveness::Timers::default(),
            reset_secret: None,
        }
    }

    /// Within a site or a data centre: Cubic, and smaller windows.
    pub fn lan() -> Self {
        Self {
            congestion: Congestion::Cubic,
            stream_window: 2 * MIB,
            connection_window: 16 * MIB,
            send_window: u64::from(8 * MIB),
            initial_window: 256 << 10,
            ..Self::wan()
        }
    }

    /// The same settings for a process that others may dial.
    pub fn accepting(self, accept: Roles) -> Self {
        Self { accept: Some(accept), ..self }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// The first one that cannot work, with what would go wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let range = |setting, value: u64, min: u64, max: u64, why| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::Range { setting, value, min, max, why })
            }
        };
        range("streams_max", self.streams_max.into(), 1, 4_096, "slots are allocated for every connection")?;
        range("mtu_max", self.mtu_max.into(), 1_200, 6_550, "ten larger packets do not fit into one send")?;
        let window = self.stream_window.into();
        range("stream_window", window, 64 << 10, 256 << 20, "it bounds the memory of one stream")?;
        let least = 4 * window;
        let connection = self.connection_window.into();
        range("connection_window", connection, least, 1 << 30, "one slow reader would stop all streams")?;
        let most = self.buffer_max;
        range("buffer_per_peer_max", self.buffer_per_peer_max, 0, most, "it is part of what all may have")?;
        let packets = 10 * u64::from(self.mtu_max);
        range("initial_window", self.initial_window, packets, 16 << 20, "the first packets would not fit")?;
        let idle = self.idle_timeout.as_millis() as u64;
        range(
            "idle_timeout (ms)",
            idle,
            1_000,
            600_000,
            "shorter than the liveness limits makes them pointless",
        )
    }

    /// Credit of connections and streams.
    pub(crate) fn windows(&self) -> Windows {
        Windows { connection: self.connection_window.into(), stream: self.stream_window.into() }
    }

    /// The settings in the words of the transport.
    pub(crate) fn transport(&self) -> Result<TransportConfig, ConfigError> {
        self.check()?;
        let mut transport = TransportConfig::default();
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(self.mtu_max);
        let idle = IdleTimeout::try_from(self.idle_timeout).expect("the range was checked");
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u64(self.windows().floor()).unwrap_or(VarInt::MAX))
            .send_window(room::initial(self.send_window))
            .send_fairness(true)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(None)
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
            .datagram_send_buffer_size(DATAGRAM_BUFFER)
            .mtu_discovery_config(Some(mtu));
        match self.congestion {
            Congestion::Bbr => {
                let bbr = BbrConfig { initial_window: self.initial_window };
                transport.congestion_controller_factory(Arc::new(Listening(Arc::new(bbr))));
            }
            Congestion::Cubic => {
                let mut cubic = CubicConfig::default();
                cubic.initial_window(self.initial_window);
                transport.congestion_controller_factory(Arc::new(Listening(Arc::new(cubic))));
            }
            Congestion::QuinnBbr => {
                let mut bbr = congestion::BbrConfig::default();
                bbr.initial_window(self.initial_window);
                transport.congestion_controller_factory(Arc::new(Listening(Arc::new(bbr))));
            }
        }
        Ok(transport)
    }
}

/// Queued datagrams, bytes each way. Only probes are sent as datagrams, and old ones say nothing new: the oldest are
/// dropped first.
const DATAGRAM_BUFFER: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_defaults_work() {
        for config in [Config::wan(), Config::lan()] {
            assert!(config.transport().is_ok());
        }
        assert_eq!(Config::default().congestion, Congestion::Bbr);
        assert_eq!(Config::lan().congestion, Congestion::Cubic);
    }

    #[test]
    fn a_setting_that_would_hang_or_starve_is_refused_with_the_reason() {
        let cases: [(&str, Config); 4] = [
            ("streams_max", Config { streams_max: 100_000, ..Config::wan() }),
            ("initial_window", Config { initial_window: 1_200, ..Config::wan() }),
            ("connection_window", Config { connection_window: 16 * MIB, ..Config::wan() }),
            ("mtu_max", Config { mtu_max: 8_952, ..Config::wan() }),
        ];
        for (setting, config) in cases {
            let error = config.check().expect_err(setting).to_string();
            assert!(error.contains(setting), "{error}");
        }
    }

    #[test]
    fn a_controller_has_a_name() {
        assert_eq!("bbr".parse(), Ok(Congestion::Bbr));
        assert_eq!(Congestion::Cubic.to_string().parse(), Ok(Congestion::Cubic));
        assert!("reno".parse::<Congestion>().is_err());
    }
}
