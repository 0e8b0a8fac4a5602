//! Connections and streams that come in.

use crate::carry::Carrier;
use crate::paths::{Paths, Who};
use crate::views;
use crate::ways::GatewayWays;
use gateway_core::admission::{self, Context, Limits, Sender};
use gateway_core::attempt::Settings;
use model::decision::{Refusal, RefusalCode};
use model::routing::Import;
use model::tunnel::{ServiceStream, StreamHeader, StreamKind};
use node::route::{Asked, ClientRoute};
use node::routes::Routes;
use runtime::shutdown::Tasks;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::debug;
use tunnel::connection::State;
use tunnel::originate::{self, Client, Next, Outcome, Request, Route};
use tunnel::{Accepted, Connection, IncomingStream, Tunnel};

/// What serves what comes in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) paths: Arc<Paths>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) carrier: Arc<Carrier>,
    /// Streams of services, those of programs of this host among them; what a gateway that leaves waits for.
    pub(crate) streams: Tasks,
}

impl Door {
    /// Takes connections until the tunnel is closed.
    pub(crate) async fn accept(self, tunnel: Tunnel) {
        while let Some(accepted) = tunnel.accept().await {
            match accepted {
                Accepted::Mesh(connection) => self.paths.adopt(connection).await,
                Accepted::Link(stream) => {
                    tokio::spawn(self.carrier.clone().link(stream));
                }
            }
        }
    }

    /// Serves each connection that is kept, dialled or accepted, until no more come.
    pub(crate) async fn serve(self, mut opened: mpsc::Receiver<(Who, Connection)>) {
        while let Some((who, connection)) = opened.recv().await {
            match &who {
                Who::Agent(_) | Who::Sibling(_) => {
                    tokio::spawn(views::tell(self.paths.clone(), who.clone(), connection.clone()));
                }
                Who::Peer(_) => {}
            }
            let door = self.clone();
            tokio::spawn(door.serve_streams(who, connection));
        }
    }

    async fn serve_streams(self, who: Who, connection: Connection) {
        let who = Arc::new(who);
        while let Ok(incoming) = connection.accept_stream().await {
            if let Err(refusal) = self.admit(&who, &incoming) {
                debug!(peer = %connection.peer(), code = %refusal.code, detail = refusal.detail, "refused a stream");
                tokio::spawn(incoming.refuse(refusal));
                continue;
            }
            let (door, who) = (self.clone(), who.clone());
            match &incoming.header().kind {
                StreamKind::Service(stream) => {
                    let stream = stream.clone();
                    self.streams.spawn(door.serve_service(who, stream, incoming));
                }
                StreamKind::Federation | StreamKind::Config => {
                    tokio::spawn(self.carrier.clone().to_federation(who, incoming));
                }
                StreamKind::Views => {
                    tokio::spawn(views::follow(self.paths.clone(), who, incoming));
                }
            }
        }
    }

    fn admit(&self, who: &Who, incoming: &IncomingStream) -> Result<(), Refusal> {
        let header = incoming.header();
        match &header.kind {
            StreamKind::Service(stream) => self
                .routes
                .read(|router| self.admit_as(who, incoming, header, router.import(&stream.service))),
            StreamKind::Federation | StreamKind::Config | StreamKind::Views => {
                self.admit_as(who, incoming, header, None)
            }
        }
    }

    fn admit_as(
        &self,
        who: &Who,
        incoming: &IncomingStream,
        header: &StreamHeader,
        import: Option<&Import>,
    ) -> Result<(), Refusal> {
        let id = incoming.connection().peer();
        let site = match who {
            Who::Peer(path) => Some(&path.site),
            Who::Sibling(_) | Who::Agent(_) => None,
        };
        let sender = Sender::of(id, self.paths.own(), |_| site).ok_or_else(|| {
            admission::refusal(RefusalCode::BadHeader, format!("{id} has no business here"))
        })?;
        let context = Context {
            own: self.paths.site(),
            sender,
            import,
            draining: self.paths.is_refusing(),
            // This stream is among them already.
            open_of_sender: self.paths.streams_of(who).saturating_sub(1),
            open: u32::try_from(self.streams.running()).unwrap_or(u32::MAX),
            limits: &self.limits,
        };
        admission::admit(header, &context)
    }

    async fn serve_service(self, who: Arc<Who>, stream: ServiceStream, incoming: IncomingStream) {
        let from_sibling = matches!(*who, Who::Sibling(_));
        let ways = Arc::new(GatewayWays { paths: self.paths.clone(), from_sibling });
        let header = incoming.header();
        let settings = Settings::after_hops(header.hops);
        let route = ClientRoute::new(self.routes.clone(), ways, Asked::of(header, &stream));
        // What the process before has sent ahead may be sent twice.
        let retry_safe = stream.bytes_ahead || route.is_retry_safe();
        let serving = Serving {
            route,
            client: incoming.connection().clone(),
            paths: self.paths.clone(),
            routes: self.routes.clone(),
            stream: stream.clone(),
            from_sibling,
        };
        let request = Request { client: Client::Stream(incoming), retry_safe, settings };
        let finish = originate::run(request, Arc::new(serving)).await;
        self.routes.tally().finished(&finish);
        debug!(service = %stream.service, ?finish, "a stream is done");
    }
}

/// The way of a stream that came from another process.
struct Serving {
    route: Arc<ClientRoute>,
    client: Connection,
    paths: Arc<Paths>,
    routes: Arc<Routes>,
    stream: ServiceStream,
    from_sibling: bool,
}

impl Route for Serving {
    fn next(&self) -> Next {
        self.route.next()
    }

    fn report(&self, outcome: Outcome<'_>) {
        self.route.report(outcome);
    }

    fn elsewhere(&self) -> bool {
        if self.client.health().state == State::Dead {
            // It is the opener's side that is silent. The opener knows whether it has another way; if it has none, its
            // session must still be here when the silence ends.
            return false;
        }
        let site = self.stream.target.site();
        if site == self.paths.site() {
            return self.route.elsewhere();
        }
        self.routes.read(|router| router.is_served(&self.stream.service, Some(site)))
            || self.paths.has_steady_way(site, self.from_sibling)
    }
}
