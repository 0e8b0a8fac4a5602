//! Sessions that peers open.

use super::{known, wrong_role};
use crate::hub::HubHandle;
use crate::session;
use federation_core::session::Dialled;
use futures_util::Stream;
use model::identity::Role;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use wire::pb;
use wire::pb::exchange_server::Exchange;

/// The service.
pub struct ExchangeService {
    /// The hub.
    pub hub: HubHandle,
    /// The process is leaving.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl Exchange for ExchangeService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::PeerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::PeerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let id = known(&request)?;
        if !matches!(id.role, Role::Federation(_)) || id.trust_domain == *self.hub.pki.trust_domain() {
            return Err(wrong_role(&id, "federations of linked sites"));
        }
        let trust_domain = id.trust_domain.clone();
        let asked = self.hub.ask(move |hub| (hub.peer_of(&trust_domain), hub.new_session()));
        let (site, session) = asked.await.map_err(|gone| Status::unavailable(gone.to_string()))?;
        let Some(site) = site else {
            return Err(Status::permission_denied(format!(
                "{} is not linked with this site",
                id.trust_domain
            )));
        };
        let (sender, outgoing) = mpsc::channel(session::OUTGOING_MAX);
        let (hub, stop) = (self.hub.clone(), self.stop.clone());
        let incoming = request.into_inner();
        tokio::spawn(async move {
            let send = move |message: pb::PeerMessage| {
                let sender = sender.clone();
                async move { sender.send(Ok(message)).await.is_ok() }
            };
            tokio::select! {
                () = session::run(&hub, site, session, Dialled::There, incoming, send) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
