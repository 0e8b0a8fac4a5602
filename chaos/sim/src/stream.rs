//! A catalog session as the network carries it: ordered and reliable, until it is reset.

use crate::fabric::Carries;
use crate::world::World;
use federation_core::session::{Dialled, SessionId};
use model::exchange::PeerMessage;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long data may wait for a cut to heal before the session is reset.
pub const RESET_AFTER: Duration = Duration::from_secs(10);

/// What a session carries in one direction.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message, and when it was sent.
    Message(Box<PeerMessage>, Instant),
    /// The end.
    Fin,
}

/// A session. End 0 dialled.
#[derive(Debug)]
pub struct Stream {
    /// Sites at its ends.
    pub ends: [usize; 2],
    /// Life of the process at each end when it was dialled.
    pub lives: [u64; 2],
    /// The end has been told that it is up, and not that it is down.
    pub open: [bool; 2],
    /// The end will yet be told that it is up.
    pub coming: [bool; 2],
    /// When the last item towards each end arrives.
    last: [Instant; 2],
    /// What waits for a cut to heal, towards each end.
    stalled: [VecDeque<Item>; 2],
    /// Since when something waits.
    stalled_since: Option<Instant>,
}

impl Stream {
    /// Items that wait for a cut to heal, both directions.
    pub fn stalled(&self) -> usize {
        self.stalled.iter().map(VecDeque::len).sum()
    }

    /// The end of this stream that a site is at.
    pub fn end_of(&self, site: usize) -> usize {
        usize::from(self.ends[0] != site)
    }
}

/// What the queue holds for streams.
#[derive(Debug)]
pub enum StreamEvent {
    /// An item arrives at an end.
    Arrive(SessionId, usize, Item),
    /// The session is up at an end.
    Up(SessionId, usize),
    /// Something has waited long enough.
    Reset(SessionId),
}

impl World {
    /// One site dials another, if it has no session with it and the network lets it.
    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        if self.sites[from].process.is_none() || !self.sites[from].links.contains_key(&to) {
            return;
        }
        let has_one = self.streams.values().any(|stream| {
            let end = stream.end_of(from);
            stream.ends.contains(&from)
                && stream.ends[1 - end] == to
                && (stream.open[end] || stream.coming[end])
                && stream.lives[end] == self.sites[from].life
        });
        if has_one {
            return;
        }
        let there = self.route(from, to, Carries::Stream);
        let back = self.route(to, from, Carries::Stream);
        let (Some(there), Some(back)) = (there, back) else { return };
        if self.sites[to].process.is_none() {
            return;
        }
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let up = [self.now + there + back, self.now + there];
        let stream = Stream {
            ends: [from, to],
            lives: [self.sites[from].life, self.sites[to].life],
            open: [false; 2],
            coming: [true; 2],
            last: up,
            stalled: [VecDeque::new(), VecDeque::new()],
            stalled_since: None,
        };
        self.streams.insert(id, stream);
        self.schedule_stream(up[1], StreamEvent::Up(id, 1));
        self.schedule_stream(up[0], StreamEvent::Up(id, 0));
    }

    /// Puts an item on its way to an end.
    pub(crate) fn send_item(&mut self, id: SessionId, to_end: usize, item: Item) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (from, to) = (stream.ends[1 - to_end], stream.ends[to_end]);
        let waits = !stream.stalled[to_end].is_empty();
        let delay = if waits { None } else { self.route(from, to, Carries::Stream) };
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match delay {
            Some(delay) => {
                let at = (now + delay).max(stream.last[to_end]);
                stream.last[to_end] = at;
                self.schedule_stream(at, StreamEvent::Arrive(id, to_end, item));
            }
            None => {
                stream.stalled[to_end].push_back(item);
                if stream.stalled_since.is_none() {
                    stream.stalled_since = Some(now);
                    self.schedule_stream(now + RESET_AFTER, StreamEvent::Reset(id));
                }
            }
        }
    }

    /// A fault is over: what waited goes on its way, as far as other faults let it.
    pub(crate) fn release_stalled(&mut self) {
        let ids: Vec<SessionId> = self.streams.keys().copied().collect();
        for id in ids {
            for end in 0..2 {
                let Some(stream) = self.streams.get_mut(&id) else { continue };
                let items = std::mem::take(&mut stream.stalled[end]);
                for item in items {
                    self.send_item(id, end, item);
                }
            }
            if let Some(stream) = self.streams.get_mut(&id)
                && stream.stalled() == 0
            {
                stream.stalled_since = None;
            }
        }
    }

    pub(crate) fn handle_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Up(id, end) => self.stream_up(id, end),
            StreamEvent::Arrive(id, end, item) => self.arrive(id, end, item),
            StreamEvent::Reset(id) => {
                let now = self.now;
                let since = self.streams.get(&id).and_then(|stream| stream.stalled_since);
                match since {
                    Some(since) if now >= since + RESET_AFTER => self.reset(id),
                    Some(since) => self.schedule_stream(since + RESET_AFTER, StreamEvent::Reset(id)),
                    None => {}
                }
            }
        }
    }

    fn stream_up(&mut self, id: SessionId, end: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.coming[end] = false;
        let (site, peer) = (stream.ends[end], stream.ends[1 - end]);
        if self.sites[site].process.is_none() || self.sites[site].life != stream.lives[end] {
            self.send_item(id, 1 - end, Item::Fin);
            self.forget_closed(id);
            return;
        }
        stream.open[end] = true;
        let dialled = if end == 0 { Dialled::Here } else { Dialled::There };
        self.session_up(site, peer, id, dialled);
    }

    fn arrive(&mut self, id: SessionId, end: usize, item: Item) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (site, peer) = (stream.ends[end], stream.ends[1 - end]);
        if !stream.open[end] {
            // Nobody is there who knows of it: whoever runs there resets it.
            let resets = stream.open[1 - end] && self.sites[site].process.is_some();
            if resets && matches!(item, Item::Message(..)) {
                self.send_item(id, 1 - end, Item::Fin);
            }
            return;
        }
        match item {
            Item::Message(message, sent_at) => self.message(site, peer, id, *message, sent_at),
            Item::Fin => {
                stream.open[end] = false;
                self.session_down(site, peer, id);
                self.forget_closed(id);
            }
        }
    }

    /// An end closes the session.
    pub(crate) fn close_end(&mut self, id: SessionId, site: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end_of(site);
        if std::mem::replace(&mut stream.open[end], false) {
            self.send_item(id, 1 - end, Item::Fin);
        }
        self.forget_closed(id);
    }

    /// Both ends learn at once that the session is gone.
    pub(crate) fn reset(&mut self, id: SessionId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        for end in 0..2 {
            if stream.open[end] {
                self.session_down(stream.ends[end], stream.ends[1 - end], id);
            }
        }
    }

    /// The process of a site is gone. Unless its host is, peers learn it after what was sent before.
    pub(crate) fn drop_streams(&mut self, site: usize, silent: bool) {
        let ids: Vec<SessionId> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.ends.contains(&site))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let end = stream.end_of(site);
            stream.open[end] = false;
            if !silent {
                self.send_item(id, 1 - end, Item::Fin);
            }
            self.forget_closed(id);
        }
    }

    fn forget_closed(&mut self, id: SessionId) {
        let Some(stream) = self.streams.get(&id) else { return };
        if !stream.open.contains(&true) && !stream.coming.contains(&true) {
            self.streams.remove(&id);
        }
    }
}
