//! A peer that says well-formed things, one after the other, to a replicator with small bounds.

#[path = "../../federation/wire/tests/arbitrary/mod.rs"]
mod arbitrary;

use crate::some;
use federation_core::Replicator;
use federation_core::peer::PeerLink;
use federation_core::session::{Dialled, SessionId};
use federation_core::settings::Settings;
use federation_core::store::Restored;
use model::catalog::{Scope, SiteInfo, View};
use model::exchange::PeerMessage;
use model::ids::{Incarnation, SiteUid};
use prost::Message;
use std::time::{Duration, Instant};
use wire::pb;

const ENTRIES_MAX: usize = 50;

fn site(name: &str) -> SiteInfo {
    SiteInfo {
        id: name.parse().expect("valid"),
        uid: SiteUid([name.len() as u8; 16]),
        trust_domain: format!("{name}.mesh").parse().expect("valid"),
        locality: "eu/fra".parse().expect("valid"),
        clusterset: "meshfed".parse().expect("valid"),
        gateways: Vec::new(),
    }
}

fn settings() -> Settings {
    Settings { held_entries_max: ENTRIES_MAX, batch_bytes_max: 8_000, events_max: 16, ..Settings::default() }
}

/// Takes out all that waits, as a shell does.
fn drain(core: &mut Replicator) {
    while core.poll_persist().is_some() {}
    while core.poll_transmit().is_some() {}
    while core.poll_event().is_some() {}
}

/// The bytes are messages, each with two bytes of length before it; a length of zero lets a second pass and opens
/// another session.
pub fn replicator(bytes: &[u8]) {
    let (own, peer) = (site("west"), site("northeast"));
    let mut now = Instant::now() + Duration::from_secs(3_600);
    let mut core = Replicator::new(1, now, own, Incarnation(1), Restored::default(), settings());
    let link = PeerLink {
        site: peer.id.clone(),
        uid: peer.uid,
        trust_domain: peer.trust_domain.clone(),
        offer: Scope::All,
        want: Scope::All,
        view: View::Endpoints,
    };
    core.handle_link(link, now);
    core.handle_recovered(now);
    let mut session = 1;
    core.handle_session_up(&peer.id, SessionId(session), Dialled::There, now);
    let hello = PeerMessage::Hello {
        uid: peer.uid,
        incarnation: Incarnation(1),
        held: None,
        scope: Scope::All,
        view: View::Summary,
    };
    core.handle_message(&peer.id, SessionId(session), hello, now);
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (body, after) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        rest = after;
        if body.is_empty() {
            now += Duration::from_secs(1);
            core.handle_timeout(now);
            session += 1;
            core.handle_session_up(&peer.id, SessionId(session), Dialled::There, now);
        } else if let Some(Ok(message)) = pb::PeerMessage::decode(body).ok().map(PeerMessage::try_from) {
            core.handle_message(&peer.id, SessionId(session), message, now);
        }
        let backlog = core.backlog();
        assert!(
            backlog.staged <= ENTRIES_MAX && backlog.events <= 16 && backlog.messages <= 512,
            "{backlog:?}"
        );
        assert!(core.held(&peer.id).count() <= 2 * ENTRIES_MAX);
        drain(&mut core);
    }
    assert!(core.own().count() == 1, "a peer changes nothing of the own catalog");
}

pub fn replicator_seeds() -> Vec<Vec<u8>> {
    let framed = |message: &PeerMessage| {
        let body = pb::PeerMessage::from(message).encode_to_vec();
        [&(body.len() as u16).to_be_bytes()[..], &body].concat()
    };
    let messages = some(400, arbitrary::peer_message());
    messages.chunks(8).map(|some| some.iter().flat_map(framed).chain([0, 0]).collect()).collect()
}
