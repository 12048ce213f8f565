//! What a subscriber received, by the identity of its stream, and whether the frames keep to the
//! protocol.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::{
    client::Endpoint,
    domain::{
        event::Change,
        id::Era,
        position::{Ordinal, Position},
    },
    proto::v1::{
        self, ChangeType, GapReason, ObjectContent, StreamChangeType, SubscribeResponse,
        subscribe_response::Frame,
    },
};

use crate::kind::Kind;

/// Objects with such names mark a place in their stream.
pub(crate) const MARK: &str = "mark-";

/// A cluster's name and a kind of its objects: how the tests name a stream. The frames of a stream
/// are known by its identity alone.
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
    pub(crate) object: String,
    pub(crate) content: ObjectContent,
}

/// A gap as it was received.
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
    /// The subscription covers it: once for each connection.
    Added {
        position: Option<Position>,
        snapshot_follows: bool,
    },
    Event(Received),
    Gap(SeenGap),
    Synced(Position),
    /// The subscription stands here: everything before was sent, or did not concern it.
    Passed(Position),
}

/// What was received of one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamRecord {
    pub(crate) seen: Vec<Seen>,
    /// The marks that have come as live events.
    marks: BTreeSet<String>,
    /// How many events have come, snapshots included.
    pub(crate) events: usize,
    pub(crate) gaps: Vec<SeenGap>,
    /// How many snapshots have ended.
    pub(crate) synced: usize,
    /// Its cluster and resource, as it was added last.
    named: (String, String),
    /// Whether it was added on this connection, and not removed since.
    is_covered: bool,
}

/// What the present connection has sent.
#[derive(Clone, Debug, Default)]
struct Connection {
    has_progress: bool,
    is_closing: bool,
}

/// Everything that was received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// By identity.
    streams: BTreeMap<String, StreamRecord>,
    /// The identity of each stream that the tests can name.
    identities: BTreeMap<Stream, String>,
    connection: Connection,
    /// Who serves it now.
    pub(crate) served_by: Option<Endpoint>,
    pub(crate) interruptions: usize,
    /// Why the subscription ended for good: it was refused, or the protocol was broken.
    pub(crate) ended: Option<String>,
}

impl Record {
    fn find(&self, stream: &Stream) -> Option<&StreamRecord> {
        self.streams.get(self.identities.get(stream)?)
    }

    /// What came of a stream, in order.
    pub(crate) fn seen(&self, stream: &Stream) -> &[Seen] {
        self.find(stream).map_or(&[], |found| &found.seen)
    }

    pub(crate) fn gaps(&self, stream: &Stream) -> &[SeenGap] {
        self.find(stream).map_or(&[], |found| &found.gaps)
    }

    /// How many events have come, snapshots included.
    pub(crate) fn events(&self, stream: &Stream) -> usize {
        self.find(stream).map_or(0, |found| found.events)
    }

    /// How many snapshots have ended.
    pub(crate) fn synced(&self, stream: &Stream) -> usize {
        self.find(stream).map_or(0, |found| found.synced)
    }

    /// Whether each of these streams has had a snapshot.
    pub(crate) fn has_synced(&self, streams: &[Stream]) -> bool {
        streams.iter().all(|stream| self.synced(stream) > 0)
    }

    pub(crate) fn has_marks(&self, streams: &[Stream], mark: &str) -> bool {
        let has = |stream| {
            let found = self.find(stream);
            found.is_some_and(|found| found.marks.contains(mark))
        };
        streams.iter().all(has)
    }

    /// Every stream.
    pub(crate) fn all(&self) -> impl Iterator<Item = &StreamRecord> {
        self.streams.values()
    }

    /// How far it is, as text.
    pub(crate) fn summary(&self) -> String {
        let streams = self.all().map(|stream| {
            let StreamRecord {
                named,
                events,
                gaps,
                synced,
                marks,
                ..
            } = stream;
            format!("{named:?}: {events} events, {synced} snapshots, {gaps:?}, {marks:?}")
        });
        let streams: Vec<_> = streams.collect();
        format!("served by {:?}\n{}", self.served_by, streams.join("\n"))
    }

    /// Another replica serves the subscription: it begins by adding every stream.
    pub(crate) fn connected(&mut self, endpoint: Endpoint) {
        self.served_by = Some(endpoint);
        self.connection = Connection::default();
        for stream in self.streams.values_mut() {
            stream.is_covered = false;
        }
    }

    /// Keeps a frame; the error is what it may not be.
    pub(crate) fn keep(&mut self, response: &SubscribeResponse) -> Result<(), String> {
        self.take(response)
            .map_err(|why| format!("{why}: {response:?}"))
    }

    fn take(&mut self, response: &SubscribeResponse) -> Result<(), String> {
        if self.connection.is_closing {
            return Err("a frame after Closing".into());
        }
        let (has_whole, has_delta) = (
            !response.cursor.is_empty(),
            !response.cursor_delta.is_empty(),
        );
        if has_whole && has_delta {
            return Err("a whole cursor and a delta".into());
        }
        let frame = response.frame.as_ref().ok_or("a frame without a kind")?;
        let is_first = !self.connection.has_progress;
        match frame {
            Frame::StreamChange(_) if is_first && (has_whole || has_delta) => {
                return Err("a cursor before the first Progress".into());
            }
            Frame::Progress(_) if is_first && !has_whole => {
                return Err("a first Progress without the whole cursor".into());
            }
            Frame::Closing(_) if !has_whole => {
                return Err("Closing without the whole cursor".into());
            }
            Frame::StreamChange(_) | Frame::Progress(_) | Frame::Closing(_) => {}
            Frame::Heartbeat(_) if !is_first && !has_whole && !has_delta => {}
            Frame::Heartbeat(_) => return Err("a heartbeat that is early, or has a cursor".into()),
            _ if is_first => return Err("a frame before the first Progress".into()),
            _ => {}
        }
        match frame {
            Frame::StreamChange(change) => self.stream_change(change),
            Frame::Event(event) => self.event(event),
            Frame::Gap(gap) => self.gap(gap),
            Frame::Synced(synced) => self.snapshot_ended(synced),
            Frame::Progress(progress) => self.progress(progress),
            Frame::Heartbeat(_) => Ok(()),
            Frame::Closing(_) => {
                self.connection.is_closing = true;
                Ok(())
            }
        }
    }

    fn stream_change(&mut self, change: &v1::StreamChange) -> Result<(), String> {
        let kind = change.r#type();
        if kind == StreamChangeType::Added {
            return self.added(change);
        }
        let stream = self.covered(&change.stream)?;
        if kind == StreamChangeType::Removed {
            stream.is_covered = false;
        }
        Ok(())
    }

    fn added(&mut self, change: &v1::StreamChange) -> Result<(), String> {
        let kind = Kind::of(&change.resource).ok_or("an unknown resource")?;
        let name = (change.cluster.clone(), kind);
        let known = self
            .identities
            .entry(name)
            .or_insert_with(|| change.stream.clone());
        if *known != change.stream {
            return Err(format!("the stream was {known} before"));
        }
        let stream = self.streams.entry(change.stream.clone()).or_default();
        if std::mem::replace(&mut stream.is_covered, true) {
            return Err("the stream was added twice".into());
        }
        stream.named = (change.cluster.clone(), change.resource.clone());
        stream.seen.push(Seen::Added {
            position: change.position.as_ref().map(position),
            snapshot_follows: change.snapshot_follows,
        });
        Ok(())
    }

    fn event(&mut self, event: &v1::Event) -> Result<(), String> {
        let stream = self.named(&event.stream, &event.cluster, &event.resource)?;
        let received = received(event)?;
        let name = received.key.split_once('/').map_or("", |(_, name)| name);
        if received.change != Change::Snapshot && name.starts_with(MARK) {
            stream.marks.insert(name.to_owned());
        }
        stream.events += 1;
        stream.seen.push(Seen::Event(received));
        Ok(())
    }

    fn gap(&mut self, gap: &v1::Gap) -> Result<(), String> {
        let stream = self.named(&gap.stream, &gap.cluster, &gap.resource)?;
        let seen = SeenGap {
            from: gap.from.as_ref().map(position),
            to: gap.to.as_ref().map(position),
            reason: gap.reason(),
            repaired: gap.repaired,
        };
        stream.gaps.push(seen.clone());
        stream.seen.push(Seen::Gap(seen));
        Ok(())
    }

    fn snapshot_ended(&mut self, synced: &v1::Synced) -> Result<(), String> {
        let stream = self.named(&synced.stream, &synced.cluster, &synced.resource)?;
        let at = synced
            .position
            .as_ref()
            .ok_or("Synced without a position")?;
        stream.synced += 1;
        stream.seen.push(Seen::Synced(position(at)));
        Ok(())
    }

    fn progress(&mut self, progress: &v1::Progress) -> Result<(), String> {
        for of in &progress.streams {
            let stream = self.covered(&of.stream)?;
            if let Some(at) = &of.position {
                stream.seen.push(Seen::Passed(position(at)));
            }
        }
        if !std::mem::replace(&mut self.connection.has_progress, true) {
            let named: BTreeSet<_> = progress.streams.iter().map(|of| &of.stream).collect();
            let covered = self.streams.iter().filter(|(_, stream)| stream.is_covered);
            let covered: BTreeSet<_> = covered.map(|(identity, _)| identity).collect();
            if named != covered {
                return Err("the first Progress does not name every stream".into());
            }
        }
        Ok(())
    }

    fn covered(&mut self, identity: &str) -> Result<&mut StreamRecord, String> {
        let found = self.streams.get_mut(identity);
        let covered = found.filter(|stream| stream.is_covered);
        covered.ok_or_else(|| "the stream was not added".into())
    }

    fn named(
        &mut self,
        identity: &str,
        cluster: &str,
        resource: &str,
    ) -> Result<&mut StreamRecord, String> {
        let stream = self.covered(identity)?;
        let (of_cluster, of_resource) = &stream.named;
        if (of_cluster.as_str(), of_resource.as_str()) != (cluster, resource) {
            return Err(format!("the stream was added as {:?}", stream.named));
        }
        Ok(stream)
    }
}

fn received(event: &v1::Event) -> Result<Received, String> {
    let change = match event.change_type() {
        ChangeType::Added => Change::Added,
        ChangeType::Modified => Change::Modified,
        ChangeType::Deleted => Change::Deleted,
        ChangeType::Snapshot => Change::Snapshot,
        ChangeType::Unspecified => return Err("an event without a change".into()),
        ChangeType::Unmatched => return Err("a change that no filter left out".into()),
    };
    let at = event
        .position
        .as_ref()
        .ok_or("an event without a position")?;
    let object = event.object.as_ref().ok_or("an event without an object")?;
    let rv = object.resource_version.parse();
    Ok(Received {
        id: event.id.clone(),
        position: position(at),
        change,
        key: format!("{}/{}", object.namespace, object.name),
        uid: object.uid.clone(),
        rv: rv.map_err(|_| "a version that is no number")?,
        object: event.object_json.clone(),
        content: event.object_content(),
    })
}

fn position(position: &v1::Position) -> Position {
    Position {
        era: Era(position.era),
        rv: position.resource_version.parse().unwrap(),
        ordinal: position.ordinal.map_or(Ordinal::CLOSED, Ordinal::new),
    }
}
