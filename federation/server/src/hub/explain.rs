//! Why a request goes where it goes: asked of the node that would serve the caller, or computed here.

use super::Hub;
use crate::answer::{Answer, Denied};
use crate::names::NodeId;
use api::rest::explain::{ExplainRequest, ExplanationView};
use api::rest::service::PortView;
use model::decision::{ExplainRequest as Question, Explanation};
use model::node::FederationMessage;
use policy::Router;
use std::time::Instant;
use tokio::sync::oneshot;

/// Most questions that wait for a node.
const WAITING_MAX: usize = 256;

/// A question on its way.
pub struct Asked {
    /// The question.
    pub question: Question,
    /// The node that was asked, with its answer to come; none: no node is there that could be asked.
    pub node: Option<(NodeId, oneshot::Receiver<Explanation>)>,
}

impl Hub {
    /// Puts a question to the node that would serve the caller.
    ///
    /// # Errors
    /// The service is unknown here, or the question makes no sense.
    pub fn ask_node(&mut self, request: &ExplainRequest) -> Answer<Asked> {
        self.service(&request.service.0)?;
        let node = self.node_for(request)?;
        let known = node.as_ref().and_then(|id| self.nodes.get(id)?.doc.locality.clone());
        let locality = known.map_or_else(|| self.site.locality.clone(), |locality| locality.0);
        let question = request.question(&self.site.id, &self.site.trust_domain, &locality)?;
        if self.explains.len() >= WAITING_MAX {
            return Ok(Asked { question, node: None });
        }
        let node = node.and_then(|id| {
            self.next_explain += 1;
            let number = self.next_explain;
            let asked = FederationMessage::Explain { id: number, request: question.clone() };
            if !self.tell(&id, asked) {
                return None;
            }
            let (sender, answer) = oneshot::channel();
            self.explains.insert(number, (id.clone(), sender));
            Some((id, answer))
        });
        Ok(Asked { question, node })
    }

    fn node_for(&self, request: &ExplainRequest) -> Answer<Option<NodeId>> {
        let connected = |id: &&NodeId| self.is_connected(id);
        let Some(name) = &request.node else {
            // A gateway sees paths itself; an agent knows them from its gateways.
            return Ok(self.nodes.keys().find(connected).cloned());
        };
        let named = self.nodes.keys().find(|id| id.to_string() == *name || id.name() == name);
        let Some(id) = named else {
            return Err(Denied::not_found(
                format!("{} has no gateway and no agent named {name}", self.site.id),
                "see the nodes: meshfed status -o json",
            ));
        };
        if !self.is_connected(id) {
            return Err(Denied::unavailable(
                format!("{id} is not connected, so it cannot be asked"),
                "",
                "leave out the node to ask another one",
            ));
        }
        Ok(Some(id.clone()))
    }

    /// Answers a question here, from what this federation knows: no node could be asked.
    pub fn explain_here(&self, question: &Question) -> Explanation {
        let now = Instant::now();
        let mut router = Router::new(
            self.site.id.clone(),
            "federation (no node answered, so without its open streams)".to_owned(),
        );
        for (site, view) in self.peer_views() {
            router.handle_peer(&site, view, now);
        }
        if let Some(import) = self.imports.import(&question.service) {
            router.handle_import(import.clone(), now);
        }
        router.explain(question, &|_| 0, now, 0)
    }

    /// An explanation, as the API shows it.
    pub fn explanation_view(&self, question: &Question, explanation: &Explanation) -> ExplanationView {
        let import = self.imports.import(&question.service);
        let port = import.and_then(|import| {
            let port = import.ports.iter().find(|port| Some(port.key) == explanation.port)?;
            Some(PortView::of(port))
        });
        let failover = import.map(|import| import.failover.clone()).unwrap_or_default();
        ExplanationView::of(question, explanation, port, &failover)
    }
}
