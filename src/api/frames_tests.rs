use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::{
    domain::{
        cluster::{Resource, StreamSelector},
        cursor::Mode,
        delivery::{item::Part, place::Place},
        event::{Change, Event, ObjectKey},
        id::{ClusterId, Epoch, Era, GroupId},
    },
    pipeline::output::{StreamChangeReason, StreamChangeType},
};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

fn frames() -> Frames {
    Frames {
        codec: CursorCodec::new(GroupId([7; 16])),
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
