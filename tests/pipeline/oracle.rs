//! What a subscriber may receive, frame by frame: [`judge`].
//!
//! Each move of the cursor in a stream is compared with what lies between its two places in the
//! history that was written: exactly that must have been received with it, under the subscriber's
//! filter, in order and byte for byte. So a frame that is missing, comes twice, comes in another
//! order or belongs to another stream is found where it happens, and a cursor that moves over
//! something without a gap is, too. Inside a gap it is the net changes between its two lists, or
//! the objects of one list, that are compared in the same way. An interruption changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::{
    domain::{
        cursor::Mode,
        delivery::{
            item::{Gap, Part},
            place::Place,
        },
        event::{Change, GapReason},
        id::{Era, StreamId},
        position::Position,
        stream::EraStart,
    },
    pipeline::output::{StreamChange, StreamChangeReason, StreamChangeType},
};

use crate::{
    etcd::Told,
    history::{History, is_same, rest},
    subscriber::{Event, Record, Seen, Subscriber},
    want::{Visible, Want},
    world::World,
};

/// The streams that a subscriber of this filter has, now.
pub(crate) fn wanted_streams(world: &World, want: Want) -> BTreeSet<StreamId> {
    let existing = world.existing().into_iter();
    let wanted = existing.filter(|(id, cluster)| {
        let namespace = &world.streams[id].selection.namespace;
        want.wants_stream(cluster, namespace)
    });
    wanted.map(|(id, _)| id).collect()
}

/// Follows one subscriber.
struct Oracle<'a> {
    world: &'a World,
    want: Want,
    is_copy: bool,
    eras: BTreeMap<Era, EraStart>,
    histories: BTreeMap<StreamId, History>,
    /// Where it stands in each stream that it has.
    places: BTreeMap<StreamId, Place>,
    /// Those that no cursor has shown yet: a resume may not know them.
    fresh: BTreeSet<StreamId>,
    /// The same of streams that it had, as far as they are remembered.
    left: BTreeMap<StreamId, Place>,
    /// Events that an API server has left out, and that no gap has made up for.
    missed: BTreeMap<StreamId, Vec<Told>>,
}

/// Judges all that a subscriber has received, which has nothing to wait for any more.
pub(crate) fn judge(world: &World, subscriber: &Subscriber) -> Result<(), String> {
    let mut oracle = Oracle {
        world,
        want: subscriber.want,
        is_copy: subscriber.mode() == Mode::Copy,
        eras: world.group.eras(),
        histories: BTreeMap::new(),
        places: BTreeMap::new(),
        fresh: BTreeSet::new(),
        left: BTreeMap::new(),
        missed: BTreeMap::new(),
    };
    for (index, record) in subscriber.records.iter().enumerate() {
        let places = oracle.places.clone();
        oracle.take(record).map_err(|reason| {
            let before = subscriber.records[..=index].iter();
            let before = before.filter(|it| {
                record.stream.is_none() || it.stream.is_none() || it.stream == record.stream
            });
            let before: Vec<_> = before.map(ToString::to_string).collect();
            let tail = &before[before.len().saturating_sub(10)..];
            let places = places
                .iter()
                .map(|(stream, place)| format!("{stream}: {place}"));
            let places: Vec<_> = places.collect();
            format!(
                "frame {index}: {reason}\nit stood at {places:?}\n{}",
                tail.join("\n")
            )
        })?;
    }
    oracle.end(subscriber)
}

type Judged = Result<(), String>;

impl Oracle<'_> {
    fn history(&mut self, stream: StreamId) -> &History {
        let world = self.world;
        let histories = &mut self.histories;
        histories
            .entry(stream)
            .or_insert_with(|| History::new(world, stream))
    }

    fn take(&mut self, record: &Record) -> Judged {
        if let (Some(stream), Seen::Stream(change)) = (record.stream, &record.seen) {
            let cursor = record.cursor.as_ref();
            let resumed_at = cursor.and_then(|cursor| cursor.places.get(&stream));
            self.stream_change(stream, change, resumed_at)?;
        } else if let Some(stream) = record.stream
            && !self.places.contains_key(&stream)
        {
            return Err(format!("stream {stream} was not added"));
        }
        // What comes before the first progress moves nothing.
        let Some(cursor) = &record.cursor else {
            return Ok(());
        };
        if let Seen::Progress { whole: true } = record.seen {
            for stream in std::mem::take(&mut self.fresh) {
                if !cursor.places.contains_key(&stream) {
                    self.places.remove(&stream);
                }
            }
            let known: BTreeSet<_> = self.places.keys().collect();
            if known != cursor.places.keys().collect() {
                return Err(format!(
                    "the whole cursor covers {:?}",
                    cursor.places.keys()
                ));
            }
        }
        let places = self.places.clone();
        for (stream, before) in places {
            let Some(after) = cursor.places.get(&stream) else {
                continue;
            };
            let seen = (record.stream == Some(stream)).then_some(&record.seen);
            let seen = seen.filter(|seen| !matches!(seen, Seen::Stream(_)));
            if seen.is_some() || before != *after {
                self.step(stream, &before, after, seen)
                    .map_err(|reason| format!("stream {stream}, {before} to {after}: {reason}"))?;
                self.places.insert(stream, after.clone());
            }
        }
        Ok(())
    }

    /// `resumed_at` is the place in the stream that the cursor of a resume has, if any.
    fn stream_change(
        &mut self,
        stream: StreamId,
        change: &StreamChange,
        resumed_at: Option<&Place>,
    ) -> Judged {
        use StreamChangeReason as Reason;
        match change.kind {
            StreamChangeType::Added => {
                let kept = match change.reason {
                    Reason::Continued => {
                        let left = self.left.remove(&stream);
                        let kept = self.places.get(&stream).cloned();
                        // Removed after the cursor was taken; a replica that is behind goes on.
                        // Where there is neither, it was added before the cursor was taken, and the
                        // frame that said so was lost.
                        kept.or_else(|| left.filter(|left| resumed_at == Some(left)))
                    }
                    Reason::Matched => {
                        // A replica that is behind may still know one that is gone.
                        let exists = self.world.existing().contains_key(&stream);
                        let left = self.left.remove(&stream);
                        let left = left.filter(|_| !self.is_copy && exists);
                        left.map(|left| self.left_at(stream, left, change.position.as_ref()))
                    }
                    _ => None,
                };
                let place = self.begin(stream, change, kept.as_ref())?;
                self.fresh.insert(stream);
                self.places.insert(stream, place);
            }
            StreamChangeType::Removed => {
                if let Some(place) = self.places.remove(&stream) {
                    let place = self.silently(stream, &place, change.position.as_ref())?;
                    self.left.insert(stream, place);
                }
            }
            StreamChangeType::Paused | StreamChangeType::Resumed | StreamChangeType::Changed => {
                if !self.places.contains_key(&stream) {
                    return Err("it was not added".into());
                }
            }
        }
        Ok(())
    }

    /// Where a log left a stream: where its cursor says, which may be before what the removal said.
    /// The connection broke between the two, and nothing was there.
    fn left_at(&mut self, stream: StreamId, told: Place, at: Option<&Position>) -> Place {
        let (Some(at), Some(end)) = (at, told.position()) else {
            return told;
        };
        let cursor = Place::At(at.clone());
        let is_empty = *at < end && self.silently(stream, &cursor, Some(&end)).is_ok();
        if is_empty { cursor } else { told }
    }

    /// Where a stream begins or goes on.
    fn begin(
        &self,
        stream: StreamId,
        change: &StreamChange,
        kept: Option<&Place>,
    ) -> Result<Place, String> {
        if let Some(kept) = kept {
            let is_kept = change.position == kept.position()
                && change.snapshot_follows == (*kept == Place::SnapshotDue)
                && change.snapshot_continues == matches!(kept, Place::Snapshot { .. });
            return if is_kept {
                Ok(kept.clone())
            } else {
                Err(format!("it does not go on at {kept}"))
            };
        }
        if self.is_copy && !change.snapshot_follows {
            return Err("a copy begins with a snapshot".into());
        }
        match &change.position {
            _ if change.snapshot_follows => Ok(Place::SnapshotDue),
            None => Ok(Place::BeforeFirst),
            Some(position) => {
                let eras = self.eras.values();
                let first = eras.filter(|start| start.start() <= *position).count();
                if first == 0 {
                    return Err(format!("{stream} begins before its first era"));
                }
                Ok(Place::At(position.clone()))
            }
        }
    }

    /// It has moved, and has received this with it.
    fn step(
        &mut self,
        stream: StreamId,
        before: &Place,
        after: &Place,
        seen: Option<&Seen>,
    ) -> Judged {
        match seen {
            Some(Seen::Gap(gap)) => return self.gap(stream, before, after, gap),
            Some(Seen::Restarted) => {
                return match (before, after) {
                    // What was given of the other one may have been filtered out.
                    (_, Place::Snapshot { given: 0, .. }) if before.needs_snapshot() => Ok(()),
                    _ => Err("no snapshot was under way".into()),
                };
            }
            Some(Seen::FilterChanged) => return Err("the filter has not changed".into()),
            _ => {}
        }
        let event = match seen {
            Some(Seen::Event(event)) => Some(event),
            _ => None,
        };
        match (before, after) {
            (Place::BeforeFirst, Place::At(to)) => {
                let from = self.first(stream).ok_or("nothing began")?;
                self.advance(stream, &from, to, event)
            }
            (Place::At(from), Place::At(to)) => {
                self.unbroken(from, to)?;
                self.advance(stream, from, to, event)
            }
            (
                Place::Repair { from, to, given },
                Place::Repair {
                    given: now,
                    to: same,
                    ..
                },
            ) if to == same => {
                let changes = self.history(stream).changes(from, to);
                self.compare(
                    stream,
                    &rest(changes, *given, Some(*now)),
                    event,
                    Part::Repair,
                )
            }
            (Place::Repair { from, to, given }, Place::At(at)) if at >= to => {
                let changes = self.history(stream).changes(from, to);
                let rest = rest(changes, *given, None);
                if event.is_none() || at == to {
                    self.compare(stream, &rest, None, Part::Repair)?;
                }
                self.advance(stream, to, at, event)
            }
            _ if before.needs_snapshot() => self.list(stream, before, after, seen),
            _ if before == after && seen.is_none() => Ok(()),
            _ => Err(format!("it cannot move so, with {seen:?}")),
        }
    }

    /// It has moved inside a snapshot, or into it or out of it.
    fn list(
        &mut self,
        stream: StreamId,
        before: &Place,
        after: &Place,
        seen: Option<&Seen>,
    ) -> Judged {
        let synced = matches!(seen, Some(Seen::Synced(_)));
        let event = match seen {
            Some(Seen::Event(event)) => Some(event),
            _ => None,
        };
        match (before, after) {
            (Place::SnapshotDue, Place::Snapshot { list, given }) => {
                let objects = self.history(stream).list(list);
                let shown = rest(objects, 0, Some(*given));
                self.compare(stream, &shown, event, Part::Snapshot)
            }
            (
                Place::Snapshot { list, given },
                Place::Snapshot {
                    list: same,
                    given: now,
                },
            ) if list == same => {
                let objects = self.history(stream).list(list);
                let shown = rest(objects, *given, Some(*now));
                self.compare(stream, &shown, event, Part::Snapshot)
            }
            // Nothing was given of the first one.
            (Place::Snapshot { given: 0, .. }, Place::Snapshot { list, given }) => {
                let objects = self.history(stream).list(list);
                let shown = rest(objects, 0, Some(*given));
                self.compare(stream, &shown, event, Part::Snapshot)
            }
            (Place::SnapshotDue | Place::Snapshot { .. }, Place::At(at)) if synced => {
                let given = match before {
                    Place::Snapshot { list, given } if list == at => *given,
                    Place::Snapshot { given: 0, .. } | Place::SnapshotDue => 0,
                    _ => return Err("another snapshot is complete".into()),
                };
                let shown = rest(self.history(stream).list(at), given, None);
                self.compare(stream, &shown, None, Part::Snapshot)
            }
            _ if before == after && seen.is_none() => Ok(()),
            _ => Err(format!("it cannot move so, with {seen:?}")),
        }
    }

    fn gap(&mut self, stream: StreamId, before: &Place, after: &Place, gap: &Gap) -> Judged {
        self.allow(stream, gap.reason)?;
        let before = &self.silently(stream, before, gap.from.as_ref())?;
        match (gap.repaired, before, after) {
            (false, _, Place::SnapshotDue) => {
                self.missed.remove(&stream);
                Ok(())
            }
            (true, Place::At(at), Place::Repair { from, to, given: 0 })
                if at == from && gap.to.as_ref() == Some(to) =>
            {
                self.unbroken(from, to)
            }
            _ => Err("the gap leads elsewhere".into()),
        }
    }

    /// It has moved up to this position with nothing to say about it, and has said so only now.
    fn silently(
        &mut self,
        stream: StreamId,
        before: &Place,
        at: Option<&Position>,
    ) -> Result<Place, String> {
        let Some(at) = at.filter(|at| Some(*at) != before.position().as_ref()) else {
            return Ok(before.clone());
        };
        let after = match before {
            Place::Repair { from, to, .. } if *at < *to => Place::Repair {
                from: from.clone(),
                to: to.clone(),
                given: at.ordinal.next().get(),
            },
            _ => Place::At(at.clone()),
        };
        self.step(stream, before, &after, None)?;
        Ok(after)
    }

    fn first(&self, stream: StreamId) -> Option<Position> {
        self.world.group.firsts().get(&stream).cloned()
    }

    /// From one era to another there is no way but a gap, unless lists connect the two.
    fn unbroken(&self, from: &Position, to: &Position) -> Judged {
        let is_unbroken = from.era == to.era
            || self
                .eras
                .get(&to.era)
                .is_some_and(|start| start.unbroken_since <= from.era);
        if is_unbroken && from.rv <= to.rv {
            Ok(())
        } else {
            Err("there is no way without a gap".into())
        }
    }

    /// Compares with the events of the history between two positions.
    fn advance(
        &mut self,
        stream: StreamId,
        from: &Position,
        to: &Position,
        event: Option<&Event>,
    ) -> Judged {
        let history = self.history(stream);
        let (begin, end) = (history.index(from), history.index(to));
        let events = history.events.get(begin..end).unwrap_or_default();
        let events: Vec<Told> = events.iter().map(|(told, _)| told.clone()).collect();
        if let Some(event) = event
            && event.position != *to
        {
            return Err(format!("the event is of {}", event.position));
        }
        self.compare(stream, &events, event, Part::Live)
    }

    /// Compares what must come, under the filter, with what has come.
    fn compare(
        &mut self,
        stream: StreamId,
        due: &[Told],
        event: Option<&Event>,
        part: Part,
    ) -> Judged {
        let due = due
            .iter()
            .filter_map(|told| match self.want.visible(self.is_copy, told) {
                Visible::Event => Some((told, false)),
                Visible::Unmatched => Some((told, true)),
                Visible::No => None,
            });
        let due: Vec<_> = due.collect();
        let matched = event.filter(|event| {
            let last = due.last();
            last.is_some_and(|(told, unmatched)| is_same(event, told, *unmatched, part))
        });
        let come = usize::from(matched.is_some());
        let missing: Vec<Told> = due[..due.len() - come]
            .iter()
            .map(|(told, _)| (*told).clone())
            .collect();
        if event.is_some() && matched.is_none() {
            return Err(format!("due is {due:?}"));
        }
        let api = self.world.api(&self.world.streams[&stream].cluster);
        let selection = self.world.streams[&stream].selection.clone();
        // What was created and deleted while a watch was silent is not seen by a list.
        let is_silent = ["stall", "slow event"].map(|it| api.faults().contains_key(it));
        let lived = |uid: &str, change| {
            let mut of_it = missing.iter().filter(|told| told.object.uid == uid);
            is_silent.contains(&true) && of_it.any(|told| told.change == change)
        };
        for told in &missing {
            let uid = &told.object.uid;
            if lived(uid, Change::Added) && lived(uid, Change::Deleted) {
                continue;
            }
            if !api.is_excused(&selection, uid, told.rv) {
                return Err(format!("{told:?} is missing, of {due:?}"));
            }
            self.missed.entry(stream).or_default().push(told.clone());
        }
        Ok(())
    }

    /// A gap needs a cause.
    fn allow(&self, stream: StreamId, reason: GapReason) -> Judged {
        let faults = self
            .world
            .api(&self.world.streams[&stream].cluster)
            .faults();
        let had = |names: &[&str]| names.iter().any(|name| faults.contains_key(name));
        let is_caused = match reason {
            // What a second watch finds inconsistent is history that is gone to its reader.
            GapReason::HistoryExpired => had(&[
                "410",
                "410 list",
                "compaction",
                "late event",
                "dropped event",
                "stall",
            ]),
            GapReason::WatchCacheReset => had(&[
                "410",
                "in-stream 410",
                "in-stream 500",
                "quick close",
                "clean close",
                "refuse",
                "dropped event",
                "late event",
                "stall",
            ]),
            GapReason::UpstreamInconsistent => had(&["late event", "dropped event", "stall"]),
            // A deletion that was left out looks like an object that never was.
            GapReason::HistoryReset => had(&["late event", "dropped event"]),
            GapReason::ClusterReplaced | GapReason::StreamCreated => false,
        };
        if is_caused {
            Ok(())
        } else {
            Err(format!("nothing happened that makes a gap of {reason:?}"))
        }
    }

    /// Nothing more is due.
    fn end(mut self, subscriber: &Subscriber) -> Judged {
        let wanted = wanted_streams(self.world, self.want);
        let known: BTreeSet<_> = self.places.keys().copied().collect();
        if wanted != known {
            return Err(format!(
                "it has the streams {known:?}, there are {wanted:?}"
            ));
        }
        for (stream, place) in self.places.clone() {
            let Place::At(at) = &place else {
                return Err(format!("{stream} ends at {place}"));
            };
            let history = self.history(stream);
            let rest: Vec<_> = history.events[history.index(at)..].to_vec();
            if !rest.is_empty() {
                return Err(format!("{stream} ends at {place}: {rest:?} are missing"));
            }
        }
        let missed = std::mem::take(&mut self.missed);
        for (stream, told) in missed {
            for told in told {
                self.is_made_up_for(stream, &told, subscriber)?;
            }
        }
        Ok(())
    }

    /// A change that the API server left out without a gap must be one that nobody can
    /// see any more: of an object that was changed again, or does not exist any more.
    fn is_made_up_for(
        &mut self,
        stream: StreamId,
        missed: &Told,
        subscriber: &Subscriber,
    ) -> Judged {
        let uid = missed.object.uid.clone();
        let history = self.history(stream);
        let last = history.events.iter().rev();
        let mut last = last.filter(|(told, _)| told.object.uid == uid);
        let last = last.next().unwrap().0.clone();
        let told = subscriber
            .records
            .iter()
            .rev()
            .find_map(|record| match &record.seen {
                Seen::Event(event) if record.stream == Some(stream) && event.uid == uid => {
                    Some(event.rv)
                }
                _ => None,
            });
        let is_gone = last.change == Change::Deleted && told.is_none();
        // What came after it was not left out.
        let selection = &self.world.streams[&stream].selection;
        let api = self.world.api(&self.world.streams[&stream].cluster);
        let is_replaced = last.rv > missed.rv && !api.is_excused(selection, &uid, last.rv);
        if is_gone || is_replaced || told == Some(last.rv) {
            return Ok(());
        }
        let records = subscriber.records.iter();
        let records = records
            .filter(|it| it.stream == Some(stream))
            .map(ToString::to_string);
        let records: Vec<_> = records.collect();
        Err(format!(
            "{stream}: {missed:?} was left out without a gap; known is {told:?}, last was {last:?}\n{}",
            records.join("\n")
        ))
    }
}
