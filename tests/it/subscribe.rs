//! What a subscriber may request, what it gets, and the errors of wrong requests and slow reading.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quorumwatch::{
    client::Begin,
    domain::{
        cursor::{Cursor, CursorCodec},
        delivery::place::Place,
        id::{Era, GroupId, StreamId},
        position::Position,
    },
    proto::v1::{
        ChangeType, Closing, ClosingAction, ClosingReason, Event, Filter, FromCursor,
        KubernetesEventFilter, SubscribeRequest, subscribe_request::From,
        subscribe_response::Frame,
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    cli::{Cli, Running, Told},
    harness::{Options, PATIENCE, Record, Recorder, World, WorldOptions, holds},
};

fn alone() -> WorldOptions {
    WorldOptions {
        clusters: 1,
        replicas: 1,
        ..WorldOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_none_is_refused_with_the_reason() {
    let mut world = World::start_with(alone()).await;
    let recorder = world.subscriber(0).await;
    world.begin(100.0);
    world.flows(&recorder, 10).await;
    let kept = recorder.leave().cursor.parts().to_vec();
    let [whole, .., delta] = kept.as_slice() else {
        panic!("frames came after the progress: {kept:?}");
    };
    let client = world.group.client();
    let foreign = CursorCodec::new(GroupId([9; 16])).whole(&Cursor::default());
    let cases = [
        (vec![], "damaged"),
        (vec!["not a cursor".to_owned()], "not base64"),
        (vec![torn(whole)], "checksum mismatch"),
        (vec![foreign], "another group"),
        (vec![delta.clone()], "begins with a delta"),
        (
            // This replica leads a group of one: nobody can be ahead of it.
            vec![ahead(&client.group().await.unwrap().group_id)],
            "the group lost data",
        ),
        (vec![whole.clone(), String::new()], "too short"),
        (vec!["A".repeat(3 * 1024 * 1024)], "longer than"),
    ];
    for (cursors, why) in cases {
        let refused = client.subscribe(after(cursors)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{why}: {refused}");
        assert!(refused.message().contains(why), "{why}: {refused}");
    }
    // Another replica may know the format already.
    let refused = client.subscribe(after(vec![future(whole)])).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("upgrade it"), "{refused}");
    for filter in [
        Filter {
            resources: vec!["events".into()],
            ..Filter::default()
        },
        Filter {
            cluster_selector: "env=".to_owned() + "=,(",
            ..Filter::default()
        },
    ] {
        let request = SubscribeRequest {
            filters: vec![filter],
            ..SubscribeRequest::default()
        };
        let refused = client.subscribe(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    // The same cursor as it was received is taken.
    assert!(client.subscribe(after(kept)).await.is_ok());
}

/// A request that resumes.
fn after(cursors: Vec<String>) -> SubscribeRequest {
    SubscribeRequest {
        from: Some(From::Resume(FromCursor { cursors })),
        ..SubscribeRequest::default()
    }
}

/// The same cursor, one bit of it flipped on the way.
pub(crate) fn torn(whole: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(whole).unwrap();
    bytes[8] ^= 1;
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The same cursor, as a later version might write it.
pub(crate) fn future(whole: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(whole).unwrap();
    bytes.truncate(bytes.len() - 4);
    bytes[0] += 1;
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The codec of the group with this id.
fn codec(group_id: &str) -> CursorCodec {
    let group = uuid::Uuid::parse_str(group_id).unwrap();
    CursorCodec::new(GroupId(group.into_bytes()))
}

/// A cursor of this group in a stream that it has not had yet.
fn ahead(group_id: &str) -> String {
    let mut cursor = Cursor::default();
    let place = Place::At(Position::closed(Era(1), 7.into()));
    cursor.places.insert(StreamId(1_000_000), place);
    codec(group_id).whole(&cursor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_stops_reading_is_notified_and_resumes_without_loss() {
    let mut world = World::start_with(WorldOptions {
        clusters: 3,
        group: Options {
            config: "[limits]\nslow_subscriber_ms = 300\n".into(),
        },
        ..WorldOptions::default()
    })
    .await;
    let healthy = world.subscriber(0).await;
    let client = world.group.replicas[0].client();
    let mut slow = client.subscribe(SubscribeRequest::default()).await.unwrap();
    let mut record = Record::default();
    // Up to the first progress: from here on everything counts.
    while record.cursor.is_empty() {
        record.take(slow.message().await.unwrap().unwrap());
    }
    // A command whose output nobody reads.
    let mut stuck = Cli::of(&world.group, 0).start("events -o jsonl");
    world.begin(600.0);
    let first = stuck.line().await;
    // Far more than responses, windows and sockets hold, and far longer than the limit.
    let mut slowest = Duration::ZERO;
    for _ in 0..40 {
        slowest = slowest.max(world.flows(&healthy, 100).await);
    }
    eprintln!("a hundred events at 600 a second took the healthy one at most {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let started = Instant::now();
    let mut closing = None;
    let status = loop {
        match tokio::time::timeout(PATIENCE, slow.message())
            .await
            .unwrap()
        {
            Ok(response) => {
                let response = response.expect("it ends with a status");
                assert_eq!(closing, None, "nothing follows the last frame");
                if let Some(Frame::Closing(last)) = &response.frame {
                    closing = Some(last.clone());
                    assert!(!response.cursor.is_empty(), "the last frame has the cursor");
                }
                record.take(response);
            }
            Err(status) => break status,
        }
    };
    expect_too_slow(&closing.expect("a last frame says why it ends"));
    eprintln!(
        "{} events were under way; read in {:?}",
        record.delivered,
        started.elapsed()
    );
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let said = "the subscriber read nothing for 300 ms; nothing is lost";
    assert!(status.message().contains(said), "{status}");
    let resumed = Recorder::resume(record, world.group.endpoints_from(1));
    world.flows(&resumed, 500).await;
    world.expect_exactly_once(&resumed).await;
    world.expect_exactly_once(&healthy).await;
    let truth = healthy.record().events.clone();
    catches_up(stuck, first, &truth).await;
}

fn expect_too_slow(closing: &Closing) {
    assert_eq!(closing.reason(), ClosingReason::SubscriberTooSlow);
    assert_eq!(closing.action(), ClosingAction::Resume);
    assert!(closing.retry_delay.is_some(), "{closing:?}");
}

/// The command is read again: it was cut off, says so, and misses nothing.
async fn catches_up(mut stuck: Running, first: String, truth: &VecDeque<Event>) {
    let mut told = Told::default();
    told.take(&first);
    while !told.has_reached(truth) {
        told.take(&stuck.line().await);
    }
    told.expect_unbroken(truth);
    let ran = stuck.interrupt().await;
    let said = "disconnected (the subscriber read nothing for 300 ms";
    assert!(ran.code == 0 && ran.stderr.contains(said), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_shows_what_exists_and_then_what_happens() {
    let mut world = World::start_with(WorldOptions {
        clusters: 3,
        ..Default::default()
    })
    .await;
    world.begin(400.0);
    let witness = Recorder::all_from_now(world.group.endpoints_from(0));
    witness.covers(3).await;
    world.flows(&witness, 600).await;
    world.end().await;
    let begin = || Begin::Snapshot;
    let recorder = Recorder::start(world.group.endpoints_from(1), Filter::default(), begin());
    let narrow = Filter {
        clusters: vec!["sim-1".into(), "sim-2".into()],
        kubernetes_event: Some(KubernetesEventFilter {
            reasons: vec!["BackOff".into()],
            types: vec!["Warning".into()],
            ..KubernetesEventFilter::default()
        }),
        ..Filter::default()
    };
    let narrow = Recorder::start(world.group.endpoints_from(2), narrow, begin());
    for (recorder, streams) in [(&recorder, 3), (&narrow, 2)] {
        let synced = |record: &Record| record.synced.len() == streams;
        recorder
            .sees("every snapshot is complete", PATIENCE, synced)
            .await;
    }
    world.begin(400.0);
    world.flows(&recorder, 600).await;
    let report = world.expect_exactly_once(&recorder).await;
    eprintln!(
        "snapshot {} delivered {}",
        report.snapshot, report.delivered
    );
    assert!(report.snapshot > 0, "{report:?}");
    let wanted = |event: &&Event| {
        let object: serde_json::Value = serde_json::from_str(&event.object_json).unwrap();
        object["reason"] == "BackOff" && event.cluster != "sim-3"
    };
    let all = ids(recorder.record().events.iter().filter(wanted));
    assert!(!all.is_empty());
    let same = |record: &Record| ids(record.events.iter()) == all;
    narrow
        .sees(
            "the filtered has what it wanted, and nothing else",
            PATIENCE,
            same,
        )
        .await;
}

/// Events by their content: snapshots at different moments give an object different positions.
fn ids<'a>(events: impl Iterator<Item = &'a Event>) -> BTreeSet<(String, String, String)> {
    let id = |event: &Event| {
        let object = event.object.clone().unwrap();
        (event.cluster.clone(), object.uid, object.resource_version)
    };
    // A deletion's version is the object's last in a snapshot's eyes, and its own in a watch's.
    let events = events.filter(|event| event.change_type() != ChangeType::Deleted);
    events.map(id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_the_same_at_every_replica() {
    let mut world = World::start_with(WorldOptions {
        clusters: 2,
        ..Default::default()
    })
    .await;
    let mut recorders = Vec::new();
    for seat in 0..3 {
        recorders.push(world.subscriber(seat).await);
    }
    world.begin(100.0);
    world.flows(&recorders[0], 100).await;
    for recorder in &recorders {
        world.expect_exactly_once(recorder).await;
    }
    let told = recorders.iter().map(|recorder| {
        let record = recorder.record();
        let event = |event: &Event| {
            (
                event.id.clone(),
                format!("{:?}", event.position),
                event.epoch,
            )
        };
        record.events.iter().map(event).collect::<BTreeSet<_>>()
    });
    let told: Vec<_> = told.collect();
    assert!(told[0].len() >= 100);
    assert!(told[0] == told[1] && told[1] == told[2]);
}

/// The reason of an error, as its details name it.
fn reason(status: &tonic::Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_frozen_does_not_refuse_a_newer_cursor() {
    let mut world = World::start_with(WorldOptions {
        clusters: 2,
        ..WorldOptions::default()
    })
    .await;
    let leader = world.group.leader().await;
    let behind = (leader + 1) % 3;
    let recorder = Recorder::all_from_now(world.group.endpoints_from(leader));
    recorder.covers(2).await;
    world.group.replicas[behind].freeze();
    // What the frozen one has not heard of: another cluster, and with it another stream and era.
    world
        .group
        .client_besides(behind)
        .delete("sim-2")
        .await
        .unwrap();
    let created = world.group.client_besides(behind);
    created.create(world.described("sim-2")).await.unwrap();
    let newest = |record: &Record| {
        let streams = record.streams.values();
        let ids = streams.map(|stream| stream.stream.parse::<u64>().unwrap());
        ids.max() > Some(3) && record.is_current && record.streams.len() == 2
    };
    recorder
        .sees("the new stream is covered", PATIENCE, newest)
        .await;
    let cursors = recorder.leave().cursor.parts().to_vec();
    world.group.replicas[behind].thaw();
    let client = world.group.replicas[behind].client();
    let answered = async || match client.subscribe(after(cursors.clone())).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            let reason = reason(&status);
            assert!(
                ["REPLICA_BEHIND", "NO_QUORUM"].contains(&reason.as_str()),
                "{status}"
            );
            false
        }
    };
    holds("it serves once it has caught up", PATIENCE, answered).await;
}

/// One that was frozen may have caught up before it is asked. This one is behind for certain: what
/// the cursor knows of does not exist yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_behind_a_cursor_does_not_refuse_it_for_good() {
    let world = World::start_empty(WorldOptions {
        clusters: 2,
        ..WorldOptions::default()
    })
    .await;
    world.monitor("sim-1").await;
    world.group.owned(1).await;
    let leader = world.group.leader().await;
    let recorder = Recorder::all_from_now(world.group.endpoints_from(leader));
    recorder.covers(1).await;
    let kept = recorder.leave().cursor.parts().to_vec();
    let leads = world.group.replicas[leader].client();
    let behind = world.group.replicas[(leader + 1) % 3].client();
    let codec = codec(&leads.group().await.unwrap().group_id);
    let mut cursor = codec.read(&kept).unwrap();
    // The ids of the next cluster and of its stream, which the group has not agreed on yet.
    cursor.newest += 2;
    let newer = vec![codec.whole(&cursor)];
    // Only the leader knows that nobody has given such a cursor.
    let (refused, lost) = tokio::join!(
        behind.subscribe(after(newer.clone())),
        leads.subscribe(after(newer.clone()))
    );
    let (refused, lost) = (refused.unwrap_err(), lost.unwrap_err());
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(reason(&refused), "REPLICA_BEHIND", "{refused}");
    assert_eq!(reason(&lost), "CURSOR_FROM_LOST_STATE", "{lost}");
    world.monitor("sim-2").await;
    let served = async || behind.subscribe(after(newer.clone())).await.is_ok();
    holds("it serves once it has caught up", PATIENCE, served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_restarts_alone_takes_no_subscription() {
    let mut world = World::start_with(WorldOptions {
        clusters: 1,
        ..WorldOptions::default()
    })
    .await;
    for replica in &mut world.group.replicas {
        replica.kill();
    }
    world.group.launch(0);
    let client = world.group.replicas[0].client();
    let refused = async || match client.subscribe(SubscribeRequest::default()).await {
        Ok(_) => panic!("what it has is old, and nothing new reaches it"),
        Err(status) => reason(&status) == "NO_QUORUM",
    };
    holds("it says that it has no quorum", PATIENCE, refused).await;
    assert!(client.clusters().await.is_ok(), "it still answers reads");
    world.group.launch(1);
    let served = async || client.subscribe(SubscribeRequest::default()).await.is_ok();
    holds("with a majority it serves", PATIENCE, served).await;
}
