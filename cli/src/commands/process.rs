//! The verbs that run a process: `site`, `federation`, `gateway`, `agent`, and the hidden `echo`.

mod node_file;
mod sources;

pub mod agent;
pub mod gateway;
pub mod site;

use crate::args::{EchoArgs, FederationArgs, LogFormat, ProcessArgs};
use crate::contexts::Store;
use crate::failure::{Failure, OrFail, Outcome};
use api::resource::Resource;
use api::resource::site::SiteSettings;
use runtime::metrics::Registry;
use runtime::shutdown::Shutdown;
use runtime::telemetry::Format;
use std::path::{Path, PathBuf};

/// All metrics that a process of any kind may have.
pub fn metric_specs() -> impl Iterator<Item = &'static runtime::metrics::Spec> {
    let of_parts = [runtime::metrics::PROCESS, node::metrics::SPECS, connectors::metrics::SPECS];
    of_parts.into_iter().flatten().copied().chain(federation_server::metric_specs())
}

/// Begins a process: logs, signals, and the parent's end where that counts.
fn begin(args: &ProcessArgs) -> Result<Shutdown, Failure> {
    let format = match args.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    runtime::telemetry::init(format, &args.log).map_err(|error| {
        let failure = Failure::caused("the logs cannot be set up", &error);
        Failure { code: crate::failure::USAGE, ..failure }
    })?;
    if args.clock_offset != 0 {
        runtime::clock::shift(args.clock_offset.saturating_mul(1_000));
        identity::tls::judge_by(runtime::clock::unix_ms);
    }
    signals(args.exit_with_parent)
}

fn signals(exit_with_parent: bool) -> Result<Shutdown, Failure> {
    let shutdown = Shutdown::on_signals().or_fail(|| "signals cannot be caught".to_owned())?;
    if exit_with_parent {
        let parent = shutdown.clone();
        // Standard input has no other use in these processes; it closes when the parent ends, however it ends.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            parent.begin();
        });
    }
    Ok(shutdown)
}

/// The directory of a site: given itself, or by the name of a context.
fn site_directory(word: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(word);
    if path.join("site.yaml").is_file() {
        return Ok(path.to_owned());
    }
    let contexts = Store::of_user()?.read()?;
    match contexts.contexts.get(word).and_then(|context| context.directory.clone()) {
        Some(directory) => Ok(directory),
        None => Err(Failure::usage(format!(
            "{word} is no site: it has no site.yaml, and no context has that name"
        ))
        .fix(format!("make it with `meshfed init {word}`, or name the directory that `init` made"))),
    }
}

/// Runs the built-in workload.
///
/// # Errors
/// The address is in use.
pub async fn echo(args: EchoArgs) -> Outcome {
    let shutdown = signals(args.exit_with_parent)?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .or_fail(|| format!("cannot listen on {}/tcp", args.listen))?;
    let identity = bench::echo::Identity { site: args.site, instance: args.instance };
    bench::echo::serve(listener, identity, shutdown.token()).await;
    Ok(())
}

/// Runs the federation of a site until it is asked to end.
///
/// # Errors
/// The directory is no site, or a port is taken.
pub async fn federation(args: &FederationArgs) -> Outcome {
    let directory = site_directory(&args.site)?;
    let settings = settings(&directory)?;
    let shutdown = begin(&args.process)?;
    let handle = start_federation(&directory, settings, None, &shutdown).await?;
    shutdown.begun().await;
    handle.ended().await;
    Ok(())
}

async fn start_federation(
    directory: &Path,
    settings: SiteSettings,
    metrics: Option<Registry>,
    shutdown: &Shutdown,
) -> Result<federation_server::Handle, Failure> {
    let mut options = federation_server::Options::new(directory.to_owned(), settings.clone());
    options.connectors = sources::names(&settings);
    options.metrics = metrics;
    let failed = |error: anyhow::Error| {
        process_failed(format!("the federation of {} does not start", settings.site), &error)
    };
    let handle = federation_server::run(options, shutdown.clone()).await.map_err(failed)?;
    sources::start(&handle, directory, &settings, shutdown).await.map_err(failed)?;
    Ok(handle)
}

/// The whole chain of an error, one cause a line.
fn process_failed(what: impl Into<String>, error: &anyhow::Error) -> Failure {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    Failure::new(what).seen(causes.join("\n"))
}

/// Reads `site.yaml`.
pub(super) fn settings(directory: &Path) -> Result<SiteSettings, Failure> {
    let path = directory.join("site.yaml");
    let name = path.display().to_string();
    let text =
        runtime::file::read_text(&path, api::yaml::FILE_MAX).or_fail(|| format!("{name} cannot be read"))?;
    let mut resources = api::resource::parse(&name, &text)?.into_iter();
    match (resources.next(), resources.next()) {
        (Some(Resource::Site(site)), None) => {
            site.settings().map_err(|problem| Failure::new(format!("{name}: {problem}")))
        }
        _ => Err(Failure::new(format!("{name} is not one resource of kind Site"))
            .fix("keep what `meshfed init` made; other resources belong into files of their own")),
    }
}
