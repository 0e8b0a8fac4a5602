//! Two linked sites of one process each, as the README's tour makes them: no relay, no agent, nothing else between a
//! client in west and a server in east than two gateways.

use crate::machine::resident;
use crate::stage::Setting;
use live::command::{CommandError, Runner};
use live::place::{Block, Range};
use live::process::{Process, Spec};
use live::{dns, ready};
use meshfed::commands::trial::Place;
use meshfed::failure::{Failure, OrFail};
use runtime::file::{MODE_PUBLIC, write_atomic};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How long a command, and the start of a process, may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a process may take to leave.
const END_LIMIT: Duration = Duration::from_secs(8);
const DNS: u16 = 15053;
const HEALTH: u16 = 15081;

/// The pair.
pub struct Pair {
    /// East, then west.
    sites: Vec<Process>,
    place: Place,
    _ranges: Vec<Range>,
    _block: Block,
}

/// A server in east as west reaches it.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// Virtual IP and port, in west.
    pub entry: SocketAddr,
}

impl Pair {
    /// Starts both, links them, and offers `server` as `shop/raw`, whose port has its number.
    ///
    /// # Errors
    /// What did not start, with where its log is.
    pub async fn start(setting: &Setting, server: SocketAddr) -> Result<(Self, Served), Failure> {
        let place = Place::take(setting.dir.as_deref(), "pair")?;
        let program = place.path.join("meshfed");
        std::os::unix::fs::symlink(&setting.program, &program)
            .or_fail(|| format!("{} cannot be made", program.display()))?;
        let block = Block::take().or_fail(|| "there is no place on this host".to_owned())?;
        let mut pair = Self { sites: Vec::new(), place, _ranges: Vec::new(), _block: block };
        let served = pair.assemble(program, server).await;
        match served {
            Ok(served) => Ok((pair, served)),
            Err(failure) => pair.end(Err(failure)).await,
        }
    }

    async fn assemble(&mut self, program: PathBuf, server: SocketAddr) -> Result<Served, Failure> {
        let contexts = self.place.path.join("contexts.yaml").display().to_string();
        let env = vec![("MESHFED_CONFIG".to_owned(), contexts), ("NO_COLOR".to_owned(), "1".to_owned())];
        let runner = Runner { program: program.clone(), env: env.clone(), limit: LIMIT };
        let run = async |args: &[&str]| runner.run(args).await.map_err(|error: CommandError| failure(&error));
        for (number, (name, locality)) in [("east", "eu/fra"), ("west", "us/sjc")].into_iter().enumerate() {
            let address = self.address(number);
            let directory = self.place.path.join(name).display().to_string();
            let (address_text, mut args) = (address.to_string(), vec!["init", name, "--dir", &directory]);
            args.extend(["--locality", locality, "--address", &address_text, "--services", "services.yaml"]);
            let range = Range::take(1);
            let cidr = range.as_ref().map(Range::cidr);
            if let Some(cidr) = &cidr {
                args.extend(["--vip-range", cidr]);
            }
            self._ranges.extend(range);
            run(&args).await?;
            let services = if name == "east" { service(server) } else { String::new() };
            write_atomic(&self.place.path.join(name).join("services.yaml"), services.as_bytes(), MODE_PUBLIC)
                .or_fail(|| "the services cannot be written".to_owned())?;
            let spec = Spec {
                name: format!("site {name}"),
                program: program.clone(),
                args: ["site", &directory, "--exit-with-parent"].map(str::to_owned).to_vec(),
                env: env.clone(),
                log: self.place.path.join(format!("{name}.log")),
                ends_with_stdin: true,
            };
            self.sites.push(Process::start(spec).or_fail(|| format!("{name} does not start"))?);
        }
        for number in 0..self.sites.len() {
            let health = SocketAddr::new(self.address(number).into(), HEALTH);
            ready::until("a site", LIMIT, || ready::answers_readyz(health))
                .await
                .or_fail(|| "a site does not become ready".to_owned())?;
        }
        for name in ["east", "west"] {
            // Ready is the process; its gateway has to have been heard too.
            ready::until("a gateway", LIMIT, || async {
                run(&["status", "--context", name]).await.map(drop).map_err(|failure| failure.text())
            })
            .await
            .or_fail(|| format!("the gateway of {name} does not come"))?;
        }
        run(&["link", "east", "west"]).await?;
        ready::until("shop/raw in east", LIMIT, || async {
            let exported = run(&["export", "shop/raw", "--context", "east"]).await;
            exported.map(drop).map_err(|failure| failure.text())
        })
        .await
        .or_fail(|| "east does not offer its server".to_owned())?;
        self.entry(server.port()).await
    }

    async fn entry(&self, port: u16) -> Result<Served, Failure> {
        let resolver = SocketAddr::new(self.address(1).into(), DNS);
        let found = std::sync::Mutex::new(None);
        ready::until("shop/raw in west", LIMIT, || async {
            let vip = dns::resolve(resolver, "raw.shop.svc.clusterset.local").await?;
            let entry = SocketAddr::new(vip.into(), port);
            bench::raw::hold(entry).await.map_err(|error| format!("{entry}: {error}"))?;
            *found.lock().expect("nobody panics with it") = Some(entry);
            Ok(())
        })
        .await
        .or_fail(|| "the server in east does not reach west".to_owned())?;
        let entry = found.into_inner().expect("nobody panics with it").expect("it was reached");
        Ok(Served { entry })
    }

    fn address(&self, site: usize) -> Ipv4Addr {
        let site = u8::try_from(site + 1).expect("two sites");
        Ipv4Addr::new(127, self._block.number(), site, 1)
    }

    /// Where the processes say how they are.
    pub fn health(&self) -> [SocketAddr; 2] {
        [0, 1].map(|site| SocketAddr::new(self.address(site).into(), HEALTH))
    }

    /// Bytes of memory in use by each of the two processes.
    pub fn memory(&self) -> Vec<u64> {
        self.sites.iter().filter_map(Process::pid).map(resident).collect()
    }

    /// Ends both. Logs are kept when the measurement failed.
    ///
    /// # Errors
    /// That of the measurement, with where the logs are.
    pub async fn end<T>(mut self, measured: Result<T, Failure>) -> Result<T, Failure> {
        for site in &mut self.sites {
            // What does not leave in time is killed when it is dropped.
            let _ = site.end(END_LIMIT).await;
        }
        match measured {
            Ok(numbers) => {
                self.place.remove();
                Ok(numbers)
            }
            Err(failure) => Err(failure.fix(format!("the logs are kept in {}", self.place.path.display()))),
        }
    }
}

fn failure(error: &CommandError) -> Failure {
    Failure::new(error.to_string())
}

fn service(server: SocketAddr) -> String {
    let (ip, port) = (server.ip(), server.port());
    format!(
        "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {{ namespace: shop, name: raw }}\nspec:\n  ports:\n    \
         - {{ port: {port}, protocol: tcp }}\n  endpoints:\n    - {{ address: {ip} }}\n  check: {{ type: none }}\n"
    )
}
