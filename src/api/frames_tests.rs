use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::{
    domain::{
        cluster::{Resource, StreamSelector},
        cursor::Mode,
        delivery::{
            feed::{self, FeedSession},
            item::{Item, Part},
            place::{Place, Reader},
            publication::Publication,
            way::Located,
        },
        event::{Change, Event, GapReason, ObjectKey},
        history::HistoryItem,
        id::{ClusterId, Epoch, Era, GroupId},
        stream::EraStart,
    },
    pipeline::output::{StreamChangeReason, StreamChangeType},
};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

fn frames() -> Frames {
    Frames {
        codec: CursorCodec::new(GroupId([7; 16])),
        ids: EventIds::new(GroupId([7; 16])),
        view: View::None,
    }
}

fn name(id: u64) -> Arc<StreamName> {
    Arc::new(StreamName {
        id: StreamId(id),
        cluster_id: ClusterId(id),
        cluster: format!("prod-eu-west-{id}"),
        cluster_uid: "1b4e28ba-2fa1-11d2-883f-0016d3cca427".into(),
        selector: StreamSelector::all(Resource::events()),
    })
}

fn position(id: u64) -> Position {
    Position::closed(Era(id + 1), (40_000_000 + id).into())
}

fn cursor(streams: u64) -> Cursor {
    Cursor {
        mode: Mode::Changes,
        filter: 0x1234_5678_9abc_def0,
        newest: streams * 2,
        places: (1..=streams)
            .map(|id| (StreamId(id), Place::At(position(id))))
            .collect(),
        left: BTreeMap::new(),
        masks: BTreeMap::new(),
    }
}

fn bytes(encoded: &Encoded) -> usize {
    match encoded {
        Encoded::Other(response) => response.encoded_len(),
        Encoded::Event(event) => event.encoded_len(),
    }
}

fn size(step: CursorStep, body: Body) -> usize {
    bytes(&frames().frame(Output { step, body }, NOW).0)
}

fn position_of_event(stream: u64) -> Position {
    Position::closed(Era(stream + 1), 40_000_000.into())
}

fn event(stream: u64) -> usize {
    let position = position_of_event(stream);
    let event = Event {
        change: Change::Added,
        rv: 40_000_000.into(),
        key: ObjectKey::new(
            "default",
            "web-0.17f2a1b2c3d4e5f6",
            "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        ),
        object: Bytes::from_static(b"{}"),
        metadata_only: false,
        seen: NOW,
    };
    let published = Published::new(position.clone(), Epoch(3), Part::Live, event);
    size(
        CursorStep::Moved(StreamId(stream), Place::At(position)),
        Body::Event(name(stream), Arc::new(published)),
    )
}

#[test]
fn an_event_has_one_id_though_the_identity_of_its_cluster_changes() {
    let position = position_of_event(3);
    let change = Event {
        change: Change::Added,
        rv: 40_000_000.into(),
        key: ObjectKey::new("default", "a", "b"),
        object: Bytes::from_static(b"{}"),
        metadata_only: false,
        seen: NOW,
    };
    let published = Published::new(position, Epoch(3), Part::Live, change);
    let id_of = |group: u8, stream: u64, cluster_uid: &str| {
        let name = StreamName {
            cluster_uid: cluster_uid.to_owned(),
            ..(*name(stream)).clone()
        };
        super::event(EventIds::new(GroupId([group; 16])), &name, &published).id
    };
    let id = id_of(7, 3, "");
    assert_eq!(id, id_of(7, 3, "1b4e28ba-2fa1-11d2-883f-0016d3cca427"));
    assert_ne!(id, id_of(7, 4, ""));
    assert_ne!(id, id_of(8, 3, ""));
}

fn added(stream: u64) -> usize {
    let change = StreamChange {
        position: Some(position(stream)),
        ..StreamChange::new(
            StreamId(stream),
            Some(name(stream)),
            StreamChangeType::Added,
            StreamChangeReason::Subscribed,
        )
    };
    size(CursorStep::None, Body::Stream(change))
}

fn progress(moved: u64, step: CursorStep) -> usize {
    let streams = (1..=moved).map(|id| {
        let progress = StreamProgress {
            position: Some(position(id)),
            heard: Some(Instant::now()),
            catching_up: false,
        };
        (StreamId(id), progress)
    });
    let progress = Progress {
        streams: streams.collect(),
        up_to_date: true,
    };
    size(step, Body::Progress(progress))
}

/// What README and `src/docs/clients.md` say of sizes.
#[test]
#[expect(clippy::print_stdout, reason = "a test shows its figures")]
fn frames_and_cursors_are_small() {
    println!("streams  added  whole cursor  idle progress  progress of all  event without object");
    for streams in [1, 100, 5_000] {
        let whole = frames().codec.whole(&cursor(streams)).len();
        let idle = progress(0, CursorStep::None);
        let all = progress(streams, CursorStep::Whole(Arc::new(cursor(streams))));
        let (added, event) = (added(streams), event(streams));
        println!("{streams:7}  {added:5}  {whole:12}  {idle:13}  {all:15}  {event:20}");
        let streams = usize::try_from(streams).unwrap();
        assert!(whole <= 40 + 15 * streams, "{whole}");
        assert!(
            idle <= 20,
            "an idle subscriber costs next to nothing: {idle}"
        );
        assert!(all <= whole + 60 * streams + 30, "{all}");
        assert!(added <= 250, "{added}");
        assert!(event <= 300, "{event}");
    }
}

/// An era that begins at this version, and continues nothing.
fn era(number: u64, to: u64) -> EraStart {
    EraStart {
        era: Era(number),
        reason: GapReason::HistoryExpired,
        from: None,
        to: to.into(),
        repaired: false,
        unbroken_since: Era(number),
        broken_by: GapReason::HistoryExpired,
        at: NOW,
    }
}

/// What happened to one object.
fn written(change: Change, rv: u64) -> Event {
    Event {
        change,
        rv: rv.into(),
        key: ObjectKey::new("default", "web-0", "uid of web-0"),
        object: Bytes::from_static(b"{}"),
        metadata_only: false,
        seen: NOW,
    }
}

/// The only event among some items.
fn only_event(items: &[Item]) -> Arc<Published> {
    match items {
        [Item::Event(published)] => published.clone(),
        other => panic!("one event: {other:?}"),
    }
}

/// A change as an owner publishes it, in this era and epoch.
fn published(start: EraStart, epoch: u64, event: Event) -> Arc<Published> {
    let mut publication = Publication::new(Epoch(epoch));
    publication.begin_era(start);
    only_event(&publication.events(vec![event]).items)
}

/// An object as a snapshot shows it, by a list of this version, in this era.
fn listed(start: EraStart, at: u64, event: Event) -> Arc<Published> {
    let mut session = FeedSession::new(Epoch(3), Reader::Subscriber, Place::SnapshotDue);
    let owner = Located {
        next: None,
        floor: start.start(),
        era: start,
    };
    session.step(feed::Input::Start);
    session.step(feed::Input::Located(Box::new(owner)));
    session.step(feed::Input::History(HistoryItem::Listing(at.into())));
    let objects = HistoryItem::Snapshot(vec![event]);
    match session.step(feed::Input::History(objects)).as_slice() {
        [feed::Output::Give(items)] => only_event(items),
        other => panic!("the object is given: {other:?}"),
    }
}

/// The id under which a stream's event is sent.
fn id_in(stream: u64, published: &Published) -> String {
    super::event(EventIds::new(GroupId([7; 16])), &name(stream), published).id
}

#[test]
fn the_id_of_an_event_is_the_same_under_every_owner_and_differs_from_all_others() {
    let change = |era, epoch, rv| published(era, epoch, written(Change::Modified, rv));
    let id = id_in(1, &change(era(4, 10), 3, 15));
    assert_eq!(id_in(1, &change(era(4, 10), 8, 15)), id);
    assert_ne!(id_in(2, &change(era(4, 10), 3, 15)), id);
    assert_ne!(id_in(1, &change(era(4, 10), 3, 16)), id);
    assert_ne!(id_in(1, &change(era(5, 10), 3, 15)), id);
    let deletion = published(era(4, 10), 3, written(Change::Deleted, 15));
    assert_ne!(id_in(1, &deletion), id);
}

#[test]
fn a_snapshot_event_has_the_id_of_the_change_in_the_same_era_and_in_no_other() {
    for change in [Change::Added, Change::Modified] {
        let id = id_in(1, &published(era(4, 10), 3, written(change, 15)));
        let object = || written(Change::Snapshot, 15);
        for at in [15, 20] {
            assert_eq!(id_in(1, &listed(era(4, 10), at, object())), id);
        }
        assert_ne!(id_in(1, &listed(era(5, 18), 20, object())), id);
    }
}
