//! What a federation does when its store cannot be written, is slow, or is one from earlier.

use crate::links::{accept, invite, linked};
use crate::one_site::{direct, files, import};
use crate::support::{Node, Roads, Site, eventually};
use api::rest::change::ChangeReply;
use api::rest::event::EventList;
use api::rest::service::ServiceList;
use api::rest::site::SiteView;
use api::rest::status::{Finding, StatusView};
use federation_server::SourceSender;
use federation_server::store::{Backup, FileStore, Loaded, Store, StoreError, WriteBatch};
use hyper::Method;
use identity::key::NodeKey;
use model::config::{ConfigKey, ConfigValue};
use model::node::{NodeKind, NodeMessage, SourceChange};
use runtime::file::Trouble;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fault {
    /// Writes fail with this error number.
    pub error: Option<i32>,
    /// Writes take so long.
    pub delay: Duration,
}

/// The fault of a store, which the test changes.
pub type Faults = Arc<Mutex<Fault>>;

/// The file of the site directory, on a disk that has a fault.
#[derive(Debug)]
pub struct FaultyStore {
    file: FileStore,
    faults: Faults,
}

impl FaultyStore {
    pub fn open(path: &Path, faults: &Faults) -> Result<Self, StoreError> {
        Ok(Self { file: FileStore::open(path)?, faults: faults.clone() })
    }
}

impl Store for FaultyStore {
    fn kind(&self) -> &'static str {
        "faulty"
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.file.load()
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        let fault = *self.faults.lock().expect("fine");
        if batch.is_empty() {
            return self.file.write(batch);
        }
        std::thread::sleep(fault.delay);
        if let Some(number) = fault.error {
            let source = std::io::Error::from_raw_os_error(number);
            let (path, trouble) = ("/faulty/store.redb".into(), Trouble::of(&source));
            return Err(StoreError::Write { path, trouble, source: Box::new(source) });
        }
        self.file.write(batch)
    }

    fn backup(&mut self) -> Result<Backup, StoreError> {
        self.file.backup()
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }
}

fn set(faults: &Faults, error: Option<i32>, delay: Duration) {
    *faults.lock().expect("fine") = Fault { error, delay };
}

const ENOSPC: i32 = 28;

async fn store_finding(site: &Site) -> Option<Finding> {
    let status: StatusView = site.get("/v1/status").await;
    status.findings.into_iter().find(|finding| finding.subject == "store")
}

async fn events(site: &Site) -> Vec<String> {
    let list: EventList = site.get("/v1/events?after=0").await;
    list.events.iter().map(|event| format!("{}: {} ({})", event.subject, event.what, event.why)).collect()
}

#[tokio::test]
async fn a_full_disk_holds_changes_back_serves_what_there_is_and_goes_on_by_itself() {
    let faults = Faults::default();
    let site = Site::start_on("east", &Roads::default(), &faults).await;
    let mut gateway = site.gateway("gw-0", &[]).await;
    let mut source = files(&site, vec![direct("shop/cart", "a")]).await;
    import(&mut gateway, "shop/cart", |import| import.groups.iter().any(|group| group.total == 1)).await;

    set(&faults, Some(ENOSPC), Duration::ZERO);
    // What a person asks for is refused, with the cause and the way out, and is not there.
    let error = site.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/cart", &()).await.expect_err("full");
    for says in
        ["nothing was changed", "no space is left on its disk", "free some space; then run this again"]
    {
        assert!(error.contains(says), "{error}");
    }
    // What happens by itself is held back.
    source.send(SourceChange::Apply(direct("shop/cart", "b"))).await.expect("taken");
    let finding = eventually("a finding", || store_finding(&site)).await;
    assert!(finding.why.contains("no space is left on its disk"), "{finding:?}");
    assert!(finding.next.contains("it goes on by itself then, without a restart"), "{finding:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    import(&mut gateway, "shop/cart", |import| import.groups.iter().all(|group| group.total == 1)).await;
    // Everything is still answered, and config still served to those who come.
    let list: ServiceList = site.get("/v1/services").await;
    assert_eq!(list.services.len(), 1);
    assert!(events(&site).await.iter().any(|event| event.contains("changes are held back")));

    set(&faults, None, Duration::ZERO);
    import(&mut gateway, "shop/cart", |import| import.groups.iter().any(|group| group.total == 2)).await;
    assert_eq!(store_finding(&site).await, None);
    assert!(events(&site).await.iter().any(|event| event.contains("can be written again")));
    site.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/cart", &()).await.expect("exports");
}

#[tokio::test]
async fn what_waited_for_the_disk_does_not_overwrite_what_was_acknowledged_since() {
    let faults = Faults::default();
    let site = Site::start_on("east", &Roads::default(), &faults).await;
    let gateway = site.gateway("gw-0", &[]).await;
    set(&faults, Some(ENOSPC), Duration::ZERO);
    // The gateway says another address over its stream: that waits.
    let older = "127.0.0.1:4431".parse().expect("valid");
    let key = NodeKey::generate().expect("a key");
    drop(gateway);
    let joined = {
        set(&faults, None, Duration::ZERO);
        let joined = site
            .handle
            .join_gateway("gw-0".parse().expect("valid"), key.csr_der(), None)
            .await
            .expect("joins");
        set(&faults, Some(ENOSPC), Duration::ZERO);
        joined
    };
    let credentials = identity::credentials::Credentials::new(joined.chain, &key).expect("fits");
    let live = identity::live::LiveCredentials::new(credentials);
    let _gateway = Node::connect(&site, live, NodeKind::Gateway, Some(older)).await;
    eventually("it waits", || store_finding(&site)).await;
    // The disk is well; before what waits is tried again, a newer address is acknowledged.
    set(&faults, None, Duration::ZERO);
    let newer = "127.0.0.1:4432".parse().expect("valid");
    let key = NodeKey::generate().expect("a key");
    site.handle
        .join_gateway("gw-0".parse().expect("valid"), key.csr_der(), Some(newer))
        .await
        .expect("joins");
    eventually("nothing waits", || async { store_finding(&site).await.is_none().then_some(()) }).await;
    let site = site.restart().await;
    let view: SiteView = site.get("/v1/site").await;
    assert_eq!(view.gateways[0].address, newer.to_string(), "an older value came back");
}

/// Two linked sites, of which east keeps its state on a disk that can be made to fail, and has a service in west.
struct Pair {
    east: Site,
    west: Site,
    east_gateway: Node,
    west_gateway: Node,
    source: SourceSender,
    /// What west's gateway had been told by then.
    updates: usize,
}

impl Pair {
    async fn start(faults: &Faults) -> Self {
        let roads = Roads::default();
        let (east, west) = (Site::start_on("east", &roads, faults).await, Site::start("west", &roads).await);
        let east_gateway = east.gateway("gw-0", &["west"]).await;
        let mut west_gateway = west.gateway("gw-0", &["east"]).await;
        let all = json!({"all": true});
        accept(&west, &invite(&east, json!({"offer": all, "accept": all})).await).await.expect("links");
        linked(&west, "east", "connected").await;
        let source = files(&east, vec![direct("shop/cart", "a")]).await;
        east.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/cart", &()).await.expect("exports");
        import(&mut west_gateway, "shop/cart", |import| import.groups.iter().any(|group| group.total == 1))
            .await;
        let updates = west_gateway.updates.borrow().len();
        Self { east, west, east_gateway, west_gateway, source, updates }
    }
}

#[tokio::test]
async fn a_full_disk_cuts_no_session_and_withdraws_nothing() {
    let faults = Faults::default();
    let Pair { east, west, east_gateway: _east_gateway, mut west_gateway, mut source, updates } =
        Pair::start(&faults).await;

    set(&faults, Some(ENOSPC), Duration::ZERO);
    source.send(SourceChange::Apply(direct("shop/cart", "b"))).await.expect("taken");
    eventually("a finding", || store_finding(&east)).await;
    // Longer than a silent session is kept.
    tokio::time::sleep(Duration::from_secs(17)).await;
    let status: StatusView = west.get("/v1/status").await;
    assert!(status.peers[0].catalog.live, "{status:?}");
    let seen = events(&west).await;
    assert!(!seen.iter().any(|event| event.contains("session is closed")), "{seen:?}");
    set(&faults, None, Duration::ZERO);
    import(&mut west_gateway, "shop/cart", |import| import.groups.iter().any(|group| group.total == 2)).await;
    never_without(&west_gateway, "shop/cart", "east", updates);
}

/// Asserts that a gateway was never told, from an update on, that a service has no endpoints in a site.
fn never_without(gateway: &Node, service: &str, site: &str, from: usize) {
    let key = ConfigKey::Service(service.parse().expect("valid"));
    for update in &gateway.updates.borrow()[from..] {
        for entry in update.entries.iter().filter(|entry| entry.key == key) {
            let Some(ConfigValue::Service(import)) = &entry.value else { panic!("withdrawn: {update:?}") };
            let there = import.groups.iter().any(|group| group.id.site.as_str() == site && group.total > 0);
            assert!(there, "without endpoints: {update:?}");
        }
    }
}

/// For a person who reads the output; it asserts that nothing is cut or withdrawn, not how fast it is.
#[tokio::test]
async fn a_slow_disk_delays_changes_and_cuts_no_session() {
    let faults = Faults::default();
    let Pair { east, west, east_gateway, mut west_gateway, mut source, updates } = Pair::start(&faults).await;
    let mut weight = 1;
    for delay in [0, 200, 1_000, 2_000].map(Duration::from_millis) {
        set(&faults, None, delay);
        let (mut routed, mut answered) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..2 {
            weight += 1;
            let mut instance = direct("shop/cart", "a");
            instance.endpoint.weight = weight;
            let capacity = u64::from(instance.endpoint.weight);
            let began = Instant::now();
            source.send(SourceChange::Apply(instance)).await.expect("taken");
            east_gateway.say(NodeMessage::Streams { open: Vec::new() }).await;
            let asked = async {
                let began = Instant::now();
                east.get::<StatusView>("/v1/status").await;
                began.elapsed()
            };
            let seen = import(&mut west_gateway, "shop/cart", |import| {
                import.groups.iter().any(|group| group.capacity == capacity)
            });
            let (_, status) = tokio::join!(seen, asked);
            routed = routed.max(began.elapsed());
            answered = answered.max(status);
        }
        println!(
            "commits of {delay:?}: a change was routed after {routed:?}, status answered after {answered:?}"
        );
    }
    set(&faults, None, Duration::ZERO);
    let seen = events(&west).await;
    assert!(!seen.iter().any(|event| event.contains("session is closed")), "{seen:?}");
    never_without(&west_gateway, "shop/cart", "east", updates);
}

#[tokio::test]
async fn a_restored_backup_withdraws_nothing_that_is_there_and_an_event_says_so() {
    let roads = Roads::default();
    let (east, west) = (Site::start("east", &roads).await, Site::start("west", &roads).await);
    let east_gateway = east.gateway("gw-0", &["west"]).await;
    let mut west_gateway = west.gateway("gw-0", &["east"]).await;
    let all = json!({"all": true});
    accept(&west, &invite(&east, json!({"offer": all, "accept": all})).await).await.expect("links");
    let mut source = files(&east, vec![direct("shop/cart", "a")]).await;
    east.ask::<ChangeReply>(Method::PUT, "/v1/exports/shop/cart", &()).await.expect("exports");
    import(&mut west_gateway, "shop/cart", |import| import.groups.iter().any(|group| group.total == 1)).await;

    let (status, backup) = east.request(Method::GET, "/v1/backup", Vec::new()).await;
    assert_eq!(status, 200, "{backup:?}");
    // The site goes on, and its peer hears of it.
    for id in ["b", "c"] {
        source.send(SourceChange::Apply(direct("shop/cart", id))).await.expect("taken");
    }
    import(&mut west_gateway, "shop/cart", |import| import.groups.iter().any(|group| group.total == 3)).await;
    let before: SiteView = east.get("/v1/site").await;
    let updates = west_gateway.updates.borrow().len();

    drop((source, east_gateway));
    let east = east
        .restart_after(|folder| std::fs::write(folder.join("store.redb"), &backup).expect("restored"))
        .await;
    let _east_gateway = east.gateway("gw-0", &["west"]).await;
    linked(&west, "east", "connected").await;
    // Its sources have not spoken yet, so it says nothing of what is gone.
    tokio::time::sleep(Duration::from_millis(500)).await;
    never_without(&west_gateway, "shop/cart", "east", updates);
    let _source = files(&east, ["a", "b", "c"].map(|id| direct("shop/cart", id)).into()).await;
    let seen = eventually("an event", || async {
        events(&east).await.into_iter().find(|event| event.contains("catalog begins epoch"))
    })
    .await;
    println!("{seen}");
    let after: SiteView = east.get("/v1/site").await;
    assert!(after.epoch > before.epoch, "{after:?}");
    // A change that is made now arrives, so the peer follows the new epoch.
    let instances = ["a", "b", "c", "d"].map(|id| direct("shop/cart", id));
    drop(_source);
    let _source = files(&east, instances.into()).await;
    import(&mut west_gateway, "shop/cart", |import| import.groups.iter().any(|group| group.total == 4)).await;
    never_without(&west_gateway, "shop/cart", "east", updates);
}
