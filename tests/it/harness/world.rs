//! A group with simulated clusters under load: what most tests begin with.

use std::{collections::BTreeMap, time::Duration};

use quorumwatch::{
    domain::{cluster::Resource, position::ResourceVersion},
    proto::v1::{Cluster, ClusterSource, KubeconfigInline, cluster_source::Source},
    sim::{AuditReport, Fleet, FleetOptions, Ledger, Load, LoadOptions, SimCluster},
};

use super::{
    group::{Group, Options},
    recorder::{Record, Recorder},
    wait::PATIENCE,
};

/// What is simulated, and who watches it.
#[derive(Clone, Debug)]
pub(crate) struct WorldOptions {
    pub(crate) clusters: usize,
    pub(crate) replicas: usize,
    pub(crate) group: Options,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            clusters: 6,
            replicas: 3,
            group: Options::default(),
        }
    }
}

/// A group that watches simulated clusters.
pub(crate) struct World {
    pub(crate) group: Group,
    pub(crate) fleet: Fleet,
    load: Option<Load>,
    /// Where each cluster stood when the load began.
    from: BTreeMap<String, ResourceVersion>,
}

impl World {
    /// Three replicas watch the Events of six clusters.
    pub(crate) async fn start() -> Self {
        Self::start_with(WorldOptions::default()).await
    }

    /// Starts, and waits until every cluster is watched.
    pub(crate) async fn start_with(options: WorldOptions) -> Self {
        let world = Self::start_empty(options).await;
        for name in world.fleet.cluster_names() {
            world.monitor(&name).await;
        }
        world.group.owned(world.count()).await;
        world
    }

    /// Starts; no cluster is watched yet.
    pub(crate) async fn start_empty(options: WorldOptions) -> Self {
        let group = Group::start_with(options.replicas, &options.group).await;
        let fleet = Fleet::start(FleetOptions {
            clusters: (1..=options.clusters).map(|n| format!("sim-{n}")).collect(),
            ..FleetOptions::default()
        });
        Self {
            group,
            fleet: fleet.await.unwrap(),
            load: None,
            from: BTreeMap::new(),
        }
    }

    /// How many clusters there are.
    pub(crate) fn count(&self) -> usize {
        self.fleet.cluster_names().len()
    }

    pub(crate) fn cluster(&self, name: &str) -> SimCluster {
        self.fleet.cluster(name).expect("it is one of the fleet")
    }

    /// The registration of a cluster, whose Events are watched.
    pub(crate) fn described(&self, name: &str) -> Cluster {
        described(&self.fleet, name)
    }

    /// Registers a cluster.
    pub(crate) async fn monitor(&self, name: &str) {
        self.monitor_as(name, &[]).await;
    }

    /// The same with labels.
    pub(crate) async fn monitor_as(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter();
        let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let cluster = Cluster {
            labels: labels.collect(),
            ..self.described(name)
        };
        self.group.client().create(cluster).await.unwrap();
    }

    /// A subscriber to everything that stands in the present, served by `seat` first.
    pub(crate) async fn subscriber(&self, seat: usize) -> Recorder {
        let recorder = Recorder::all_from_now(self.group.endpoints_from(seat));
        recorder.covers(self.count()).await;
        recorder
    }

    /// Lets things happen; what happens from now on is judged.
    pub(crate) fn begin(&mut self, events_per_second: f64) {
        if self.from.is_empty() {
            for name in self.fleet.cluster_names() {
                self.from
                    .insert(name.clone(), self.cluster(&name).current_rv());
            }
        }
        self.load = Some(self.fleet.load(LoadOptions {
            events_per_second,
            resources: vec![Resource::events()],
            ..LoadOptions::default()
        }));
    }

    /// Ends what was begun.
    pub(crate) async fn end(&mut self) {
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
    }

    /// How much has happened since the load began.
    pub(crate) fn produced(&self) -> u64 {
        let since = |(name, from): (&String, &ResourceVersion)| {
            let now = self.cluster(name).current_rv().as_u64()?;
            now.checked_sub(from.as_u64()?)
        };
        self.from.iter().filter_map(since).sum()
    }

    /// Whether a subscriber has everything that has happened so far.
    pub(crate) fn is_complete(&self, record: &Record) -> bool {
        self.from.iter().all(|(name, from)| {
            let last = self.cluster(name).current_rv();
            *from == last || record.has_reached(name, &last)
        })
    }

    /// Ends the load, waits until the subscriber has the rest, and judges it.
    pub(crate) async fn judge(&mut self, recorder: &Recorder) -> AuditReport {
        self.end().await;
        let has_all = |record: &Record| self.is_complete(record);
        recorder
            .sees("the subscriber has everything", PATIENCE, has_all)
            .await;
        self.report(&recorder.record())
    }

    /// Compares with the truth.
    pub(crate) fn report(&self, record: &Record) -> AuditReport {
        let names = self.fleet.cluster_names();
        let ledgers: Vec<Ledger> = names
            .iter()
            .map(|name| self.cluster(name).ledger())
            .collect();
        record.audit.report(&ledgers, &self.from)
    }

    /// Judges: nothing lost, nothing twice, nothing out of order, not even a gap.
    pub(crate) async fn expect_exactly_once(&mut self, recorder: &Recorder) -> AuditReport {
        let report = self.judge(recorder).await;
        let record = recorder.record();
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(record.gaps, [], "{report:#?}");
        assert_eq!(record.not_after, 0, "{report:#?}");
        for (cluster, epochs) in &record.epochs {
            // A subscriber that comes back receives the past from the current owner, and then, from
            // the replica that serves, what an owner before it had read.
            let came_back = record.is_resumed || !record.interruptions.is_empty();
            assert!(
                came_back || epochs.is_sorted(),
                "{cluster}: an old owner came back: {epochs:?}"
            );
        }
        assert!(report.delivered > 0, "{report:#?}");
        report
    }

    /// Waits until so many more events than now were received.
    pub(crate) async fn flows(&self, recorder: &Recorder, events: u64) -> Duration {
        let before = recorder.record().delivered;
        let flows = |record: &Record| record.delivered >= before + events;
        recorder.sees("events flow", PATIENCE, flows).await
    }
}

/// The registration of a simulated cluster; its Events are watched.
pub(crate) fn described(fleet: &Fleet, name: &str) -> Cluster {
    registered(name, fleet.kubeconfig(name), name)
}

/// The registration of the cluster of a context.
pub(crate) fn registered(name: &str, yaml: String, context: &str) -> Cluster {
    let inline = KubeconfigInline {
        yaml,
        context: context.to_owned(),
    };
    Cluster {
        name: name.to_owned(),
        source: Some(ClusterSource {
            source: Some(Source::KubeconfigInline(inline)),
        }),
        ..Cluster::default()
    }
}
