//! Real clusters, and a group of replicas that watches them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use quorumwatch::proto::v1::{self, ClusterCondition};

use crate::{
    condition::eventually,
    control_plane::{ControlPlane, EtcdWatch, Options},
    group,
    judge::judge,
    kind::Kind,
    record::{MARK, Record, Seen, Stream},
    recorder::{Recorded, Recorder},
    replicas::Replicas,
    report::Report,
    rest::{Rest, key_of},
    subscriber::Subscriber,
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

/// A directory that stays behind after a panic.
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
        Self {
            etcd: control_plane.etcd_watch().unwrap(),
            recorders: record(&rest, &kinds).await,
            control_plane,
            kinds,
        }
    }

    /// Goes back to a saved state of etcd; what is recorded begins again.
    pub(crate) async fn restore(&mut self, snapshot: &Path) {
        self.control_plane.etcd_restore(snapshot).await.unwrap();
        self.etcd = self.control_plane.etcd_watch().unwrap();
        self.recorders = record(&self.rest(), &self.kinds).await;
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

    /// What was committed of a kind up to a mark, once etcd has said it.
    pub(crate) async fn truth(&self, kind: Kind, mark: &str) -> Truth {
        let key = key_of(&format!("{MARK}{mark}"));
        eventually("etcd's watch has the mark", ARRIVES_WITHIN, async || {
            let truth = Truth::of(&self.etcd, kind);
            let end = truth.created(&key)?;
            Some(truth.up_to(end))
        })
        .await
    }

    pub(crate) async fn recorded(&self, kind: Kind) -> Recorded {
        let index = self.kinds.iter().position(|other| *other == kind).unwrap();
        self.recorders[index].recorded().await
    }

    /// Judges every stream of this cluster up to a mark.
    pub(crate) async fn judge(&self, record: &Record, ledger: &Ledger, mark: &str) -> Report {
        let mut report = Report::default();
        for kind in &self.kinds {
            let seen = record.seen(&self.stream(*kind));
            report.add(self.judge_stream(*kind, seen, ledger, mark).await);
        }
        report
    }

    /// Judges what came of one stream, up to a mark.
    pub(crate) async fn judge_stream(
        &self,
        kind: Kind,
        seen: &[Seen],
        ledger: &Ledger,
        mark: &str,
    ) -> Report {
        let mut report = Report::default();
        let truth = self.truth(kind, mark).await;
        for problem in ledger.missing_in(kind, &truth) {
            report.wrong(problem);
        }
        let end = truth.facts().last().unwrap().rv;
        self.compare_with_list(kind, &truth, end).await;
        let seen = seen_up_to(seen, end);
        for problem in wrong_uids(seen, ledger, kind) {
            report.wrong(problem);
        }
        let recorded = self.recorded(kind).await;
        let name = format!("{} {}", self.name(), kind.resource());
        report.add(judge(name, seen, &truth, &recorded));
        report
    }

    /// The last snapshot of a kind is what the API server lists now, byte for byte. Nothing may have
    /// been written since. Gives how many objects there are.
    pub(crate) async fn expect_snapshot(&self, kind: Kind, record: &Record) -> usize {
        let seen = record.seen(&self.stream(kind));
        let is_gap = |seen: &Seen| matches!(seen, Seen::Gap(_));
        let begin = seen.iter().rposition(is_gap).map_or(0, |gap| gap + 1);
        let objects: BTreeMap<_, _> = seen[begin..]
            .iter()
            .take_while(|seen| !matches!(seen, Seen::Synced(_)))
            .filter_map(|seen| match seen {
                Seen::Event(event) => Some((event.key.clone(), event.object.clone())),
                _ => None,
            })
            .collect();
        let list = self.rest().list(kind, None).await.unwrap();
        let listed: BTreeMap<_, _> = list
            .items
            .into_iter()
            .map(|(key, _, object)| (key, object.get().to_owned()))
            .collect();
        assert_eq!(
            objects.keys().collect::<Vec<_>>(),
            listed.keys().collect::<Vec<_>>()
        );
        for (key, object) in &objects {
            assert_eq!(*object, listed[key], "{key}");
        }
        objects.len()
    }

    /// The API server says the same of that moment as etcd does.
    async fn compare_with_list(&self, kind: Kind, truth: &Truth, rv: u64) {
        let list = self.rest().list(kind, Some(rv)).await.unwrap();
        let listed = list.items.into_iter().map(|(key, rv, _)| (key, rv));
        let listed = listed.collect();
        assert_eq!(truth.objects_at(rv), listed, "{} {kind:?}", self.name());
    }
}

async fn record(rest: &Rest, kinds: &[Kind]) -> Vec<Recorder> {
    let begun = kinds
        .iter()
        .map(|kind| Recorder::start(rest.clone(), *kind));
    join_all(begun).await
}

/// What came up to a version: the mark itself is the last.
fn seen_up_to(seen: &[Seen], rv: u64) -> &[Seen] {
    let after = |seen: &Seen| match seen {
        Seen::Event(event) => event.position.rv > rv.into(),
        _ => false,
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
        _ => None,
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
    pub(crate) async fn create(&self, name: &str, kubeconfig: &Path, kinds: &[Kind]) {
        self.register(group::cluster(name, kubeconfig, kinds)).await;
    }

    /// The same, with more to say about it.
    pub(crate) async fn register(&self, cluster: v1::Cluster) {
        eventually("the group takes a cluster", WHOLE_WITHIN, async || {
            let created = group::create(&self.replicas.any(), &cluster).await;
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
        self.other_owner(cluster, "").await
    }

    /// The owner of a cluster's shard, once it is another than this one.
    pub(crate) async fn other_owner(&self, cluster: &str, not: &str) -> String {
        eventually("the shard has an owner", WHOLE_WITHIN, async || {
            let shard = group::shard(&self.replicas.any(), cluster).await?;
            let has = !shard.owner.is_empty() && shard.owner != not;
            has.then_some(shard.owner)
        })
        .await
    }

    /// Waits until a cluster has this condition; returns the reason.
    pub(crate) async fn wait_health(&self, cluster: &str, wanted: ClusterCondition) -> String {
        let what = format!("{cluster} is {wanted:?}");
        eventually(&what, WHOLE_WITHIN, async || {
            let (condition, reason) = group::health(&self.replicas.any(), cluster).await?;
            (condition == wanted).then_some(reason)
        })
        .await
    }

    /// A subscriber at a replica that has sent it everything that exists.
    pub(crate) async fn subscriber(&self, replica: &str) -> Subscriber {
        let mut subscriber = Subscriber::start(self.replicas.endpoints(replica));
        let streams = self.streams();
        subscriber
            .wait("every stream is synced", ARRIVES_WITHIN, |record| {
                record.has_synced(&streams)
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
