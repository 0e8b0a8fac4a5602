//! `meshfed init`: the directory of a new site.

mod given;

use crate::args::InitArgs;
use crate::contexts::{Context, Store};
use crate::failure::{Failure, OrFail, Outcome};
use crate::output::Ui;
use api::resource::site::{Site, SiteSpec, VipCidr};
use api::resource::{Kind, Resource};
use api::text::Text;
use identity::ca::{Ca, lifetime};
use identity::credentials::Credentials;
use identity::key::NodeKey;
use model::config::VipRange;
use model::identity::{Role, SpiffeId, TrustDomain};
use model::ids::SiteUid;
use runtime::file::{MODE_PUBLIC, MODE_SECRET, write_atomic};
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Name of the administrator whose certificate `init` makes.
const ADMIN: &str = "root";
/// Longest key or certificate file.
const PEM_MAX: usize = 64 * 1024;
/// Addresses that sites without one are given: the first of 127.0.N.0/24, N from 1.
const FREE: std::ops::RangeInclusive<u8> = 1..=254;

/// How many ranges of virtual IPs there are in 127.64.0.0/10.
const RANGES: u8 = 64;

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    site: String,
    uid: String,
    trust_domain: String,
    locality: String,
    address: String,
    directory: PathBuf,
    context: String,
    contexts_file: PathBuf,
    dry_run: bool,
}

/// Makes a site.
///
/// # Errors
/// The directory or the context exists, or something cannot be written; nothing is left behind then.
pub fn run(args: &InitArgs, ui: &Ui) -> Outcome {
    let store = Store::of_user()?;
    let directory = args.dir.clone().unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    let directory =
        std::path::absolute(&directory).or_fail(|| format!("{} is no path", directory.display()))?;
    refuse_existing(args, &directory, &store)?;
    let address = match args.address {
        Some(address) => address,
        None => IpAddr::V4(free_address(&store)?),
    };
    let uid = SiteUid(random()?);
    let vip_range = match args.vip_range {
        Some(range) => range,
        None => vip_range(uid, &store, ui)?,
    };
    let site = site(args, address, vip_range);
    let resource = Resource::Site(site.clone());
    resource.check().map_err(|problem| Failure::usage(problem.to_string()))?;
    let settings = site.settings().map_err(|problem| Failure::usage(problem.to_string()))?;
    let ca = given::ca(args, &settings.trust_domain)?;
    let made = Made {
        site: args.name.to_string(),
        uid: uid.to_string(),
        trust_domain: settings.trust_domain.to_string(),
        locality: args.locality.to_string(),
        address: address.to_string(),
        directory: directory.clone(),
        context: args.name.to_string(),
        contexts_file: store.path().to_owned(),
        dry_run: args.dry_run,
    };
    if !args.dry_run {
        let written = write_site(&directory, &site, uid, (&settings.trust_domain, ca));
        let api = SocketAddr::new(address, settings.ports.api);
        let added = written.and_then(|()| add_context(args, &settings.trust_domain, api, &directory, &store));
        if let Err(failure) = added {
            // Only what this run has made: the directory did not exist before.
            let _ = std::fs::remove_dir_all(&directory);
            return Err(failure);
        }
    }
    ui.result(&made, |_| text(&made))
}

fn refuse_existing(args: &InitArgs, directory: &Path, store: &Store) -> Outcome {
    if directory.symlink_metadata().is_ok() {
        return Err(Failure::new(format!(
            "{} is there already, and is not overwritten",
            directory.display()
        ))
        .fix(format!("run it with `meshfed site {}`, or choose another --dir", directory.display())));
    }
    let contexts = store.read()?;
    let Some(context) = contexts.contexts.get(args.name.as_str()) else { return Ok(()) };
    Err(Failure::new(format!("there is a context `{}` already, for {}", args.name, context.api))
        .fix(format!("choose another name, or forget that one with `meshfed context remove {}`", args.name)))
}

/// A 127.0.N.0/24 that no context uses and on whose first address nobody listens.
fn free_address(store: &Store) -> Result<Ipv4Addr, Failure> {
    let contexts = store.read()?;
    let taken = |ip: Ipv4Addr| {
        contexts.contexts.values().any(|context| match context.api.ip() {
            IpAddr::V4(other) => other.octets()[..3] == ip.octets()[..3],
            IpAddr::V6(_) => false,
        })
    };
    FREE.map(|n| Ipv4Addr::new(127, 0, n, 1))
        .filter(|ip| !taken(*ip))
        .find(|ip| TcpListener::bind((*ip, api::resource::site::PortsSpec::default().api)).is_ok())
        .ok_or_else(|| Failure::new("every 127.0.N.0/24 is in use").fix("name an address with --address"))
}

/// A /16 of 127.64.0.0/10 in a block that no other site of the contexts is in, since a site gives its nodes the other
/// ranges of its block; where it begins to look depends on the uid, so that sites of different people on one host
/// rarely take the same. When every block is taken, at least the range is the site's alone, and that is said.
fn vip_range(uid: SiteUid, store: &Store, ui: &Ui) -> Result<VipCidr, Failure> {
    let taken: Vec<(String, VipRange)> = store
        .read()?
        .contexts
        .iter()
        .filter_map(|(name, context)| Some((name.clone(), vip_range_of(context)?)))
        .collect();
    let first = uid.0[0];
    let range =
        |step: u8| VipRange { base: Ipv4Addr::new(127, 64 + first.wrapping_add(step) % RANGES, 0, 0) };
    let ranges = || (0..RANGES).map(range);
    let is_taken = |by: &dyn Fn(VipRange) -> bool| taken.iter().any(|(_, other)| by(*other));
    if let Some(free) = ranges().find(|range| !is_taken(&|other| other.block() == range.block())) {
        return Ok(VipCidr(free));
    }
    let shared = ranges().find(|range| !is_taken(&|other| other == *range)).unwrap_or_else(|| range(0));
    let others: Vec<&str> =
        taken.iter().filter(|(_, of)| of.block() == shared.block()).map(|(name, _)| name.as_str()).collect();
    ui.progress(format!(
        "note: all {} blocks of virtual IPs are those of other sites in your contexts, so this one shares a block with \
         {}: gateways and agents of both on one host may get the same addresses, and one of them cannot listen then. \
         Name a range whose sites are on other hosts with --vip-range",
        RANGES / VipRange::BLOCK,
        others.join(", ")
    ));
    Ok(VipCidr(shared))
}

fn vip_range_of(context: &Context) -> Option<VipRange> {
    let path = context.directory.as_ref()?.join("site.yaml");
    let text = runtime::file::read_text(&path, PEM_MAX).ok()?;
    let resources = api::resource::parse("site.yaml", &text).ok()?;
    resources.iter().find_map(|resource| match resource {
        Resource::Site(site) => site.spec.vip_range.map(|range| range.0.0),
        Resource::Link(_)
        | Resource::Workload(_)
        | Resource::FailoverPolicy(_)
        | Resource::AccessPolicy(_)
        | Resource::ServiceExport(_)
        | Resource::Service(_) => None,
    })
}

fn site(args: &InitArgs, address: IpAddr, vip_range: VipCidr) -> Site {
    let spec = SiteSpec {
        trust_domain: args.trust_domain.clone().map(Text),
        locality: (args.locality != model::locality::Locality::default())
            .then(|| Text(args.locality.clone())),
        address: Text(address),
        advertise: args
            .advertise
            .map(|a| Text(api::resource::site::Advertise { ip: a.ip(), port: Some(a.port()) })),
        clusterset: (args.clusterset.as_str() != "meshfed").then(|| Text(args.clusterset.clone())),
        vip_range: Some(Text(vip_range)),
        ports: api::resource::site::PortsSpec::default(),
        reserved_ports: Vec::new(),
        drain_timeout: None,
        services: args.services.clone(),
        lease_seconds: None,
        leaf_lifetime: None,
        default_deny: false,
    };
    let name = args.name.as_str().parse().expect("a site name is a label");
    Site::new(Kind::Site, None, name, spec)
}

/// With the CA that was given, or a new one of the trust domain.
fn write_site(
    directory: &Path,
    site: &Site,
    uid: SiteUid,
    (trust_domain, ca): (&TrustDomain, Option<Ca>),
) -> Outcome {
    for name in ["", "ca", "admin"] {
        let path = directory.join(name);
        std::fs::DirBuilder::new()
            .recursive(name.is_empty())
            .mode(0o700)
            .create(&path)
            .or_fail(|| format!("{} cannot be made", path.display()))?;
    }
    let now = runtime::clock::unix_ms();
    let ca = match ca {
        Some(ca) => ca,
        None => Ca::generate(trust_domain, now).or_fail(|| "the CA cannot be made".to_owned())?,
    };
    write(&directory.join("ca/ca.crt"), ca.cert_pem().as_bytes(), MODE_PUBLIC)?;
    write(&directory.join("ca/ca.key"), ca.key_pem().as_bytes(), MODE_SECRET)?;
    write(&directory.join("uid"), format!("{uid}\n").as_bytes(), MODE_PUBLIC)?;
    write_admin(&ca, directory, now)?;
    let yaml = api::yaml::write(site).or_fail(|| "the site cannot be written".to_owned())?;
    let yaml =
        format!("# Made by `meshfed init`. `meshfed site` reads it at its start.\n{}\n", yaml.trim_end());
    // Last, so that a directory with this file is whole.
    write(&directory.join("site.yaml"), yaml.as_bytes(), MODE_PUBLIC)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    write_atomic(path, bytes, mode).or_fail(|| "the site cannot be made".to_owned())
}

/// Reads the CA of a site's directory.
///
/// # Errors
/// It is not there, or not what it should be.
pub fn read_ca(directory: &Path, trust_domain: &TrustDomain) -> Result<Ca, Failure> {
    let read = |name: &str| {
        runtime::file::read_text(&directory.join(name), PEM_MAX)
            .or_fail(|| "the CA cannot be read".to_owned())
    };
    let (certificate, key) = (read("ca/ca.crt")?, read("ca/ca.key")?);
    Ca::from_pem(trust_domain, &certificate, &key).or_fail(|| "the CA cannot be used".to_owned())
}

/// Issues a fresh administrator's certificate into a site's directory.
///
/// # Errors
/// It cannot be issued or written.
pub fn write_admin(ca: &Ca, directory: &Path, now_ms: u64) -> Result<Credentials, Failure> {
    let key = NodeKey::generate().or_fail(|| "the administrator's key cannot be made".to_owned())?;
    let role = Role::Admin(ADMIN.parse().expect("a label"));
    let lifetime = lifetime(&role);
    let id = SpiffeId { trust_domain: ca.trust_domain().clone(), role };
    let chain = ca
        .issue(&key.csr_der(), &id, lifetime, now_ms)
        .or_fail(|| "the administrator's certificate cannot be issued".to_owned())?;
    let credentials = Credentials::new(chain, &key)
        .or_fail(|| "the administrator's certificate cannot be used".to_owned())?;
    write(&directory.join("admin/admin.key"), credentials.key_pem().as_bytes(), MODE_SECRET)?;
    write(&directory.join("admin/admin.crt"), credentials.chain_pem().as_bytes(), MODE_PUBLIC)?;
    Ok(credentials)
}

fn add_context(
    args: &InitArgs,
    trust_domain: &TrustDomain,
    api: SocketAddr,
    directory: &Path,
    store: &Store,
) -> Outcome {
    let context = Context {
        site: Text(args.name.clone()),
        trust_domain: Text(trust_domain.clone()),
        api,
        certificate: directory.join("admin/admin.crt"),
        key: directory.join("admin/admin.key"),
        ca: directory.join("ca/ca.crt"),
        directory: Some(directory.to_owned()),
    };
    store.change(|contexts| {
        contexts.contexts.insert(args.name.to_string(), context);
        contexts.current.get_or_insert_with(|| args.name.to_string());
        Ok(())
    })
}

fn random() -> Result<[u8; 16], Failure> {
    use rustls::crypto::SecureRandom;
    let mut bytes = [0; 16];
    let provider = identity::provider();
    let random: &dyn SecureRandom = provider.secure_random;
    random.fill(&mut bytes).map_err(|_| Failure::new("the system gives no random numbers"))?;
    Ok(bytes)
}

fn text(made: &Made) -> String {
    let shown = std::env::current_dir()
        .ok()
        .and_then(|here| made.directory.strip_prefix(here).ok().map(|path| Path::new(".").join(path)))
        .unwrap_or_else(|| made.directory.clone());
    let shown = shown.display();
    let locality = if made.locality.is_empty() { "–" } else { &made.locality };
    let verb = if made.dry_run { "would make" } else { "made" };
    let mut lines = vec![
        format!("{verb} site {} · {locality} · trust domain {}", made.site, made.trust_domain),
        format!("  {shown}/  site.yaml, CA, uid, administrator's certificate"),
        format!("  context {} in {}", made.context, made.contexts_file.display()),
        String::new(),
    ];
    if made.dry_run {
        lines.push("nothing was made".to_owned());
    } else {
        lines.push(format!("next: meshfed site {shown}"));
    }
    lines.join("\n")
}
