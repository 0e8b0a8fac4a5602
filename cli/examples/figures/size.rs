//! What a site of many services costs the site that it is linked to: memory, and bytes on the wire.
//!
//! Two sites stand unlinked; east gets its services and offers all of them; then they are linked, so that west takes a
//! whole catalog at once. The links go over user-space relays, which count the bytes of all datagrams both ways:
//! handshakes, acknowledgements and probes are in them. Federations count what they say to each other before
//! compression, by kind. Then one endpoint after the other is added.

use crate::machine::{Watch, resident};
use crate::scrape::Scrape;
use crate::stage::{Setting, Stage};
use api::rest::service::{ServiceList, ServiceView};
use live::mesh::Part;
use live::ready;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::Ui;
use runtime::file::{MODE_PUBLIC, write_atomic};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Goal for what one more endpoint sends.
pub const GOAL_BYTES: u64 = 1_024;
/// How long each step may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Before memory is read.
const REST: Duration = Duration::from_secs(4);
/// How long the bytes of one endpoint are counted, and how long a quiet time is.
const STRETCH: Duration = Duration::from_secs(2);
/// Two sites; the one workload is there so that east reads its services from a file.
const TOPOLOGY: &str = "
kind: Topology
name: size
sites:
  east: { locality: eu/fra }
  west: { locality: us/sjc }
links:
  - between: [east, west]
workloads:
  - { service: shop/first, site: east, port: 8080 }
";

/// How much is measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many services east offers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    pub services: u32,
    /// How many endpoints each of them has.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub endpoints: u32,
    /// How many endpoints are added then, one at a time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub added: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Numbers {
    /// Services.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
    /// Memory of each process: west's before and after the link, east's before and after it had its services.
    pub memory: Vec<Memory>,
    /// The first exchange of the whole catalog.
    pub sync: Sync,
    /// One more endpoint, again and again.
    pub added: Vec<Added>,
}

/// Resident memory of one process.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Of whom.
    pub process: String,
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
}

/// A whole catalog.
#[derive(Debug, Serialize)]
pub struct Sync {
    /// From the command that links the two until west's gateway serves every service.
    pub ms: u128,
    /// Bytes of all datagrams between the two meanwhile, both ways.
    pub wire: u64,
    /// Bytes of what east's federation said to west's, before compression.
    pub said: u64,
}

/// One endpoint.
#[derive(Debug, Serialize)]
pub struct Added {
    /// Bytes of the batches of the catalog and of their acknowledgements, before compression.
    pub said: u64,
    /// Bytes of all datagrams in the two seconds that began with it, both ways.
    pub wire: u64,
    /// The same in the two seconds before, in which nothing happened.
    pub wire_quiet: u64,
}

impl Numbers {
    /// Whether each endpoint took less than the goal.
    pub fn held(&self) -> bool {
        !self.added.is_empty() && self.added.iter().all(|added| added.said > 0 && added.said < GOAL_BYTES)
    }
}

/// Measures.
///
/// # Errors
/// Something did not start, or a step took too long.
pub async fn measure(args: &Args, setting: &Setting, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let topology = topologies::read("size", TOPOLOGY)?;
    ui.progress("two sites with a gateway each");
    let stage = Stage::start(&topology, setting, ui).await?;
    let measured = tokio::select! {
        measured = run(args, &stage, ui) => measured,
        stopped = stage.interrupted() => stopped,
    };
    stage.end(measured).await
}

async fn run(args: &Args, stage: &Stage, ui: &Ui) -> Result<(Numbers, Watch), Failure> {
    let mut watch = Watch::begin();
    command(stage, &["unlink", "east", "west", "--yes"]).await?;
    write_services(args, 0, stage, 0)?;
    until_listed(stage, "east", 0, 0).await?;
    until_listed(stage, "west", 0, 0).await?;
    tokio::time::sleep(REST).await;
    let before = memory(stage)?;

    write_services(args, args.services, stage, 0)?;
    until_listed(stage, "east", args.services, args.endpoints).await?;
    offer(args.services, stage).await?;
    tokio::time::sleep(REST).await;
    ui.progress(format!("  east offers {} services of {} endpoints each", args.services, args.endpoints));

    let (wire, said, begin) = (wire(stage), said(stage, &[]).await?, Instant::now());
    command(stage, &["link", "east", "west"]).await?;
    until_served(args.services, stage).await?;
    let ms = begin.elapsed().as_millis();
    tokio::time::sleep(REST).await;
    let sync = Sync { ms, wire: wire_since(stage, wire), said: said_since(stage, &[], said).await? };
    let after = memory(stage)?;
    until_listed(stage, "west", args.services, args.endpoints).await?;
    ui.progress(format!("  west has them all after {ms} ms"));

    let mut added = Vec::new();
    for number in 0..args.added {
        added.push(add(args, number, stage).await?);
    }
    watch.end();
    let memory = before
        .into_iter()
        .zip(after)
        .map(|((process, before), (_, after))| Memory { process, before, after })
        .collect();
    Ok((Numbers { services: args.services, endpoints: args.endpoints, memory, sync, added }, watch))
}

/// Adds one endpoint to one service.
async fn add(args: &Args, number: u32, stage: &Stage) -> Result<Added, Failure> {
    let wire_before = wire(stage);
    tokio::time::sleep(STRETCH).await;
    let wire_quiet = wire_since(stage, wire_before);
    let (wire_before, said_before) = (wire(stage), said(stage, &CHANGES).await?);
    let begin = Instant::now();
    write_services(args, args.services, stage, number + 1)?;
    let west = stage.client("west")?;
    let path = format!("/v1/services/big/{}", name(number));
    ready::until("one more endpoint in west", LIMIT, || async {
        let view: ServiceView = west.get(&path).await.map_err(|failure| failure.text())?;
        let total: u32 = view.sites.iter().map(|site| site.total).sum();
        if total == args.endpoints + 1 { Ok(()) } else { Err(format!("{total} endpoints")) }
    })
    .await
    .or_fail(|| "an endpoint does not reach west".to_owned())?;
    tokio::time::sleep(STRETCH.saturating_sub(begin.elapsed())).await;
    let said = said_since(stage, &CHANGES, said_before).await?;
    Ok(Added { said, wire: wire_since(stage, wire_before), wire_quiet })
}

fn name(number: u32) -> String {
    format!("s-{number:04}")
}

/// Writes the file that east's federation watches. The first `grown` services have one endpoint more.
fn write_services(args: &Args, services: u32, stage: &Stage, grown: u32) -> Result<(), Failure> {
    let mut text = String::new();
    for number in 0..services {
        let count = args.endpoints + u32::from(number < grown);
        let name = name(number);
        text.push_str(&format!(
            "apiVersion: meshfed.dev/v1alpha1\nkind: Service\nmetadata: {{ namespace: big, name: {name} }}\nspec:\n  ports: \
             [{{ port: 8080, protocol: http }}]\n  check: {{ type: none }}\n  endpoints:\n"
        ));
        for endpoint in 0..count {
            // Nobody dials them.
            let (third, fourth) = (number % 250, endpoint + 1);
            let _ = writeln!(text, "  - {{ id: {name}-{endpoint}, address: 198.18.{third}.{fourth} }}");
        }
        text.push_str("---\n");
    }
    let path = stage.mesh.directory().join("east").join("services.yaml");
    write_atomic(&path, text.as_bytes(), MODE_PUBLIC)
        .or_fail(|| format!("{} cannot be written", path.display()))
}

/// Offers all services to linked sites.
async fn offer(services: u32, stage: &Stage) -> Result<(), Failure> {
    let exports: Vec<String> = (0..services)
        .map(|number| {
            format!(
                "apiVersion: meshfed.dev/v1alpha1\nkind: ServiceExport\nmetadata: {{ namespace: big, name: {} }}\n",
                name(number)
            )
        })
        .collect();
    let path = stage.mesh.directory().join("exports.yaml");
    write_atomic(&path, exports.join("---\n").as_bytes(), MODE_PUBLIC)
        .or_fail(|| format!("{} cannot be written", path.display()))?;
    command(stage, &["apply", "--file", &path.display().to_string(), "--context", "east"]).await
}

async fn command(stage: &Stage, args: &[&str]) -> Result<(), Failure> {
    stage.mesh.run(args).await.map(drop).map_err(|error| Failure::new(error.to_string()))
}

/// Waits until a site lists so many services with so many endpoints each, and no other of ours.
async fn until_listed(stage: &Stage, site: &str, services: u32, endpoints: u32) -> Result<(), Failure> {
    let client = stage.client(site)?;
    ready::until(&format!("{services} services in {site}"), LIMIT, || async {
        let list: ServiceList = client.get("/v1/services").await.map_err(|failure| failure.text())?;
        let full = |view: &&ServiceView| view.sites.iter().map(|of| of.total).sum::<u32>() == endpoints;
        let (all, full) = (list.services.len(), list.services.iter().filter(full).count());
        let wanted = services as usize;
        if (all, full) == (wanted, wanted) { Ok(()) } else { Err(format!("{all} services, {full} whole")) }
    })
    .await
    .or_fail(|| format!("{site} does not have what it should"))
}

/// Waits until west's gateway has a way in for every service, or says why not.
async fn until_served(services: u32, stage: &Stage) -> Result<(), Failure> {
    let gateway = stage.mesh.health(&Part::Gateway("west".to_owned(), "gw-0".to_owned()));
    let gateway = gateway.map_err(|error| stage.failed(&error))?;
    ready::until("every service in west", LIMIT, || async {
        let scrape = Scrape::of(gateway).await.map_err(|failure| failure.text())?;
        let listened = scrape.sum("meshfed_vip_listeners", &[]);
        let known = listened + scrape.sum("meshfed_vip_listeners_skipped", &[]);
        if known >= f64::from(services) { Ok(()) } else { Err(format!("{known} services")) }
    })
    .await
    .or_fail(|| "the services of east do not reach west".to_owned())
}

/// Resident memory of the four processes, with their names.
fn memory(stage: &Stage) -> Result<Vec<(String, u64)>, Failure> {
    let of_site =
        |site: &str| [Part::Federation(site.to_owned()), Part::Gateway(site.to_owned(), "gw-0".to_owned())];
    let read = |part: Part| {
        let bytes = stage.mesh.pid(&part).map_or(0, resident);
        if bytes > 0 { Ok((part.to_string(), bytes)) } else { Err(Failure::new(format!("{part} is gone"))) }
    };
    of_site("west").into_iter().chain(of_site("east")).map(read).collect()
}

/// Bytes that have gone over the links of the two sites, both ways.
fn wire(stage: &Stage) -> u64 {
    let links = stage.mesh.relays().between("east", "west");
    links.iter().map(|(link, way)| link.count(*way).bytes + link.count(way.reverse()).bytes).sum()
}

fn wire_since(stage: &Stage, before: u64) -> u64 {
    wire(stage).saturating_sub(before)
}

/// What a change is told in.
const CHANGES: [&str; 2] = ["kind=\"batch\"", "kind=\"ack\""];

/// Bytes before compression that east's federation has exchanged: all that it sent, or both ways what is of these kinds.
async fn said(stage: &Stage, kinds: &[&str]) -> Result<f64, Failure> {
    let east = stage.mesh.health(&Part::Federation("east".to_owned()));
    let scrape = Scrape::of(east.map_err(|error| stage.failed(&error))?).await?;
    let of = |label: &str| scrape.sum("meshfed_exchange_bytes_total", &[label]);
    Ok(if kinds.is_empty() { of("direction=\"sent\"") } else { kinds.iter().map(|kind| of(kind)).sum() })
}

async fn said_since(stage: &Stage, kinds: &[&str], before: f64) -> Result<u64, Failure> {
    Ok((said(stage, kinds).await? - before).max(0.0) as u64)
}
