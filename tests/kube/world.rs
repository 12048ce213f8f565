//! Real clusters, and a group of replicas that watches them.

use std::{path::PathBuf, time::Duration};

use futures::future::join_all;
use quorumwatch::proto::v1::ClusterCondition;

use crate::{
    condition::eventually,
    control_plane::{ControlPlane, EtcdWatch, Options},
    group,
    judge::{Report, judge},
    kind::Kind,
    recorder::{Frames, Recorder},
    replicas::Replicas,
    rest::{Rest, key_of},
    subscriber::{MARK, Record, Seen, Stream, Subscriber},
    truth::Truth,
    writer::Ledger,
};

/// For the group to be whole again after a death, or a cluster to be watched. Takeovers take less
/// than a second; the rest is for a machine with more to do than cores.
pub(crate) const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// For events to arrive, be it after the longest pause between two attempts to reach a cluster.
pub(crate) const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// One real cluster, with everything that is known of it without quorumwatch.
pub(crate) struct Cluster {
    pub(crate) control_plane: ControlPlane,
    pub(crate) etcd: EtcdWatch,
    pub(crate) kinds: Vec<Kind>,
    recorders: Vec<Recorder>,
}

/// Everything; dropped in this order.
pub(crate) struct World {
    pub(crate) replicas: Replicas,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) folder: Folder,
}

/// A folder that stays behind after a panic.
pub(crate) struct Folder(Option<tempfile::TempDir>);

impl Folder {
    fn create() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.as_ref().unwrap().path().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.0.take()
        {
            eprintln!("== everything is kept in {}", folder.keep().display());
        }
    }
}

impl Cluster {
    async fn start(folder: PathBuf, name: String, options: Options, kinds: Vec<Kind>) -> Self {
        let control_plane = ControlPlane::start(&folder, &name, options).await.unwrap();
        let rest = Rest(control_plane.client());
        if kinds.contains(&Kind::Widget) {
            rest.define_widgets().await;
        }
        let begun = kinds
            .iter()
            .map(|kind| Recorder::start(rest.clone(), *kind));
        Self {
            etcd: control_plane.etcd_watch().unwrap(),
            recorders: join_all(begun).await,
            control_plane,
            kinds,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.control_plane.name()
    }

    pub(crate) fn rest(&self) -> Rest {
        Rest(self.control_plane.client())
    }

    pub(crate) fn stream(&self, kind: Kind) -> Stream {
        (self.name().to_owned(), kind)
    }

    pub(crate) fn streams(&self) -> Vec<Stream> {
        self.kinds.iter().map(|kind| self.stream(*kind)).collect()
    }

    /// Writes one object of each kind by which the end of what was written before is known.
    pub(crate) async fn mark(&self, mark: &str) {
        for kind in &self.kinds {
            let name = format!("{MARK}{mark}");
            self.rest().create(*kind, &name, "mark").await.unwrap();
        }
    }

    /// What was committed of a kind up to a mark, once etcd has told it.
    pub(crate) async fn truth(&self, kind: Kind, mark: &str) -> Truth {
        let key = key_of(&format!("{MARK}{mark}"));
        eventually(
            "etcd's watch tells of the mark",
            ARRIVES_WITHIN,
            async || {
                let truth = Truth::of(&self.etcd, kind);
                let end = truth.created(&key)?;
                Some(truth.up_to(end))
            },
        )
        .await
    }

    pub(crate) async fn frames(&self, kind: Kind) -> Frames {
        let index = self.kinds.iter().position(|other| *other == kind).unwrap();
        self.recorders[index].frames().await
    }

    /// Judges every stream of this cluster up to a mark.
    pub(crate) async fn judge(&self, record: &Record, ledger: &Ledger, mark: &str) -> Report {
        let mut report = Report::default();
        for kind in &self.kinds {
            let stream = self.stream(*kind);
            let truth = self.truth(*kind, mark).await;
            for problem in ledger.missing_in(*kind, &truth) {
                report.wrong(problem);
            }
            let end = truth.facts().last().unwrap().rv;
            self.compare_with_list(*kind, &truth, end).await;
            let seen = seen_up_to(&record.streams[&stream], end);
            for problem in wrong_uids(seen, ledger, *kind) {
                report.wrong(problem);
            }
            let frames = self.frames(*kind).await;
            let name = format!("{} {}", stream.0, kind.resource());
            report.add(judge(name, seen, &truth, &frames));
        }
        report
    }

    /// The API server says the same of that moment as etcd does.
    async fn compare_with_list(&self, kind: Kind, truth: &Truth, rv: u64) {
        let list = self.rest().list(kind, Some(rv)).await.unwrap();
        let listed = list.items.into_iter().map(|(key, rv, _)| (key, rv));
        let listed = listed.collect();
        assert_eq!(truth.objects_at(rv), listed, "{} {kind:?}", self.name());
    }
}

/// What came up to a version: the mark itself is the last.
fn seen_up_to(seen: &[Seen], rv: u64) -> &[Seen] {
    let after = |seen: &Seen| match seen {
        Seen::Event(event) => event.position.rv > rv.into(),
        Seen::Gap(_) | Seen::Synced(_) => false,
    };
    let end = seen.iter().position(after).unwrap_or(seen.len());
    &seen[..end]
}

fn wrong_uids(seen: &[Seen], ledger: &Ledger, kind: Kind) -> Vec<String> {
    let uids = ledger.uids(kind);
    let wrong = seen.iter().filter_map(|seen| match seen {
        Seen::Event(event) => {
            let uid = uids.get(&event.key)?;
            (*uid != event.uid).then(|| format!("the UID is not {uid}: {event:?}"))
        }
        Seen::Gap(_) | Seen::Synced(_) => None,
    });
    wrong.collect()
}

impl World {
    /// Starts clusters `k0`, `k1` and so on, one for each of `options`, and a group that watches
    /// these kinds in all of them.
    pub(crate) async fn start(options: Vec<Options>, kinds: &[Kind], flags: &[&str]) -> Self {
        let folder = Folder::create();
        let starting = options.into_iter().enumerate().map(|(index, options)| {
            let kinds = kinds.to_vec();
            Cluster::start(folder.path(), format!("k{index}"), options, kinds)
        });
        let clusters = join_all(starting).await;
        let mut flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--kubeconfig-dir={}", folder.path().display()));
        let world = Self {
            replicas: Replicas::start(&folder.path(), flags),
            clusters,
            folder,
        };
        world.leader().await;
        for cluster in &world.clusters {
            let kubeconfig = cluster.control_plane.kubeconfig_path();
            world
                .create(cluster.name(), &kubeconfig, &cluster.kinds)
                .await;
        }
        for cluster in &world.clusters {
            world
                .wait_health(cluster.name(), ClusterCondition::Connected)
                .await;
        }
        world
    }

    /// Has a cluster monitored.
    pub(crate) async fn create(&self, name: &str, kubeconfig: &std::path::Path, kinds: &[Kind]) {
        let kubeconfig = kubeconfig.to_str().unwrap();
        eventually("the group takes a cluster", WHOLE_WITHIN, async || {
            let endpoints = self.replicas.any();
            let created = group::create(&endpoints, name, kubeconfig, kinds).await;
            created.then_some(())
        })
        .await;
    }

    /// The leader of all that run.
    pub(crate) async fn leader(&self) -> String {
        eventually("the group is healthy", WHOLE_WITHIN, async || {
            group::agreed_leader(&self.replicas).await
        })
        .await
    }

    /// The owner of a cluster's shard.
    pub(crate) async fn owner(&self, cluster: &str) -> String {
        eventually("the shard has an owner", WHOLE_WITHIN, async || {
            let shard = group::shard(&self.replicas.any(), cluster).await?;
            (!shard.owner.is_empty()).then_some(shard.owner)
        })
        .await
    }

    /// Waits until a cluster fares so; gives the reason.
    pub(crate) async fn wait_health(&self, cluster: &str, wanted: ClusterCondition) -> String {
        let what = format!("{cluster} is {wanted:?}");
        eventually(&what, WHOLE_WITHIN, async || {
            let (condition, reason) = group::health(&self.replicas.any(), cluster).await?;
            (condition == wanted).then_some(reason)
        })
        .await
    }

    /// A subscriber at a replica that has told it everything that exists.
    pub(crate) async fn subscriber(&self, replica: &str) -> Subscriber {
        let mut subscriber = Subscriber::start(self.replicas.endpoints(replica));
        let streams = self.streams();
        subscriber
            .wait("every stream is synced", ARRIVES_WITHIN, |record| {
                record.synced.len() == streams.len()
            })
            .await;
        subscriber
    }

    pub(crate) fn streams(&self) -> Vec<Stream> {
        self.clusters.iter().flat_map(Cluster::streams).collect()
    }

    /// Marks every stream, and waits until the subscriber has seen it everywhere.
    pub(crate) async fn mark(&self, subscriber: &mut Subscriber, mark: &str) {
        for cluster in &self.clusters {
            cluster.mark(mark).await;
        }
        let streams = self.streams();
        let name = format!("{MARK}{mark}");
        subscriber
            .wait("the marks arrive", ARRIVES_WITHIN, |record| {
                record.has_marks(&streams, &name)
            })
            .await;
    }
}
