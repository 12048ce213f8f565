use super::{
    Effect, Event, Frame, Gap, Key, Position, Progress, StreamChange, StreamChangeType,
    SubscribeResponse, Synced, Table, Violation,
};
use crate::proto::v1::{ChangeType, GapReason, ObjectMeta, StreamProgress};

const STREAM: &str = "7";

fn at(version: u64) -> Option<Position> {
    Some(Position {
        era: 1,
        resource_version: version.to_string(),
        ordinal: Some(0),
    })
}

fn stream_change(kind: StreamChangeType, snapshot_follows: bool) -> Frame {
    Frame::StreamChange(StreamChange {
        stream: STREAM.into(),
        r#type: kind.into(),
        snapshot_follows,
        ..StreamChange::default()
    })
}

fn added(snapshot_follows: bool) -> Frame {
    stream_change(StreamChangeType::Added, snapshot_follows)
}

fn event(kind: ChangeType, name: &str, version: u64) -> Frame {
    Frame::Event(Event {
        stream: STREAM.into(),
        change_type: kind.into(),
        position: at(version),
        object: Some(ObjectMeta {
            name: name.into(),
            resource_version: version.to_string(),
            ..ObjectMeta::default()
        }),
        object_json: format!("{{\"v\":{version}}}"),
        ..Event::default()
    })
}

fn snapshot(name: &str) -> Frame {
    event(ChangeType::Snapshot, name, 10)
}

fn synced(version: u64) -> Frame {
    Frame::Synced(Synced {
        stream: STREAM.into(),
        position: at(version),
        ..Synced::default()
    })
}

fn gap(reason: GapReason, repaired: bool) -> Frame {
    Frame::Gap(Gap {
        stream: STREAM.into(),
        reason: reason.into(),
        repaired,
        ..Gap::default()
    })
}

fn progress(stream: &str, version: u64) -> Frame {
    Frame::Progress(Progress {
        streams: vec![StreamProgress {
            stream: stream.into(),
            position: at(version),
            ..StreamProgress::default()
        }],
        ..Progress::default()
    })
}

fn apply(table: &mut Table, frame: Frame) -> Result<Vec<Effect>, Violation> {
    let frame = Some(frame);
    table.apply(&SubscribeResponse {
        frame,
        ..SubscribeResponse::default()
    })
}

/// The table after frames that are all allowed.
fn after(frames: impl IntoIterator<Item = Frame>) -> Table {
    let mut table = Table::new();
    for frame in frames {
        apply(&mut table, frame).unwrap();
    }
    table
}

/// What the frames after those that are allowed give.
fn refused(frames: impl IntoIterator<Item = Frame>, last: Frame) -> Violation {
    apply(&mut after(frames), last).unwrap_err()
}

fn names(table: &Table) -> Vec<&str> {
    table.iter().map(|(_, key, _)| key.name.as_str()).collect()
}

#[test]
fn a_snapshot_replaces_what_was_there_when_it_is_complete_and_not_before() {
    let mut table = after([
        added(true),
        progress(STREAM, 1),
        snapshot("a"),
        snapshot("b"),
    ]);
    assert!(!table.is_complete());
    apply(&mut table, synced(10)).unwrap();
    assert_eq!((names(&table), table.is_complete()), (vec!["a", "b"], true));
    apply(&mut table, gap(GapReason::HistoryExpired, false)).unwrap();
    apply(&mut table, snapshot("b")).unwrap();
    assert_eq!(names(&table), ["a", "b"]);
    let gone = Effect::Dropped {
        stream: STREAM.into(),
        key: Key {
            namespace: String::new(),
            name: "a".into(),
        },
    };
    assert_eq!(apply(&mut table, synced(12)), Ok(vec![gone]));
    assert_eq!(names(&table), ["b"]);
}

#[test]
fn changes_store_and_drop_objects() {
    let mut table = after([added(false)]);
    for (kind, name, version, count) in [
        (ChangeType::Added, "a", 11, 1),
        (ChangeType::Modified, "b", 12, 1),
        (ChangeType::Modified, "a", 13, 1),
        (ChangeType::Unmatched, "b", 14, 1),
        (ChangeType::Deleted, "c", 15, 0),
        (ChangeType::Unspecified, "a", 16, 0),
    ] {
        let effects = apply(&mut table, event(kind, name, version)).unwrap();
        assert_eq!(effects.len(), count, "{kind:?} {name}");
    }
    let objects: Vec<_> = table.iter().collect();
    assert_eq!(objects.len(), 1);
    let (stream, key, object) = objects[0];
    assert_eq!((stream, key.name.as_str()), (STREAM, "a"));
    assert_eq!(object.json, "{\"v\":13}");
    assert_eq!(table.get(STREAM, key), Some(object));
}

#[test]
fn a_snapshot_that_starts_again_forgets_what_it_brought() {
    let table = after([
        added(true),
        snapshot("a"),
        snapshot("b"),
        gap(GapReason::SnapshotRestarted, false),
        snapshot("b"),
        synced(10),
    ]);
    assert_eq!(names(&table), ["b"]);
}

#[test]
fn a_snapshot_goes_on_at_another_replica_only_from_its_beginning() {
    let known = [added(true), snapshot("a"), synced(10)];
    let begun = [gap(GapReason::HistoryExpired, false), snapshot("c")];
    let elsewhere = [added(true), snapshot("b"), synced(11)];
    let frames = known.into_iter().chain(begun).chain(elsewhere);
    assert_eq!(names(&after(frames)), ["b"]);
}

#[test]
fn what_goes_on_elsewhere_keeps_its_objects() {
    let table = after([
        added(true),
        snapshot("a"),
        synced(10),
        event(ChangeType::Added, "b", 11),
        added(false),
        progress(STREAM, 11),
        event(ChangeType::Added, "c", 12),
    ]);
    assert_eq!(names(&table), ["a", "b", "c"]);
}

#[test]
fn a_repaired_gap_and_a_pause_change_no_object() {
    let table = after([
        added(true),
        snapshot("a"),
        synced(10),
        gap(GapReason::WatchCacheReset, true),
        stream_change(StreamChangeType::Paused, false),
        stream_change(StreamChangeType::Resumed, false),
        event(ChangeType::Deleted, "a", 11),
    ]);
    assert_eq!(names(&table), Vec::<&str>::new());
    assert!(table.is_complete());
}

#[test]
fn a_stream_that_is_removed_takes_its_objects_with_it() {
    let mut table = after([added(true), snapshot("a"), snapshot("b"), synced(10)]);
    let removed = || stream_change(StreamChangeType::Removed, false);
    assert_eq!(apply(&mut table, removed()).unwrap().len(), 2);
    assert!(table.streams().is_empty());
    // The cursor may know a stream that this copy never had.
    assert_eq!(apply(&mut table, removed()), Ok(Vec::new()));
    let unknown = Violation::UnknownStream(STREAM.into());
    let late = event(ChangeType::Added, "a", 11);
    assert_eq!(apply(&mut table, late), Err(unknown));
}

#[test]
fn what_the_protocol_does_not_allow_is_refused() {
    let live = || [added(false), event(ChangeType::Added, "a", 11)];
    let stream = || STREAM.to_owned();
    assert_eq!(
        refused(live(), progress("8", 12)),
        Violation::UnknownStream("8".into())
    );
    assert_eq!(
        refused(live(), snapshot("b")),
        Violation::SnapshotOutside(stream())
    );
    assert_eq!(
        refused(live(), synced(12)),
        Violation::SyncedOutside(stream())
    );
    assert_eq!(
        refused([added(true)], event(ChangeType::Added, "a", 11)),
        Violation::ChangeInside(stream())
    );
    let without = Frame::Event(Event {
        stream: stream(),
        ..Event::default()
    });
    let part = "object";
    assert_eq!(
        refused(live(), without),
        Violation::Incomplete {
            stream: stream(),
            part
        }
    );
}

#[test]
fn a_place_at_or_before_an_earlier_one_is_refused() {
    let again = event(ChangeType::Added, "b", 11);
    let frames = || [added(false), event(ChangeType::Added, "a", 11)];
    let refusal = refused(frames(), again);
    assert!(
        matches!(refusal, Violation::NotGrowing { .. }),
        "{refusal:?}"
    );
    let refusal = refused(frames(), progress(STREAM, 10));
    assert!(
        matches!(refusal, Violation::NotGrowing { .. }),
        "{refusal:?}"
    );
    let early = event(ChangeType::Added, "b", 12);
    let refusal = refused([added(true), synced(12)], early);
    assert!(
        matches!(refusal, Violation::NotGrowing { .. }),
        "{refusal:?}"
    );
    // What has passed without an event counts, too.
    let passed = [added(false), progress(STREAM, 20)];
    let refusal = refused(passed, event(ChangeType::Added, "b", 20));
    assert!(
        matches!(refusal, Violation::NotGrowing { .. }),
        "{refusal:?}"
    );
}
