//! One client connection, from its accept until an endpoint has it.
//!
//! The first meshfed process of a stream's way (an agent or a gateway) owns one [`Attempt`] per client connection. It
//! keeps what the client has sent until a candidate (an endpoint to dial, or a tunnel stream) has *accepted*, so a
//! candidate that refuses, or whose path dies before, is followed by the next one unseen by the client. One that has
//! accepted and then dies ends the client's connection at once.
//!
//! Client bytes travel ahead of `accepted` only where they may reach two endpoints: on ports marked `retry: safe`, and
//! a TLS ClientHello without early data on any port. So no byte of any other client reaches two endpoints.
//!
//! The shell reads from the client at most [`Attempt::room`] bytes at a time, carries out each [`Action`] in order, and
//! copies by itself after [`Action::Splice`].

mod hello;

use hello::Hello;
use model::decision::{Refusal, RefusalCode};
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Numbers of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Client bytes that are kept until `accepted`; then reading stops. Default 64 KiB.
    pub buffer_max: usize,
    /// Candidates that are tried. Default 16: more than a service has sites, and an end to it.
    pub candidates_max: u32,
    /// How long a candidate may take to answer. Default 5 s: a gateway tries several endpoints, 2 s for each dial.
    pub answer_timeout: Duration,
    /// How long all candidates may take. Default 15 s.
    pub give_up_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            buffer_max: 64 * 1024,
            candidates_max: 16,
            answer_timeout: Duration::from_secs(5),
            give_up_after: Duration::from_secs(15),
        }
    }
}

impl Settings {
    /// For a process that serves or relays a stream which has gone through so many processes: each answers half a
    /// second before the one before it stops waiting, so that its refusal still arrives.
    pub fn after_hops(hops: u8) -> Self {
        let first = Self::default();
        let time =
            first.answer_timeout.saturating_sub(Duration::from_millis(500) * u32::from(hops.clamp(1, 8)));
        Self { answer_timeout: time, give_up_after: time, ..first }
    }
}

/// Numbers the candidates of one attempt, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CandidateId(pub u32);

/// What the shell has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the router for the next candidate; answer with `handle_candidate` or `handle_no_candidate`.
    Route,
    /// Dial the candidate, or open a stream to it and send the header.
    Open {
        /// Which one.
        candidate: CandidateId,
        /// For the header: bytes follow ahead of `accepted`.
        bytes_ahead: bool,
    },
    /// Send these client bytes.
    Send {
        /// To this candidate.
        candidate: CandidateId,
        /// Bytes.
        bytes: Vec<u8>,
    },
    /// The client has sent all: FIN.
    Finish {
        /// To this candidate.
        candidate: CandidateId,
    },
    /// Give the candidate up: reset its stream, or close its socket.
    Cancel {
        /// Which one.
        candidate: CandidateId,
    },
    /// The candidate has the connection, and all kept bytes were sent to it. Copy both ways from here on; unless
    /// `finished`, what the client sends next is the next byte. Nothing but `ResetClient` follows.
    Splice {
        /// Which one.
        candidate: CandidateId,
        /// The client's FIN was passed on already.
        finished: bool,
    },
    /// End the client's connection with a reset. Nothing follows.
    ResetClient {
        /// Why, for the log.
        end: End,
    },
}

/// Why an attempt ended with a reset of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// No candidate took it. The last refusal says why.
    Refused(Refusal),
    /// A candidate had accepted it, and was lost with whatever it had in flight.
    Lost,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{}: {}", refusal.code, refusal.detail),
            Self::Lost => f.write_str("the path or endpoint that had accepted it was lost"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The router is asked.
    Routing,
    /// A candidate was opened and has not answered.
    Opening { candidate: CandidateId, carries_ahead: bool, sent: usize, due: Instant },
    /// A candidate has the connection.
    Accepted { candidate: CandidateId },
    /// Reset, or cancelled by the client.
    Ended,
}

/// The machine. See the module.
#[derive(Debug)]
pub struct Attempt {
    settings: Settings,
    retry_safe: bool,
    give_up_at: Instant,
    phase: Phase,
    tried: u32,
    /// Everything that the client has sent so far; empty after `accepted`. Bound: `buffer_max`.
    buffer: Vec<u8>,
    hello: Hello,
    fin: bool,
    last_refusal: Option<Refusal>,
    /// Bound: at most 4 actions follow from one input.
    actions: VecDeque<Action>,
}

impl Attempt {
    /// A client was accepted on a port. `retry_safe`: the port's mark.
    pub fn new(settings: Settings, retry_safe: bool, now: Instant) -> Self {
        let give_up_at = now + settings.give_up_after;
        Self {
            settings,
            retry_safe,
            give_up_at,
            phase: Phase::Routing,
            tried: 0,
            buffer: Vec::new(),
            hello: Hello::Incomplete,
            fin: false,
            last_refusal: None,
            actions: VecDeque::from([Action::Route]),
        }
    }

    /// How many bytes may now be read from the client; 0: read nothing.
    pub fn room(&self) -> usize {
        match self.phase {
            Phase::Routing | Phase::Opening { .. } if !self.fin => {
                self.settings.buffer_max.saturating_sub(self.buffer.len())
            }
            Phase::Routing | Phase::Opening { .. } | Phase::Accepted { .. } | Phase::Ended => 0,
        }
    }

    /// Bytes that are kept.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The client sent bytes, at most [`Attempt::room`] of them.
    pub fn handle_client_bytes(&mut self, bytes: &[u8], _now: Instant) {
        debug_assert!(bytes.len() <= self.room(), "the shell reads no more than there is room for");
        if matches!(self.phase, Phase::Accepted { .. } | Phase::Ended) || self.fin {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        if self.hello == Hello::Incomplete {
            self.hello = hello::read(&self.buffer);
        }
        self.send_ahead();
    }

    /// The client has sent all (FIN). It is passed on behind its bytes, once accepted.
    pub fn handle_client_fin(&mut self, _now: Instant) {
        self.fin = true;
    }

    /// The client's connection was reset, or it cannot be written to any more.
    pub fn handle_client_reset(&mut self, _now: Instant) {
        if let Phase::Opening { candidate, .. } | Phase::Accepted { candidate } = self.phase {
            self.actions.push_back(Action::Cancel { candidate });
        }
        self.end();
    }

    /// The router has a candidate. `carries_ahead`: it is a stream, on which bytes can be sent before it answers, and
    /// not a socket that is yet to be connected.
    pub fn handle_candidate(&mut self, carries_ahead: bool, now: Instant) {
        if self.phase != Phase::Routing {
            return;
        }
        let candidate = CandidateId(self.tried);
        self.tried += 1;
        let due = (now + self.settings.answer_timeout).min(self.give_up_at);
        self.phase = Phase::Opening { candidate, carries_ahead, sent: 0, due };
        let bytes_ahead = carries_ahead && (self.retry_safe || self.ahead_len() > 0);
        self.actions.push_back(Action::Open { candidate, bytes_ahead });
        self.send_ahead();
    }

    /// The router has none left.
    pub fn handle_no_candidate(&mut self, refusal: Refusal, _now: Instant) {
        if self.phase == Phase::Routing {
            // What the last candidate said tells more than that none is left.
            let refusal = self.last_refusal.take().unwrap_or(refusal);
            self.reset(End::Refused(refusal));
        }
    }

    /// The candidate has the connection.
    pub fn handle_accepted(&mut self, candidate: CandidateId, _now: Instant) {
        let Phase::Opening { candidate: current, sent, .. } = self.phase else { return };
        if candidate != current {
            return;
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.drain(..sent);
        if !bytes.is_empty() {
            self.actions.push_back(Action::Send { candidate, bytes });
        }
        if self.fin {
            self.actions.push_back(Action::Finish { candidate });
        }
        self.actions.push_back(Action::Splice { candidate, finished: self.fin });
        self.phase = Phase::Accepted { candidate };
    }

    /// The candidate said no.
    pub fn handle_refused(&mut self, candidate: CandidateId, refusal: Refusal, now: Instant) {
        if !self.is_opening(candidate) {
            return;
        }
        if refusal.retryable {
            self.last_refusal = Some(refusal);
            self.next(now);
        } else {
            self.reset(End::Refused(refusal));
        }
    }

    /// The candidate's path died, its dial failed, or it broke the protocol. Before it had accepted, the next one
    /// follows; after, the client is reset.
    pub fn handle_failed(&mut self, candidate: CandidateId, detail: &str, now: Instant) {
        if let Phase::Opening { candidate: current, carries_ahead, .. } = self.phase
            && candidate == current
        {
            self.last_refusal = Some(failed(carries_ahead, detail));
            self.next(now);
        } else if self.phase == (Phase::Accepted { candidate }) {
            self.reset(End::Lost);
        }
    }

    /// Time has come to what `poll_timeout` said.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening { candidate, carries_ahead, due, .. } if now >= due => {
                self.actions.push_back(Action::Cancel { candidate });
                self.last_refusal = Some(failed(carries_ahead, "it did not answer in time"));
                self.next(now);
            }
            Phase::Routing if now >= self.give_up_at => self.give_up(),
            Phase::Opening { .. } | Phase::Routing | Phase::Accepted { .. } | Phase::Ended => {}
        }
    }

    /// When `handle_timeout` wants to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.phase {
            Phase::Routing => Some((self.give_up_at, "no candidate was found")),
            Phase::Opening { due, .. } => Some((due, "the candidate does not answer")),
            Phase::Accepted { .. } | Phase::Ended => None,
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether nothing is left to do: reset, or cancelled by the client.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended && self.actions.is_empty()
    }

    fn is_opening(&self, candidate: CandidateId) -> bool {
        matches!(self.phase, Phase::Opening { candidate: current, .. } if current == candidate)
    }

    /// How many of the kept bytes may reach more than one endpoint.
    fn ahead_len(&self) -> usize {
        match self.hello {
            _ if self.retry_safe => self.buffer.len(),
            Hello::Whole(length) => length,
            Hello::Incomplete | Hello::Other => 0,
        }
    }

    fn send_ahead(&mut self) {
        let until = self.ahead_len();
        let Phase::Opening { candidate, carries_ahead: true, sent, .. } = &mut self.phase else { return };
        if let Some(bytes) = self.buffer.get(*sent..until).filter(|bytes| !bytes.is_empty()) {
            self.actions.push_back(Action::Send { candidate: *candidate, bytes: bytes.to_vec() });
            *sent = until;
        }
    }

    fn next(&mut self, now: Instant) {
        if self.tried >= self.settings.candidates_max || now >= self.give_up_at {
            self.give_up();
        } else {
            self.phase = Phase::Routing;
            self.actions.push_back(Action::Route);
        }
    }

    fn give_up(&mut self) {
        let refusal = self.last_refusal.take().unwrap_or_else(|| Refusal {
            code: RefusalCode::NoEndpoint,
            retryable: false,
            detail: "no candidate was found in time".to_owned(),
        });
        self.reset(End::Refused(refusal));
    }

    fn reset(&mut self, end: End) {
        self.actions.push_back(Action::ResetClient { end });
        self.end();
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.buffer = Vec::new();
    }
}

/// What is said of a candidate from which no answer came. Of a stream it is the way that failed: a process behind it
/// would have said what is wrong with the endpoint, and in time. So whoever asked may try another way to it.
fn failed(is_stream: bool, detail: &str) -> Refusal {
    let code = if is_stream { RefusalCode::NoPath } else { RefusalCode::EndpointFailed };
    Refusal { code, retryable: true, detail: detail.chars().take(200).collect() }
}

#[cfg(test)]
mod tests;
