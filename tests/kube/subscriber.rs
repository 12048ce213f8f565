//! A subscriber that keeps everything it receives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorumwatch::{
    cli::{
        Endpoint, Endpoints,
        subscription::{Begin, Subscription, Update},
    },
    domain::{frame::Change, position::Position},
    proto::v1::{self, EventType, Filter, GapReason, subscribe_response::Frame},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::kind::Kind;

/// Objects with such names mark a place in their stream.
pub(crate) const MARK: &str = "mark-";

/// A cluster's name and a kind of its objects.
pub(crate) type Stream = (String, Kind);

/// An event as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) position: Position,
    pub(crate) change: Change,
    /// `namespace/name`.
    pub(crate) key: String,
    pub(crate) uid: String,
    pub(crate) rv: u64,
    pub(crate) object: Bytes,
}

/// A gap as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenGap {
    pub(crate) from: Option<Position>,
    pub(crate) to: Option<Position>,
    pub(crate) reason: GapReason,
    pub(crate) repaired: bool,
}

/// One frame of one stream.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    Event(Received),
    Gap(SeenGap),
    Synced(Position),
}

/// Everything that was received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) streams: BTreeMap<Stream, Vec<Seen>>,
    /// The marks that have come as live events.
    pub(crate) marks: BTreeSet<(Stream, String)>,
    /// How many events have come, snapshots included.
    pub(crate) events: BTreeMap<Stream, usize>,
    pub(crate) gaps: BTreeMap<Stream, Vec<SeenGap>>,
    /// How many snapshots have ended.
    pub(crate) synced: BTreeMap<Stream, usize>,
    /// Who serves it now.
    pub(crate) served_by: Option<Endpoint>,
    pub(crate) interruptions: usize,
    /// Why it was refused for good.
    refused: Option<String>,
}

/// Subscribes to everything until it leaves.
pub(crate) struct Subscriber {
    record: watch::Receiver<Record>,
    stop: CancellationToken,
    task: JoinHandle<String>,
}

impl Record {
    pub(crate) fn gaps(&self, stream: &Stream) -> &[SeenGap] {
        self.gaps.get(stream).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has_marks(&self, streams: &[Stream], mark: &str) -> bool {
        let has = |stream: &Stream| self.marks.contains(&(stream.clone(), mark.to_owned()));
        streams.iter().all(has)
    }

    fn keep(&mut self, frame: Frame) {
        match frame {
            Frame::Event(event) => {
                let stream = stream(&event.cluster, &event.resource);
                let received = received(event);
                let name = received.key.split_once('/').map_or("", |(_, name)| name);
                if received.change != Change::Snapshot && name.starts_with(MARK) {
                    self.marks.insert((stream.clone(), name.to_owned()));
                }
                *self.events.entry(stream.clone()).or_default() += 1;
                self.push(stream, Seen::Event(received));
            }
            Frame::Gap(gap) => {
                let position =
                    |text: &str| (!text.is_empty()).then(|| text.parse::<Position>().unwrap());
                let seen = SeenGap {
                    from: position(&gap.from),
                    to: position(&gap.to),
                    reason: gap.reason(),
                    repaired: gap.repaired,
                };
                let stream = stream(&gap.cluster, &gap.resource);
                let gaps = self.gaps.entry(stream.clone()).or_default();
                gaps.push(seen.clone());
                self.push(stream, Seen::Gap(seen));
            }
            Frame::Synced(synced) => {
                let stream = stream(&synced.cluster, &synced.resource);
                *self.synced.entry(stream.clone()).or_default() += 1;
                self.push(stream, Seen::Synced(synced.position.parse().unwrap()));
            }
            Frame::Progress(_) => {}
        }
    }

    fn push(&mut self, stream: Stream, seen: Seen) {
        self.streams.entry(stream).or_default().push(seen);
    }
}

impl Subscriber {
    /// Begins with what exists.
    pub(crate) fn start(endpoints: Endpoints) -> Self {
        Self::run(endpoints, Begin::Snapshot, Record::default())
    }

    /// Comes back with the cursor that it left with, and goes on with its record.
    pub(crate) fn come_back(endpoints: Endpoints, cursor: String, record: Record) -> Self {
        Self::run(endpoints, Begin::After(cursor), record)
    }

    fn run(endpoints: Endpoints, begin: Begin, record: Record) -> Self {
        let (sender, receiver) = watch::channel(record);
        let stop = CancellationToken::new();
        let subscription = Subscription::new(endpoints, Filter::default(), begin);
        let task = tokio::spawn(receive(subscription, sender, stop.clone()));
        Self {
            record: receiver,
            stop,
            task,
        }
    }

    /// What has come so far.
    pub(crate) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Waits until each of these streams has given so many more events.
    pub(crate) async fn wait_events(&mut self, streams: &[Stream], more: usize, within: Duration) {
        let count = |record: &Record, stream| record.events.get(stream).copied().unwrap_or(0);
        let before = self.record();
        self.wait("events arrive in every stream", within, |record| {
            streams
                .iter()
                .all(|stream| count(record, stream) >= count(&before, stream) + more)
        })
        .await;
    }

    /// Waits for a condition of the record.
    pub(crate) async fn wait(
        &mut self,
        what: &str,
        within: Duration,
        is_met: impl FnMut(&Record) -> bool,
    ) {
        if !self.sees(within, is_met).await {
            let record = self.record.borrow();
            let Record {
                events,
                gaps,
                served_by,
                marks,
                ..
            } = &*record;
            panic!("not within {within:?}: {what}: {served_by:?} {events:?} {gaps:?} {marks:?}");
        }
    }

    /// Whether a condition of the record is met in time.
    pub(crate) async fn sees(
        &mut self,
        within: Duration,
        mut is_met: impl FnMut(&Record) -> bool,
    ) -> bool {
        let met = self.record.wait_for(|record| {
            assert_eq!(record.refused, None, "the subscription was refused");
            is_met(record)
        });
        timeout(within, met)
            .await
            .map(|met| drop(met.unwrap()))
            .is_ok()
    }

    /// Leaves, with the record and the cursor to come back with.
    ///
    /// Whoever leaves before the first progress has no cursor.
    pub(crate) async fn leave(self) -> (Record, String) {
        self.stop.cancel();
        let cursor = self.task.await.unwrap();
        (self.record.borrow().clone(), cursor)
    }
}

async fn receive(
    mut subscription: Subscription,
    record: watch::Sender<Record>,
    stop: CancellationToken,
) -> String {
    loop {
        let update = tokio::select! {
            () = stop.cancelled() => break,
            update = subscription.next() => update,
        };
        match update {
            Ok(Update::Frame(response)) => {
                let frame = response.frame.unwrap();
                record.send_modify(|record| record.keep(frame));
            }
            Ok(Update::Connected(endpoint)) => {
                record.send_modify(|record| record.served_by = Some(endpoint));
            }
            Ok(Update::Interrupted { .. }) => record.send_modify(|record| {
                record.interruptions += usize::from(record.served_by.take().is_some());
            }),
            Err(error) => {
                record.send_modify(|record| record.refused = Some(error.to_string()));
                break;
            }
        }
    }
    subscription.cursor().unwrap_or_default().to_owned()
}

fn stream(cluster: &str, resource: &str) -> Stream {
    (cluster.to_owned(), Kind::of(resource).unwrap())
}

fn received(event: v1::Event) -> Received {
    let change = match event.r#type() {
        EventType::Added => Change::Added,
        EventType::Modified => Change::Modified,
        EventType::Deleted => Change::Deleted,
        EventType::Snapshot => Change::Snapshot,
        EventType::Unspecified => panic!("an event without a type: {event:?}"),
    };
    let object = event.object.unwrap();
    Received {
        id: event.id,
        position: event.position.parse().unwrap(),
        change,
        key: format!("{}/{}", object.namespace, object.name),
        uid: object.uid,
        rv: object.resource_version.parse().unwrap(),
        object: event.object_json,
    }
}
