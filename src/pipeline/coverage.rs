//! Which streams a subscription covers, where each of them begins, and what the subscriber is sent
//! about it. Pure: state in, steps out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    filter::{Filters, StreamFilter},
    output::{StreamChange, StreamChangeReason, StreamChangeType, StreamName},
};
use crate::domain::{
    cluster::Cluster,
    cursor::{Cursor, Mode},
    delivery::place::Place,
    id::StreamId,
    position::Position,
    state::State,
    stream::Stream,
};

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what happens from now on.
    Now,
    /// With what exists.
    Snapshot,
    /// Where an earlier subscription stopped.
    Cursor(Cursor),
}

/// The streams of one subscription.
pub(super) struct Coverage {
    mode: Mode,
    filters: Filters,
    /// The digest of the filters and the view.
    digest: u64,
    /// The newest id of the last processed state: later ids are new.
    newest: u64,
    covered: BTreeMap<StreamId, Covered>,
    /// Streams that were covered before, and exist, with the place to continue at.
    left: BTreeMap<StreamId, Place>,
}

/// What is known of a covered stream.
struct Covered {
    name: Arc<StreamName>,
    filter: StreamFilter,
    paused: bool,
}

/// What has to be done about one stream.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Follow it.
    Add(Added),
    /// Stop following it.
    Remove(StreamChange),
    /// Something about it is new.
    Change(StreamChange),
    /// Other filters apply to it, because the cluster's labels are others; nothing is sent.
    Refilter(StreamId, StreamFilter),
    /// What a copy holds of it was selected by another filter; where the subscription stood, none
    /// where it stood inside a snapshot.
    Void(StreamId, Option<Position>),
}

/// A stream that is covered from now on.
#[derive(Debug, PartialEq)]
pub(super) struct Added {
    pub(super) name: Arc<StreamName>,
    pub(super) filter: StreamFilter,
    pub(super) from: Place,
    pub(super) change: StreamChange,
}

/// A stream of the state that the filters select.
struct Wanted<'a> {
    stream: &'a Stream,
    cluster: &'a Cluster,
    filter: StreamFilter,
}

impl Coverage {
    /// The streams that a subscription begins with. `now_of` gives the newest position of a stream.
    pub(super) fn begin(
        start: &Start,
        filters: Filters,
        digest: u64,
        state: &State,
        now_of: &dyn Fn(&Stream) -> Option<Position>,
    ) -> (Self, Vec<Step>) {
        let mut coverage = Self {
            mode: match start {
                Start::Now => Mode::Changes,
                Start::Snapshot => Mode::Copy,
                Start::Cursor(cursor) => cursor.mode,
            },
            filters,
            digest,
            newest: state.last_id,
            covered: BTreeMap::new(),
            left: BTreeMap::new(),
        };
        let wanted = coverage.wanted(state);
        let mut steps = Vec::new();
        if let Start::Cursor(cursor) = start {
            coverage.leave_unwanted(cursor, state, &wanted, &mut steps);
        }
        for stream in wanted {
            coverage.begin_stream(start, stream, now_of, &mut steps);
        }
        (coverage, steps)
    }

    /// What the cursor covers and the filters no longer select.
    fn leave_unwanted(
        &mut self,
        cursor: &Cursor,
        state: &State,
        wanted: &[Wanted<'_>],
        steps: &mut Vec<Step>,
    ) {
        let wanted: BTreeSet<_> = wanted.iter().map(|wanted| wanted.stream.id).collect();
        for (id, place) in &cursor.places {
            if wanted.contains(id) {
                continue;
            }
            let reason = match state.streams.get(id) {
                None => StreamChangeReason::RemovedSinceCursor,
                Some(_) if cursor.filter != self.digest => StreamChangeReason::FilterChanged,
                Some(_) => StreamChangeReason::Unmatched,
            };
            let name = state.streams.get(id).and_then(|it| name_of(state, it));
            let change = StreamChange {
                position: place.position(),
                ..StreamChange::new(*id, name, StreamChangeType::Removed, reason)
            };
            steps.push(Step::Remove(change));
            self.remember(*id, place.clone());
        }
        for (id, place) in &cursor.left {
            if !wanted.contains(id) {
                self.remember(*id, place.clone());
            }
        }
        self.left.retain(|id, _| state.streams.contains_key(id));
    }

    fn begin_stream(
        &mut self,
        start: &Start,
        wanted: Wanted<'_>,
        now_of: &dyn Fn(&Stream) -> Option<Position>,
        steps: &mut Vec<Step>,
    ) {
        let id = wanted.stream.id;
        let Start::Cursor(cursor) = start else {
            let from = self.begin_now(wanted.stream, now_of);
            let step = self.add(wanted, from, StreamChangeReason::Subscribed);
            steps.push(step);
            return;
        };
        if let Some(place) = cursor.places.get(&id) {
            // While it was away, the cluster's labels may have changed so that others of the
            // filters apply. A log is judged by those that apply when it is sent; what a copy holds
            // was selected by the ones before.
            let mask = cursor.masks.get(&id).copied().unwrap_or_default();
            let others_apply = self.mode == Mode::Copy && mask != wanted.filter.mask();
            let changed = cursor.filter != self.digest || others_apply;
            let from = match place {
                // The rest of a snapshot must be selected as its beginning was.
                Place::Snapshot { .. } if changed => Place::SnapshotDue,
                place => place.clone(),
            };
            let step = self.add(wanted, from, StreamChangeReason::Continued);
            steps.push(step);
            if changed {
                steps.extend(self.filter_changed(id, place));
            }
        } else if let Some(place) = cursor.left.get(&id)
            && self.mode == Mode::Changes
        {
            let step = self.add(wanted, place.clone(), StreamChangeReason::Matched);
            steps.push(step);
        } else {
            let created = id.0 > cursor.newest;
            steps.push(self.add_unknown(wanted, created, now_of));
        }
    }

    /// A stream that the subscription has never covered.
    fn add_unknown(
        &mut self,
        wanted: Wanted<'_>,
        created: bool,
        now_of: &dyn Fn(&Stream) -> Option<Position>,
    ) -> Step {
        if created {
            let from = self.begin_first(wanted.stream);
            self.add(wanted, from, StreamChangeReason::Created)
        } else {
            let from = self.begin_now(wanted.stream, now_of);
            self.add(wanted, from, StreamChangeReason::Matched)
        }
    }

    fn filter_changed(&self, id: StreamId, place: &Place) -> Option<Step> {
        let position = place.position();
        if self.mode == Mode::Copy {
            // Inside a snapshot, or before it, a new one was announced with the stream.
            return position.map(|position| Step::Void(id, Some(position)));
        }
        let covered = self.covered.get(&id)?;
        let change = StreamChange {
            position,
            ..StreamChange::new(
                id,
                Some(covered.name.clone()),
                StreamChangeType::Changed,
                StreamChangeReason::FilterChanged,
            )
        };
        Some(Step::Change(change))
    }

    /// Where a stream begins that is followed from now on.
    fn begin_now(&self, stream: &Stream, now_of: &dyn Fn(&Stream) -> Option<Position>) -> Place {
        match self.mode {
            Mode::Copy => Place::SnapshotDue,
            Mode::Changes => now_of(stream).map_or(Place::BeforeFirst, Place::At),
        }
    }

    /// Where a stream begins that did not exist before.
    fn begin_first(&self, stream: &Stream) -> Place {
        match self.mode {
            Mode::Copy => Place::SnapshotDue,
            Mode::Changes => stream.first.clone().map_or(Place::BeforeFirst, Place::At),
        }
    }

    fn add(&mut self, wanted: Wanted<'_>, from: Place, reason: StreamChangeReason) -> Step {
        let id = wanted.stream.id;
        let name = Arc::new(StreamName::new(wanted.cluster, wanted.stream));
        let paused = wanted.cluster.spec.paused;
        self.left.remove(&id);
        self.covered.insert(
            id,
            Covered {
                name: name.clone(),
                filter: wanted.filter.clone(),
                paused,
            },
        );
        let change = StreamChange {
            position: from.position(),
            snapshot_follows: from == Place::SnapshotDue,
            snapshot_continues: matches!(from, Place::Snapshot { .. }),
            paused,
            ..StreamChange::new(id, Some(name.clone()), StreamChangeType::Added, reason)
        };
        Step::Add(Added {
            name,
            filter: wanted.filter,
            from,
            change,
        })
    }

    /// What another state changes. `place_of` gives the subscription's place in a stream.
    pub(super) fn fit(
        &mut self,
        state: &State,
        now_of: &dyn Fn(&Stream) -> Option<Position>,
        place_of: &dyn Fn(StreamId) -> Option<Place>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let wanted = self.wanted(state);
        let ids: BTreeSet<_> = wanted.iter().map(|wanted| wanted.stream.id).collect();
        let gone: Vec<_> = self.covered.keys().copied().collect();
        for id in gone.into_iter().filter(|id| !ids.contains(id)) {
            steps.extend(self.remove(id, state, place_of(id)));
        }
        self.left.retain(|id, _| state.streams.contains_key(id));
        for wanted in wanted {
            let id = wanted.stream.id;
            if self.covered.contains_key(&id) {
                self.update(&wanted, place_of(id).as_ref(), &mut steps);
            } else if let Some(place) = self.left.get(&id).cloned() {
                steps.push(self.add(wanted, place, StreamChangeReason::Matched));
            } else {
                let created = id.0 > self.newest;
                steps.push(self.add_unknown(wanted, created, now_of));
            }
        }
        self.newest = state.last_id;
        steps
    }

    fn remove(&mut self, id: StreamId, state: &State, place: Option<Place>) -> Option<Step> {
        let covered = self.covered.remove(&id)?;
        let reason = if state.streams.contains_key(&id) {
            StreamChangeReason::Unmatched
        } else if state.clusters.contains_key(&covered.name.cluster_id) {
            StreamChangeReason::ResourceRemoved
        } else {
            StreamChangeReason::ClusterDeleted
        };
        let position = place.as_ref().and_then(Place::position);
        if let Some(place) = place {
            self.remember(id, place);
        }
        Some(Step::Remove(StreamChange {
            position,
            ..StreamChange::new(id, Some(covered.name), StreamChangeType::Removed, reason)
        }))
    }

    /// A copy that drops a stream begins with a snapshot when it has it again, wherever it was.
    fn remember(&mut self, id: StreamId, place: Place) {
        if self.mode == Mode::Changes {
            self.left.insert(id, place);
        }
    }

    /// A stream that stays.
    fn update(&mut self, wanted: &Wanted<'_>, place: Option<&Place>, steps: &mut Vec<Step>) {
        let id = wanted.stream.id;
        let Some(covered) = self.covered.get_mut(&id) else {
            return;
        };
        if covered.filter != wanted.filter {
            covered.filter = wanted.filter.clone();
            steps.push(Step::Refilter(id, wanted.filter.clone()));
            // Before the first object of a snapshot nothing was sent that could be void.
            let sent = place.filter(|place| !matches!(place, Place::SnapshotDue));
            if let (Mode::Copy, Some(place)) = (self.mode, sent) {
                steps.push(Step::Void(id, place.position()));
            }
        }
        let paused = wanted.cluster.spec.paused;
        let uid = wanted.stream.cluster_uid.as_deref().unwrap_or_default();
        let identified = covered.name.cluster_uid != uid;
        if identified {
            covered.name = Arc::new(StreamName::new(wanted.cluster, wanted.stream));
        }
        let mut push = |kind, reason| {
            let change = StreamChange {
                position: place.and_then(Place::position),
                paused,
                ..StreamChange::new(id, Some(covered.name.clone()), kind, reason)
            };
            steps.push(Step::Change(change));
        };
        if identified {
            push(
                StreamChangeType::Changed,
                StreamChangeReason::ClusterIdentified,
            );
        }
        if covered.paused != paused {
            let kind = if paused {
                StreamChangeType::Paused
            } else {
                StreamChangeType::Resumed
            };
            push(kind, StreamChangeReason::ClusterPaused);
        }
        covered.paused = paused;
    }

    fn wanted<'a>(&self, state: &'a State) -> Vec<Wanted<'a>> {
        let streams = state.streams.values().filter_map(|stream| {
            let cluster = state.clusters.get(&stream.shard.cluster)?;
            let filter = self.filters.for_stream(cluster, &stream.selector)?;
            Some(Wanted {
                stream,
                cluster,
                filter,
            })
        });
        streams.collect()
    }

    /// The whole cursor, with the places of the streams that are covered.
    pub(super) fn cursor(&self, places: BTreeMap<StreamId, Place>) -> Cursor {
        let masks = self.covered.iter();
        let masks = masks.map(|(id, covered)| (*id, covered.filter.mask()));
        Cursor {
            mode: self.mode,
            filter: self.digest,
            newest: self.newest,
            places,
            left: self.left.clone(),
            masks: masks
                .filter(|(_, mask)| self.mode == Mode::Copy && *mask != 0)
                .collect(),
        }
    }

    /// What the subscription is for.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }
}

fn name_of(state: &State, stream: &Stream) -> Option<Arc<StreamName>> {
    let cluster = state.clusters.get(&stream.shard.cluster)?;
    Some(Arc::new(StreamName::new(cluster, stream)))
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
