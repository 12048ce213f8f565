//! What the demo's subscriber received.

use std::collections::{BTreeMap, BTreeSet};

use crc32c::crc32c;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    domain::{
        cluster::Resource,
        event::{Change, GapReason},
        id::Era,
        position::{Ordinal, Position, ResourceVersion},
    },
    proto::v1::{
        self, ChangeType, Event, Gap, Progress, StreamChange, StreamChangeType, SubscribeResponse,
        Synced, subscribe_response::Frame,
    },
    sim::{Audit, Delivered, SeenGap},
};

/// How many malformed frames are described in the report.
const PROBLEMS_MAX: usize = 10;

/// What the demo's subscriber received.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) audit: Audit,
    pub(super) delivered: u64,
    pub(super) gaps: u64,
    /// Events at or before the last position of their stream: repeated or out of order.
    pub(super) not_after: u64,
    /// Whether every stream is up to date.
    pub(super) is_current: bool,
    /// Malformed frames, in words.
    pub(super) problems: Vec<String>,
    /// The last event in words, for the display.
    pub(super) sample: String,
    /// The streams that the subscription covers.
    streams: BTreeSet<String>,
    /// By stream: its cluster, and the last position of it.
    reached: BTreeMap<String, (String, Position)>,
    /// Clusters whose next owner is awaited, with the epoch of the last.
    awaited: BTreeMap<String, u64>,
    /// When the first event of the next owner came.
    first_events: BTreeMap<String, Instant>,
}

/// What the display shows of a Kubernetes Event.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shown {
    r#type: String,
    reason: String,
    message: String,
}

impl Tally {
    /// Takes a frame.
    pub(super) fn take(&mut self, response: &SubscribeResponse, now: Instant) {
        let understood = match &response.frame {
            Some(Frame::Event(event)) => self.event(event, now),
            Some(Frame::Gap(gap)) => self.gap(gap),
            Some(Frame::Synced(synced)) => self.synced(synced),
            Some(Frame::StreamChange(change)) => self.stream_change(change),
            Some(Frame::Progress(progress)) => {
                self.progress(progress);
                Ok(())
            }
            // The subscription itself resumes elsewhere.
            Some(Frame::Closing(_) | Frame::Heartbeat(_)) => Ok(()),
            None => Err("a frame without a kind".into()),
        };
        if let Err(problem) = understood
            && self.problems.len() < PROBLEMS_MAX
        {
            self.problems.push(problem);
        }
    }

    /// From now on the first event of a cluster under a later epoch than this is awaited.
    pub(super) fn await_successor(&mut self, cluster: &str, epoch: u64) {
        self.awaited.insert(cluster.to_owned(), epoch);
    }

    /// When each awaited successor's first event came; `None` until all have come.
    pub(super) fn first_events(&self) -> Option<&BTreeMap<String, Instant>> {
        self.awaited.is_empty().then_some(&self.first_events)
    }

    /// How many streams the subscription covers.
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The earliest last position of a cluster's streams.
    pub(super) fn reached(&self, cluster: &str) -> Option<&Position> {
        let all = self.reached.values().filter(|(of, _)| of == cluster);
        all.map(|(_, position)| position).min()
    }

    fn event(&mut self, event: &Event, now: Instant) -> Result<(), String> {
        let position = position(event.position.as_ref())?;
        let change = match event.change_type() {
            ChangeType::Added => Change::Added,
            ChangeType::Modified => Change::Modified,
            ChangeType::Deleted => Change::Deleted,
            ChangeType::Snapshot => Change::Snapshot,
            other @ (ChangeType::Unmatched | ChangeType::Unspecified) => {
                return Err(format!("an event of the type {}", other.as_str_name()));
            }
        };
        if !self.streams.contains(&event.stream) {
            return Err(format!(
                "an event of a stream that was not added: {}",
                event.stream
            ));
        }
        let object = event.object.as_ref().ok_or("an event without an object")?;
        self.audit.deliver(&Delivered {
            cluster: event.cluster.clone(),
            resource: resource(&event.resource)?,
            change,
            rv: version(&object.resource_version)?,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            object_crc: crc32c(event.object_json.as_bytes()),
        });
        self.delivered += 1;
        if self
            .awaited
            .get(&event.cluster)
            .is_some_and(|epoch| event.epoch > *epoch)
        {
            self.awaited.remove(&event.cluster);
            self.first_events.insert(event.cluster.clone(), now);
        }
        let shown: Shown = serde_json::from_str(&event.object_json).unwrap_or_default();
        // The generator fills messages up with dots.
        let message = shown.message.trim_end().trim_end_matches('.').trim_end();
        let (cluster, kind, reason) = (&event.cluster, &shown.r#type, &shown.reason);
        self.sample = format!("{cluster} {kind} {reason}: {message}");
        let last = self.reached.get(&event.stream);
        // The frames of a snapshot share one position.
        if change != Change::Snapshot && last.is_some_and(|(_, last)| position <= *last) {
            self.not_after += 1;
        }
        let reached = (event.cluster.clone(), position);
        self.reached.insert(event.stream.clone(), reached);
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), String> {
        let Some(reason) = gap_reason(gap.reason())? else {
            // Nothing is missing: the snapshot of an earlier gap begins again.
            let resource = resource(&gap.resource)?;
            self.audit.restarted(&gap.cluster, &resource);
            return Ok(());
        };
        self.gaps += 1;
        let version = |place: &v1::Position| position(Some(place)).map(|position| position.rv);
        let from = gap.from.as_ref().map(version).transpose()?;
        // Where the end is not known yet, Synced determines what the gap covers.
        let to = gap
            .to
            .as_ref()
            .map(version)
            .transpose()?
            .or_else(|| from.clone());
        self.audit.gap(&SeenGap {
            cluster: gap.cluster.clone(),
            resource: resource(&gap.resource)?,
            from,
            to: to.unwrap_or(ResourceVersion::ZERO),
            reason,
            repaired: gap.repaired,
        });
        Ok(())
    }

    fn synced(&mut self, synced: &Synced) -> Result<(), String> {
        let at = position(synced.position.as_ref())?;
        let resource = resource(&synced.resource)?;
        self.audit.synced(&synced.cluster, &resource, &at.rv);
        let reached = (synced.cluster.clone(), at);
        self.reached.insert(synced.stream.clone(), reached);
        Ok(())
    }

    /// Each connection begins by adding every stream; how far it was read holds on.
    fn stream_change(&mut self, change: &StreamChange) -> Result<(), String> {
        match change.r#type() {
            StreamChangeType::Added => {
                self.streams.insert(change.stream.clone());
            }
            StreamChangeType::Removed => {
                self.streams.remove(&change.stream);
                self.reached.remove(&change.stream);
            }
            StreamChangeType::Paused | StreamChangeType::Resumed | StreamChangeType::Changed => {}
            StreamChangeType::Unspecified => {
                return Err("a change of a stream without a type".into());
            }
        }
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) {
        self.is_current = progress.up_to_date;
    }
}

fn position(place: Option<&v1::Position>) -> Result<Position, String> {
    let place = place.ok_or("a frame without a position")?;
    Ok(Position {
        era: Era(place.era),
        rv: version(&place.resource_version)?,
        ordinal: place.ordinal.map_or(Ordinal::CLOSED, Ordinal::new),
    })
}

fn version(text: &str) -> Result<ResourceVersion, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn resource(text: &str) -> Result<Resource, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// `None` where it is no gap, but a snapshot that begins again.
fn gap_reason(reason: v1::GapReason) -> Result<Option<GapReason>, String> {
    let reason = match reason {
        v1::GapReason::Unspecified => return Err("a gap without a reason".into()),
        v1::GapReason::SnapshotRestarted => return Ok(None),
        v1::GapReason::HistoryExpired => GapReason::HistoryExpired,
        v1::GapReason::HistoryReset => GapReason::HistoryReset,
        v1::GapReason::ClusterReplaced => GapReason::ClusterReplaced,
        v1::GapReason::WatchCacheReset => GapReason::WatchCacheReset,
        v1::GapReason::UpstreamInconsistent => GapReason::UpstreamInconsistent,
        v1::GapReason::FilterChanged => return Err("a gap for a filter that did not change".into()),
    };
    Ok(Some(reason))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{
        ChangeType, Event, Frame, StreamChange, StreamChangeType, SubscribeResponse, Tally, v1,
    };
    use crate::proto::v1::ObjectMeta;

    fn response(frame: Frame) -> SubscribeResponse {
        SubscribeResponse {
            frame: Some(frame),
            ..SubscribeResponse::default()
        }
    }

    /// An event of cluster `c`, as the stream of this name has it.
    fn event(stream: &str, version: &str, ordinal: u32, epoch: u64) -> SubscribeResponse {
        response(Frame::Event(Event {
            stream: stream.into(),
            cluster: "c".into(),
            resource: "v1/events".into(),
            change_type: ChangeType::Added.into(),
            position: Some(v1::Position {
                era: 1,
                resource_version: version.into(),
                ordinal: Some(ordinal),
            }),
            epoch,
            object: Some(ObjectMeta {
                resource_version: "7".into(),
                ..ObjectMeta::default()
            }),
            ..Event::default()
        }))
    }

    /// A subscription to the streams 1 and 2.
    fn subscribed() -> Tally {
        let mut tally = Tally::default();
        for stream in ["1", "2"] {
            let added = StreamChange {
                stream: stream.into(),
                r#type: StreamChangeType::Added.into(),
                ..StreamChange::default()
            };
            tally.take(&response(Frame::StreamChange(added)), Instant::now());
        }
        tally
    }

    #[test]
    fn an_event_at_an_earlier_place_of_its_stream_is_noticed() {
        let mut tally = subscribed();
        let places = [
            ("1", "7", 0),
            ("1", "7", 1),
            ("1", "7", 1),
            ("1", "6", 0),
            ("2", "6", 0),
        ];
        for (stream, version, ordinal) in places {
            tally.take(&event(stream, version, ordinal, 1), Instant::now());
        }
        assert_eq!((tally.delivered, tally.not_after), (5, 2));
        assert_eq!(tally.problems, Vec::<String>::new());
    }

    #[test]
    fn the_first_event_of_a_successor_is_one_of_a_later_epoch() {
        let mut tally = subscribed();
        tally.await_successor("c", 3);
        tally.take(&event("1", "7", 0, 3), Instant::now());
        assert_eq!(tally.first_events(), None);
        let now = Instant::now();
        tally.take(&event("1", "8", 0, 4), now);
        assert_eq!(tally.first_events(), Some(&[("c".to_owned(), now)].into()));
    }

    #[test]
    fn what_makes_no_sense_is_a_problem() {
        let mut tally = subscribed();
        tally.take(&SubscribeResponse::default(), Instant::now());
        tally.take(&event("1", "somewhere", 0, 1), Instant::now());
        tally.take(&event("3", "7", 0, 1), Instant::now());
        assert_eq!(tally.problems.len(), 3);
    }
}
