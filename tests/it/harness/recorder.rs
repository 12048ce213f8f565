//! A subscriber that records what it received, so that it can be judged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crc32c::crc32c;
use quorumwatch::{
    client::{Begin, Cursor, Endpoints, Options, Subscription, Table, Update},
    domain::{
        cluster::Resource,
        event::{Change, GapReason},
        id::Era,
        position::{Ordinal, Position, ResourceVersion},
    },
    proto::v1::{
        self, ChangeType, Event, Filter, Gap, StreamChange, StreamChangeType, SubscribeResponse,
        Synced, subscribe_response::Frame,
    },
    sim::{Audit, Delivered, SeenGap},
};
use tokio_util::task::AbortOnDropHandle;

use super::wait::holds;

/// What a subscriber received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) audit: Audit,
    pub(crate) delivered: u64,
    pub(crate) gaps: Vec<Gap>,
    /// The clusters, and the streams, of which a snapshot is complete.
    pub(crate) synced: BTreeSet<String>,
    pub(crate) synced_streams: BTreeSet<String>,
    /// The epochs under which each cluster's events came, in order, without repetition.
    pub(crate) epochs: BTreeMap<String, Vec<u64>>,
    /// Whether it went on where an earlier subscription ended.
    pub(crate) is_resumed: bool,
    /// Events at or before the last position of their stream.
    pub(crate) not_after: u64,
    /// The last position of each stream.
    pub(crate) reached: BTreeMap<String, Position>,
    /// The streams that are covered, by their identity, as the last change of each says.
    pub(crate) streams: BTreeMap<String, StreamChange>,
    /// Every change of a stream, in order.
    pub(crate) changes: Vec<StreamChange>,
    pub(crate) is_current: bool,
    pub(crate) cursor: Cursor,
    /// Why the subscription had to go elsewhere, each time.
    pub(crate) interruptions: Vec<String>,
    /// Why it ended, once it has.
    pub(crate) refusal: Option<String>,
    /// The newest events, for a look at their fields.
    pub(crate) events: VecDeque<Event>,
    /// What a client makes of the frames, where that is of interest: all of it is kept.
    pub(crate) kept: Option<Kept>,
}

/// What a client makes of the frames.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// A copy, kept from the frames alone; no frame may break its rules.
    pub(crate) table: Table,
    /// Every event, gap and end of a snapshot in a few words, with its resource: "ADDED name".
    pub(crate) script: Vec<(String, String)>,
}

/// How many of the newest events are remembered whole.
const EVENTS_KEPT: usize = 10_000;

/// A subscriber. Dropping it ends it.
pub(crate) struct Recorder {
    record: Arc<Mutex<Record>>,
    _task: AbortOnDropHandle<()>,
}

impl Recorder {
    /// Subscribes to everything, from now on.
    pub(crate) fn all_from_now(endpoints: Endpoints) -> Self {
        Self::start(endpoints, Filter::default(), Begin::Now)
    }

    /// Subscribes.
    pub(crate) fn start(endpoints: Endpoints, filter: Filter, begin: Begin) -> Self {
        let options = Options {
            filters: vec![filter],
            begin,
            ..Options::default()
        };
        Self::go_on(Record::default(), endpoints, options)
    }

    /// Subscribes, and keeps a copy of what exists and the script of what came.
    pub(crate) fn start_keeping(endpoints: Endpoints, filter: Filter, begin: Begin) -> Self {
        let options = Options {
            filters: vec![filter],
            begin,
            ..Options::default()
        };
        Self::go_on(Record::keeping(), endpoints, options)
    }

    /// Subscribes where an earlier record ended, and adds to it.
    pub(crate) fn resume(record: Record, endpoints: Endpoints) -> Self {
        Self::resume_with(record, endpoints, Filter::default())
    }

    /// The same with a filter.
    pub(crate) fn resume_with(mut record: Record, endpoints: Endpoints, filter: Filter) -> Self {
        record.is_current = false;
        record.is_resumed = true;
        let options = Options {
            filters: vec![filter],
            begin: Begin::After(record.cursor.clone()),
            ..Options::default()
        };
        Self::go_on(record, endpoints, options)
    }

    fn go_on(record: Record, endpoints: Endpoints, options: Options) -> Self {
        let record = Arc::new(Mutex::new(record));
        let subscription = Subscription::new(endpoints, options);
        let task = tokio::spawn(follow(subscription, Arc::clone(&record)));
        Self {
            record,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What was received so far.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// Leaves; the record stays.
    pub(crate) fn leave(self) -> Record {
        self.record().clone()
    }

    /// Waits until the subscription covers so many streams and stands in the present.
    pub(crate) async fn covers(&self, streams: usize) {
        holds(
            "the subscription covers every stream",
            super::PATIENCE,
            async || {
                let record = self.record();
                assert_eq!(record.refusal, None);
                record.streams.len() >= streams && record.is_current
            },
        )
        .await;
    }

    /// Waits until a condition on the record holds.
    pub(crate) async fn sees(
        &self,
        what: &str,
        within: Duration,
        look: impl Fn(&Record) -> bool,
    ) -> Duration {
        holds(what, within, async || look(&self.record())).await
    }
}

async fn follow(mut subscription: Subscription, record: Arc<Mutex<Record>>) {
    loop {
        let update = subscription.next().await;
        let mut record = record.lock().unwrap();
        match update {
            Ok(Some(Update::Frame(response))) => record.take(*response),
            Ok(Some(Update::Connected(_))) => {}
            Ok(Some(Update::Interrupted { why, .. })) => record.interruptions.push(why.to_string()),
            Ok(None) => return,
            Err(error) => {
                record.refusal = Some(error.to_string());
                return;
            }
        }
    }
}

impl Kept {
    fn take(&mut self, response: &SubscribeResponse) {
        if let Err(violation) = self.table.apply(response) {
            panic!("{violation}: {response:?}\n{:#?}", self.script);
        }
        let line = match response.frame.as_ref().expect("every frame has a kind") {
            Frame::Event(event) => {
                let what = event.change_type().as_str_name();
                let what = what.trim_start_matches("CHANGE_TYPE_");
                let name = event.object.as_ref().map(|object| object.name.as_str());
                let words = format!("{what} {}", name.unwrap_or_default());
                (event.resource.clone(), words)
            }
            Frame::Gap(gap) => {
                let reason = gap.reason().as_str_name();
                let reason = reason.trim_start_matches("GAP_REASON_");
                let repaired = if gap.repaired { " repaired" } else { "" };
                (gap.resource.clone(), format!("GAP {reason}{repaired}"))
            }
            Frame::Synced(synced) => (synced.resource.clone(), "SYNCED".to_owned()),
            Frame::StreamChange(_)
            | Frame::Progress(_)
            | Frame::Heartbeat(_)
            | Frame::Closing(_) => return,
        };
        self.script.push(line);
    }

    /// The script of one resource.
    pub(crate) fn of(&self, resource: &str) -> Vec<&str> {
        let script = self.script.iter();
        let script = script.filter(|(of, _)| of == resource);
        script.map(|(_, words)| words.as_str()).collect()
    }
}

impl Record {
    /// An empty record that keeps what a client makes of the frames.
    pub(crate) fn keeping() -> Self {
        Self {
            kept: Some(Kept::default()),
            ..Self::default()
        }
    }

    /// What a client makes of the frames; only of a record that keeps it.
    pub(crate) fn kept(&self) -> &Kept {
        self.kept.as_ref().expect("it was started to keep it")
    }

    /// Takes a frame.
    pub(crate) fn take(&mut self, response: SubscribeResponse) {
        self.cursor.take(&response);
        if let Some(kept) = &mut self.kept {
            kept.take(&response);
        }
        match response.frame.expect("every frame has a kind") {
            Frame::Event(event) => self.event(event),
            Frame::Gap(gap) => self.gap(gap),
            Frame::Synced(synced) => self.synced(&synced),
            Frame::StreamChange(change) => self.stream_change(change),
            Frame::Progress(progress) => self.is_current = progress.up_to_date,
            Frame::Closing(_) | Frame::Heartbeat(_) => {}
        }
    }

    fn stream_change(&mut self, change: StreamChange) {
        match change.r#type() {
            StreamChangeType::Unspecified => panic!("a change without a type: {change:?}"),
            StreamChangeType::Removed => drop(self.streams.remove(&change.stream)),
            _ => drop(self.streams.insert(change.stream.clone(), change.clone())),
        }
        self.changes.push(change);
    }

    /// Every frame is of a stream that was named.
    fn expect_known(&self, stream: &str, frame: &dyn std::fmt::Debug) {
        assert!(
            self.streams.contains_key(stream),
            "unknown stream: {frame:?}"
        );
    }

    fn event(&mut self, event: Event) {
        self.expect_known(&event.stream, &event);
        let change = match event.change_type() {
            ChangeType::Added => Change::Added,
            ChangeType::Modified => Change::Modified,
            ChangeType::Deleted => Change::Deleted,
            ChangeType::Snapshot => Change::Snapshot,
            // For a copy, which drops the object; the event itself was not asked for.
            ChangeType::Unmatched => return,
            ChangeType::Unspecified => panic!("an event without a type: {event:?}"),
        };
        let object = event.object.as_ref().expect("every event has an object");
        self.audit.deliver(&Delivered {
            cluster: event.cluster.clone(),
            resource: resource(&event.resource),
            change,
            rv: version(&object.resource_version),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            object_crc: crc32c(event.object_json.as_bytes()),
        });
        self.delivered += 1;
        let epochs = self.epochs.entry(event.cluster.clone()).or_default();
        if epochs.last() != Some(&event.epoch) {
            epochs.push(event.epoch);
        }
        let at = position(event.position.as_ref());
        let last = self.reached.get(&event.stream);
        // The frames of a snapshot share one position.
        if change != Change::Snapshot && last.is_some_and(|last| at <= *last) {
            self.not_after += 1;
        }
        self.reached.insert(event.stream.clone(), at);
        self.events.push_back(event);
        if self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.expect_known(&gap.stream, &gap);
        if gap.reason() == v1::GapReason::SnapshotRestarted {
            self.audit.restarted(&gap.cluster, &resource(&gap.resource));
        }
        if let Some(reason) = gap_reason(gap.reason()) {
            self.audit.gap(&SeenGap {
                cluster: gap.cluster.clone(),
                resource: resource(&gap.resource),
                from: gap.from.as_ref().map(|from| position(Some(from)).rv),
                // Where only the end of the snapshot says it, nothing is known beyond the beginning.
                to: position(gap.to.as_ref().or(gap.from.as_ref())).rv,
                reason,
                repaired: gap.repaired,
            });
        }
        self.gaps.push(gap);
    }

    fn synced(&mut self, synced: &Synced) {
        self.expect_known(&synced.stream, synced);
        let at = position(synced.position.as_ref());
        let of = resource(&synced.resource);
        self.audit.synced(&synced.cluster, &of, &at.rv);
        self.synced.insert(synced.cluster.clone());
        self.synced_streams.insert(synced.stream.clone());
        self.reached.insert(synced.stream.clone(), at);
    }

    /// Whether everything up to a resource version of a cluster's Events was received.
    pub(crate) fn has_reached(&self, cluster: &str, rv: &ResourceVersion) -> bool {
        let streams = self.streams.values();
        let mut streams = streams.filter(|stream| stream.cluster == cluster);
        streams.any(|stream| {
            let at = self.reached.get(&stream.stream);
            stream.resource == "v1/events" && at.is_some_and(|at| at.rv >= *rv)
        })
    }
}

/// A position, as it can be compared.
pub(crate) fn position(position: Option<&v1::Position>) -> Position {
    let position = position.expect("the frame has a position");
    Position {
        era: Era(position.era),
        rv: version(&position.resource_version),
        ordinal: position.ordinal.map_or(Ordinal::CLOSED, Ordinal::new),
    }
}

fn version(text: &str) -> ResourceVersion {
    text.parse().expect("versions can be read")
}

fn resource(text: &str) -> Resource {
    text.parse().expect("resources can be read")
}

/// `None` where nothing is missing that the clusters committed.
fn gap_reason(reason: v1::GapReason) -> Option<GapReason> {
    match reason {
        v1::GapReason::Unspecified => panic!("a gap without a reason"),
        v1::GapReason::SnapshotRestarted | v1::GapReason::FilterChanged => None,
        v1::GapReason::HistoryExpired => Some(GapReason::HistoryExpired),
        v1::GapReason::HistoryReset => Some(GapReason::HistoryReset),
        v1::GapReason::ClusterReplaced => Some(GapReason::ClusterReplaced),
        v1::GapReason::WatchCacheReset => Some(GapReason::WatchCacheReset),
        v1::GapReason::UpstreamInconsistent => Some(GapReason::UpstreamInconsistent),
    }
}
