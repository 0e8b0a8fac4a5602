//! How long data has waited for its acknowledgement. The transport does not say, but it tells its congestion
//! controller of every packet that is sent and acknowledged, so a controller that wraps the real one can listen.

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use quinn_proto::congestion::ControllerMetrics;
use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Packets of at least so many bytes are data; smaller ones are probes and acknowledgements.
const DATA_BYTES: u64 = 600;

/// Since when data of one path is unacknowledged.
#[derive(Debug, Default)]
pub(crate) struct Unacked(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    /// When the oldest unacknowledged data was sent, or a time before that.
    since: Option<Instant>,
    last_sent: Option<Instant>,
    /// All that was in flight was lost: since when it had waited, and when the loss was seen.
    lost: Option<(Instant, Instant)>,
}

/// Stream data that was lost is sent again at once. What is not sent again within this time was a datagram, which
/// nobody waits for.
const RESENT_WITHIN: Duration = Duration::from_millis(100);

impl Unacked {
    /// When the oldest data that is not acknowledged was sent; none: all is.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.0.lock().expect("nobody panics with it").since
    }

    fn sent(&self, now: Instant) {
        let mut window = self.0.lock().expect("nobody panics with it");
        window.last_sent = Some(now);
        let again =
            window.lost.take().filter(|(_, seen)| now.saturating_duration_since(*seen) <= RESENT_WITHIN);
        window.since.get_or_insert(again.map_or(now, |(since, _)| since));
    }

    /// What was sent up to `sent` was lost, as far as it was not acknowledged.
    fn lost(&self, sent: Instant, now: Instant) {
        let mut window = self.0.lock().expect("nobody panics with it");
        if window.last_sent.is_some_and(|last| last <= sent) {
            window.lost = window.since.take().map(|since| (since, now));
        }
    }

    fn acknowledged(&self, sent: Instant) {
        let mut window = self.0.lock().expect("nobody panics with it");
        window.since = match window.since {
            Some(since) if window.last_sent.is_some_and(|last| last > sent) => Some(since.max(sent)),
            Some(_) | None => None,
        };
    }
}

/// Builds controllers that listen, around those of another factory.
pub(crate) struct Listening<F>(pub(crate) Arc<F>);

impl<F: ControllerFactory> ControllerFactory for Listening<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Listener { inner, unacked: Arc::default() })
    }
}

struct Listener {
    inner: Box<dyn Controller>,
    unacked: Arc<Unacked>,
}

/// What the controller of the connection's path has heard; none: its controller does not listen.
pub(crate) fn of(quic: &quinn::Connection) -> Option<Arc<Unacked>> {
    let listener = quic.congestion_state().into_any().downcast::<Listener>().ok()?;
    Some(listener.unacked)
}

impl Controller for Listener {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        if bytes >= DATA_BYTES {
            self.unacked.sent(now);
        }
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        if bytes >= DATA_BYTES {
            self.unacked.acknowledged(sent);
        }
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        if lost_bytes > 0 {
            self.unacked.lost(sent, now);
        }
        self.inner.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), unacked: Arc::clone(&self.unacked) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_waits_from_when_it_was_sent_until_all_is_acknowledged() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let unacked = Unacked::default();
        assert_eq!(unacked.since(), None);
        unacked.sent(at(0));
        unacked.sent(at(10));
        unacked.sent(at(20));
        assert_eq!(unacked.since(), Some(at(0)));
        unacked.acknowledged(at(10));
        assert_eq!(unacked.since(), Some(at(10)));
        unacked.acknowledged(at(20));
        assert_eq!(unacked.since(), None);
        unacked.acknowledged(at(0));
        assert_eq!(unacked.since(), None);
    }

    #[test]
    fn data_that_is_sent_again_has_waited_since_the_first_time_and_a_lost_datagram_waits_for_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let unacked = Unacked::default();
        unacked.sent(at(0));
        unacked.lost(at(0), at(40));
        unacked.sent(at(41));
        assert_eq!(unacked.since(), Some(at(0)));
        unacked.lost(at(41), at(80));
        assert_eq!(unacked.since(), None);
        unacked.sent(at(1_000));
        assert_eq!(unacked.since(), Some(at(1_000)));
        // A loss before the last packet leaves that one in flight.
        unacked.sent(at(1_010));
        unacked.lost(at(1_000), at(1_050));
        assert_eq!(unacked.since(), Some(at(1_000)));
    }

    #[test]
    fn a_small_packet_is_no_data() {
        let factory = Arc::new(Listening(Arc::new(quinn::congestion::CubicConfig::default())));
        let start = Instant::now();
        let mut controller = factory.build(start, 1_200);
        let window = controller.window();
        controller.on_sent(start, 60, 1);
        let unacked = |controller: &dyn Controller| {
            let listener = controller.clone_box().into_any().downcast::<Listener>();
            listener.expect("ours").unacked.since()
        };
        assert_eq!(unacked(&*controller), None);
        controller.on_sent(start, 1_200, 2);
        assert_eq!(unacked(&*controller), Some(start));
        assert_eq!(controller.window(), window);
    }
}
