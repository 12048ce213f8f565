//! What the demo's subscriber received.

use std::collections::BTreeMap;

use crc32c::crc32c;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    domain::{
        cluster::Resource,
        frame::{Change, GapReason},
        position::{Position, ResourceVersion},
    },
    proto::v1::{
        self, Event, EventType, Gap, Progress, SubscribeResponse, Synced, subscribe_response::Frame,
    },
    sim::{Audit, Delivered, SeenGap},
};

/// How many frames that make no sense are remembered in words.
const PROBLEMS_MAX: usize = 10;

/// What the demo's subscriber received.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) audit: Audit,
    pub(super) delivered: u64,
    pub(super) gaps: u64,
    /// Events at or before the last position of their stream: repeated or out of order.
    pub(super) not_after: u64,
    /// The last position of each cluster.
    pub(super) reached: BTreeMap<String, Position>,
    /// Streams of the last progress, and whether they are up to date.
    pub(super) streams: usize,
    pub(super) is_current: bool,
    /// Frames that make no sense.
    pub(super) problems: Vec<String>,
    /// The last event in words, for the display.
    pub(super) sample: String,
    /// Clusters whose next owner is awaited, with the epoch of the last.
    awaited: BTreeMap<String, u64>,
    /// When the first event of the next owner came.
    first_events: BTreeMap<String, Instant>,
}

/// What the display shows of an Event.
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
            Some(Frame::Progress(progress)) => self.progress(progress),
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

    fn event(&mut self, event: &Event, now: Instant) -> Result<(), String> {
        let position = position(&event.position)?;
        let change = match event.r#type() {
            EventType::Added => Change::Added,
            EventType::Modified => Change::Modified,
            EventType::Deleted => Change::Deleted,
            EventType::Snapshot => Change::Snapshot,
            EventType::Unspecified => return Err("an event without a type".into()),
        };
        let object = event.object.as_ref().ok_or("an event without an object")?;
        self.audit.deliver(&Delivered {
            cluster: event.cluster.clone(),
            resource: resource(&event.resource)?,
            change,
            rv: version(&object.resource_version)?,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            object_crc: crc32c(&event.object_json),
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
        let shown: Shown = serde_json::from_slice(&event.object_json).unwrap_or_default();
        // The generator fills messages up with dots.
        let message = shown.message.trim_end().trim_end_matches('.').trim_end();
        let (cluster, kind, reason) = (&event.cluster, &shown.r#type, &shown.reason);
        self.sample = format!("{cluster} {kind} {reason}: {message}");
        let last = self.reached.get(&event.cluster);
        // The frames of a snapshot share one position.
        if change != Change::Snapshot && last.is_some_and(|last| position <= *last) {
            self.not_after += 1;
        }
        self.reached.insert(event.cluster.clone(), position);
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), String> {
        let Some(reason) = gap_reason(gap.reason())? else {
            // Nothing is missing: the snapshot of an earlier gap begins again.
            return Ok(());
        };
        self.gaps += 1;
        let from = Some(gap.from.as_str()).filter(|from| !from.is_empty());
        self.audit.gap(&SeenGap {
            cluster: gap.cluster.clone(),
            resource: resource(&gap.resource)?,
            from: from.map(position).transpose()?.map(|from| from.rv),
            to: position(&gap.to)?.rv,
            reason,
            repaired: gap.repaired,
        });
        Ok(())
    }

    fn synced(&mut self, synced: &Synced) -> Result<(), String> {
        let at = position(&synced.position)?;
        let resource = resource(&synced.resource)?;
        self.audit.synced(&synced.cluster, &resource, &at.rv);
        self.reached.insert(synced.cluster.clone(), at);
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) -> Result<(), String> {
        self.streams = progress.streams.len();
        self.is_current = progress.streams.iter().all(|stream| !stream.catching_up);
        Ok(())
    }
}

fn position(text: &str) -> Result<Position, String> {
    text.parse()
        .map_err(|error| format!("position {text:?}: {error}"))
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
        v1::GapReason::StreamCreated => GapReason::StreamCreated,
    };
    Ok(Some(reason))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{Event, EventType, Frame, SubscribeResponse, Tally};
    use crate::proto::v1::ObjectMeta;

    fn event(position: &str, epoch: u64) -> SubscribeResponse {
        let event = Event {
            cluster: "c".into(),
            resource: "v1/events".into(),
            r#type: EventType::Added.into(),
            position: position.into(),
            epoch,
            object: Some(ObjectMeta {
                resource_version: "7".into(),
                ..ObjectMeta::default()
            }),
            ..Event::default()
        };
        SubscribeResponse {
            cursor: String::new(),
            frame: Some(Frame::Event(event)),
        }
    }

    #[test]
    fn an_event_at_an_earlier_place_is_noticed() {
        let mut tally = Tally::default();
        for position in ["1/7/0", "1/7/1", "1/7/1", "1/6/0"] {
            tally.take(&event(position, 1), Instant::now());
        }
        assert_eq!((tally.delivered, tally.not_after), (4, 2));
        assert_eq!(tally.problems, Vec::<String>::new());
    }

    #[test]
    fn the_first_event_of_a_successor_is_one_of_a_later_epoch() {
        let mut tally = Tally::default();
        tally.await_successor("c", 3);
        tally.take(&event("1/7/0", 3), Instant::now());
        assert_eq!(tally.first_events(), None);
        let now = Instant::now();
        tally.take(&event("1/8/0", 4), now);
        assert_eq!(tally.first_events(), Some(&[("c".to_owned(), now)].into()));
    }

    #[test]
    fn what_makes_no_sense_is_a_problem() {
        let mut tally = Tally::default();
        tally.take(&SubscribeResponse::default(), Instant::now());
        tally.take(&event("somewhere", 1), Instant::now());
        assert_eq!(tally.problems.len(), 2);
    }
}
