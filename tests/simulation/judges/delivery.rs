//! What one subscriber receives.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use crc32c::crc32c;
use quorumwatch::{
    client::{Begin, Cursor, Table, Update},
    domain::{
        cluster::Resource,
        event::{Change, GapReason},
        position::ResourceVersion,
    },
    proto::v1::{
        self, ChangeType, Event, Gap, Position, StreamChange, StreamChangeType, SubscribeResponse,
        Synced, subscribe_response::Frame,
    },
    sim::{self, Audit, Delivered},
};

use crate::{
    hosts::{RESOURCES, Scope, Wish},
    report,
};

/// A cluster, and one of its resources.
pub(crate) type Place = (String, String);

/// A gap, when it was received.
#[derive(Clone, Debug)]
pub(crate) struct SeenGap {
    pub(super) reason: v1::GapReason,
    pub(super) place: Place,
    pub(super) at: Duration,
}

/// What one subscriber has received, by all its processes.
pub(crate) struct Record {
    who: String,
    scope: Scope,
    is_copy: bool,
    /// To be compared with what was committed.
    pub(crate) audit: Audit,
    /// A copy that it keeps from the frames alone. It checks that their positions grow, and that
    /// snapshots come only where they are announced.
    pub(crate) table: Table,
    cursor: Cursor,
    /// Whether the next replica that serves is not the first.
    is_resumed: bool,
    pub(crate) events: u64,
    pub(crate) gaps: Vec<SeenGap>,
    /// The snapshots of which it has received a part.
    inside: BTreeSet<Place>,
    /// How far it has come.
    pub(crate) reached: BTreeMap<Place, ResourceVersion>,
    /// The epochs under which each cluster's events came.
    pub(crate) epochs: BTreeSet<(String, u64)>,
    /// The last of them, by stream, for one that keeps up, until the first replica was left: who is
    /// behind is sent the past by the current owner, and then what an owner before it had published.
    newest: Option<BTreeMap<String, u64>>,
}

impl Record {
    pub(crate) fn new(who: &str, wish: &Wish) -> Self {
        Self {
            who: who.to_owned(),
            scope: wish.scope,
            is_copy: wish.begin == Begin::Snapshot,
            audit: Audit::new(),
            table: Table::new(),
            cursor: Cursor::default(),
            is_resumed: false,
            events: 0,
            gaps: Vec::new(),
            inside: BTreeSet::new(),
            reached: BTreeMap::new(),
            epochs: BTreeSet::new(),
            newest: wish.keeps_up.then(BTreeMap::new),
        }
    }

    /// Where the next process goes on.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        let cursor = self.cursor.clone();
        (!cursor.is_empty()).then_some(cursor)
    }

    /// Whether it has received a part of a snapshot of this cluster, and not its end.
    pub(crate) fn is_inside_snapshot(&self, cluster: &str) -> bool {
        self.inside.iter().any(|place| place.0 == cluster)
    }

    /// Whether an object that does not match a filter may concern it: only a copy has it, and only
    /// where the filter is about objects.
    fn has_unmatched(&self) -> bool {
        self.is_copy && !self.scope.is_whole()
    }

    /// Takes what the client returned.
    pub(crate) fn take(&mut self, update: Update) {
        match update {
            Update::Connected(endpoint) => {
                report::note(&self.who, format_args!("served by {endpoint}"));
                if self.is_resumed {
                    self.newest = None;
                    report::reached("resumed");
                }
                self.is_resumed = true;
            }
            Update::Interrupted { endpoint, why } => {
                report::note(&self.who, format_args!("leaves {endpoint}: {why}"));
            }
            Update::Frame(response) => self.frame(*response),
        }
    }

    fn frame(&mut self, response: SubscribeResponse) {
        self.cursor.take(&response);
        if let Err(violation) = self.table.apply(&response) {
            self.violated(format!("{violation}: {response:?}"));
        }
        match response.frame {
            Some(Frame::Event(event)) => self.event(&event),
            Some(Frame::Gap(gap)) => self.gap(&gap),
            Some(Frame::Synced(synced)) => self.synced(&synced),
            Some(Frame::StreamChange(change)) => self.stream_change(&change),
            Some(Frame::Closing(closing)) => {
                report::note(&self.who, format_args!("closing: {}", closing.message));
                report::reached(format!("closing {:?}", closing.reason()));
            }
            Some(Frame::Progress(_) | Frame::Heartbeat(_)) | None => {}
        }
    }

    fn event(&mut self, event: &Event) {
        let change = match event.change_type() {
            ChangeType::Added => Change::Added,
            ChangeType::Modified => Change::Modified,
            ChangeType::Deleted => Change::Deleted,
            ChangeType::Snapshot => Change::Snapshot,
            // The copy drops the object, and there is nothing to compare.
            ChangeType::Unmatched if self.has_unmatched() => {
                return report::reached("filter: a change that no longer matches");
            }
            ChangeType::Unmatched | ChangeType::Unspecified => {
                return self.violated(format!("an event that was not asked for: {event:?}"));
            }
        };
        let (Some(object), Some(position)) = (&event.object, &event.position) else {
            return self.violated(format!("an event without its parts: {event:?}"));
        };
        self.events += 1;
        self.note_epoch(event);
        // A snapshot is complete only at its end.
        if change == Change::Snapshot {
            let place = (event.cluster.clone(), event.resource.clone());
            self.inside.insert(place);
        } else {
            self.has_reached(&event.cluster, &event.resource, position);
        }
        // A resource that comes and goes is another stream each time, and what happens in between is
        // not sent: only its objects are compared.
        if !RESOURCES.contains(&event.resource.as_str()) {
            return;
        }
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
    }

    fn note_epoch(&mut self, event: &Event) {
        self.epochs.insert((event.cluster.clone(), event.epoch));
        let Some(newest) = &mut self.newest else {
            return;
        };
        let before = newest.insert(event.stream.clone(), event.epoch);
        if let Some(before) = before.filter(|before| *before > event.epoch) {
            let epoch = event.epoch;
            self.violated(format!(
                "epoch {epoch} after epoch {before}, of which its replica knew: {event:?}"
            ));
        }
    }

    fn gap(&mut self, gap: &Gap) {
        report::note(&self.who, format_args!("{gap:?}"));
        let repaired = if gap.repaired { ", repaired" } else { "" };
        report::reached(format!("gap {:?}{repaired}", gap.reason()));
        let place = (gap.cluster.clone(), gap.resource.clone());
        self.inside.remove(&place);
        self.gaps.push(SeenGap {
            reason: gap.reason(),
            place,
            at: report::elapsed(),
        });
        if !RESOURCES.contains(&gap.resource.as_str()) {
            return;
        }
        let of = resource(&gap.resource);
        let reason = match gap.reason() {
            v1::GapReason::SnapshotRestarted => return self.audit.restarted(&gap.cluster, &of),
            v1::GapReason::HistoryExpired => GapReason::HistoryExpired,
            v1::GapReason::HistoryReset => GapReason::HistoryReset,
            v1::GapReason::ClusterReplaced => GapReason::ClusterReplaced,
            v1::GapReason::WatchCacheReset => GapReason::WatchCacheReset,
            v1::GapReason::UpstreamInconsistent => GapReason::UpstreamInconsistent,
            // Only its copy is compared.
            v1::GapReason::FilterChanged if self.has_unmatched() => return,
            v1::GapReason::FilterChanged | v1::GapReason::Unspecified => {
                return self.violated(format!("a gap that cannot be: {gap:?}"));
            }
        };
        // Where only the end of the snapshot says it, nothing is known beyond the beginning.
        let Some(to) = gap.to.as_ref().or(gap.from.as_ref()) else {
            return self.violated(format!("a gap without a place: {gap:?}"));
        };
        self.audit.gap(&sim::SeenGap {
            cluster: gap.cluster.clone(),
            resource: of,
            from: gap
                .from
                .as_ref()
                .map(|from| version(&from.resource_version)),
            to: version(&to.resource_version),
            reason,
            repaired: gap.repaired,
        });
    }

    fn synced(&mut self, synced: &Synced) {
        report::reached("snapshot");
        let Some(at) = &synced.position else {
            return self.violated(format!("a snapshot without its place: {synced:?}"));
        };
        let place = (synced.cluster.clone(), synced.resource.clone());
        self.inside.remove(&place);
        self.has_reached(&synced.cluster, &synced.resource, at);
        if RESOURCES.contains(&synced.resource.as_str()) {
            let of = resource(&synced.resource);
            let rv = version(&at.resource_version);
            self.audit.synced(&synced.cluster, &of, &rv);
        }
    }

    fn stream_change(&mut self, change: &StreamChange) {
        let StreamChange {
            cluster, resource, ..
        } = change;
        let (kind, reason) = (change.r#type(), change.reason());
        let words = format!("{cluster} {resource}: {kind:?}, {reason:?}");
        report::note(&self.who, words);
        report::reached(format!("stream {kind:?}, {reason:?}"));
        if kind == StreamChangeType::Removed {
            let place = (cluster.clone(), resource.clone());
            self.inside.remove(&place);
        }
    }

    fn has_reached(&mut self, cluster: &str, resource: &str, position: &Position) {
        let place = (cluster.to_owned(), resource.to_owned());
        self.reached
            .insert(place, version(&position.resource_version));
    }

    fn violated(&self, what: impl Display) {
        report::violated(format!("{}: {what}", self.who));
    }
}

fn version(text: &str) -> ResourceVersion {
    text.parse().unwrap()
}

fn resource(text: &str) -> Resource {
    text.parse().unwrap()
}
