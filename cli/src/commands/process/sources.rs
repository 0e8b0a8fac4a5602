//! The connectors that run beside a federation: services from the files that `site.yaml` names.

use api::resource::site::SiteSettings;
use connectors::connector::Input;
use connectors::files::{self, Place};
use federation_server::{Handle, SourceSender};
use model::ids::Label;
use runtime::shutdown::Shutdown;
use std::path::Path;
use tokio::sync::{mpsc, watch};

/// Events of one file that wait for the federation. A full queue holds its connector back.
const EVENTS_MAX: usize = 256;
/// Answers that wait for a connector; it takes them at once.
const INPUTS_MAX: usize = 256;

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
    for (name, file) in names(settings).into_iter().zip(&settings.services) {
        let source = federation.source(name).await?;
        let (inputs, inputs_receiver) = mpsc::channel(INPUTS_MAX);
        let (events_sender, events) = mpsc::channel(EVENTS_MAX);
        let (state, _) = watch::channel(Default::default());
        let (report, _) = watch::channel(Default::default());
        let connector = files::run(
            directory.join(file),
            place.clone(),
            (inputs_receiver, events_sender),
            (state, report),
            shutdown.token(),
        );
        tokio::spawn(connector);
        tokio::spawn(pass_on(source, inputs, events));
    }
    Ok(())
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
