//! Two replicas that take turns as the owner of one cluster. What the API server's past gives is up
//! to the test.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{mpsc, watch};

use super::{
    feed::{self, FeedMessage},
    filter::Filters,
    hub::{Feeds, Hub, OwnerAddress},
    log::Logs,
    output::Body,
    owned::{History, Owned, OwnedStream},
    subscription::{Request, Start, Subscription},
};
use crate::{
    domain::{
        assignment::MoveReason,
        command::{BeginEra, Command, Move},
        delivery::{
            feed::{FeedError, Look},
            item::Published,
            place::{Place, Reader},
        },
        event::{Change, Event, GapReason, ObjectKey},
        fixtures,
        history::HistoryItem,
        id::{ClusterId, Epoch, GroupId, ReplicaId, Revision, ShardId, StreamId, UnixMillis},
        state::State,
    },
    memory::Rings,
};

const AT: UnixMillis = UnixMillis(0);

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Every stream begins at this version.
pub(super) const FIRST: u64 = 10;

/// Rings that hold everything.
pub(super) const ALL: usize = usize::MAX;

/// An event of an object of this name.
pub(super) fn event(rv: u64, name: &str) -> Event {
    Event {
        change: Change::Added,
        rv: rv.into(),
        key: ObjectKey::new("ns", name, name),
        object: bytes::Bytes::from_static(b"{}"),
        metadata_only: false,
        seen: AT,
    }
}

/// Events of these versions.
pub(super) fn events(versions: impl IntoIterator<Item = u64>) -> Vec<Event> {
    let versions = versions.into_iter();
    versions.map(|rv| event(rv, &format!("o{rv}"))).collect()
}

/// A reader starts a historical read of a stream.
pub(super) struct Looked {
    pub(super) look: Look,
    pub(super) items: mpsc::Sender<HistoryItem>,
}

/// The past of a stream: each look is handed to the test.
struct Past(mpsc::Sender<Looked>);

impl History for Past {
    fn look(&self, look: Look) -> mpsc::Receiver<HistoryItem> {
        let (items, receiver) = mpsc::channel(1);
        self.0.try_send(Looked { look, items }).unwrap();
        receiver
    }
}

/// What one replica publishes of one stream.
pub(super) struct Owner {
    pub(super) stream: Arc<OwnedStream>,
    pub(super) looks: mpsc::Receiver<Looked>,
}

impl Owner {
    pub(super) fn new(owned: &Owned, stream: StreamId, epoch: Epoch) -> Self {
        let (sender, looks) = mpsc::channel(64);
        Self {
            stream: owned.begin(stream, epoch, Arc::new(Past(sender))),
            looks,
        }
    }

    /// The next look.
    pub(super) async fn look(&mut self) -> Looked {
        let look = tokio::time::timeout(PATIENCE, self.looks.recv()).await;
        look.expect("a historical read was requested").unwrap()
    }
}

struct Replicas(Vec<Owned>);

impl Feeds for Replicas {
    fn open(
        &self,
        address: OwnerAddress,
        place: Place,
        reader: Reader,
    ) -> BoxFuture<'static, Result<mpsc::Receiver<FeedMessage>, FeedError>> {
        let owned = self.0[usize::try_from(address.owner.0 - 1).unwrap()].clone();
        async move {
            let stream = owned.wait_for(address.stream, address.epoch).await;
            Ok(feed::open(stream, place, reader))
        }
        .boxed()
    }
}

pub(super) struct World {
    agreed: Arc<State>,
    /// What each replica knows of it.
    known: Vec<watch::Sender<Arc<State>>>,
    owned: Vec<Owned>,
    hubs: Vec<Hub>,
    shard: ShardId,
    pub(super) streams: Vec<StreamId>,
}

impl World {
    /// A cluster with a stream for each of these resources, which nobody owns.
    pub(super) fn new(ring_bytes: usize, resources: &[&str]) -> Self {
        let known = [(); 2].map(|()| watch::Sender::<Arc<State>>::default());
        let logs = [(); 2].map(|()| Logs::new(Rings::new(usize::MAX), ring_bytes));
        let owned: Vec<_> = logs.iter().cloned().map(Owned::new).collect();
        let hubs = (1..).zip(logs).zip(&known).map(|((replica, logs), known)| {
            let feeds = Arc::new(Replicas(owned.clone()));
            let (state, topology) = (known.subscribe(), known.subscribe());
            Hub::new(ReplicaId(replica), logs, feeds, state, topology)
        });
        let mut world = Self {
            agreed: Arc::default(),
            hubs: hubs.collect(),
            known: known.into(),
            owned,
            shard: ShardId {
                cluster: ClusterId(0),
                slice: 0,
            },
            streams: Vec::new(),
        };
        world.found(resources);
        world
    }

    fn found(&mut self, resources: &[&str]) {
        let group = GroupId([7; 16]);
        self.agree(&Command::FoundGroup { group });
        for replica in 1..=2 {
            let name = format!("r{replica}");
            self.agree(&fixtures::register(ReplicaId(replica), &name));
        }
        self.agree(&fixtures::create(fixtures::spec("c", resources)));
        self.shard = *self.agreed.assignments.keys().next().unwrap();
        self.streams = self.agreed.streams.keys().copied().collect();
        self.notify(&[0, 1]);
    }

    /// The group agrees; no replica knows of it yet.
    fn agree(&mut self, command: &Command) {
        let mut next = State::clone(&self.agreed);
        next.apply(Revision(next.revision.0 + 1), command);
        next.check_invariants().unwrap();
        self.agreed = Arc::new(next);
    }

    /// These replicas come to know what was agreed on.
    pub(super) fn notify(&self, replicas: &[usize]) {
        for replica in replicas {
            self.known[*replica].send_replace(self.agreed.clone());
        }
    }

    /// The group gives the cluster to this replica, which resumes at the checkpoints. The replica
    /// that had it continues too, until it is ended.
    pub(super) fn give_to(&mut self, replica: usize) -> Vec<Owner> {
        let epoch = self.agreed.assignments[&self.shard].epoch();
        let step = Move {
            shard: self.shard,
            epoch,
            to: Some(ReplicaId(replica as u64 + 1)),
            reason: MoveReason::Takeover,
        };
        let moves = vec![step];
        self.agree(&Command::Assign { moves, at: AT });
        let epoch = Epoch(epoch.0 + 1);
        let owners = self.streams.iter().map(|id| {
            let owner = Owner::new(&self.owned[replica], *id, epoch);
            let stream = &self.agreed.streams[id];
            if let Some(era) = stream.era.clone() {
                owner.stream.resume(era, &stream.resume_point());
            }
            owner
        });
        owners.collect()
    }

    /// The same, and everybody knows; the streams begin where nobody has owned them before.
    pub(super) fn begin_at(&mut self, replica: usize) -> Vec<Owner> {
        let owners = self.give_to(replica);
        for owner in &owners {
            self.begin_era(&owner.stream, GapReason::StreamCreated, FIRST);
        }
        self.notify(&[0, 1]);
        owners
    }

    /// The group takes the cluster from its owner, and gives it to no other.
    pub(super) fn take_away(&mut self) {
        let command = fixtures::assign(&self.agreed, self.shard, None);
        self.agree(&command);
    }

    /// An era begins at this version; where the watch cache began again, it is repaired.
    pub(super) fn begin_era(&mut self, owned: &OwnedStream, reason: GapReason, to: u64) {
        let stream = &self.agreed.streams[&owned.id];
        let begin = BeginEra {
            stream: owned.id,
            epoch: owned.epoch,
            run: self.agreed.run_revision(stream.shard).unwrap(),
            expected_era: stream.era.as_ref().map(|start| start.era),
            from: owned.checkpoint(),
            reason,
            to: to.into(),
            repaired: reason == GapReason::WatchCacheReset,
            cluster_uid: "uid".into(),
            at: AT,
        };
        self.agree(&Command::BeginEra(begin));
        let start = self.agreed.streams[&owned.id].era.clone();
        owned.begin_era(start.unwrap());
    }

    /// A subscription to everything, at this replica.
    pub(super) fn subscribe(&self, replica: usize, start: Start) -> Subscriber {
        let request = Request {
            digest: 0,
            filters: Filters::default(),
            start,
        };
        let subscription = Subscription::open(self.hubs[replica].clone(), request).unwrap();
        Subscriber {
            subscription,
            events: Vec::new(),
            gaps: 0,
        }
    }
}

/// A subscription, and what it gave.
pub(super) struct Subscriber {
    pub(super) subscription: Subscription,
    pub(super) events: Vec<(StreamId, Arc<Published>)>,
    pub(super) gaps: usize,
}

impl Subscriber {
    /// Reads until this is so.
    pub(super) async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let read = async {
            while !is_so(self) {
                self.read().await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, read).await;
        assert!(came.is_ok(), "{:?}", self.seen());
    }

    /// Reads for so long.
    pub(super) async fn read_for(&mut self, time: Duration) {
        let _ = tokio::time::timeout(time, async {
            loop {
                self.read().await;
            }
        })
        .await;
    }

    /// One call of `next`.
    pub(super) async fn read(&mut self) {
        for output in self.subscription.next().await {
            match output.body {
                Body::Event(name, published) => self.events.push((name.id, published)),
                Body::Gap(..) => self.gaps += 1,
                _ => {}
            }
        }
    }

    /// Epoch and name of each event.
    pub(super) fn seen(&self) -> Vec<(u64, String)> {
        let events = self.events.iter();
        events
            .map(|(_, it)| (it.epoch.0, it.event.name().to_owned()))
            .collect()
    }
}
