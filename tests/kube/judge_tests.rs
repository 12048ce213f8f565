//! The judge and the record find what they are there to find. No API server is needed.

use quorumwatch::{
    client::Endpoint,
    domain::{
        event::Change::{self, Added, Deleted, Modified},
        id::Era,
        position::{Ordinal, Position},
    },
    proto::v1::{
        self, GapReason, ObjectContent, StreamChangeType, SubscribeResponse,
        subscribe_response::Frame,
    },
};

use crate::{
    judge::judge,
    record::{Received, Record, Seen, SeenGap},
    recorder::Recorded,
    report::Report,
    truth::{Fact, Truth},
};

/// `a` and `b` are created, `a` is updated and deleted, `b` is updated, `c` is created.
const FACTS: [(u64, &str, Change); 6] = [
    (10, "n/a", Added),
    (11, "n/b", Added),
    (12, "n/a", Modified),
    (13, "n/a", Deleted),
    (14, "n/b", Modified),
    (15, "n/c", Added),
];

fn closed(era: u64, rv: u64) -> Position {
    Position::closed(Era(era), rv.into())
}

fn event(position: Position, (rv, key, change): (u64, &str, Change)) -> Seen {
    let (_, name) = key.split_once('/').unwrap();
    let metadata = format!(r#""metadata":{{"name":"{name}"}}"#);
    let is_net_deletion = change == Deleted && position.rv != rv.into();
    let (object, content) = if is_net_deletion {
        (format!("{{{metadata}}}"), ObjectContent::Metadata)
    } else {
        (format!("{{{metadata},\"data\":1}}"), ObjectContent::Full)
    };
    Seen::Event(Received {
        id: format!("{position} {key} {change:?}"),
        position,
        change,
        key: key.into(),
        uid: "u".into(),
        rv,
        object,
        content,
    })
}

fn live(index: usize) -> Seen {
    let fact = FACTS[index];
    event(Position::at(Era(1), fact.0.into(), Ordinal::FIRST), fact)
}

/// A net change of a repair that ends at version 15.
fn net(ordinal: u32, object: (u64, &str, Change)) -> Seen {
    let position = Position::at(Era(2), 15.into(), Ordinal::new(ordinal));
    event(position, object)
}

fn repaired_gap(from: u64, to: u64) -> Seen {
    Seen::Gap(SeenGap {
        from: Some(closed(1, from)),
        to: Some(closed(2, to - 1)),
        reason: GapReason::WatchCacheReset,
        repaired: true,
    })
}

/// A stream that begins before everything.
fn begun() -> Vec<Seen> {
    let added = Seen::Added {
        position: None,
        snapshot_follows: true,
    };
    vec![added, Seen::Synced(closed(1, 9))]
}

fn report(seen: impl IntoIterator<Item = Seen>) -> Report {
    let facts = FACTS.map(|(rv, key, change)| Fact {
        rv,
        key: key.into(),
        change,
    });
    let seen: Vec<_> = begun().into_iter().chain(seen).collect();
    judge(
        "s".into(),
        &seen,
        &Truth::from(facts.to_vec()),
        &Recorded::new(),
    )
}

fn verdict(seen: impl IntoIterator<Item = Seen>) -> (usize, usize, usize) {
    let report = report(seen);
    (report.lost, report.duplicated, report.wrong)
}

/// Everything up to version 12, then a repair up to version 15.
fn with_repair() -> Vec<Seen> {
    vec![
        live(0),
        live(1),
        live(2),
        repaired_gap(12, 15),
        net(0, (12, "n/a", Deleted)),
        net(1, (14, "n/b", Modified)),
        net(2, (15, "n/c", Added)),
        Seen::Passed(closed(2, 15)),
    ]
}

#[test]
fn everything_once_is_clean() {
    assert_eq!(verdict((0..6).map(live)), (0, 0, 0));
    let report = report(with_repair());
    report.expect_clean();
    assert_eq!(
        (report.events, report.repaired, report.coalesced),
        (3, 3, 3)
    );
}

#[test]
fn a_change_that_is_missing_or_comes_again_is_found() {
    let without = (0..6).filter(|index| *index != 3).map(live);
    let report = report(without);
    assert_eq!((report.lost, report.duplicated), (1, 0));
    let twice = (0..6).map(live).chain([live(5)]);
    assert_eq!(verdict(twice).1, 1);
}

#[test]
fn a_position_that_is_passed_too_early_or_taken_back_is_found() {
    let passed = |rv| Seen::Passed(closed(1, rv));
    let too_early = [live(0), passed(11)].into_iter().chain((2..6).map(live));
    assert_eq!(verdict(too_early).0, 1);
    let back = (0..6).map(live).chain([passed(15), passed(14)]);
    assert_eq!(verdict(back), (0, 0, 1));
}

#[test]
fn net_changes_that_are_missing_too_many_or_not_net_are_found() {
    for left_out in 4..7 {
        let mut seen = with_repair();
        seen.remove(left_out);
        assert!(verdict(seen).0 > 0, "{left_out}");
    }
    for surplus in [(15, "n/c", Added), (11, "n/b", Deleted)] {
        let mut seen = with_repair();
        seen.insert(7, net(3, surplus));
        let (_, duplicated, wrong) = verdict(seen);
        assert!(duplicated + wrong > 0, "{surplus:?}");
    }
    let mut old = with_repair();
    old[5] = net(1, (11, "n/b", Modified));
    assert!(verdict(old).2 > 0);
}

#[test]
fn a_repair_that_goes_back_is_found() {
    let mut seen: Vec<_> = (0..6).map(live).collect();
    seen.push(repaired_gap(15, 13));
    let position = Position::at(Era(2), 13.into(), Ordinal::FIRST);
    seen.push(event(position, (12, "n/b", Modified)));
    assert!(verdict(seen).2 > 0);
}

#[test]
fn a_net_deletion_with_more_than_metadata_is_found() {
    let mut seen = with_repair();
    if let Seen::Event(deletion) = &mut seen[4] {
        deletion.object = r#"{"metadata":{"name":"a"},"data":1}"#.into();
    }
    assert_eq!(verdict(seen), (0, 0, 1));
    let mut seen = with_repair();
    if let Seen::Event(deletion) = &mut seen[4] {
        deletion.content = ObjectContent::Full;
    }
    assert_eq!(verdict(seen), (0, 0, 1));
}

#[test]
fn a_snapshot_that_nothing_announces_is_found() {
    let again = Seen::Added {
        position: None,
        snapshot_follows: true,
    };
    assert_eq!(verdict((0..6).map(live).chain([again])), (0, 0, 1));
}

fn frame(frame: Frame, cursor: &str) -> SubscribeResponse {
    SubscribeResponse {
        cursor: cursor.into(),
        cursor_delta: String::new(),
        frame: Some(frame),
    }
}

fn added(stream: &str) -> SubscribeResponse {
    let change = v1::StreamChange {
        stream: stream.into(),
        r#type: StreamChangeType::Added.into(),
        cluster: "k0".into(),
        resource: "v1/events".into(),
        ..v1::StreamChange::default()
    };
    frame(Frame::StreamChange(change), "")
}

fn progress(streams: &[&str], cursor: &str) -> SubscribeResponse {
    let streams = streams.iter().map(|stream| v1::StreamProgress {
        stream: (*stream).into(),
        ..v1::StreamProgress::default()
    });
    let progress = v1::Progress {
        streams: streams.collect(),
        ..v1::Progress::default()
    };
    frame(Frame::Progress(progress), cursor)
}

fn synced(stream: &str) -> SubscribeResponse {
    let synced = v1::Synced {
        stream: stream.into(),
        cluster: "k0".into(),
        resource: "v1/events".into(),
        position: Some(v1::Position {
            era: 1,
            resource_version: "9".into(),
            ordinal: None,
        }),
    };
    frame(Frame::Synced(synced), "")
}

/// Whether all but the last frame are accepted, and the last one is not.
fn is_found(frames: &[SubscribeResponse]) -> bool {
    let endpoint: Endpoint = "127.0.0.1:7400".parse().unwrap();
    let mut record = Record::default();
    record.connected(endpoint);
    let (last, before) = frames.split_last().unwrap();
    for frame in before {
        record.keep(frame).unwrap();
    }
    record.keep(last).is_err()
}

#[test]
fn a_frame_that_the_protocol_does_not_allow_is_found() {
    let (begin, first) = (added("1"), progress(&["1"], "whole"));
    assert!(!is_found(&[begin.clone(), first.clone(), synced("1")]));
    assert!(is_found(&[begin.clone(), first.clone(), synced("2")]));
    assert!(is_found(&[begin.clone(), first.clone(), added("1")]));
    assert!(is_found(&[begin.clone(), first.clone(), added("2")]));
    assert!(is_found(&[begin.clone(), synced("1")]));
    assert!(is_found(&[begin.clone(), progress(&["1"], "")]));
    assert!(is_found(&[begin.clone(), progress(&[], "whole")]));
    let closing = frame(Frame::Closing(v1::Closing::default()), "whole");
    assert!(is_found(&[begin, first, closing, synced("1")]));
}
