//! Finding the candidate that takes a client connection: turns what happens into inputs of the attempt, and carries out
//! its actions.

use super::client::{Client, Did};
use super::{Finish, Next, Outcome, Request, Route};
use crate::connection::{Connection, OpenError, Opened, State};
use crate::dial::{self, DialError};
use crate::splice::Leg;
use bytes::{Bytes, BytesMut};
use gateway_core::attempt::{Action, Attempt, CandidateId, End};
use model::decision::{Refusal, RefusalCode};
use model::ids::EndpointId;
use model::locality::Locality;
use model::tunnel::{Answer, StreamHeader, StreamKind};
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A client connection that somebody has taken.
pub(super) struct Settled {
    /// The client.
    pub(super) first: Leg,
    /// Who has it.
    pub(super) second: Leg,
    /// Bytes of the client that are still to be sent.
    pub(super) ahead: Bytes,
    pub(super) endpoint: EndpointId,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The candidate that is being tried.
enum Candidate {
    None,
    Dialling { work: Work<Result<TcpStream, DialError>>, endpoint: EndpointId, locality: Locality },
    Opening { work: Work<Result<Opened, OpenError>>, states: watch::Receiver<State> },
    Open { opened: Opened, states: watch::Receiver<State> },
    Accepted { leg: Leg, endpoint: EndpointId, locality: Locality },
}

/// What a candidate did.
enum Answered {
    Accepted {
        leg: Leg,
        endpoint: EndpointId,
        locality: Locality,
    },
    Refused(Refusal),
    Failed(String),
    /// The stream is open; the answer is still to come.
    Opened(Opened, watch::Receiver<State>),
}

/// All that can happen.
enum Input {
    Client(Did),
    Candidate(Answered),
    Time,
}

pub(super) async fn settle(request: Request, route: Arc<dyn Route>) -> Result<Settled, Finish> {
    let Request { client, retry_safe, settings } = request;
    let attempt = Attempt::new(settings, retry_safe, Instant::now());
    let settling = Settling {
        attempt,
        client,
        route,
        candidate: Candidate::None,
        current: CandidateId(0),
        header: None,
        ahead: BytesMut::new(),
    };
    settling.run().await
}

struct Settling {
    attempt: Attempt,
    client: Client,
    route: Arc<dyn Route>,
    candidate: Candidate,
    current: CandidateId,
    /// Of the candidate that the attempt was told of and has not yet said to open.
    header: Option<(Connection, Box<StreamHeader>)>,
    /// Bytes that the attempt wants sent to the candidate. Bound: the attempt's buffer.
    ahead: BytesMut,
}

/// What the attempt's actions have led to.
enum Step {
    Wait,
    Splice,
    Reset(End),
    ClientGone,
}

impl Settling {
    async fn run(mut self) -> Result<Settled, Finish> {
        loop {
            match self.carry_out() {
                Step::Wait => {}
                Step::Splice => return self.splice().await,
                Step::Reset(end) => return Err(self.reset(end).await),
                Step::ClientGone => {
                    self.route.report(Outcome::Cancelled);
                    self.client.abandon();
                    return Err(Finish::ClientGone);
                }
            }
            let (room, due) = (self.attempt.room(), self.attempt.poll_timeout().map(|(at, _)| at));
            let input = tokio::select! {
                biased;
                answered = answer(&mut self.candidate, &mut self.ahead) => answered,
                did = self.client.next(room) => Input::Client(did),
                () = sleep_until(due) => Input::Time,
            };
            self.take_in(input, Instant::now());
        }
    }

    fn take_in(&mut self, input: Input, now: Instant) {
        match input {
            Input::Client(Did::Sent(bytes)) => self.attempt.handle_client_bytes(&bytes, now),
            Input::Client(Did::Finished) => self.attempt.handle_client_fin(now),
            Input::Client(Did::Gone) => self.attempt.handle_client_reset(now),
            Input::Time => self.attempt.handle_timeout(now),
            Input::Candidate(Answered::Opened(opened, states)) => {
                self.candidate = Candidate::Open { opened, states };
            }
            Input::Candidate(Answered::Accepted { leg, endpoint, locality }) => {
                self.route.report(Outcome::Accepted { endpoint: &endpoint, locality: &locality });
                self.candidate = Candidate::Accepted { leg, endpoint, locality };
                self.attempt.handle_accepted(self.current, now);
            }
            Input::Candidate(Answered::Refused(refusal)) => {
                self.route.report(Outcome::Refused(&refusal));
                self.drop_candidate();
                self.attempt.handle_refused(self.current, refusal, now);
            }
            Input::Candidate(Answered::Failed(detail)) => {
                self.route.report(Outcome::Failed { detail: &detail });
                self.drop_candidate();
                self.attempt.handle_failed(self.current, &detail, now);
            }
        }
    }

    /// Carries out what the attempt wants.
    fn carry_out(&mut self) -> Step {
        let mut step = Step::Wait;
        while let Some(action) = self.attempt.poll_action() {
            match action {
                Action::Route => self.route(),
                Action::Open { candidate, bytes_ahead } => self.open(candidate, bytes_ahead),
                Action::Send { bytes, .. } => self.ahead.extend_from_slice(&bytes),
                // The copy sees the client's FIN again, and passes it on.
                Action::Finish { .. } => {}
                Action::Cancel { .. } => {
                    if !self.attempt.is_ended() {
                        self.route.report(Outcome::Failed { detail: "it did not answer in time" });
                    }
                    self.drop_candidate();
                }
                Action::Splice { .. } => step = Step::Splice,
                Action::ResetClient { end } => step = Step::Reset(end),
            }
        }
        match step {
            Step::Wait if self.attempt.is_ended() => Step::ClientGone,
            other => other,
        }
    }

    fn route(&mut self) {
        let now = Instant::now();
        match self.route.next() {
            Next::Refuse(refusal) => self.attempt.handle_no_candidate(refusal, now),
            Next::Dial { address, endpoint, locality } => {
                let work = Box::pin(dial::dial(address));
                self.candidate = Candidate::Dialling { work, endpoint, locality };
                self.attempt.handle_candidate(false, now);
            }
            Next::Open { connection, header } => {
                self.header = Some((connection, header));
                self.attempt.handle_candidate(true, now);
            }
        }
    }

    fn open(&mut self, candidate: CandidateId, bytes_ahead: bool) {
        self.current = candidate;
        // A dial has begun already.
        let Some((connection, mut header)) = self.header.take() else { return };
        if let StreamKind::Service(service) = &mut header.kind {
            service.bytes_ahead = bytes_ahead;
        }
        let states = connection.states();
        let work = Box::pin(async move { connection.open(&header, Bytes::new()).await });
        self.candidate = Candidate::Opening { work, states };
    }

    fn drop_candidate(&mut self) {
        self.ahead.clear();
        match std::mem::replace(&mut self.candidate, Candidate::None) {
            Candidate::Open { opened, .. } => opened.cancel(),
            // Dropping a dial or a socket closes it; nothing was sent over it.
            Candidate::None
            | Candidate::Dialling { .. }
            | Candidate::Opening { .. }
            | Candidate::Accepted { .. } => {}
        }
    }

    async fn splice(self) -> Result<Settled, Finish> {
        let Candidate::Accepted { leg: second, endpoint, locality } = self.candidate else {
            unreachable!("the attempt splices only what was accepted")
        };
        match self.client.accept(endpoint.clone(), locality).await {
            Some(first) => Ok(Settled { first, second, ahead: self.ahead.freeze(), endpoint }),
            None => {
                second.reset();
                let transfer = crate::splice::Transfer::nothing();
                self.route.report(Outcome::Ended(&transfer));
                Err(Finish::ClientGone)
            }
        }
    }

    async fn reset(self, end: End) -> Finish {
        let refusal = match end {
            End::Refused(refusal) => refusal,
            End::Lost => {
                Refusal { code: RefusalCode::EndpointFailed, retryable: false, detail: End::Lost.to_string() }
            }
        };
        self.client.refuse(&refusal).await;
        Finish::Refused(refusal)
    }
}

/// Waits for the candidate, and sends it what is to be sent ahead of its answer. May be dropped and called again.
async fn answer(candidate: &mut Candidate, ahead: &mut BytesMut) -> Input {
    let answered = match candidate {
        Candidate::None | Candidate::Accepted { .. } => pending().await,
        Candidate::Dialling { work, endpoint, locality } => match work.as_mut().await {
            Ok(tcp) => Answered::Accepted {
                leg: Leg::Tcp(tcp.into()),
                endpoint: endpoint.clone(),
                locality: locality.clone(),
            },
            Err(error) => Answered::Refused(error.refusal()),
        },
        Candidate::Opening { work, states } => tokio::select! {
            biased;
            opened = work.as_mut() => match opened {
                Ok(opened) => Answered::Opened(opened, states.clone()),
                Err(error) => Answered::Failed(error.to_string()),
            },
            detail = silent(states) => Answered::Failed(detail),
        },
        Candidate::Open { opened, states } => tokio::select! {
            biased;
            answer = opened.answer_while_sending(ahead) => match answer {
                // The stream itself is taken over below, where the borrow has ended.
                Ok(Answer::Accepted { endpoint, locality }) => return taken(candidate, endpoint, locality),
                Ok(Answer::Refused(refusal)) => Answered::Refused(refusal),
                Err(error) => Answered::Failed(error.to_string()),
            },
            detail = silent(states) => Answered::Failed(detail),
        },
    };
    Input::Candidate(answered)
}

fn taken(candidate: &mut Candidate, endpoint: EndpointId, locality: Locality) -> Input {
    let Candidate::Open { opened, .. } = std::mem::replace(candidate, Candidate::None) else {
        unreachable!("only an open stream is answered")
    };
    let leg = Leg::Stream(opened.into_stream());
    Input::Candidate(Answered::Accepted { leg, endpoint, locality })
}

/// Ends when the connection is no longer live, with what is to be said of it.
async fn silent(states: &mut watch::Receiver<State>) -> String {
    match states.wait_for(|state| *state != State::Live).await {
        Ok(_) => "its connection has fallen silent".to_owned(),
        Err(_) => "its connection was lost".to_owned(),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}
