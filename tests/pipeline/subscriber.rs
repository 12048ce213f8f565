//! A subscriber of the world, and what it has received.

use std::{fmt, time::Duration};

use bytes::Bytes;
use quorumwatch::{
    domain::{
        cursor::{Cursor, Mode},
        delivery::{
            item::{Gap, Part, Published},
            place::Place,
        },
        event::Change,
        id::{ReplicaId, StreamId},
        position::Position,
    },
    pipeline::{
        output::{Body, Output, StreamChange},
        subscription::{Request, Start, Subscription},
    },
};

use crate::{oracle, table, want::Want, world::World};

/// An event as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) change: Change,
    pub(crate) rv: u64,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) part: Part,
    pub(crate) position: Position,
    /// Whether it says that the object does not match any more.
    pub(crate) unmatched: bool,
    pub(crate) metadata_only: bool,
    pub(crate) object: Bytes,
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Event(Event),
    Gap(Gap),
    Synced(Position),
    Restarted,
    FilterChanged,
    Stream(StreamChange),
    Progress { whole: bool },
}

/// A frame, and what is kept together with it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// None for `Progress`.
    pub(crate) stream: Option<StreamId>,
    pub(crate) seen: Seen,
    /// The cursor after it; none before the first one came.
    pub(crate) cursor: Option<Cursor>,
}

/// One line, without the cursor.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.stream.zip(self.cursor.as_ref());
        let place = place.and_then(|(stream, cursor)| cursor.places.get(&stream));
        let place = place.map_or_else(String::new, |place| format!(" -> {place}"));
        let seen = match &self.seen {
            Seen::Event(event) => {
                let Event {
                    change,
                    part,
                    namespace,
                    name,
                    uid,
                    rv,
                    position,
                    ..
                } = event;
                let unmatched = if event.unmatched { " unmatched" } else { "" };
                format!(
                    "{change:?} {part:?}{unmatched} {namespace}/{name} {uid} {rv} at {position}"
                )
            }
            Seen::Gap(gap) => {
                let [from, to] = [&gap.from, &gap.to].map(|end| match end {
                    Some(position) => position.to_string(),
                    None => "-".to_owned(),
                });
                let repaired = if gap.repaired { ", repaired" } else { "" };
                format!("gap {from} to {to}: {:?}{repaired}", gap.reason)
            }
            Seen::Stream(change) => {
                let position = change.position.as_ref();
                let position = position.map_or_else(String::new, ToString::to_string);
                let (follows, continues) = (change.snapshot_follows, change.snapshot_continues);
                format!(
                    "{:?}/{:?} {position} follows {follows} continues {continues}",
                    change.kind, change.reason
                )
            }
            other => format!("{other:?}"),
        };
        let stream = self
            .stream
            .map_or_else(String::new, |id| format!("stream {id}: "));
        write!(f, "  {stream}{seen}{place}")
    }
}

/// How it first began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Now,
    Snapshot,
}

pub(crate) struct Subscriber {
    pub(crate) want: Want,
    pub(crate) begin: Begin,
    /// The open subscription, and the start of the replica that serves it.
    open: Option<(ReplicaId, u64, Subscription)>,
    pub(crate) records: Vec<Record>,
}

impl Subscriber {
    pub(crate) fn new(want: Want, begin: Begin) -> Self {
        Self {
            want,
            begin,
            open: None,
            records: Vec::new(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.begin {
            Begin::Now => Mode::Changes,
            Begin::Snapshot => Mode::Copy,
        }
    }

    /// Subscribes at this replica from the last cursor on; false where the replica refuses.
    pub(crate) fn open(&mut self, world: &World, replica: ReplicaId) -> bool {
        self.open = None;
        let Some((hub, started)) = world.hub(replica) else {
            return false;
        };
        let filters = self.want.filters();
        let kept = self.records.last().and_then(|record| record.cursor.clone());
        let start = match (kept, self.begin) {
            (Some(cursor), _) => {
                // As it travels.
                let text = world.codec().whole(&cursor);
                let read = world.codec().read(&[text]).unwrap();
                assert_eq!(read, cursor);
                Start::Cursor(read)
            }
            (None, Begin::Now) => Start::Now,
            (None, Begin::Snapshot) => Start::Snapshot,
        };
        if !matches!(start, Start::Cursor(_)) {
            self.records.clear();
        }
        let request = Request {
            digest: filters.digest(),
            filters,
            start,
        };
        // A replica that is behind does not know yet what the cursor speaks of.
        if let Ok(subscription) = Subscription::open(hub, request) {
            self.open = Some((replica, started, subscription));
        }
        self.open.is_some()
    }

    pub(crate) fn is_open(&self, world: &World) -> bool {
        self.open.as_ref().is_some_and(|(replica, started, _)| {
            let hub = world.hub(*replica);
            hub.is_some_and(|(_, now)| now == *started)
        })
    }

    /// The connection breaks, and the last frames never arrived.
    pub(crate) fn break_off(&mut self, lost: usize) {
        self.open = None;
        let kept = self.records.len().saturating_sub(lost);
        self.records.truncate(kept);
    }

    /// Reads for so long.
    pub(crate) async fn read_for(&mut self, long: Duration) {
        let _ = tokio::time::timeout(long, self.read_until(|_| false)).await;
    }

    async fn read_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let Some((_, _, subscription)) = &mut self.open else {
                return std::future::pending().await;
            };
            let outputs = subscription.next().await;
            for output in outputs {
                self.take(output);
            }
        }
    }

    /// Reads until it has received what the condition asks for.
    pub(crate) async fn wait_for(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) {
        let read = tokio::time::timeout(patience, self.read_until(done)).await;
        assert!(read.is_ok(), "it waits endlessly\n{}", self.tail(20));
    }

    /// The last frames, as text.
    pub(crate) fn tail(&self, most: usize) -> String {
        let from = self.records.len().saturating_sub(most);
        let lines = self.records[from..].iter().map(ToString::to_string);
        let lines: Vec<_> = lines.collect();
        lines.join("\n")
    }

    fn take(&mut self, output: Output) {
        let mut cursor = self.records.last().and_then(|record| record.cursor.clone());
        let whole = matches!(
            output.step,
            quorumwatch::pipeline::output::CursorStep::Whole(_)
        );
        if cursor.is_some() || whole {
            let mut moved = cursor.take().unwrap_or_default();
            output.step.apply(&mut moved);
            cursor = Some(moved);
        }
        let (stream, seen) = match output.body {
            Body::Event(name, published) => (Some(name.id), event(&published, false)),
            Body::Unmatched(name, published) => (Some(name.id), event(&published, true)),
            Body::Synced(name, position) => (Some(name.id), Seen::Synced(position)),
            Body::Gap(name, gap) => (Some(name.id), Seen::Gap(gap)),
            Body::SnapshotRestarted(name) => (Some(name.id), Seen::Restarted),
            Body::FilterChanged(name, _) => (Some(name.id), Seen::FilterChanged),
            Body::Stream(change) => (Some(change.stream), Seen::Stream(change)),
            Body::Progress(_) => (None, Seen::Progress { whole }),
        };
        self.records.push(Record {
            stream,
            seen,
            cursor,
        });
    }

    /// The gaps that it received, and whether each was repaired.
    pub(crate) fn gaps(&self) -> Vec<bool> {
        let gaps = self.records.iter().filter_map(|record| match &record.seen {
            Seen::Gap(gap) => Some(gap.repaired),
            _ => None,
        });
        gaps.collect()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(|record| match &record.seen {
            Seen::Event(event) => Some(event),
            _ => None,
        })
    }

    /// How many events were part of this.
    pub(crate) fn count(&self, part: Part) -> usize {
        self.events().filter(|event| event.part == part).count()
    }

    /// Whether it stands where the world does, in every stream that it wants.
    pub(crate) fn is_caught_up(&self, world: &World) -> bool {
        let Some(cursor) = self
            .records
            .last()
            .and_then(|record| record.cursor.as_ref())
        else {
            return false;
        };
        let wanted = oracle::wanted_streams(world, self.want);
        wanted.iter().all(|id| {
            let revision = world.etcd(&world.streams[id].cluster).revision();
            let place = cursor.places.get(id);
            matches!(place, Some(Place::At(at)) if at.resume_rv() >= revision.into())
        }) && cursor.places.len() == wanted.len()
    }

    /// Reads until it stands where the world does; a broken connection is made again.
    pub(crate) async fn catch_up(&mut self, world: &World, patience: Duration) -> bool {
        let read = async {
            while !self.is_caught_up(world) {
                if !self.is_open(world) {
                    let replicas = world.running();
                    let opened = replicas.iter().any(|replica| self.open(world, *replica));
                    if !opened {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                }
                self.read_until(|this| this.is_caught_up(world)).await;
            }
        };
        tokio::time::timeout(patience, read).await.is_ok()
    }

    /// Whether all that was received is what had to be received, and a table that is kept from it
    /// is what exists.
    pub(crate) fn judge(&self, world: &World) -> Result<(), String> {
        oracle::judge(world, self)?;
        if self.begin == Begin::Snapshot {
            table::judge(world, self)?;
        }
        Ok(())
    }
}

fn event(published: &Published, unmatched: bool) -> Seen {
    let event = &published.event;
    Seen::Event(Event {
        change: event.change,
        rv: event.rv.as_u64().unwrap(),
        namespace: event.namespace().to_owned(),
        name: event.name().to_owned(),
        uid: event.uid().to_owned(),
        part: published.part,
        position: published.position.clone(),
        unmatched,
        metadata_only: event.metadata_only,
        object: event.object.clone(),
    })
}
