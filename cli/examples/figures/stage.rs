//! Where a measurement takes place: a mesh of its own that ends with it.

use live::mesh::Mesh;
use meshfed::client::Client;
use meshfed::commands::trial::{Place, Started, failed, start_program};
use meshfed::contexts::Store;
use meshfed::failure::{Failure, OrFail};
use meshfed::output::Ui;
use runtime::shutdown::Shutdown;
use std::path::PathBuf;
use topologies::schema::Topology;

/// Where and with what a mesh is run.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Directory of its files, empty or new; none: a temporary one.
    pub dir: Option<PathBuf>,
    /// What is run under the name `meshfed`.
    pub program: PathBuf,
}

/// A mesh that runs.
pub struct Stage {
    /// It.
    pub mesh: Mesh,
    /// Its files.
    pub place: Place,
    shutdown: Shutdown,
}

impl Stage {
    /// Starts a topology.
    ///
    /// # Errors
    /// It does not start, or Ctrl-C was pressed.
    pub async fn start(topology: &Topology, setting: &Setting, ui: &Ui) -> Result<Self, Failure> {
        let shutdown = Shutdown::on_signals().or_fail(|| "signals cannot be caught".to_owned())?;
        let place = Place::take(setting.dir.as_deref(), "figures")?;
        let program = place.path.join("meshfed");
        std::os::unix::fs::symlink(&setting.program, &program)
            .or_fail(|| format!("{} cannot be made", program.display()))?;
        match start_program(&program, topology, &place, &shutdown, ui).await? {
            Started::Running(mesh) => Ok(Self { mesh: *mesh, place, shutdown }),
            Started::Interrupted => {
                place.remove();
                Err(Failure::new("stopped; every process is ended"))
            }
        }
    }

    /// Resolves when Ctrl-C was pressed.
    pub fn interrupted<T>(&self) -> impl Future<Output = Result<T, Failure>> + use<T> {
        let shutdown = self.shutdown.clone();
        async move {
            shutdown.begun().await;
            Err(Failure::new("stopped; every process is ended"))
        }
    }

    /// A client of the API of a site.
    ///
    /// # Errors
    /// The site has no context, or its certificate cannot be used.
    pub fn client(&self, site: &str) -> Result<Client, Failure> {
        let contexts = Store::at(self.mesh.contexts()).read()?;
        let (name, context) = contexts.find(Some(site))?;
        Client::new(name, context)
    }

    /// Ends everything. Logs are kept when the measurement failed, or where a directory was named.
    ///
    /// # Errors
    /// That of the measurement, with where the logs are.
    pub async fn end<T>(self, measured: Result<T, Failure>) -> Result<T, Failure> {
        self.mesh.end().await;
        match measured {
            Ok(numbers) => {
                self.place.remove();
                Ok(numbers)
            }
            Err(failure) => {
                Err(failure.fix(format!("the logs are kept in {}", self.place.path.join("logs").display())))
            }
        }
    }

    /// Words for an error of the mesh.
    pub fn failed(&self, error: &live::mesh::MeshError) -> Failure {
        failed(error, &self.place)
    }
}
