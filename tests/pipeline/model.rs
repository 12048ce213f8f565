//! A world of one stream: an API server with a history, two replicas that take turns as its owner,
//! and subscribers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use quorumwatch::{
    domain::{
        assignment::MoveReason,
        cluster::{ClusterSpec, Resource, ResourceSelector, Source},
        command::{BeginEra, CheckpointEntry, Command, Move},
        frame::GapReason,
        id::{Epoch, GroupId, ReplicaId, Revision, ShardId, StreamId, UnixMillis},
        state::State,
        stream::ResumePoint,
    },
    peer::sources::open_local,
    pipeline::{
        feed::{FeedError, FeedFrom, FeedMessage},
        filter::Filters,
        hub::{Hub, SourceAddress, Sources},
        owned::{Owned, OwnedStream},
        subscription::{Request, Start, Subscription},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    server::{ApiServer, WatchLost},
    subscriber::{Seen, Subscriber},
};

const AT: UnixMillis = UnixMillis(0);

/// The replicas' agreement, without Raft.
struct Group {
    state: watch::Sender<Arc<State>>,
}

impl Group {
    fn apply(&self, command: &Command) {
        self.state.send_modify(|state| {
            let mut next = State::clone(state);
            next.apply(Revision(state.revision.0 + 1), command);
            next.check_invariants().unwrap();
            *state = Arc::new(next);
        });
    }

    fn now(&self) -> Arc<State> {
        self.state.borrow().clone()
    }
}

/// Feeds from whichever of the two owns the stream.
struct Replicas(Vec<Owned>);

impl Sources for Replicas {
    fn open(
        &self,
        address: SourceAddress,
        from: FeedFrom,
        snapshot_on_gap: bool,
    ) -> BoxFuture<'static, Result<mpsc::Receiver<FeedMessage>, FeedError>> {
        let owned = self.0[usize::try_from(address.owner.0 - 1).unwrap()].clone();
        async move { open_local(&owned, &address, from, snapshot_on_gap).await }.boxed()
    }
}

pub(crate) struct World {
    server: ApiServer,
    group: Arc<Group>,
    owned: Vec<Owned>,
    hubs: Vec<Hub>,
    ring_bytes: usize,
    shard: ShardId,
    stream: StreamId,
    owner: Option<(Arc<OwnedStream>, Owned, JoinHandle<()>)>,
    first_rv: u64,
}

impl World {
    pub(crate) async fn new(ring_bytes: usize) -> Self {
        let group = Arc::new(Group {
            state: watch::Sender::default(),
        });
        group.apply(&Command::FoundGroup {
            group: GroupId([7; 16]),
        });
        for replica in 1..=2 {
            group.apply(&Command::RegisterMember {
                replica: ReplicaId(replica),
                name: format!("r{replica}"),
                peer_address: String::new(),
                client_address: String::new(),
                at: AT,
            });
        }
        let spec = ClusterSpec {
            name: "c".into(),
            labels: BTreeMap::new(),
            source: Source::InCluster,
            resources: vec![ResourceSelector::all(Resource::events())],
            paused: false,
            description: String::new(),
            duplicate_of: String::new(),
        };
        group.apply(&Command::CreateCluster {
            spec,
            request_id: None,
            at: AT,
        });
        let state = group.now();
        let (shard, stream) = (
            *state.assignments.keys().next().unwrap(),
            *state.streams.keys().next().unwrap(),
        );
        let owned = vec![Owned::default(), Owned::default()];
        let hubs = (0..2)
            .map(|_| {
                let sources = Arc::new(Replicas(owned.clone()));
                Hub::new(sources, group.state.subscribe(), ring_bytes)
            })
            .collect();
        let server = ApiServer::default();
        let first_rv = server.last_rv();
        let mut world = Self {
            server,
            group,
            owned,
            hubs,
            ring_bytes,
            shard,
            stream,
            owner: None,
            first_rv,
        };
        world.take_over().await;
        world.settle().await;
        world
    }

    /// Lets everything that can run, run.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    pub(crate) async fn write(&mut self, writes: usize) {
        for _ in 0..writes {
            self.server.write();
        }
        self.settle().await;
    }

    pub(crate) async fn delete_together(&mut self, objects: usize) {
        self.server.delete_together(objects);
        self.settle().await;
    }

    pub(crate) fn compact(&self) {
        self.server.compact();
    }

    pub(crate) fn catch_ups(&self) -> u64 {
        self.server.catch_ups()
    }

    /// What exists: name to resource version.
    pub(crate) fn objects(&self) -> BTreeMap<String, u64> {
        self.server.objects()
    }

    pub(crate) fn truth_after_start(&self) -> Vec<Seen> {
        self.server
            .frames_after(self.first_rv)
            .iter()
            .map(Seen::event)
            .collect()
    }

    /// The owner crashes, and the other replica goes on at the checkpoint.
    pub(crate) async fn take_over(&mut self) {
        self.crash();
        self.assign_next(None).await;
    }

    fn crash(&mut self) {
        if let Some((stream, owned, task)) = self.owner.take() {
            task.abort();
            owned.remove(&stream);
        }
    }

    async fn assign_next(&mut self, stop_repair_after: Option<usize>) {
        let state = self.group.now();
        let epoch = state.assignments[&self.shard].epoch();
        let next = usize::try_from(epoch.0 % 2).unwrap();
        let to = Some(ReplicaId(u64::try_from(next).unwrap() + 1));
        let step = Move {
            shard: self.shard,
            epoch,
            to,
            reason: MoveReason::Takeover,
        };
        self.group.apply(&Command::Assign {
            moves: vec![step],
            at: AT,
        });
        let history = Arc::new(self.server.clone());
        let epoch = Epoch(epoch.0 + 1);
        let owned = OwnedStream::new(self.stream, epoch, history, self.ring_bytes);
        let stream = self.group.now().streams[&self.stream].clone();
        if let Some(era) = stream.era.clone() {
            owned.resume(era, &stream.resume_point());
        }
        self.owned[next].insert(owned.clone());
        let driver = Driver {
            server: self.server.clone(),
            group: self.group.clone(),
            owned: owned.clone(),
            stop_repair_after,
        };
        let task = tokio::spawn(driver.run(stream.resume_point()));
        self.owner = Some((owned, self.owned[next].clone(), task));
        self.settle().await;
    }

    /// The watch cannot go on although the lists can: writes happen that no watch tells.
    pub(crate) async fn lose_the_watch(&mut self, writes: usize) {
        self.lose_the_watch_and(writes, None).await;
    }

    /// The same, and the owner stays: what it has published stays in its ring.
    pub(crate) async fn reset_the_watch(&mut self, writes: usize) {
        for _ in 0..writes {
            self.server.write();
        }
        self.server.reset_watch();
        self.settle().await;
    }

    /// As above; the owner publishes only some of the net changes before it crashes.
    pub(crate) async fn lose_the_watch_and_crash(&mut self, writes: usize, published: usize) {
        self.lose_the_watch_and(writes, Some(published)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.take_over().await;
    }

    async fn lose_the_watch_and(&mut self, writes: usize, stop_repair_after: Option<usize>) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.crash();
        for _ in 0..writes {
            self.server.write();
        }
        self.server.delete_together(2);
        self.server.reset_watch();
        self.assign_next(stop_repair_after).await;
    }

    pub(crate) fn subscribe(&self, hub: usize, start: Start) -> Subscriber {
        self.subscribe_filtered(hub, Filters::default(), start)
    }

    pub(crate) fn subscribe_filtered(
        &self,
        hub: usize,
        filters: Filters,
        start: Start,
    ) -> Subscriber {
        let request = Request {
            digest: filters.digest(),
            filters,
            start,
        };
        let subscription = Subscription::open(self.hubs[hub].clone(), request).unwrap();
        let cursor = subscription.cursor();
        let cursors = vec![cursor];
        Subscriber {
            subscription,
            stream: self.stream,
            seen: Vec::new(),
            cursors,
        }
    }

    /// Goes on at a hub where a subscriber stopped, with what it has seen.
    pub(crate) fn resume(&self, hub: usize, subscriber: &Subscriber) -> Subscriber {
        let cursor = subscriber.cursors.last().unwrap().clone();
        let mut resumed = self.subscribe(hub, Start::Cursor(cursor));
        resumed.seen.clone_from(&subscriber.seen);
        resumed
    }

    pub(crate) fn last_rv(&self) -> u64 {
        self.server.last_rv()
    }
}

/// Plays the watcher and the agent of one owner.
struct Driver {
    server: ApiServer,
    group: Arc<Group>,
    owned: Arc<OwnedStream>,
    stop_repair_after: Option<usize>,
}

impl Driver {
    async fn run(self, from: ResumePoint) {
        let mut rv = match from {
            ResumePoint::Fresh => {
                let to = self.server.last_rv();
                self.begin_era(GapReason::StreamCreated, to, false);
                to
            }
            ResumePoint::At(position) => position.rv.as_u64().unwrap(),
            ResumePoint::Repair { from, to, .. } => {
                let (from, to) = (from.as_u64().unwrap(), to.as_u64().unwrap());
                self.publish_net_changes(from, to).await
            }
        };
        let mut changes = self.server.changes();
        let mut checkpoint = tokio::time::interval(Duration::from_millis(250));
        let mut idle = Duration::ZERO;
        loop {
            changes.borrow_and_update();
            if let Some(lost) = self.server.watch_lost_after(rv) {
                rv = self.recover(rv, &lost).await;
                continue;
            }
            // Small reads, so that a crash falls between the frames of one version, too.
            let frames: Vec<_> = self.server.frames_after_len(rv, 3);
            if let Some(last) = frames.last() {
                idle = Duration::ZERO;
                rv = last.rv.as_u64().unwrap();
                assert_eq!(self.owned.publish(frames), 0);
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = checkpoint.tick() => {
                    idle += Duration::from_millis(250);
                    let quiet = self.server.frames_after_len(rv, 1).is_empty();
                    if quiet && idle >= Duration::from_secs(3) {
                        self.owned.close(&self.server.last_rv().into());
                        rv = rv.max(self.server.last_rv());
                    }
                    self.checkpoint();
                }
            }
        }
    }

    /// The watch cannot go on at `rv`; gives where it can.
    async fn recover(&self, rv: u64, lost: &WatchLost) -> u64 {
        let to = self.server.last_rv();
        if lost.repairable {
            self.begin_era(GapReason::WatchCacheReset, to, true);
            return self.publish_net_changes(rv, to).await;
        }
        self.begin_era(GapReason::HistoryExpired, to, false);
        to
    }

    fn checkpoint(&self) {
        if let Some(position) = self.owned.checkpoint() {
            let (stream, epoch) = (self.owned.id, self.owned.epoch);
            let entries = vec![CheckpointEntry {
                stream,
                epoch,
                position,
            }];
            self.group.apply(&Command::AdvanceCheckpoints { entries });
        }
    }

    fn begin_era(&self, reason: GapReason, to: u64, repaired: bool) {
        let state = self.group.now();
        let stream = &state.streams[&self.owned.id];
        self.group.apply(&Command::BeginEra(BeginEra {
            stream: self.owned.id,
            epoch: self.owned.epoch,
            run: state.run_revision(stream.shard).unwrap(),
            expected_era: stream.era.as_ref().map(|start| start.era),
            from: self.owned.checkpoint(),
            reason,
            to: to.into(),
            repaired,
            cluster_uid: "uid".into(),
            at: AT,
        }));
        let start = self.group.now().streams[&self.owned.id]
            .era
            .clone()
            .unwrap();
        self.owned.begin_era(start);
    }

    async fn publish_net_changes(&self, from: u64, to: u64) -> u64 {
        let changes = self.server.net_changes(from, to);
        for (index, frame) in changes.into_iter().enumerate() {
            if self.stop_repair_after.is_some_and(|most| index >= most) {
                std::future::pending::<()>().await;
            }
            self.owned.publish_repair(vec![frame]);
            tokio::task::yield_now().await;
        }
        self.owned.close(&to.into());
        to
    }
}
