//! The steps from a plan to a running mesh: the commands that a person would type, in their order.

use super::{Mesh, MeshError, Options, Part};
use crate::command::Runner;
use crate::place::{Block, Range};
use crate::process::{Process, Spec};
use crate::ready;
use crate::relays::Relays;
use runtime::file::{MODE_PUBLIC, write_atomic};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use topologies::plan::{Plan, SitePlan, WorkloadPlan};
use topologies::schema::Check;

/// The contexts file of a mesh in `directory`.
pub(super) fn contexts(directory: &Path) -> PathBuf {
    directory.join("contexts.yaml")
}

pub(super) async fn assemble(
    plan: Plan,
    block: Block,
    options: Options,
    tell: &mut (dyn FnMut(String) + Send),
) -> Result<Mesh, MeshError> {
    for name in ["logs", "tokens", "nodes"] {
        let path = options.directory.join(name);
        std::fs::create_dir_all(&path)
            .map_err(|source| MeshError::Directory { path: path.display().to_string(), source })?;
    }
    let relays = Relays::start(&plan, options.seed).await?;
    let env = vec![
        ("MESHFED_CONFIG".to_owned(), contexts(&options.directory).display().to_string()),
        ("MESHFED_LOG".to_owned(), options.log.clone()),
        ("NO_COLOR".to_owned(), "1".to_owned()),
    ];
    let runner = Runner { program: options.program.clone(), env, limit: options.limit };
    let mut mesh =
        Mesh { plan, options, runner, processes: BTreeMap::new(), relays, ranges: Vec::new(), _block: block };
    let mut step = Step { tell, since: Instant::now() };
    mesh.start_workloads()?;
    mesh.make_sites().await?;
    mesh.start_federations().await?;
    step.done(&format!("{} sites, each with its own CA and store", mesh.plan.sites.len()));
    mesh.start_nodes().await?;
    let gateways: usize = mesh.plan.sites.iter().map(|s| s.gateways.len()).sum();
    let agents: usize = mesh.plan.sites.iter().map(|s| s.hosts.len()).sum();
    step.done(&format!("{gateways} gateways and {agents} agents have joined"));
    mesh.apply_policies().await?;
    mesh.link_sites().await?;
    step.done(&format!("{} links", mesh.plan.links.len()));
    mesh.expose_workloads().await?;
    mesh.wait_for_clients().await?;
    mesh.relays.cut(&mesh.plan);
    step.done(&format!("{} workloads are served", mesh.plan.workloads.len()));
    Ok(mesh)
}

struct Step<'t> {
    tell: &'t mut (dyn FnMut(String) + Send),
    since: Instant,
}

impl Step<'_> {
    fn done(&mut self, what: &str) {
        (self.tell)(format!("{what} ({:.1} s)", self.since.elapsed().as_secs_f64()));
        self.since = Instant::now();
    }
}

impl Mesh {
    fn path(&self, parts: &[&str]) -> String {
        let mut path = self.options.directory.clone();
        path.extend(parts);
        path.display().to_string()
    }

    fn spawn(&mut self, part: Part, args: Vec<String>, program: Option<PathBuf>) -> Result<(), MeshError> {
        let log = format!("{}.log", part.to_string().replace(' ', "-"));
        let ends_with_stdin = program.is_none();
        let spec = Spec {
            name: part.to_string(),
            program: program.unwrap_or_else(|| self.options.program.clone()),
            args,
            env: self.runner.env.clone(),
            log: self.options.directory.join("logs").join(log),
            ends_with_stdin,
        };
        self.processes.insert(part, Process::start(spec)?);
        Ok(())
    }

    fn start_workloads(&mut self) -> Result<(), MeshError> {
        for workload in self.plan.workloads.clone() {
            let part = Part::Workload(workload.instance.clone());
            match workload.command {
                Some(mut command) => {
                    let program = PathBuf::from(command.remove(0));
                    self.spawn(part, command, Some(program))?;
                }
                None => {
                    let (listen, site) = (workload.listen.to_string(), workload.site.to_string());
                    let args =
                        ["echo", "--listen", &listen, "--site", &site, "--instance", &workload.instance];
                    self.spawn(part, with_parent(&args), None)?;
                }
            }
        }
        Ok(())
    }

    async fn make_sites(&mut self) -> Result<(), MeshError> {
        for site in self.plan.sites.clone() {
            let directory = self.path(&[site.name.as_str()]);
            let (name, locality) = (site.name.to_string(), site.locality.to_string());
            let address = site.federation.to_string();
            let mut args =
                vec!["init", &name, "--locality", &locality, "--address", &address, "--dir", &directory];
            let range = self.range(site.gateways.len() + site.hosts.len());
            if let Some(range) = &range {
                args.extend(["--vip-range", range]);
            }
            let resources = self.plan.services(&site.name);
            if !resources.is_empty() {
                args.extend(["--services", "services.yaml"]);
            }
            self.runner.run(&args).await?;
            if !resources.is_empty() {
                self.write(&[&name, "services.yaml"], &documents(&resources)?)?;
            }
        }
        Ok(())
    }

    /// A range of virtual IPs for one more site with so many nodes, as long as there is room.
    fn range(&mut self, nodes: usize) -> Option<String> {
        let range = Range::take(nodes)?;
        let cidr = range.cidr();
        self.ranges.push(range);
        Some(cidr)
    }

    fn write(&self, parts: &[&str], text: &str) -> Result<String, MeshError> {
        let path = self.path(parts);
        write_atomic(Path::new(&path), text.as_bytes(), MODE_PUBLIC)
            .map_err(|source| MeshError::File { path: path.clone(), source })?;
        Ok(path)
    }

    async fn start_federations(&mut self) -> Result<(), MeshError> {
        let names: Vec<String> = self.plan.sites.iter().map(|s| s.name.to_string()).collect();
        for name in &names {
            let directory = self.path(&[name]);
            self.spawn(Part::Federation(name.clone()), with_parent(&["federation", &directory]), None)?;
        }
        for name in names {
            self.ready(&Part::Federation(name)).await?;
        }
        Ok(())
    }

    /// Gateways and agents: a token each, then the process, whose key never leaves its directory.
    async fn start_nodes(&mut self) -> Result<(), MeshError> {
        for site in self.plan.sites.clone() {
            for (at, gateway) in site.gateways.iter().enumerate() {
                let (token, directory) = self.token(&site, "gateway", gateway.name.as_str()).await?;
                let (address, advertise) = (gateway.address.to_string(), gateway.advertise.to_string());
                let mut args =
                    vec!["gateway", gateway.name.as_str(), "--address", &address, "--advertise", &advertise];
                let locality = gateway.locality.to_string();
                if gateway.locality != site.locality {
                    args.extend(["--locality", &locality]);
                }
                // One process of the site serves the virtual IPs: its agent where it has one, else the first gateway.
                if at > 0 || !site.hosts.is_empty() {
                    args.push("--no-ways-in");
                }
                let part = Part::Gateway(site.name.to_string(), gateway.name.to_string());
                self.join(part, &args, &directory, &token)?;
            }
        }
        for site in self.plan.sites.clone() {
            for gateway in &site.gateways {
                self.ready(&Part::Gateway(site.name.to_string(), gateway.name.to_string())).await?;
            }
            for host in &site.hosts {
                let (token, directory) = self.token(&site, "agent", host.name.as_str()).await?;
                let (address, locality) = (host.address.to_string(), host.locality.to_string());
                let args = ["agent", host.name.as_str(), "--address", &address, "--locality", &locality];
                self.join(
                    Part::Agent(site.name.to_string(), host.name.to_string()),
                    &args,
                    &directory,
                    &token,
                )?;
            }
        }
        for site in self.plan.sites.clone() {
            for host in &site.hosts {
                self.ready(&Part::Agent(site.name.to_string(), host.name.to_string())).await?;
            }
        }
        Ok(())
    }

    async fn token(&self, site: &SitePlan, kind: &str, name: &str) -> Result<(String, String), MeshError> {
        let file = format!("{}-{name}.token", site.name);
        let token = self.path(&["tokens", &file]);
        self.runner.run(&["token", kind, name, "--context", site.name.as_str(), "--to", &token]).await?;
        Ok((token, self.path(&["nodes", &format!("{}-{name}", site.name)])))
    }

    fn join(&mut self, part: Part, args: &[&str], directory: &str, token: &str) -> Result<(), MeshError> {
        let again: Vec<&str> = args.iter().copied().chain(["--dir", directory]).collect();
        let first: Vec<&str> = again.iter().copied().chain(["--join", token]).collect();
        self.spawn(part.clone(), with_parent(&first), None)?;
        // A token works once; the next start finds the certificate in the directory.
        if let Some(process) = self.processes.get_mut(&part) {
            process.set_args(with_parent(&again));
        }
        Ok(())
    }

    async fn apply_policies(&self) -> Result<(), MeshError> {
        for site in &self.plan.sites {
            let resources: Vec<_> = self
                .plan
                .policies
                .iter()
                .filter(|(name, _)| *name == site.name)
                .map(|(_, r)| r.clone())
                .collect();
            if !resources.is_empty() {
                let name = site.name.to_string();
                let path = self.write(&[&format!("{name}-policies.yaml")], &documents(&resources)?)?;
                self.runner.run(&["apply", "--file", &path, "--context", &name]).await?;
            }
        }
        Ok(())
    }

    async fn link_sites(&self) -> Result<(), MeshError> {
        for link in &self.plan.links {
            self.runner.run(&["link", link.one.as_str(), link.other.as_str()]).await?;
        }
        Ok(())
    }

    async fn expose_workloads(&self) -> Result<(), MeshError> {
        for site in &self.plan.sites {
            for service in self.plan.exports(&site.name) {
                let args = ["export", &service.to_string(), "--context", site.name.as_str()];
                self.runner.run(&args).await?;
            }
        }
        for workload in &self.plan.workloads {
            if let Some(host) = &workload.host {
                let args = expose(workload, host.as_str());
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                self.runner.run(&args).await?;
            }
        }
        Ok(())
    }

    /// Waits until the service of every client is answered through its VIP.
    async fn wait_for_clients(&self) -> Result<(), MeshError> {
        for client in &self.plan.clients {
            let what = format!("{} for client {}", client.service, client.name);
            ready::until(&what, self.options.limit, || async {
                let entry = self.entry(client).await?;
                let target = bench::http1::Target {
                    path: client.path.clone(),
                    timeout: Duration::from_secs(1),
                    ..bench::http1::Target::new(entry)
                };
                let answer = bench::http1::get(&target, None).await;
                answer.map(drop).map_err(|failure| format!("http://{entry}{}: {failure}", client.path))
            })
            .await?;
        }
        Ok(())
    }
}

fn with_parent(args: &[&str]) -> Vec<String> {
    args.iter().copied().chain(["--exit-with-parent"]).map(str::to_owned).collect()
}

fn expose(workload: &WorkloadPlan, host: &str) -> Vec<String> {
    let mut args = vec![
        "expose".to_owned(),
        workload.service.to_string(),
        "--on".to_owned(),
        host.to_owned(),
        "--port".to_owned(),
        format!("{}:{}", workload.port, workload.listen.port()),
        "--protocol".to_owned(),
        workload.protocol.to_string(),
        "--target".to_owned(),
        workload.listen.ip().to_string(),
        "--check".to_owned(),
        match &workload.check {
            Check::Tcp => "tcp".to_owned(),
            Check::Http(path) => format!("http:{path}"),
            Check::None => "none".to_owned(),
        },
        "--context".to_owned(),
        workload.site.to_string(),
    ];
    if let Some(interval) = workload.check_interval {
        args.extend(["--check-interval".to_owned(), interval.to_string()]);
    }
    if workload.retry_safe {
        args.push("--retry-safe".to_owned());
    }
    if !workload.export {
        args.push("--no-export".to_owned());
    }
    args
}

fn documents(resources: &[api::resource::Resource]) -> Result<String, MeshError> {
    let written: Result<Vec<String>, _> = resources.iter().map(api::yaml::write).collect();
    let written = written.map_err(|error| MeshError::Resource { reason: error.to_string() })?;
    Ok(written.join("\n---\n"))
}
