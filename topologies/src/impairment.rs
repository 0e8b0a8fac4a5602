//! What one direction of a link does to packets: the type that topologies, experiments, the relay and the simulator
//! share.
//!
//! An [`Impairment`] is plain data. A packet meets its parts in this order: `cut`, `mtu`, `loss`, `rate` with its
//! `queue`, then `delay` with `jitter`, `reorder` and `duplicate`. A [`Change`] is what is said about some of the parts.

mod loss;
mod word;

pub use loss::{BURST_MAX, Burst, Loss};

use crate::quantity::{Delay, Queue, Rate, Share};
use api::problem::Problem;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// Longest delay one way, jitter included. Above it nothing of the tunnel would still work.
pub const DELAY_MAX: Duration = Duration::from_secs(10);
/// Least MTU that the tunnel passes through: 1200 bytes of QUIC (RFC 9000, section 14) in UDP and IPv4.
pub const MTU_MIN: u16 = 1228;

/// What one direction of a link does to packets. The default does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Impairment {
    /// Time from one end to the other. At most [`DELAY_MAX`].
    #[serde(with = "crate::quantity::delay", skip_serializing_if = "Duration::is_zero")]
    pub delay: Duration,
    /// How much the delay of a packet may differ from `delay`, either way, each difference as likely as the other. At
    /// most `delay`. Packets keep their order: one that is due before the packet in front of it waits for it.
    #[serde(with = "crate::quantity::delay", skip_serializing_if = "Duration::is_zero")]
    pub jitter: Duration,
    /// Which packets are lost.
    #[serde(skip_serializing_if = "Loss::is_none")]
    pub loss: Loss,
    /// How fast packets go onto the way, counted with their IP and UDP headers. None: as fast as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How much may wait for the rate; what comes when it is full is dropped. Without a rate there is no queue.
    /// None: [`Queue::DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Largest packet that passes, in bytes, with its IP and UDP headers (28 with IPv4). A larger one is dropped and
    /// nobody is told: a black hole. None: every packet passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Share of packets that arrive twice, the second right behind the first.
    #[serde(skip_serializing_if = "Share::is_none")]
    pub duplicate: Share,
    /// Which packets are overtaken by later ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Reorder>,
    /// Nothing passes. What is on its way already arrives.
    #[serde(skip_serializing_if = "is_false")]
    pub cut: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Impairment {
    /// One that does nothing.
    pub const NONE: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: Loss::Uniform(Share::NONE),
        rate: None,
        queue: None,
        mtu: None,
        duplicate: Share::NONE,
        reorder: None,
        cut: false,
    };

    /// Most bytes that wait for the rate: at least two packets of 1500 bytes, so that a queue of no time lets some
    /// through. None: there is no rate, so nothing waits.
    pub fn queue_bytes(&self) -> Option<u64> {
        let rate = self.rate?;
        Some(self.queue.unwrap_or(Queue::DEFAULT).bytes(rate).max(3000))
    }

    /// Checks the parts against each other.
    ///
    /// # Errors
    /// The first that cannot be, with its field.
    pub fn check(&self) -> Result<(), Problem> {
        if self.delay > DELAY_MAX {
            return Err(Problem::at("delay", "the delay is longer than 10 s").help("write at most 10s"));
        }
        if self.jitter > self.delay {
            let text = format!("the jitter is more than the delay of {:#} each way", Delay(self.delay));
            return Err(Problem::at("jitter", text).help("write at most the delay, or raise the delay"));
        }
        if self.queue.is_some() && self.rate.is_none() {
            return Err(Problem::at("queue", "there is a queue and no rate, so nothing ever waits in it")
                .help("add `rate`, or take `queue` out"));
        }
        if self.mtu.is_some_and(|mtu| mtu < 68) {
            return Err(Problem::at("mtu", "no network has so small an MTU")
                .help("write at least 68 (RFC 791), or `cut: true`"));
        }
        self.loss.check().map_err(|problem| problem.under("loss"))
    }
}

/// In words: `delay 30 ms, loss 2 %`; `cut`; `nothing`.
impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.cut {
            parts.push("cut".to_owned());
        }
        if !self.delay.is_zero() {
            parts.push(format!("delay {:#}", Delay(self.delay)));
        }
        parts.extend(self.rest());
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

impl Impairment {
    /// What it does beside delaying and cutting, in words: `loss 2 %`, `100 Mbit/s`.
    pub fn rest(&self) -> Vec<String> {
        let mut parts = Vec::new();
        if !self.jitter.is_zero() {
            parts.push(format!("jitter {:#}", Delay(self.jitter)));
        }
        if !self.loss.is_none() {
            parts.push(format!("loss {}", self.loss));
        }
        if let Some(rate) = self.rate {
            parts.push(format!("{rate:#}"));
        }
        if let Some(queue) = self.queue {
            parts.push(format!("queue {queue:#}"));
        }
        if let Some(mtu) = self.mtu {
            parts.push(format!("MTU {mtu}"));
        }
        if !self.duplicate.is_none() {
            parts.push(format!("{:#} twice", self.duplicate));
        }
        if let Some(reorder) = self.reorder {
            parts.push(format!("{:#} late by {:#}", reorder.share, Delay(reorder.by)));
        }
        parts
    }
}

/// Packets that are overtaken. Written as `1%`, or as `{ share: 1%, by: 5ms }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reorder {
    /// Share of packets that are late.
    pub share: Share,
    /// By how much; those that come meanwhile overtake them. Default 1 ms.
    pub by: Duration,
}

/// How late a packet is that is overtaken, when it is not said: a few packets of a busy way overtake it.
const REORDER_BY: Duration = Duration::from_millis(1);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ReorderFields {
    share: Share,
    #[serde(default = "reorder_by")]
    by: Delay,
}

fn reorder_by() -> Delay {
    Delay(REORDER_BY)
}

impl Serialize for Reorder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.by == REORDER_BY {
            return self.share.serialize(serializer);
        }
        ReorderFields { share: self.share, by: Delay(self.by) }.serialize(serializer)
    }
}

impl From<Share> for Reorder {
    fn from(share: Share) -> Self {
        Self { share, by: REORDER_BY }
    }
}

impl From<ReorderFields> for Reorder {
    fn from(fields: ReorderFields) -> Self {
        Self { share: fields.share, by: fields.by.0 }
    }
}

impl<'de> Deserialize<'de> for Reorder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a share as in `1%`, or `share` and `by`";
        word::or_fields::<Self, ReorderFields, D>(deserializer, expecting)
    }
}

/// What is said of some parts of an impairment; the others stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Change {
    /// See [`Impairment::delay`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// See [`Impairment::jitter`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Delay>,
    /// See [`Impairment::loss`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// See [`Impairment::rate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// See [`Impairment::queue`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// See [`Impairment::mtu`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// See [`Impairment::duplicate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Share>,
    /// See [`Impairment::reorder`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Reorder>,
    /// See [`Impairment::cut`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<bool>,
}

impl Change {
    /// The impairment with what this says, and the rest of `before`.
    #[must_use]
    pub fn of(&self, before: Impairment) -> Impairment {
        Impairment {
            delay: self.delay.map_or(before.delay, |delay| delay.0),
            jitter: self.jitter.map_or(before.jitter, |jitter| jitter.0),
            loss: self.loss.unwrap_or(before.loss),
            rate: self.rate.or(before.rate),
            queue: self.queue.or(before.queue),
            mtu: self.mtu.or(before.mtu),
            duplicate: self.duplicate.unwrap_or(before.duplicate),
            reorder: self.reorder.or(before.reorder),
            cut: self.cut.unwrap_or(before.cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().expect("a share")
    }

    #[test]
    fn an_impairment_is_read_as_it_is_written() {
        let text = "delay: 30ms\njitter: 2ms\nloss: {average: 2%, burst: 8}\nrate: 100Mbit\nqueue: 50ms\n\
                    mtu: 1400\nduplicate: 0.1%\nreorder: {share: 1%, by: 5ms}\ncut: true\n";
        let read: Impairment = api::yaml::read("x", text).expect("valid");
        let again = api::yaml::write(&read).expect("written");
        assert_eq!(api::yaml::read::<Impairment>("x", &again), Ok(read), "{again}");
        assert_eq!(
            read.to_string(),
            "cut, delay 30 ms, jitter 2 ms, loss 2 % in bursts of 8, 100 Mbit/s, queue 50 ms, MTU 1400, \
             0.1 % twice, 1 % late by 5 ms"
        );
        assert_eq!(Impairment::NONE, Impairment::default());
        assert_eq!(Impairment::NONE.to_string(), "nothing");
        assert_eq!(api::yaml::read::<Impairment>("x", "{}"), Ok(Impairment::NONE));
    }

    #[test]
    fn mistakes_within_are_shown_at_their_place() {
        let at = |text: &str| {
            let mistake = api::yaml::read::<Impairment>("x", text).expect_err(text);
            format!("{}:{} {} {}", mistake.line, mistake.column, mistake.message, mistake.help)
        };
        assert_eq!(
            at("cut: true\nloss: 2\n"),
            "2:7 `2` is not a share: write per cent, as in `2%` or `0.1%` "
        );
        assert_eq!(
            at("loss: {average: 2%, bursts: 8}\n"),
            "1:21 unknown field `bursts` did you mean `burst`?"
        );
        assert_eq!(at("reorder: {by: 5ms}\n"), "1:11 field `share` is missing add `share:`");
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before =
            Impairment { delay: Duration::from_millis(30), loss: share("1%").into(), ..Impairment::NONE };
        let change = Change { loss: Some(share("30%").into()), ..Change::default() };
        assert_eq!(change.of(before), Impairment { loss: share("30%").into(), ..before });
        assert_eq!(Change::default().of(before), before);
    }

    #[test]
    fn a_queue_holds_at_least_two_packets_and_needs_a_rate() {
        let rate = Some("1Mbit".parse().expect("a rate"));
        let short = Impairment { rate, queue: Some(Queue::Bytes(1)), ..Impairment::NONE };
        assert_eq!(short.queue_bytes(), Some(3000));
        assert_eq!(Impairment { queue: None, ..short }.queue_bytes(), Some(12_500));
        assert_eq!(Impairment::NONE.queue_bytes(), None);
        assert!(Impairment { rate: None, ..short }.check().is_err());
    }
}
