//! Joining, linking, renewing.

use super::{known, peer, status, wrong_role};
use crate::hub::HubHandle;
use model::identity::Role;
use tonic::{Request, Response, Status};
use wire::enroll::{JoinRequest, RedeemRequest, RenewRequest};
use wire::pb;
use wire::pb::enroll_server::Enroll;

/// The service.
pub struct EnrollService {
    /// The hub.
    pub hub: HubHandle,
}

fn malformed(error: wire::convert::WireError) -> Status {
    Status::invalid_argument(format!("the request is malformed: {error}"))
}

#[tonic::async_trait]
impl Enroll for EnrollService {
    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinReply>, Status> {
        let exporter = peer(&request)?.exporter;
        let request = JoinRequest::try_from(request.into_inner()).map_err(malformed)?;
        let reply = self.hub.demand(move |hub| hub.join(&request, &exporter)).await;
        Ok(Response::new((&reply.map_err(|denied| status(&denied))?).into()))
    }

    async fn redeem(&self, request: Request<pb::RedeemRequest>) -> Result<Response<pb::RedeemReply>, Status> {
        let exporter = peer(&request)?.exporter;
        let request = RedeemRequest::try_from(request.into_inner()).map_err(malformed)?;
        let reply = self.hub.demand(move |hub| hub.redeem(&request, &exporter)).await;
        Ok(Response::new((&reply.map_err(|denied| status(&denied))?).into()))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewReply>, Status> {
        let id = known(&request)?;
        let renews = matches!(id.role, Role::Gateway(_) | Role::Agent(_) | Role::Admin(_));
        if id.trust_domain != *self.hub.pki.trust_domain() || !renews {
            return Err(wrong_role(&id, "gateways, agents and administrators of this site"));
        }
        let request = RenewRequest::try_from(request.into_inner()).map_err(malformed)?;
        let reply = self.hub.demand(move |hub| hub.renew(&id, &request.csr)).await;
        Ok(Response::new((&reply.map_err(|denied| status(&denied))?).into()))
    }
}
