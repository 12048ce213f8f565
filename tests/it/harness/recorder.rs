//! A subscriber that remembers what it was told, so that it can be judged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crc32c::crc32c;
use quorumwatch::{
    cli::{
        Endpoints,
        subscription::{Begin, Subscription, Update},
    },
    domain::{
        cluster::Resource,
        frame::{Change, GapReason},
        position::{Position, ResourceVersion},
    },
    proto::v1::{
        self, Event, EventType, Filter, Gap, Progress, SubscribeResponse, Synced,
        subscribe_response::Frame,
    },
    sim::{Audit, Delivered, SeenGap},
};
use tokio_util::task::AbortOnDropHandle;

use super::wait::holds;

/// What a subscriber was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) audit: Audit,
    pub(crate) delivered: u64,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) synced: BTreeSet<String>,
    /// The epochs under which each cluster's events came, in order, without repetition.
    pub(crate) epochs: BTreeMap<String, Vec<u64>>,
    /// Whether it went on where an earlier subscription ended.
    pub(crate) is_resumed: bool,
    /// Events at or before the last position of their stream.
    pub(crate) not_after: u64,
    /// The last position of each cluster and resource.
    pub(crate) reached: BTreeMap<(String, String), Position>,
    /// Streams of the last progress, by cluster, and whether all are up to date.
    pub(crate) streams: BTreeSet<String>,
    pub(crate) is_current: bool,
    pub(crate) cursor: String,
    /// Why the subscription had to go elsewhere, each time.
    pub(crate) interruptions: Vec<String>,
    /// Why it ended, once it has.
    pub(crate) refusal: Option<String>,
    /// The newest events, for a look at their fields.
    pub(crate) events: VecDeque<Event>,
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
        Self::go_on(Record::default(), endpoints, filter, begin)
    }

    /// Subscribes where an earlier record ended, and adds to it.
    pub(crate) fn resume(mut record: Record, endpoints: Endpoints) -> Self {
        record.streams.clear();
        record.is_current = false;
        record.is_resumed = true;
        let begin = Begin::After(record.cursor.clone());
        Self::go_on(record, endpoints, Filter::default(), begin)
    }

    fn go_on(record: Record, endpoints: Endpoints, filter: Filter, begin: Begin) -> Self {
        let record = Arc::new(Mutex::new(record));
        let subscription = Subscription::new(endpoints, filter, begin);
        let task = tokio::spawn(follow(subscription, Arc::clone(&record)));
        Self {
            record,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// What was told so far.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// Leaves; what was told stays.
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

    /// Waits until something holds of what was told.
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
            Ok(Update::Frame(response)) => record.take(*response),
            Ok(Update::Connected(_)) => {}
            Ok(Update::Interrupted { reason, .. }) => record.interruptions.push(reason),
            Err(error) => {
                record.refusal = Some(error.to_string());
                return;
            }
        }
    }
}

impl Record {
    /// Takes a frame.
    pub(crate) fn take(&mut self, response: SubscribeResponse) {
        if matches!(response.frame, Some(Frame::Progress(_))) {
            self.cursor = response.cursor;
        } else if !response.cursor.is_empty() {
            self.cursor.push(',');
            self.cursor.push_str(&response.cursor);
        }
        match response.frame.expect("every frame has a kind") {
            Frame::Event(event) => self.event(event),
            Frame::Gap(gap) => self.gap(gap),
            Frame::Synced(synced) => self.synced(&synced),
            Frame::Progress(progress) => self.progress(&progress),
        }
    }

    fn event(&mut self, event: Event) {
        let change = match event.r#type() {
            EventType::Added => Change::Added,
            EventType::Modified => Change::Modified,
            EventType::Deleted => Change::Deleted,
            EventType::Snapshot => Change::Snapshot,
            EventType::Unspecified => panic!("an event without a type: {event:?}"),
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
            object_crc: crc32c(&event.object_json),
        });
        self.delivered += 1;
        let epochs = self.epochs.entry(event.cluster.clone()).or_default();
        if epochs.last() != Some(&event.epoch) {
            epochs.push(event.epoch);
        }
        let at = position(&event.position);
        let key = (event.cluster.clone(), event.resource.clone());
        let last = self.reached.get(&key);
        // The frames of a snapshot share one position.
        if change != Change::Snapshot && last.is_some_and(|last| at <= *last) {
            self.not_after += 1;
        }
        self.reached.insert(key, at);
        self.events.push_back(event);
        if self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
    }

    fn gap(&mut self, gap: Gap) {
        if let Some(reason) = gap_reason(gap.reason()) {
            let from = Some(gap.from.as_str()).filter(|from| !from.is_empty());
            self.audit.gap(&SeenGap {
                cluster: gap.cluster.clone(),
                resource: resource(&gap.resource),
                from: from.map(|from| position(from).rv),
                to: position(&gap.to).rv,
                reason,
                repaired: gap.repaired,
            });
        }
        self.gaps.push(gap);
    }

    fn synced(&mut self, synced: &Synced) {
        let at = position(&synced.position);
        let of = resource(&synced.resource);
        self.audit.synced(&synced.cluster, &of, &at.rv);
        self.synced.insert(synced.cluster.clone());
        let key = (synced.cluster.clone(), synced.resource.clone());
        self.reached.insert(key, at);
    }

    fn progress(&mut self, progress: &Progress) {
        let streams = progress.streams.iter();
        self.streams = streams
            .map(|stream| format!("{} {}", stream.cluster, stream.resource))
            .collect();
        self.is_current = progress.streams.iter().all(|stream| !stream.catching_up);
    }

    /// Whether everything up to a resource version of a cluster's Events was told.
    pub(crate) fn has_reached(&self, cluster: &str, rv: &ResourceVersion) -> bool {
        let key = (cluster.to_owned(), "v1/events".to_owned());
        self.reached.get(&key).is_some_and(|at| at.rv >= *rv)
    }
}

fn position(text: &str) -> Position {
    text.parse().expect("positions can be read")
}

fn version(text: &str) -> ResourceVersion {
    text.parse().expect("versions can be read")
}

fn resource(text: &str) -> Resource {
    text.parse().expect("resources can be read")
}

/// `None` where it is no gap, but a snapshot that begins again.
fn gap_reason(reason: v1::GapReason) -> Option<GapReason> {
    match reason {
        v1::GapReason::Unspecified => panic!("a gap without a reason"),
        v1::GapReason::SnapshotRestarted => None,
        v1::GapReason::HistoryExpired => Some(GapReason::HistoryExpired),
        v1::GapReason::HistoryReset => Some(GapReason::HistoryReset),
        v1::GapReason::ClusterReplaced => Some(GapReason::ClusterReplaced),
        v1::GapReason::WatchCacheReset => Some(GapReason::WatchCacheReset),
        v1::GapReason::UpstreamInconsistent => Some(GapReason::UpstreamInconsistent),
        v1::GapReason::StreamCreated => Some(GapReason::StreamCreated),
    }
}
