//! Sites of real processes on loopback, of which a test may kill what it likes.
//!
//! Every [`World`] has addresses and virtual IPs of its own, so tests may run beside each other. What it starts ends
//! with it.

#![allow(dead_code, reason = "not every file of tests uses all of it")]

pub mod caller;
pub mod part;

use self::caller::{get, resolve};
use self::part::Part;
use crate::support::{Home, Ran};
use api::rest::event::EventList;
use api::rest::link::LinkList;
use api::rest::service::{ServiceList, ServiceView};
use api::rest::status::{NodeStatus, PeerStatus, StatusView};
use live::place::Block;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long anything may take. Tests ask what comes of it, not how fast.
pub const LONG: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines of each log that a failure shows.
const TAIL: usize = 25;

/// A person's home, and the sites that were made from it.
pub struct World {
    pub home: Home,
    block: Block,
    /// Addresses that were given, by the name of the part.
    places: Mutex<BTreeMap<String, String>>,
    /// How many sites there are.
    sites: Mutex<u8>,
}

impl World {
    pub fn new() -> Self {
        Self {
            home: Home::new(),
            block: Block::take().expect("a free block of addresses"),
            places: Mutex::default(),
            sites: Mutex::default(),
        }
    }

    /// The address of a part, by its name.
    pub fn at(&self, part: &str) -> String {
        let mut places = self.places.lock().expect("no panic");
        let next = places.len() + 1;
        places
            .entry(part.to_owned())
            .or_insert_with(|| format!("127.{}.1.{next}", self.block.number()))
            .clone()
    }

    /// A port of a part.
    pub fn port_of(&self, part: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.at(part).parse::<IpAddr>().expect("an address"), port)
    }

    /// A port number that no other test has, so that virtual IPs of two tests, which may be the same, never meet.
    pub fn free_port(&self) -> u16 {
        let probe = TcpListener::bind((self.at("probe").as_str(), 0)).expect("a free port");
        probe.local_addr().expect("bound").port()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.home.run(args)
    }

    #[track_caller]
    pub fn good(&self, args: &[&str]) -> Ran {
        self.home.good(args)
    }

    /// Runs a command that must be refused; gives what it said.
    #[track_caller]
    pub fn refused(&self, args: &[&str], says: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 1, "meshfed {} was not refused\n{}{}", args.join(" "), ran.out, ran.err);
        assert_eq!(ran.out, "", "an error goes to standard error alone");
        for word in says {
            assert!(ran.err.contains(word), "meshfed {}: no `{word}` in\n{}", args.join(" "), ran.err);
        }
        ran.err
    }

    /// What a command prints as JSON.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        self.try_json(args).unwrap_or_else(|seen| panic!("meshfed {}: {seen}", args.join(" ")))
    }

    /// The same, or what was seen instead. `status` ends with 1 when the site is not well, and prints all the same.
    pub fn try_json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T, String> {
        let ran = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&ran.out).map_err(|error| format!("{error}\n{}{}", ran.out, ran.err))
    }

    /// Makes a site with addresses and virtual IPs of its own; nothing runs yet.
    #[track_caller]
    pub fn init(&self, name: &str, more: &[&str]) {
        let mut sites = self.sites.lock().expect("no panic");
        // Its gateways and agents take the ranges that follow.
        let cidr = format!("127.{}.0.0/16", 64 + 8 * *sites);
        *sites += 1;
        let address = self.at(name);
        let args = ["init", name, "--address", &address, "--vip-range", &cidr];
        self.good(&[&args[..], more].concat());
    }

    /// Starts a process; its log is in `NAME.log`.
    #[track_caller]
    pub fn start(&self, name: &str, args: &[&str]) -> Part {
        Part::start(self.home.path(), name, args)
    }

    /// Makes a site and starts it in one process.
    #[track_caller]
    pub fn site(&self, name: &str, more: &[&str]) -> Part {
        self.init(name, more);
        let site = self.start(name, &["site", name]);
        self.well(name);
        site
    }

    /// Makes a site and starts its federation and these gateways as processes.
    #[track_caller]
    pub fn site_in_parts(&self, name: &str, gateways: &[(&str, &[&str])]) -> (Part, Vec<Part>) {
        self.init(name, &[]);
        let federation = self.start(&format!("{name}-federation"), &["federation", name]);
        self.until("an API", || self.try_status(name));
        let gateways = gateways.iter().map(|(gateway, more)| self.gateway(name, gateway, more)).collect();
        self.well(name);
        (federation, gateways)
    }

    /// Lets a gateway join.
    #[track_caller]
    pub fn gateway(&self, site: &str, gateway: &str, more: &[&str]) -> Part {
        self.node(site, "gateway", gateway, more)
    }

    /// Lets an agent join, and waits until its site knows it.
    #[track_caller]
    pub fn agent(&self, site: &str, host: &str, more: &[&str]) -> Part {
        self.node(site, "agent", host, more)
    }

    /// The same, with a token that is there.
    #[track_caller]
    pub fn agent_with(&self, site: &str, host: &str, token: &str, more: &[&str]) -> Part {
        self.join(site, "agent", host, token, more)
    }

    #[track_caller]
    fn node(&self, site: &str, kind: &str, name: &str, more: &[&str]) -> Part {
        let token = self.token(kind, name, site, &[]);
        self.join(site, kind, name, &token, more)
    }

    #[track_caller]
    fn join(&self, site: &str, kind: &str, name: &str, token: &str, more: &[&str]) -> Part {
        let part = format!("{site}-{name}");
        let address = self.at(&part);
        let args = [kind, name, "--dir", &part, "--address", &address];
        let started = self.start(&part, &[&args[..], &["--join", token], more].concat());
        self.connected(site, name);
        // A token works once; who has joined needs none.
        started.with_args(&[&args[..], more].concat())
    }

    /// Makes a token; gives the name of its file.
    #[track_caller]
    pub fn token(&self, kind: &str, name: &str, site: &str, more: &[&str]) -> String {
        let ran = self.good(&[&["token", kind, name, "--context", site], more].concat());
        let mut file = format!("{site}-{name}.token");
        while self.path(&file).exists() {
            file.insert_str(0, "again-");
        }
        self.home.write(&file, &ran.out);
        file
    }

    /// Starts a web server that says who it is, on a host of its own.
    #[track_caller]
    pub fn echo(&self, site: &str, instance: &str) -> (Part, SocketAddr) {
        let part = format!("echo-{site}-{instance}");
        let port = TcpListener::bind((self.at(&part).as_str(), 0)).expect("a free port");
        let listen = port.local_addr().expect("bound");
        drop(port);
        let text = listen.to_string();
        let started = self.start(&part, &["echo", "--listen", &text, "--site", site, "--instance", instance]);
        self.until("a web server", || get(listen, "/").map(drop));
        (started, listen)
    }

    /// Writes a file with a workload for the agent on a host; gives its name.
    pub fn workload(&self, file: &str, service: &str, port: u16, target: SocketAddr) -> String {
        let (namespace, name) = service.split_once('/').expect("NAMESPACE/NAME");
        let text = format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: Workload\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  \
             port: {port}\n  targetPort: {}\n  address: {}\n  protocol: http\n  check: {{ type: tcp, interval: 250ms }}\n",
            target.port(),
            target.ip()
        );
        self.home.write(file, &text);
        file.to_owned()
    }

    /// Exposes a web server through the agent on a host, checked four times a second.
    #[track_caller]
    pub fn expose(&self, site: &str, service: &str, host: &str, port: u16, target: SocketAddr) {
        let (ports, address) = (format!("{port}:{}", target.port()), target.ip().to_string());
        let args = [
            "expose",
            service,
            "--on",
            host,
            "--port",
            &ports,
            "--target",
            &address,
            "--protocol",
            "http",
            "--check-interval",
            "250ms",
            "--context",
            site,
        ];
        self.good(&args);
    }

    /// Waits until the site says that it is well.
    #[track_caller]
    pub fn well(&self, site: &str) {
        self.until(&format!("{site} that is well"), || {
            let ran = self.run(&["status", "--context", site]);
            if ran.code == 0 { Ok(()) } else { Err(format!("{}{}", ran.out, ran.err)) }
        });
    }

    pub fn status(&self, site: &str) -> StatusView {
        self.json(&["status", "--context", site])
    }

    pub fn try_status(&self, site: &str) -> Result<StatusView, String> {
        self.try_json(&["status", "--context", site])
    }

    pub fn try_peer(&self, site: &str, peer: &str) -> Result<PeerStatus, String> {
        let status = self.try_status(site)?;
        let seen = format!("{:?}", status.peers);
        status.peers.into_iter().find(|status| status.site == peer).ok_or(seen)
    }

    pub fn try_node(&self, site: &str, name: &str) -> Result<NodeStatus, String> {
        let status = self.try_status(site)?;
        let seen = format!("{:?}", status.nodes);
        status.nodes.into_iter().find(|node| node.name == name).ok_or(seen)
    }

    /// Waits until a gateway or an agent is connected to the federation of its site.
    #[track_caller]
    pub fn connected(&self, site: &str, name: &str) {
        self.until(&format!("{name} of {site} that is connected"), || {
            self.try_node(site, name).and_then(|node| node.connected.then_some(()).ok_or(format!("{node:?}")))
        });
    }

    pub fn services(&self, site: &str) -> Result<Vec<ServiceView>, String> {
        self.try_json(&["get", "services", "--context", site]).map(|list: ServiceList| list.services)
    }

    pub fn try_service(&self, site: &str, service: &str) -> Result<ServiceView, String> {
        let services = self.services(site)?;
        let seen = format!("{services:?}");
        services.into_iter().find(|view| view.service == service).ok_or(seen)
    }

    /// Whether a site lists a service under this virtual IP, with one endpoint of the site `of`.
    pub fn lists(&self, site: &str, service: &str, vip: &Option<String>, of: &str) -> Result<(), String> {
        let view = self.try_service(site, service)?;
        let there = view.vip == *vip && view.sites.iter().any(|site| site.site == of && site.total == 1);
        if there { Ok(()) } else { Err(format!("{view:?}")) }
    }

    /// Waits until a site sees so many healthy endpoints of a service.
    #[track_caller]
    pub fn healthy(&self, site: &str, service: &str, count: u32) -> ServiceView {
        self.until(&format!("{count} healthy of {service} in {site}"), || {
            let view = self.try_service(site, service)?;
            if view.healthy == count { Ok(view) } else { Err(format!("{view:?}")) }
        })
    }

    /// Waits until a caller of a service gets an answer where `at`'s DNS says; gives the address.
    #[track_caller]
    pub fn served(&self, at: &str, service: &str, port: u16) -> SocketAddr {
        self.until(&format!("an answer of {service} at {at}"), || {
            let entry = resolve(self.port_of(at, 15053), service, port)?;
            get(entry, "/").map(|_| entry)
        })
    }

    pub fn links(&self, site: &str) -> LinkList {
        self.json(&["get", "links", "--context", site])
    }

    /// What happened, a line each.
    pub fn events(&self, site: &str) -> String {
        let list: EventList = self.json(&["events", "--context", site]);
        list.events
            .iter()
            .map(|event| format!("{}: {} ({})\n", event.subject, event.what, event.why))
            .collect()
    }

    /// What a refusal must leave as it was: everything that people and peers have said, in short.
    pub fn picture(&self, site: &str) -> String {
        let status = self.status(site);
        let services = self.services(site).expect("services");
        let services: Vec<_> = services
            .iter()
            .map(|s| {
                let sites: Vec<_> = s.sites.iter().map(|site| (&site.site, site.total)).collect();
                (&s.service, &s.vip, s.exported, sites, s.endpoints.iter().map(|e| &e.id).collect::<Vec<_>>())
            })
            .collect();
        let links = self.links(site);
        let links: Vec<_> = links.links.iter().map(|l| (&l.site, &l.uid, &l.offer, &l.accept)).collect();
        let nodes: Vec<_> = status.nodes.iter().map(|n| (&n.kind, &n.name, n.connected)).collect();
        let own = (&status.site.uid, status.site.epoch, status.site.revision);
        let written: Vec<String> = ["policies", "workloads"]
            .map(|kind| self.good(&["get", kind, "--context", site, "-o", "yaml"]).out)
            .into();
        format!("{own:#?}\n{nodes:#?}\n{links:#?}\n{services:#?}\n{written:#?}")
    }

    /// Asserts that `deed` changes nothing at these sites.
    #[track_caller]
    pub fn unchanged<T>(&self, sites: &[&str], deed: impl FnOnce() -> T) -> T {
        let before: Vec<String> = sites.iter().map(|site| self.picture(site)).collect();
        let done = deed();
        for (site, before) in sites.iter().zip(before) {
            let after = self.picture(site);
            assert!(before == after, "{site} was changed\nbefore {before}\nafter {after}");
        }
        done
    }

    /// Looks again and again until it is so.
    #[track_caller]
    pub fn until<T>(&self, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        match poll(LONG, look) {
            Ok(seen) => seen,
            Err(last) => panic!("no {what} in {} s: {last}\n{}", LONG.as_secs(), self.logs()),
        }
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.home.path()).expect("there").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "log") {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().filter(|line| !line.contains("UDP buffer")).collect();
                let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
                text.push_str(&format!("--- {}\n{tail}\n", path.display()));
            }
        }
        text
    }
}

fn poll<T>(limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(last) if begin.elapsed() > limit => return Err(last),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
