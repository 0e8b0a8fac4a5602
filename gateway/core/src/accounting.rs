//! Open streams, by service and endpoint, and by service and the site that serves them.

use model::ids::{EndpointId, SiteId};
use model::service::ServiceName;
use std::collections::BTreeMap;

/// Counts of open streams. Entries exist only while something is open, so they are bounded by the open streams.
#[derive(Debug, Default)]
pub struct OpenStreams {
    by_endpoint: BTreeMap<ServiceName, BTreeMap<EndpointId, u32>>,
    by_site: BTreeMap<(ServiceName, SiteId), u32>,
    total: u32,
}

/// A stream that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenStream {
    /// Its service.
    pub service: ServiceName,
    /// The site that serves it.
    pub site: SiteId,
    /// The endpoint, where this process or its site has chosen it.
    pub endpoint: Option<EndpointId>,
}

impl OpenStreams {
    /// A stream is given to an endpoint or a site. Counted from the choice on, so that streams that are opened at the
    /// same time see each other.
    pub fn handle_opened(&mut self, stream: &OpenStream) {
        self.total = self.total.saturating_add(1);
        *self.by_site.entry((stream.service.clone(), stream.site.clone())).or_default() += 1;
        if let Some(endpoint) = &stream.endpoint {
            *self
                .by_endpoint
                .entry(stream.service.clone())
                .or_default()
                .entry(endpoint.clone())
                .or_default() += 1;
        }
    }

    /// It has ended, or was refused.
    pub fn handle_closed(&mut self, stream: &OpenStream) {
        self.total = self.total.saturating_sub(1);
        lower(&mut self.by_site, &(stream.service.clone(), stream.site.clone()));
        if let Some(endpoint) = &stream.endpoint
            && let Some(endpoints) = self.by_endpoint.get_mut(&stream.service)
        {
            lower(endpoints, endpoint);
            if endpoints.is_empty() {
                self.by_endpoint.remove(&stream.service);
            }
        }
    }

    /// Open streams of an endpoint.
    pub fn of_endpoint(&self, service: &ServiceName, endpoint: &EndpointId) -> u32 {
        self.of_service(service).and_then(|endpoints| endpoints.get(endpoint)).copied().unwrap_or(0)
    }

    /// Open streams of all endpoints of a service; none: none is open.
    pub fn of_service(&self, service: &ServiceName) -> Option<&BTreeMap<EndpointId, u32>> {
        self.by_endpoint.get(service)
    }

    /// Open streams in all.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// By service and the site that serves them.
    pub fn report(&self) -> Vec<(ServiceName, SiteId, u32)> {
        self.by_site.iter().map(|((service, site), open)| (service.clone(), site.clone(), *open)).collect()
    }
}

fn lower<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_and_closed_leaves_nothing() {
        let stream = |endpoint: Option<&str>| OpenStream {
            service: "shop/cart".parse().expect("valid"),
            site: "east".parse().expect("valid"),
            endpoint: endpoint.map(|id| id.parse().expect("valid")),
        };
        let (here, there) = (stream(Some("vm-1")), stream(None));
        let mut open = OpenStreams::default();
        open.handle_opened(&here);
        open.handle_opened(&here);
        open.handle_opened(&there);
        assert_eq!(open.of_endpoint(&here.service, &"vm-1".parse().expect("valid")), 2);
        assert_eq!(open.report(), [(here.service.clone(), here.site.clone(), 3)]);
        for stream in [&here, &here, &there, &there] {
            open.handle_closed(stream);
        }
        assert_eq!((open.total(), open.report().len(), open.of_service(&here.service)), (0, 0, None));
    }
}
