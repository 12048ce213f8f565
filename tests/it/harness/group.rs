//! A group of replicas.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use quorumwatch::{
    client::Endpoints,
    domain::position::Position,
    proto::v1::{self, MemberHealth, Shard},
};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    client::Client,
    recorder::position,
    replica::Replica,
    wait::{PATIENCE, eventually, holds},
};

/// Groups that run at once: times are measured, and the machine is shared.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(1));

/// Lines of a log that are shown when a test fails.
const LOG_LINES: usize = 40;

/// The configuration of a group's replicas besides their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// TOML for every replica.
    pub(crate) config: String,
}

/// Replicas `a`, `b`, `c`, … Dropping it kills them.
pub(crate) struct Group {
    pub(crate) replicas: Vec<Replica>,
    folder: Option<TempDir>,
    _turn: SemaphorePermit<'static>,
}

impl Group {
    /// Starts `count` replicas and waits until they are one healthy group.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, &Options::default()).await
    }

    /// The same, with configuration.
    pub(crate) async fn start_with(count: usize, options: &Options) -> Self {
        let mut group = Self::prepare(count, options).await;
        for index in 0..count {
            group.launch(index);
        }
        group.whole().await;
        group
    }

    /// Replicas that do not run yet.
    pub(crate) async fn prepare(count: usize, options: &Options) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
        let mut group = Self {
            replicas: Vec::new(),
            folder: Some(folder),
            _turn: turn,
        };
        group.add(count, options);
        group
    }

    fn add(&mut self, count: usize, options: &Options) {
        let folder = self.folder.as_ref().expect("it is not dropped").path();
        let names = ["a", "b", "c", "d", "e"];
        let replicas = names[..count].iter();
        self.replicas = replicas
            .map(|name| Replica::new(name, folder, &options.config))
            .collect();
    }

    /// What `--peers` says.
    pub(crate) fn peers(&self) -> String {
        let peers: Vec<_> = self.replicas.iter().map(Replica::peer_flag).collect();
        peers.join(",")
    }

    /// Starts a replica that does not run.
    pub(crate) fn launch(&mut self, index: usize) {
        let peers = self.peers();
        self.replicas[index].launch(&peers);
    }

    /// The endpoints, that of `first` first.
    pub(crate) fn endpoints_from(&self, first: usize) -> Endpoints {
        let count = self.replicas.len();
        let mut turns = (0..count).map(|turn| self.replicas[(first + turn) % count].endpoint());
        Endpoints::new(turns.next().expect("a group has replicas"), turns)
    }

    pub(crate) fn index_of(&self, name: &str) -> usize {
        let named = |replica: &Replica| replica.name == name;
        self.replicas
            .iter()
            .position(named)
            .expect("it is one of them")
    }

    /// A client of some replica that is up.
    pub(crate) fn client(&self) -> Client {
        let up = self.replicas.iter().find(|replica| replica.is_up());
        up.expect("one is up").client()
    }

    /// A client of some replica that is up and is not this one.
    pub(crate) fn client_besides(&self, index: usize) -> Client {
        let mut others = self.replicas.iter().enumerate();
        let up = others.find(|(other, replica)| *other != index && replica.is_up());
        up.expect("one is up").1.client()
    }

    /// Waits until every replica that is up agrees on a leader and sees all of them healthy.
    pub(crate) async fn whole(&mut self) {
        let wanted = self
            .replicas
            .iter()
            .filter(|replica| replica.is_up())
            .count();
        holds(
            "the replicas form one healthy group",
            PATIENCE,
            async || {
                let up = self.replicas.iter().filter(|replica| replica.is_up());
                let clients: Vec<_> = up.map(Replica::client).collect();
                for client in clients {
                    let Ok(group) = client.group().await else {
                        return false;
                    };
                    let healthy = |member: &&_| is_healthy(member);
                    if group.leader.is_empty()
                        || group.members.iter().filter(healthy).count() < wanted
                    {
                        return false;
                    }
                }
                true
            },
        )
        .await;
    }

    /// The leader, as soon as there is one that is up.
    pub(crate) async fn leader(&self) -> usize {
        let (leader, _) = eventually("the group has a leader", PATIENCE, async || {
            let group = self.client().group().await.ok()?;
            let leader = |replica: &Replica| replica.name == group.leader && replica.is_up();
            self.replicas.iter().position(leader)
        })
        .await;
        leader
    }

    /// A replica that owns a shard and does not lead.
    pub(crate) async fn owner_besides_leader(&self) -> usize {
        let leader = self.replicas[self.leader().await].name.clone();
        let (owner, _) = eventually("a follower owns a shard", PATIENCE, async || {
            let shards = self.client().shards().await.ok()?;
            let owners = shards.into_iter().map(|shard| shard.owner);
            let mut followers = owners.filter(|owner| !owner.is_empty() && *owner != leader);
            followers.next()
        })
        .await;
        self.index_of(&owner)
    }

    /// Waits until every one of `count` shards has an owner that has reached its cluster.
    pub(crate) async fn owned(&self, count: usize) -> Vec<Shard> {
        let (shards, _) = eventually("every shard is watched", PATIENCE, async || {
            let shards = self.client().shards().await.ok()?;
            let watched = |shard: &Shard| {
                let mut streams = shard.streams.iter();
                !shard.owner.is_empty() && streams.all(|stream| stream.checkpoint.is_some())
            };
            (shards.len() == count && shards.iter().all(watched)).then_some(shards)
        })
        .await;
        shards
    }

    /// Waits until every shard is owned by one of those that are up, asking `client`.
    pub(crate) async fn owned_by_the_living(
        &self,
        client: &Client,
        count: usize,
        within: Duration,
    ) -> Duration {
        let up = self.replicas.iter().filter(|replica| replica.is_up());
        let up: Vec<_> = up.map(|replica| replica.name.clone()).collect();
        holds("every shard has a living owner", within, async || {
            let shards = client.shards().await.unwrap_or_default();
            shards.len() == count && shards.iter().all(|shard| up.contains(&shard.owner))
        })
        .await
    }
}

pub(crate) fn is_healthy(member: &v1::Member) -> bool {
    member.health() == MemberHealth::Active
}

/// Who leads, and who is there: what must survive a restart.
pub(crate) fn member_ids(group: &v1::Group) -> Vec<(String, String)> {
    let members = group.members.iter();
    members
        .map(|member| (member.name.clone(), member.replica_id.clone()))
        .collect()
}

/// Of each shard its epoch, and of each of its streams the checkpoint: what never goes back.
pub(crate) type ShardProgress = BTreeMap<String, (u64, BTreeMap<String, Position>)>;

/// What came of each shard so far.
pub(crate) fn progress_of(shards: &[Shard]) -> ShardProgress {
    let checkpoints = |shard: &Shard| {
        let streams = shard.streams.iter();
        let streams = streams.filter(|stream| stream.checkpoint.is_some());
        streams
            .map(|stream| {
                let checkpoint = position(stream.checkpoint.as_ref());
                assert!(checkpoint.is_closed(), "{stream:?}");
                (stream.stream.clone(), checkpoint)
            })
            .collect()
    };
    let progress = |shard: &Shard| (shard.name.clone(), (shard.epoch, checkpoints(shard)));
    shards.iter().map(progress).collect()
}

/// Every shard is still there, no epoch is smaller, and no checkpoint is earlier.
pub(crate) fn expect_no_way_back(before: &ShardProgress, after: &ShardProgress) {
    for (id, (epoch, checkpoints)) in before {
        let (epoch_after, checkpoints_after) = &after[id];
        assert!(
            epoch_after >= epoch,
            "{id}: epoch {epoch} became {epoch_after}"
        );
        for (stream, checkpoint) in checkpoints {
            let checkpoint_after = &checkpoints_after[stream];
            assert!(
                checkpoint_after >= checkpoint,
                "{id} {stream}: {checkpoint} became {checkpoint_after}"
            );
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let alarms: Vec<_> = self.replicas.iter().flat_map(Replica::alarms).collect();
        for replica in &mut self.replicas {
            replica.kill();
        }
        // `KEEP` keeps what a test leaves behind, for a look at it.
        if !failed && alarms.is_empty() && std::env::var_os("KEEP").is_none() {
            return;
        }
        let folder = self.folder.take().expect("only a drop takes it").keep();
        for replica in &self.replicas {
            let log = replica.log();
            let lines: Vec<_> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- log of {} ---\n{}", replica.name, end.join("\n"));
        }
        eprintln!("--- data and logs are kept in {} ---", folder.display());
        assert!(
            failed || alarms.is_empty(),
            "replicas raised alarms: {alarms:#?}"
        );
    }
}
