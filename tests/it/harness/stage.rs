//! One simulated cluster for one scenario, watched by a group that scenarios share: what an API
//! server does wrong there, and what subscribers receive of it.

use std::{
    sync::{Arc, LazyLock, Weak},
    time::Duration,
};

use quorumwatch::{
    client::Begin,
    domain::{cluster::Resource, position::ResourceVersion},
    proto::v1::{Cluster, Filter, ResourceSelector},
    sim::{Fault, Faults, Fleet, FleetOptions, Manifest, SimCluster},
};
use serde_json::json;
use tokio::sync::Mutex;

use super::{
    group::{Group, Options},
    judge::expect_plain_requests,
    recorder::{Record, Recorder, position},
    wait::{PATIENCE, holds},
    world::described,
};

pub(crate) const EVENTS: &str = "v1/events";
pub(crate) const CONFIGMAPS: &str = "v1/configmaps";

/// Rings that hold next to nothing, so that who was away is served from the API server's history. No
/// connections are kept ready: requests are counted. More lines of `[watch]` may follow.
const CONFIG: &str = "[limits]\nring_bytes = 65536\n[watch]\nwarm_clusters = 0\n";

/// More than the rings of one stream hold: so many objects of so many bytes.
const FILLERS: usize = 100;
const FILLER_BYTES: usize = 1024;

/// How often a watch of anything but Events is sent a bookmark here.
const BOOKMARKS: Duration = Duration::from_millis(200);

/// The group that scenarios share, while any of them runs.
static SHARED: LazyLock<Mutex<Weak<Group>>> = LazyLock::new(Mutex::default);

async fn shared_group() -> Arc<Group> {
    let mut shared = SHARED.lock().await;
    if let Some(group) = shared.upgrade() {
        return group;
    }
    let config = CONFIG.to_owned();
    let group = Arc::new(Group::start_with(3, &Options { config }).await);
    *shared = Arc::downgrade(&group);
    group
}

/// What is watched.
pub(crate) struct StageOptions {
    pub(crate) resources: Vec<ResourceSelector>,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            resources: [EVENTS, CONFIGMAPS].map(selector).to_vec(),
        }
    }
}

impl StageOptions {
    /// One resource, all of it.
    pub(crate) fn one(resource: &str) -> Self {
        Self {
            resources: vec![selector(resource)],
        }
    }
}

/// A resource, all of it.
fn selector(resource: &str) -> ResourceSelector {
    ResourceSelector {
        resource: resource.to_owned(),
        ..ResourceSelector::default()
    }
}

/// A cluster that is watched.
pub(crate) struct Stage {
    pub(crate) group: Arc<Group>,
    pub(crate) cluster: SimCluster,
    pub(crate) fleet: Fleet,
    pub(super) name: String,
    /// How many streams are watched.
    streams: usize,
    /// Where it stood when its subscribers began: what is written from then on is judged.
    pub(super) from: ResourceVersion,
}

impl Stage {
    /// A cluster of this name with the Events and the ConfigMaps `kept`, `changed` and `gone`.
    pub(crate) async fn open(name: &str) -> Self {
        Self::open_with(name, StageOptions::default()).await
    }

    pub(crate) async fn open_with(name: &str, options: StageOptions) -> Self {
        Self::open_in(shared_group().await, name, options).await
    }

    /// The same in a group of its own, whose replicas may be killed.
    pub(crate) async fn open_alone(name: &str) -> Self {
        Self::open_configured(name, "").await
    }

    /// The same in a group of its own that compares every stream with a list as often as the
    /// configuration allows: 5 to 6 s after its beginning, then every 10 to 12 s.
    pub(crate) async fn open_audited(name: &str) -> Self {
        Self::open_configured(name, "audit_interval_ms = 10000\n").await
    }

    /// The same in a group of its own, with these lines after those of `[watch]`.
    async fn open_configured(name: &str, watch: &str) -> Self {
        let config = format!("{CONFIG}{watch}");
        let group = Group::start_with(3, &Options { config }).await;
        Self::open_in(Arc::new(group), name, StageOptions::default()).await
    }

    async fn open_in(group: Arc<Group>, name: &str, options: StageOptions) -> Self {
        let fleet = Fleet::start(FleetOptions {
            clusters: vec![name.to_owned()],
            bookmark_interval: BOOKMARKS,
            ..FleetOptions::default()
        });
        let fleet = fleet.await.unwrap();
        let cluster = fleet.cluster(name).expect("it is its only one");
        let mut stage = Self {
            group,
            from: cluster.current_rv(),
            cluster,
            fleet,
            name: name.to_owned(),
            streams: options.resources.len(),
        };
        for object in ["kept", "changed", "gone"] {
            stage.write(object);
        }
        stage.from = stage.cluster.current_rv();
        let mut watched: Vec<_> = options
            .resources
            .iter()
            .map(|it| it.resource.clone())
            .collect();
        watched.dedup();
        let registered = Cluster {
            resources: options.resources,
            ..described(&stage.fleet, name)
        };
        stage.group.client().create(registered).await.unwrap();
        for resource in &watched {
            stage.is_closed(resource, &stage.from).await;
        }
        stage
    }

    /// The switches of its API server.
    pub(crate) fn faults(&self) -> &Faults {
        self.cluster.faults()
    }

    /// Waits until the group has agreed that it has everything of a resource up to a version.
    pub(crate) async fn is_closed(&self, resource: &str, rv: &ResourceVersion) {
        let client = self.group.client();
        let what = format!("{resource} is watched up to {rv}");
        holds(&what, PATIENCE * 3, async || {
            let Ok(shard) = client.shard(&self.name).await else {
                return false;
            };
            let streams = shard.streams.iter();
            let mut streams = streams.filter(|it| it.resource == resource).peekable();
            streams.peek().is_some()
                && streams.all(|stream| {
                    let at = stream.checkpoint.as_ref();
                    at.is_some_and(|at| position(Some(at)).rv >= *rv)
                })
        })
        .await;
    }

    /// The replica that owns it.
    pub(crate) async fn owner(&self) -> usize {
        let shard = self.group.client().shard(&self.name).await.unwrap();
        self.group.index_of(&shard.owner)
    }

    /// Kills a replica of a group of its own.
    pub(crate) fn kill(&mut self, index: usize) {
        let group = Arc::get_mut(&mut self.group).expect("it is its own");
        group.replicas[index].kill();
    }

    /// Subscribes to this cluster alone, and waits until nothing is missing.
    pub(crate) async fn subscribe(&self, seat: usize, begin: Begin) -> Recorder {
        let endpoints = self.group.endpoints_from(seat);
        let recorder = Recorder::start_keeping(endpoints, self.filter(), begin);
        let is_current = |record: &Record| record.is_current;
        recorder.sees("it is current", PATIENCE, is_current).await;
        recorder
    }

    /// Comes back where `record` ended.
    pub(crate) fn resume(&self, record: Record, seat: usize) -> Recorder {
        Recorder::resume_with(record, self.group.endpoints_from(seat), self.filter())
    }

    pub(crate) fn filter(&self) -> Filter {
        Filter {
            clusters: vec![self.name.clone()],
            ..Filter::default()
        }
    }

    /// Creates an Event and a ConfigMap.
    pub(crate) fn write(&self, name: &str) {
        for resource in both() {
            self.cluster
                .create(&resource, &manifest(name, "new"))
                .unwrap();
        }
    }

    /// Changes both.
    pub(crate) fn change(&self, name: &str) {
        for resource in both() {
            let n = self.cluster.current_rv().to_string();
            self.cluster.update(&resource, &manifest(name, &n)).unwrap();
        }
    }

    /// Deletes both.
    pub(crate) fn delete(&self, name: &str) {
        for resource in both() {
            self.cluster.delete(&resource, "default", name).unwrap();
        }
    }

    /// What happens while nobody watches: one object is new, one is changed twice, one is gone, and
    /// one comes and goes.
    pub(crate) fn write_unseen(&self) {
        self.write("two");
        self.change("changed");
        self.write("brief");
        self.change("changed");
        self.delete("gone");
        self.delete("brief");
    }

    /// Writes more than rings hold.
    pub(crate) fn write_beyond_rings(&self) {
        let padding = "x".repeat(FILLER_BYTES);
        for n in 0..FILLERS {
            for resource in both() {
                let filler = manifest(&format!("filler-{n}"), &padding);
                self.cluster.create(&resource, &filler).unwrap();
            }
        }
    }

    /// Writes where nobody watches: the revision moves on, the streams do not.
    pub(crate) fn write_elsewhere(&self, name: &str) {
        let pods = "v1/pods".parse().unwrap();
        self.cluster.create(&pods, &manifest(name, "new")).unwrap();
    }

    /// The API server is gone while `then` happens, and every watch with it.
    pub(crate) async fn while_unreachable(&self, then: impl FnOnce(&Self)) {
        self.faults().set(Fault::Unreachable);
        holds("every watch has ended", PATIENCE, async || {
            self.cluster.open_watches() == 0
        })
        .await;
        then(self);
        self.faults().clear(Fault::Unreachable);
    }

    /// Whether an object of this name came in both resources, whatever happened to it.
    pub(crate) async fn sees(&self, recorder: &Recorder, name: &str) {
        self.sees_within(recorder, name, PATIENCE).await;
    }

    pub(crate) async fn sees_within(&self, recorder: &Recorder, name: &str, within: Duration) {
        let what = format!("{name} comes");
        let comes = |record: &Record| {
            let script = &record.kept().script;
            let has = |resource: &str| {
                let named = |words: &str| words.split(' ').nth(1) == Some(name);
                script
                    .iter()
                    .any(|(of, words)| of == resource && named(words))
            };
            assert_eq!(record.refusal, None);
            has(EVENTS) && has(CONFIGMAPS)
        };
        let came = tokio::time::timeout(within, recorder.sees(&what, within * 2, comes)).await;
        if came.is_err() {
            let record = recorder.record();
            panic!("{name} does not come: {:#?}", record.kept().script);
        }
    }

    /// Waits until the API server was asked so many times more.
    pub(crate) async fn is_asked(&self, times: u64) {
        let before = self.cluster.request_count();
        holds("the API server is asked again", PATIENCE, async || {
            self.cluster.request_count() >= before + times
        })
        .await;
    }

    /// Breaks every watch off, and waits until each stream's has been opened again. Readers that
    /// catch up have watches of their own, now and then.
    pub(crate) async fn reopens_its_watches(&self) {
        let before = self.cluster.watch_count();
        self.while_unreachable(|_| {}).await;
        let what = "the watches are opened again";
        holds(what, PATIENCE, async || {
            let opened = self.cluster.watch_count() - before;
            opened >= self.streams as u64 && self.cluster.open_watches() >= self.streams
        })
        .await;
    }

    /// Ends the scenario: the group forgets the cluster.
    pub(crate) async fn close(self) {
        expect_plain_requests(&self.cluster.requests());
        self.group.client().delete(&self.name).await.unwrap();
        self.fleet.stop().await;
    }
}

pub(super) fn both() -> [Resource; 2] {
    [EVENTS, CONFIGMAPS].map(|resource| resource.parse().unwrap())
}

fn manifest(name: &str, content: &str) -> Manifest {
    Manifest::new("default", name).member("data", &json!({"content": content}))
}
