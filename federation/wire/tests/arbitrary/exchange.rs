//! Messages between federations.

use super::*;
use model::catalog::{Entry, EntryKey, EntryValue, ExportInfo, GroupSummary, View};
use model::exchange::{Batch, Held, PeerMessage, RefusedSession};
use model::ids::Incarnation;

pub fn summary() -> impl Strategy<Value = GroupSummary> {
    (0_u32..=1_000_000)
        .prop_flat_map(|total| (Just(total), 0..=total))
        .prop_flat_map(|(total, healthy)| (Just(total), Just(healthy), 0..=u64::from(healthy) * 1000))
        .prop_map(|(total, healthy, capacity)| GroupSummary { healthy, total, capacity })
}

pub fn entry() -> impl Strategy<Value = Entry> {
    let export = (spec(), any::<u64>()).prop_map(|(spec, created_at_ms)| ExportInfo { spec, created_at_ms });
    let pair = prop_oneof![
        site().prop_map(|site| (EntryKey::Site, EntryValue::Site(site))),
        (service(), export)
            .prop_map(|(service, export)| (EntryKey::Export(service), EntryValue::Export(export))),
        (service(), locality(), subset(), summary()).prop_map(|(service, locality, subset, summary)| {
            (EntryKey::Group(service, locality, subset), EntryValue::Group(summary))
        }),
        (service(), endpoint()).prop_map(|(service, endpoint)| {
            (EntryKey::Endpoint(service, endpoint.id.clone()), EntryValue::Endpoint(endpoint))
        }),
    ];
    (pair, any::<bool>()).prop_map(|((key, value), there)| Entry { key, value: there.then_some(value) })
}

prop_compose! {
    pub fn batch()(
        base in version(),
        version in version(),
        snapshot in any::<bool>(),
        complete in any::<bool>(),
        entries in vec(entry(), 0..6),
    ) -> Batch {
        let mut entries = entries;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        Batch { base, version, snapshot, complete, entries }
    }
}

pub fn view() -> impl Strategy<Value = View> {
    prop_oneof![Just(View::Summary), Just(View::Endpoints)]
}

fn held() -> impl Strategy<Value = Held> {
    (version(), any::<[u8; 32]>()).prop_map(|(version, digest)| Held { version, digest })
}

pub fn peer_message() -> impl Strategy<Value = PeerMessage> {
    let hello = (uid(), any::<u64>(), option::of(held()), scope(), view()).prop_map(
        |(uid, incarnation, held, scope, view)| PeerMessage::Hello {
            uid,
            incarnation: Incarnation(incarnation),
            held,
            scope,
            view,
        },
    );
    let refused = prop_oneof![
        Just(RefusedSession::WrongUid),
        Just(RefusedSession::Clone),
        Just(RefusedSession::NotLinked),
        Just(RefusedSession::Protocol),
    ];
    prop_oneof![
        hello,
        batch().prop_map(PeerMessage::Batch),
        version().prop_map(PeerMessage::Ack),
        (version(), any::<[u8; 32]>()).prop_map(|(version, digest)| PeerMessage::Digest { version, digest }),
        reason().prop_map(|reason| PeerMessage::Resync { reason }),
        refused.prop_map(|reason| PeerMessage::Refused { reason }),
        Just(PeerMessage::KeepAlive),
        (bundle(), vec(vec(any::<u8>(), 1..50), 0..6), any::<u64>())
            .prop_map(|(bundle, vouchers, holds)| PeerMessage::Trust { bundle, vouchers, holds }),
        Just(PeerMessage::Unlinked),
    ]
}
