//! The connectors that run beside a federation: services from the files that `site.yaml` names.

use api::resource::site::SiteSettings;
use connectors::connector::{Desired, Input, InstanceReport, SourceReport};
use connectors::files::{self, Place};
use connectors::watch::FileState;
use federation_server::{Handle, SourceSender, SourceTrouble, TroubleSender};
use model::ids::Label;
use runtime::shutdown::Shutdown;
use std::path::Path;
use tokio::sync::{mpsc, watch};

/// Events of one file that wait for the federation. A full queue holds its connector back.
const EVENTS_MAX: usize = 256;
/// Answers that wait for a connector; it takes them at once.
const INPUTS_MAX: usize = 256;
/// Most endpoints of one file whose trouble is told one by one.
const ENDPOINTS_TOLD_MAX: usize = 1_000;

/// Names of the connectors that these settings need, one for each file.
pub(super) fn names(settings: &SiteSettings) -> Vec<Label> {
    let name = |at: usize| if at == 0 { files::NAME.to_owned() } else { format!("{}-{at}", files::NAME) };
    (0..settings.services.len()).map(|at| name(at).parse().expect("a label")).collect()
}

/// Starts them; they end with the federation.
pub(super) async fn start(
    federation: &Handle,
    directory: &Path,
    settings: &SiteSettings,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    // All that a site dials directly is one network, and bears its name.
    let network = settings.site.as_str().parse().expect("a site name is a label");
    let place = Place { locality: settings.locality.clone(), network };
    let probes = connectors::metrics::probes();
    connectors::metrics::add(&federation.metrics, probes.clone())?;
    for (name, file) in names(settings).into_iter().zip(&settings.services) {
        let source = federation.source(name.clone()).await?;
        let (inputs, inputs_receiver) = mpsc::channel(INPUTS_MAX);
        let (events_sender, events) = mpsc::channel(EVENTS_MAX);
        let (state, states) = watch::channel(Default::default());
        let (report, reports) = watch::channel(Default::default());
        tokio::spawn(tell_troubles(federation.troubles(name.clone()), states, reports));
        let connector = files::run(
            directory.join(file),
            place.clone(),
            (inputs_receiver, events_sender),
            (state, report),
            probes.clone(),
            shutdown.token(),
        );
        tokio::spawn(connector);
        tokio::spawn(pass_on(source, inputs, events));
    }
    Ok(())
}

/// Tells the federation what is wrong with a file and with the endpoints in it, on each change.
async fn tell_troubles(
    sender: TroubleSender,
    mut states: watch::Receiver<FileState<Desired>>,
    mut reports: watch::Receiver<SourceReport>,
) {
    let mut told = SourceTrouble::default();
    loop {
        let now = trouble(&states.borrow_and_update(), &reports.borrow_and_update());
        if now != told {
            if sender.tell(now.clone()).await.is_err() {
                return;
            }
            told = now;
        }
        let changed = tokio::select! {
            changed = states.changed() => changed,
            changed = reports.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What is wrong now.
fn trouble(state: &FileState<Desired>, report: &SourceReport) -> SourceTrouble {
    let of = |why: fn(&InstanceReport) -> &Option<String>| {
        let told = report.instances.iter().filter_map(move |instance| {
            let why = why(instance).clone()?;
            Some(((instance.service.clone(), instance.endpoint.clone()), why))
        });
        told.take(ENDPOINTS_TOLD_MAX).collect()
    };
    SourceTrouble {
        file: state.problem.clone(),
        has_good: state.good.is_some() && state.problem.is_some(),
        refused: of(|instance| &instance.refused),
        failing: of(|instance| &instance.failure),
    }
}

/// Carries what a connector says to the federation, and the answers back.
async fn pass_on(
    mut source: SourceSender,
    inputs: mpsc::Sender<Input>,
    mut events: mpsc::Receiver<model::node::SourceEvent>,
) {
    if inputs.send(Input::Connected).await.is_err() {
        return;
    }
    while let Some(event) = events.recv().await {
        let refused = source.send(event.change).await.err().map(|error| error.to_string());
        if inputs.send(Input::Taken { sequence: event.sequence, refused }).await.is_err() {
            return;
        }
    }
}
