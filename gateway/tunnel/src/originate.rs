//! One client connection, from its accept until an endpoint has it, and then to its end: the shell around
//! `gateway_core::attempt`.
//!
//! The client is a TCP connection, or a stream that came from another process: a gateway that serves or relays a
//! stream tries its endpoints and next hops in the same way, and answers at the end.

mod client;
mod settle;

pub use client::{Client, Replies};

use crate::connection::Connection;
use crate::splice::{self, Elsewhere, Transfer};
use gateway_core::attempt::Settings;
use model::decision::Refusal;
use model::ids::EndpointId;
use model::locality::Locality;
use model::tunnel::StreamHeader;
use std::net::SocketAddr;
use std::sync::Arc;

/// The next candidate of a client connection.
#[derive(Debug)]
pub enum Next {
    /// An endpoint that this process dials itself.
    Dial {
        /// Where it listens.
        address: SocketAddr,
        /// Which one it is.
        endpoint: EndpointId,
        /// Where it is.
        locality: Locality,
    },
    /// A stream to another process.
    Open {
        /// Over this connection.
        connection: Connection,
        /// With this header; its `bytes_ahead` is set here. Boxed, since it is large beside the rest.
        header: Box<StreamHeader>,
    },
    /// Nobody is left.
    Refuse(Refusal),
}

/// Decides for one client connection. It remembers which candidates it has named.
pub trait Route: Send + Sync {
    /// The next candidate: none that it has named before and that did not take the connection.
    fn next(&self) -> Next;

    /// What became of the candidate that `next` named last. `Accepted` is followed by `Ended`.
    fn report(&self, outcome: Outcome<'_>);

    /// Whether a new connection of this kind could now go another way than the one that accepted this one, whose path
    /// has fallen silent.
    fn elsewhere(&self) -> bool;
}

/// What became of a candidate.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It has the connection.
    Accepted {
        /// The endpoint.
        endpoint: &'a EndpointId,
        /// Where it is.
        locality: &'a Locality,
    },
    /// It said no.
    Refused(&'a Refusal),
    /// It could not be dialled, its path died, or it answered nonsense, before it had accepted.
    Failed {
        /// What happened, in words.
        detail: &'a str,
    },
    /// The client went away before it had accepted.
    Cancelled,
    /// The connection that it had accepted has ended.
    Ended(&'a Transfer),
}

/// A client connection that is to be served.
#[derive(Debug)]
pub struct Request {
    /// The client.
    pub client: Client,
    /// Its first bytes may reach two endpoints: the port is marked `retry: safe`, or the process before has sent them
    /// ahead.
    pub retry_safe: bool,
    /// Limits.
    pub settings: Settings,
}

/// How a client connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// It was accepted, and copied to its end.
    Served {
        /// The endpoint that had it.
        endpoint: EndpointId,
        /// What was copied.
        transfer: Transfer,
    },
    /// Nobody took it.
    Refused(Refusal),
    /// The client went away before anybody had taken it.
    ClientGone,
}

/// Finds who takes a client connection, and copies. Dropped before it is done, everything is reset.
pub async fn run(request: Request, route: Arc<dyn Route>) -> Finish {
    // Boxed, so that the state of finding is gone while copying, which is most of the time.
    let settled = match Box::pin(settle::settle(request, Arc::clone(&route))).await {
        Ok(settled) => settled,
        Err(finish) => return finish,
    };
    let settle::Settled { first, second, ahead, endpoint } = settled;
    let asked = Arc::clone(&route);
    let elsewhere: Elsewhere = Arc::new(move || asked.elsewhere());
    let transfer = splice::copy(first, second, ahead, Some(elsewhere)).await;
    route.report(Outcome::Ended(&transfer));
    Finish::Served { endpoint, transfer }
}
