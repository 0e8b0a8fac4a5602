//! Changing resources: planned and checked first, then stored whole, then carried out.

use super::Hub;
use super::resources::{document_key, export_key, workload_spec};
use crate::answer::{Answer, Denied};
use crate::docs::ResourceDoc;
use crate::names::NodeId;
use crate::store::WriteBatch;
use api::resource::export::ServiceExport;
use api::resource::link::Link;
use api::resource::workload::Workload;
use api::resource::{Key, Kind, Resource, parse};
use api::rest::change::{ApplyReply, ApplyRequest, Change, ChangeReply, DeleteRequest, ResourceList};
use api::rest::workload::{WorkloadReply, WorkloadRequest};
use api::text::Text;
use model::config::WorkloadSpec;
use model::ids::{EndpointId, Label};
use model::service::ServiceName;
use runtime::clock;
use std::collections::BTreeSet;
use std::time::Instant;

/// Most resources of a site.
const RESOURCES_MAX: usize = 100_000;

/// What is about to happen to one resource.
#[derive(Debug)]
struct Step {
    key: Key,
    /// None: it is deleted.
    new: Option<Resource>,
    change: &'static str,
    note: String,
}

impl Step {
    fn view(&self) -> Change {
        Change {
            kind: self.key.kind.to_string(),
            namespace: self.key.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
            name: self.key.name.to_string(),
            change: self.change.to_owned(),
            note: self.note.clone(),
        }
    }
}

impl Hub {
    /// Applies files: all of it, or nothing.
    ///
    /// # Errors
    /// The first mistake; nothing is changed then.
    pub fn apply(&mut self, request: &ApplyRequest) -> Answer<ApplyReply> {
        let mut resources = Vec::new();
        for file in &request.files {
            resources.extend(parse(&file.name, &file.text)?);
        }
        refuse_twice(&resources)?;
        let steps =
            resources.into_iter().map(|resource| self.plan_put(resource)).collect::<Answer<Vec<_>>>()?;
        self.run_steps(steps, request.dry_run)
    }

    /// Deletes resources: all of them, or none.
    ///
    /// # Errors
    /// A mistake in a file, or a resource that is not deleted this way; nothing is changed then.
    pub fn delete(&mut self, request: &DeleteRequest) -> Answer<ApplyReply> {
        let mut keys = Vec::new();
        for file in &request.files {
            keys.extend(parse(&file.name, &file.text)?.iter().map(Resource::key));
        }
        keys.extend(request.names.iter().map(|name| Key {
            kind: name.kind.0,
            namespace: name.namespace.as_ref().map(|text| text.0.clone()),
            name: name.name.0.clone(),
        }));
        let steps = keys.into_iter().map(|key| self.plan_delete(key)).collect::<Answer<Vec<_>>>()?;
        self.run_steps(steps, request.dry_run)
    }

    /// Offers a service to linked sites, or no longer.
    ///
    /// # Errors
    /// The service is not known here, or the store cannot be written.
    pub fn set_export(
        &mut self,
        service: &ServiceName,
        exported: bool,
        dry_run: bool,
    ) -> Answer<ChangeReply> {
        let step = if exported {
            self.plan_put(Resource::ServiceExport(ServiceExport::of(service)))?
        } else {
            self.plan_delete(export_key(service))?
        };
        if exported && self.imports.import(service).is_none() {
            return Err(Denied::not_found(
                format!("{} has no service {service}", self.site.id),
                "see what there is: meshfed get services; or bring one in: meshfed expose",
            ));
        }
        let sites = self.sites_offered(service);
        let change = step.view();
        self.run_steps(vec![step], dry_run)?;
        let view = self.service_view(service);
        Ok(ChangeReply {
            change,
            dns_name: service.dns_name(),
            vip: view.as_ref().and_then(|view| view.vip.clone()),
            sites,
            access: view.map(|view| view.access).unwrap_or_default(),
            dry_run,
        })
    }

    /// Makes a workload of a host an endpoint of a service.
    ///
    /// # Errors
    /// It makes no sense, its host may not have it, or the store cannot be written.
    pub fn expose(&mut self, mut request: WorkloadRequest) -> Answer<WorkloadReply> {
        let spec = workload_spec(&request.workload)?;
        let service = spec.service.clone();
        request.workload.metadata.name = Text(self.name_exposed(&request.workload, &spec)?);
        let mut steps = vec![self.plan_put(Resource::Workload(request.workload))?];
        if request.export {
            steps.push(self.plan_put(Resource::ServiceExport(ServiceExport::of(&service)))?);
        }
        self.run_steps(steps, request.dry_run)?;
        Ok(WorkloadReply {
            workload: self.workload_view(&spec),
            service: self.service_view(&service).unwrap_or_default(),
            dry_run: request.dry_run,
        })
    }

    /// The name under which an endpoint that is exposed is kept: the one that it has, else the one that was asked for,
    /// and when another endpoint has that, one with its id. Whoever exposes speaks of an endpoint, so no other one may
    /// be replaced by it.
    fn name_exposed(&self, workload: &Workload, spec: &WorkloadSpec) -> Answer<Label> {
        if let Some((key, _)) = self.resources.workloads.get(&(spec.service.clone(), spec.id.clone())) {
            return Ok(key.name.clone());
        }
        let asked = Resource::Workload(workload.clone()).key();
        let is_free =
            |name: &Label| !self.resources.docs.contains_key(&Key { name: name.clone(), ..asked.clone() });
        if is_free(&asked.name) {
            return Ok(asked.name);
        }
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let with_id: String = format!("{}-{}", asked.name, spec.id).chars().map(letter).collect();
        with_id.parse().ok().filter(is_free).ok_or_else(|| {
            Denied::conflict(
                format!("the names {} and {with_id} are those of other workloads", asked.name),
                format!("endpoint {} of {} needs one of its own", spec.id, spec.service),
                "give it another `id`, or write it to a file with a name and apply that",
            )
        })
    }

    /// Takes a workload out of its service.
    ///
    /// # Errors
    /// There is none, or the store cannot be written.
    pub fn unexpose(&mut self, service: &ServiceName, id: &EndpointId, dry_run: bool) -> Answer<ChangeReply> {
        let Some((key, _)) = self.resources.workloads.get(&(service.clone(), id.clone())) else {
            return Err(Denied::not_found(
                format!("{} has no workload {id} of {service} that was exposed", self.site.id),
                "what an agent reads from its own file is taken out there",
            ));
        };
        let step = self.plan_delete(key.clone())?;
        let change = step.view();
        let sites = self.sites_offered(service);
        self.run_steps(vec![step], dry_run)?;
        let view = self.service_view(service);
        Ok(ChangeReply {
            change,
            dns_name: service.dns_name(),
            vip: view.as_ref().and_then(|view| view.vip.clone()),
            sites,
            access: view.map(|view| view.access).unwrap_or_default(),
            dry_run,
        })
    }

    /// Resources of a kind, as they were written.
    pub fn list_resources(&self, kind: Kind) -> ResourceList {
        let items = match kind {
            Kind::Link => self
                .links
                .iter()
                .map(|(site, link)| {
                    let name = site.as_str().parse().expect("the name of a site is a label");
                    Resource::Link(Link::new(Kind::Link, None, name, link.spec.clone()))
                })
                .collect(),
            Kind::Site
            | Kind::Workload
            | Kind::FailoverPolicy
            | Kind::AccessPolicy
            | Kind::ServiceExport
            | Kind::Service => {
                let docs = self.resources.docs.iter().filter(|(key, _)| key.kind == kind);
                docs.map(|(_, doc)| doc.resource.clone()).collect()
            }
        };
        ResourceList { items }
    }

    fn plan_put(&self, resource: Resource) -> Answer<Step> {
        resource.check()?;
        let key = resource.key();
        let refuse = |message: &str, help: &str| Err(Denied::invalid(format!("{key}: {message}"), "", help));
        match &resource {
            Resource::Site(_) => {
                return refuse(
                    "a site is not applied",
                    "edit site.yaml in the site's directory and start it again",
                );
            }
            Resource::Service(_) => {
                return refuse(
                    "a service with fixed endpoints is read from a file, whose connector checks their health",
                    "name the file in `services:` of site.yaml",
                );
            }
            Resource::Workload(workload) => self.check_workload(&key, &workload_spec(workload)?)?,
            Resource::Link(link) => {
                let Some(doc) = self.links.get(&link.peer()) else {
                    return Err(Denied::not_found(
                        format!("{} has no link with {}", self.site.id, link.peer()),
                        "make it first: meshfed link",
                    ));
                };
                let change = if doc.spec == link.spec { "unchanged" } else { "changed" };
                return Ok(Step { key, new: Some(resource), change, note: String::new() });
            }
            Resource::ServiceExport(_) | Resource::FailoverPolicy(_) | Resource::AccessPolicy(_) => {}
        }
        let change = match self.resources.docs.get(&key) {
            None => "created",
            Some(doc) if doc.resource == resource => "unchanged",
            Some(_) => "changed",
        };
        let note = match &resource {
            Resource::ServiceExport(export) if !self.has_own(&export.service()?) => {
                "no endpoint of it is known yet; it is offered once there is one".to_owned()
            }
            _ => String::new(),
        };
        Ok(Step { key, new: Some(resource), change, note })
    }

    fn has_own(&self, service: &ServiceName) -> bool {
        self.heard_services.contains_key(service) || self.resources.spec_of(service).is_some()
    }

    fn check_workload(&self, key: &Key, spec: &WorkloadSpec) -> Answer<()> {
        if let Some((other, _)) = self.resources.workloads.get(&(spec.service.clone(), spec.id.clone()))
            && other != key
        {
            return Err(Denied::conflict(
                format!("{key}: endpoint {} of {} is already that of {other}", spec.id, spec.service),
                "",
                "give one of them another `id`",
            ));
        }
        let id = NodeId::Agent(spec.host.clone());
        let Some(node) = self.nodes.get(&id) else {
            return Err(Denied::not_found(
                format!("{} has no agent on a host {}", self.site.id, spec.host),
                format!(
                    "join it first: meshfed token agent {0} > {0}.token, then meshfed agent {0} --join {0}.token",
                    spec.host
                ),
            ));
        };
        let namespaces = &node.doc.namespaces;
        if !namespaces.is_empty() && !namespaces.iter().any(|namespace| namespace.0 == spec.service.namespace)
        {
            let may: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
            return Err(Denied::conflict(
                format!("{id} may not register in namespace {}", spec.service.namespace),
                format!("its token allows {}", may.join(", ")),
                "join it again with a token that allows the namespace",
            ));
        }
        if let Some(account) =
            spec.account.as_ref().filter(|of| !node.doc.accounts.iter().any(|may| may.0 == **of))
        {
            return Err(Denied::conflict(
                format!("{id} may not assert the account {account}"),
                "its token does not allow it",
                "join it again with a token that allows the account",
            ));
        }
        Ok(())
    }

    fn plan_delete(&self, key: Key) -> Answer<Step> {
        match key.kind {
            Kind::Link => {
                return Err(Denied::invalid(
                    "a link is not deleted as a resource",
                    "",
                    format!("run: meshfed unlink {}", key.name),
                ));
            }
            Kind::Site | Kind::Service => {
                return Err(Denied::invalid(
                    format!("a {} is not deleted this way", key.kind),
                    "",
                    "it is read from a file: edit that",
                ));
            }
            Kind::Workload | Kind::FailoverPolicy | Kind::AccessPolicy | Kind::ServiceExport => {}
        }
        let change = if self.resources.docs.contains_key(&key) { "deleted" } else { "absent" };
        Ok(Step { key, new: None, change, note: String::new() })
    }

    /// Stores the steps, all or none, then carries them out.
    fn run_steps(&mut self, steps: Vec<Step>, dry_run: bool) -> Answer<ApplyReply> {
        let changes = steps.iter().map(Step::view).collect();
        if dry_run {
            return Ok(ApplyReply { changes, dry_run });
        }
        let now_ms = clock::unix_ms();
        let mut batch = WriteBatch::default();
        let mut done = Vec::new();
        for step in steps.into_iter().filter(|step| !matches!(step.change, "unchanged" | "absent")) {
            match &step.new {
                Some(Resource::Link(link)) => {
                    if let Some((key, doc)) = self.link_document(&link.peer(), &link.spec) {
                        batch.put(key, &doc);
                    }
                }
                Some(resource) => {
                    let created_at_ms =
                        self.resources.docs.get(&step.key).map_or(now_ms, |doc| doc.created_at_ms);
                    batch.put(
                        document_key(&step.key),
                        &ResourceDoc { created_at_ms, resource: resource.clone() },
                    );
                }
                None => batch.delete(document_key(&step.key)),
            }
            done.push(step);
        }
        if self.resources.docs.len() + done.len() > RESOURCES_MAX {
            return Err(Denied::conflict(
                format!("a site holds at most {RESOURCES_MAX} resources"),
                "",
                "delete some",
            ));
        }
        self.write_now(&batch)?;
        let now = Instant::now();
        for step in done {
            self.events.note(step.key.to_string(), step.change, "a person said so");
            self.carry_out_step(step, now_ms, now);
        }
        // The answer shows what has become of it.
        self.settle(now);
        Ok(ApplyReply { changes, dry_run })
    }

    fn carry_out_step(&mut self, step: Step, now_ms: u64, now: Instant) {
        let Step { key, new, .. } = step;
        if let Some(Resource::Link(link)) = &new {
            self.rescope_link(&link.peer(), link.spec.clone());
            return;
        }
        let before: Vec<WorkloadSpec> = self.workloads_of(&key);
        match new {
            Some(resource) => {
                let created_at_ms = self.resources.docs.get(&key).map_or(now_ms, |doc| doc.created_at_ms);
                self.resources.insert(key.clone(), ResourceDoc { created_at_ms, resource });
            }
            None => self.resources.remove(&key),
        }
        match key.kind {
            Kind::ServiceExport => {
                if let Some(namespace) = &key.namespace {
                    let service = ServiceName { namespace: namespace.clone(), name: key.name.clone() };
                    self.hand_export(&service, now);
                }
            }
            Kind::FailoverPolicy | Kind::AccessPolicy => self.refresh_policies(),
            Kind::Workload => {
                let after = self.workloads_of(&key);
                for spec in before.iter().chain(&after) {
                    self.hand_service(&spec.service.clone(), now);
                    self.refresh_workload(&spec.service.clone(), &spec.id.clone());
                }
            }
            Kind::Site | Kind::Link | Kind::Service => {}
        }
    }

    fn workloads_of(&self, key: &Key) -> Vec<WorkloadSpec> {
        self.resources.workloads.values().filter(|(of, _)| of == key).map(|(_, spec)| spec.clone()).collect()
    }
}

/// Refuses resources that are given twice, or that claim the same endpoint. Within one file that was checked already.
fn refuse_twice(resources: &[Resource]) -> Answer<()> {
    let (mut keys, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
    for resource in resources {
        let key = resource.key();
        if let Resource::Workload(workload) = resource {
            let spec = workload_spec(workload)?;
            if !endpoints.insert((spec.service.clone(), spec.id.clone())) {
                let what = format!("{key}: endpoint {} of {} is given twice", spec.id, spec.service);
                return Err(Denied::conflict(what, "nothing was changed", "give one of them another `id`"));
            }
        }
        if !keys.insert(key.clone()) {
            return Err(Denied::conflict(
                format!("{key} is given twice"),
                "nothing was changed",
                "keep one of them",
            ));
        }
    }
    Ok(())
}
