//! One thing at a time.

use std::time::Duration;

use quorumwatch::{
    domain::{
        delivery::{item::Part, place::Place},
        event::GapReason,
        id::ReplicaId,
        stream::{ResumePoint, Stream},
    },
    pipeline::output::{StreamChangeReason, StreamChangeType},
};

use crate::{
    api::Manners,
    etcd::Write,
    subscriber::{Begin, Record, Seen, Subscriber},
    want::Want,
    world::World,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(1_200);
const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);
const SMALL: usize = 2_000;
pub(crate) const LARGE: usize = 1 << 20;

async fn subscribe_for(world: &World, want: Want, replica: ReplicaId, begin: Begin) -> Subscriber {
    let mut subscriber = Subscriber::new(want, begin);
    assert!(subscriber.open(world, replica));
    let begun = |this: &Subscriber| this.records.last().is_some_and(|it| it.cursor.is_some());
    subscriber.wait_for(PATIENCE, begun).await;
    subscriber
}

/// Subscribes to everything.
pub(crate) async fn subscribe(world: &World, replica: ReplicaId, begin: Begin) -> Subscriber {
    subscribe_for(world, Want::All, replica, begin).await
}

pub(crate) async fn catch_up(world: &World, subscriber: &mut Subscriber) {
    let caught_up = subscriber.catch_up(world, PATIENCE).await;
    assert!(caught_up, "it does not get on\n{}", subscriber.tail(8));
}

/// Reads until nothing is missing, and judges.
pub(crate) async fn finish(world: &World, subscriber: &mut Subscriber) {
    catch_up(world, subscriber).await;
    assert_eq!(subscriber.judge(world), Ok(()));
}

pub(crate) fn has_seen(of: Part, count: usize) -> impl Fn(&Subscriber) -> bool {
    move |subscriber| subscriber.count(of) >= count
}

pub(crate) fn reset(world: &World, cluster: &str) {
    world.etcd(cluster).reset_watch_cache();
    world.api(cluster).count("cache reset");
}

fn compact(world: &World, cluster: &str) {
    world.etcd(cluster).compact();
    world.api(cluster).count("compaction");
}

/// The owner of `east` dies, and its watch cannot be continued although its lists can.
async fn lose_the_watch(world: &mut World, writes: usize) {
    let owner = world.owner("east").unwrap();
    world.crash(owner);
    world.write("east", writes);
    world.etcd("east").delete_together("configmaps", 2);
    reset(world, "east");
    world.place();
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_sees_every_event_once_in_order() {
    let mut world = World::new(1, LARGE).await;
    let mut subscriber = subscribe(&world, A, Begin::Now).await;
    world.write("east", 50);
    world.write("west", 50);
    finish(&world, &mut subscriber).await;
    assert!(subscriber.count(Part::Live) > 50);
    assert!(subscriber.gaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_inside_a_version_resumes_without_loss_or_repetition() {
    let mut world = World::new(2, LARGE).await;
    let mut subscriber = subscribe(&world, A, Begin::Now).await;
    world.write("east", 30);
    catch_up(&world, &mut subscriber).await;
    let before = subscriber.count(Part::Live);
    world.etcd("east").delete_together("configmaps", 4);
    subscriber
        .wait_for(PATIENCE, has_seen(Part::Live, before + 4))
        .await;
    // As if the connection had broken inside the batch.
    subscriber.break_off(2);
    assert!(subscriber.open(&world, B));
    world.write("east", 2);
    finish(&world, &mut subscriber).await;
    assert!(subscriber.gaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_returns_late_is_served_from_the_history() {
    let mut world = World::new(3, SMALL).await;
    let mut subscriber = subscribe(&world, A, Begin::Now).await;
    world.write("east", 5);
    catch_up(&world, &mut subscriber).await;
    subscriber.break_off(0);
    for _ in 0..3 {
        world.write("east", 40);
        world.take_over("east").await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(subscriber.open(&world, B));
    world.write("east", 3);
    finish(&world, &mut subscriber).await;
    assert!(subscriber.gaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn history_that_is_gone_is_reported_and_followed_by_a_snapshot() {
    let mut world = World::new(4, SMALL).await;
    let mut subscriber = subscribe(&world, A, Begin::Now).await;
    world.write("east", 5);
    catch_up(&world, &mut subscriber).await;
    subscriber.break_off(0);
    world.write("east", 60);
    world.settle().await;
    compact(&world, "east");
    world.take_over("east").await;
    assert!(subscriber.open(&world, B));
    world.write("east", 5);
    finish(&world, &mut subscriber).await;
    assert!(subscriber.gaps().contains(&false));
    assert!(subscriber.count(Part::Snapshot) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_first_is_followed_by_every_later_event() {
    let mut world = World::new(5, LARGE).await;
    world.write("west", 20);
    let mut subscriber = subscribe(&world, B, Begin::Snapshot).await;
    world.write("west", 20);
    finish(&world, &mut subscriber).await;
    assert!(subscriber.count(Part::Snapshot) > 0);
    assert!(subscriber.gaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repaired_era_gives_the_net_changes_and_no_snapshot() {
    let mut world = World::new(6, LARGE).await;
    let mut subscriber = subscribe(&world, A, Begin::Now).await;
    world.write("east", 30);
    catch_up(&world, &mut subscriber).await;
    lose_the_watch(&mut world, 15).await;
    world.write("east", 5);
    finish(&world, &mut subscriber).await;
    let gaps = subscriber.gaps();
    assert!(!gaps.is_empty() && gaps.iter().all(|repaired| *repaired));
    assert!(subscriber.count(Part::Repair) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_its_owner_did_not_finish_is_finished_by_the_next() {
    let mut world = World::new(7, SMALL).await;
    let mut subscriber = subscribe(&world, B, Begin::Now).await;
    world.write("east", 40);
    catch_up(&world, &mut subscriber).await;
    // One page of the two lists after the other, up to the first change.
    world.api("east").allow_pages(Some(0));
    lose_the_watch(&mut world, 60).await;
    while subscriber.count(Part::Repair) == 0 {
        world.api("east").allow_pages(Some(1));
        subscriber.read_for(Duration::from_millis(200)).await;
    }
    let state = world.group.now();
    let mut points = state.streams.values().map(Stream::resume_point);
    assert!(points.any(|point| matches!(point, ResumePoint::Repair { .. })));
    let owner = world.owner("east").unwrap();
    world.crash(owner);
    world.api("east").allow_pages(None);
    world.place();
    world.write("east", 5);
    finish(&world, &mut subscriber).await;
    assert_eq!(subscriber.count(Part::Snapshot), 0);
}

#[tokio::test(start_paused = true)]
async fn two_repaired_eras_are_passed_by_one_that_stands_inside_a_version() {
    let mut world = World::new(8, LARGE).await;
    let mut subscriber = subscribe(&world, A, Begin::Now).await;
    world.write("east", 30);
    catch_up(&world, &mut subscriber).await;
    let before = subscriber.count(Part::Live);
    world.etcd("east").delete_together("configmaps", 3);
    subscriber
        .wait_for(PATIENCE, has_seen(Part::Live, before + 2))
        .await;
    subscriber.break_off(1);
    lose_the_watch(&mut world, 3).await;
    lose_the_watch(&mut world, 3).await;
    world.write("east", 3);
    finish(&world, &mut subscriber).await;
    assert!(subscriber.gaps().contains(&true));
    assert_eq!(subscriber.count(Part::Snapshot), 0);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_interrupted_goes_on() {
    let mut world = World::new(9, LARGE).await;
    world.write("east", 60);
    let mut subscriber = subscribe(&world, A, Begin::Snapshot).await;
    subscriber
        .wait_for(PATIENCE, has_seen(Part::Snapshot, 6))
        .await;
    subscriber.break_off(3);
    world.write("east", 10);
    assert!(subscriber.open(&world, B));
    finish(&world, &mut subscriber).await;
    let restarted = subscriber
        .records
        .iter()
        .any(|it| it.seen == Seen::Restarted);
    assert!(!restarted);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_whose_list_is_gone_says_that_it_begins_again() {
    let mut world = World::new(10, LARGE).await;
    world.write("east", 60);
    let mut subscriber = subscribe(&world, A, Begin::Snapshot).await;
    world.api("east").allow_pages(Some(2));
    subscriber
        .wait_for(PATIENCE, has_seen(Part::Snapshot, 3))
        .await;
    subscriber.break_off(0);
    world.write("east", 10);
    compact(&world, "east");
    world.api("east").allow_pages(None);
    assert!(subscriber.open(&world, B));
    finish(&world, &mut subscriber).await;
    let restarted = subscriber
        .records
        .iter()
        .any(|it| it.seen == Seen::Restarted);
    assert!(restarted);
}

/// The owner of `east` stays, and loses its watches, which cannot be continued although lists
/// answer: each stream begins a repaired era, or several.
async fn begin_repaired_eras(world: &mut World) {
    let api = world.api("east");
    api.set_manners(Manners {
        gone: 1_000,
        ..Manners::default()
    });
    world.write("east", 5);
    let begun = async {
        while !are_repaired(world) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let begun = tokio::time::timeout(PATIENCE, begun).await;
    assert!(begun.is_ok(), "no era begins");
    api.set_manners(Manners::default());
    // What is under way by then is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Whether each stream of `east` is in a repaired era.
fn are_repaired(world: &World) -> bool {
    let state = world.group.now();
    let streams = state.streams.values();
    let mut streams = streams.filter(|stream| world.streams[&stream.id].cluster == "east");
    streams.all(|stream| stream.era.as_ref().is_some_and(|era| era.repaired))
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_a_list_that_is_newer_than_the_next_era_goes_on_in_that_era() {
    for is_interrupted in [false, true] {
        let mut world = World::new(17, LARGE).await;
        world.write("east", 30);
        world.settle().await;
        // The list is asked for in the first era, and answered once the next ones have begun.
        world.api("east").hold_snapshots(true);
        let mut subscriber = subscribe(&world, A, Begin::Snapshot).await;
        subscriber.read_for(Duration::from_millis(200)).await;
        begin_repaired_eras(&mut world).await;
        world.write("east", 5);
        world.etcd("east").write_elsewhere();
        world.api("east").hold_snapshots(false);
        world.settle().await;
        if is_interrupted {
            let has_some = has_seen(Part::Snapshot, 4);
            subscriber.wait_for(PATIENCE, has_some).await;
            subscriber.break_off(1);
            assert!(subscriber.open(&world, B));
        }
        world.write("east", 5);
        finish(&world, &mut subscriber).await;
        assert!(subscriber.gaps().is_empty(), "{}", subscriber.tail(20));
        let state = world.group.now();
        let is_newer = |record: &&Record| match (&record.seen, record.stream) {
            (Seen::Synced(list), Some(stream)) => {
                let era = state.streams[&stream].era.as_ref().unwrap();
                list.era < era.era && list.rv > era.to
            }
            _ => false,
        };
        let newer = subscriber.records.iter().filter(is_newer);
        assert_eq!(newer.count(), 2, "{}", subscriber.tail(20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_read_slowly_while_a_repaired_era_begins_is_followed_by_the_rest() {
    let mut world = World::new(18, LARGE).await;
    world.write("east", 60);
    world.settle().await;
    let mut subscriber = subscribe(&world, A, Begin::Snapshot).await;
    subscriber
        .wait_for(PATIENCE, has_seen(Part::Snapshot, 4))
        .await;
    let record = subscriber.records.last().unwrap();
    let mut places = record.cursor.as_ref().unwrap().places.values();
    assert!(places.any(|place| matches!(place, Place::Snapshot { .. })));
    // Until it reads on, it stands inside of the snapshot.
    world.write("east", 10);
    world.settle().await;
    begin_repaired_eras(&mut world).await;
    world.write("east", 10);
    world.settle().await;
    finish(&world, &mut subscriber).await;
    let gaps = subscriber.gaps();
    assert!(!gaps.is_empty() && gaps.iter().all(|repaired| *repaired));
    let mut records = subscriber.records.iter();
    assert!(!records.any(|record| record.seen == Seen::Restarted));
}

#[tokio::test(start_paused = true)]
async fn net_changes_that_are_interrupted_go_on() {
    let mut world = World::new(11, SMALL).await;
    let mut subscriber = subscribe(&world, A, Begin::Now).await;
    world.write("east", 40);
    catch_up(&world, &mut subscriber).await;
    // It stands elsewhere than the owner does when that loses its watch.
    subscriber.break_off(0);
    world.write("east", 30);
    world.settle().await;
    lose_the_watch(&mut world, 40).await;
    for replica in [B, A] {
        let before = subscriber.count(Part::Repair);
        let running = world.running();
        let replica = if running.contains(&replica) {
            replica
        } else {
            running[0]
        };
        assert!(subscriber.open(&world, replica));
        subscriber
            .wait_for(PATIENCE, has_seen(Part::Repair, before + 4))
            .await;
        subscriber.break_off(2);
    }
    finish(&world, &mut subscriber).await;
    assert!(!subscriber.gaps().contains(&false));
}

#[tokio::test(start_paused = true)]
async fn a_filter_never_holds_the_cursor_back() {
    let mut world = World::new(12, LARGE).await;
    let mut subscriber = subscribe_for(&world, Want::Nobody, A, Begin::Now).await;
    world.write("east", 30);
    world.write("west", 30);
    finish(&world, &mut subscriber).await;
    assert_eq!(subscriber.events().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_loses_its_label_is_unmatched_in_a_copy() {
    let world = World::new(13, LARGE).await;
    let mut subscriber = subscribe_for(&world, Want::Tier("a"), A, Begin::Snapshot).await;
    catch_up(&world, &mut subscriber).await;
    let write = |tier: &str| Write {
        resource: "configmaps".to_owned(),
        namespace: "ns1".to_owned(),
        name: "o1".to_owned(),
        tier: tier.to_owned(),
        delete: false,
    };
    for tier in ["a", "b", "a", "b"] {
        world.etcd("east").write(&write(tier));
    }
    finish(&world, &mut subscriber).await;
    let unmatched: Vec<_> = subscriber.events().map(|event| event.unmatched).collect();
    assert_eq!(unmatched, [false, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_received_a_removal_has_the_stream_again_with_a_snapshot() {
    let mut world = World::new(14, LARGE).await;
    world.write("east", 20);
    let mut subscriber = subscribe_for(&world, Want::Env("prod"), A, Begin::Snapshot).await;
    catch_up(&world, &mut subscriber).await;
    let label = |world: &mut World, env: &str| {
        world.update("east", |spec| {
            spec.labels.insert("env".to_owned(), env.to_owned());
        });
    };
    label(&mut world, "dev");
    let is_removal = |seen: &Seen| matches!(seen, Seen::Stream(change) if change.kind == StreamChangeType::Removed);
    let removed = |this: &Subscriber| this.records.iter().any(|it| is_removal(&it.seen));
    subscriber.wait_for(PATIENCE, removed).await;
    // The connection breaks just after it, before the cursor that leaves the stream out.
    let after = subscriber
        .records
        .iter()
        .position(|it| is_removal(&it.seen))
        .unwrap()
        + 1;
    subscriber.break_off(subscriber.records.len() - after);
    label(&mut world, "prod");
    world.settle().await;
    assert!(subscriber.open(&world, B));
    finish(&world, &mut subscriber).await;
    let continued = subscriber.records.iter().any(|it| {
        matches!(&it.seen, Seen::Stream(change) if change.reason == StreamChangeReason::Continued)
    });
    assert!(continued);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_does_not_know_of_its_successor_does_no_harm() {
    let mut world = World::new(15, SMALL).await;
    let owner = world.owner("east").unwrap();
    let mut here = subscribe(&world, owner, Begin::Now).await;
    let elsewhere = world.running().into_iter().find(|id| *id != owner).unwrap();
    let mut there = subscribe(&world, elsewhere, Begin::Snapshot).await;
    world.write("east", 20);
    world.settle().await;
    world.cut_off(owner, true);
    world.place();
    assert_ne!(world.owner("east"), Some(owner));
    for _ in 0..5 {
        world.write("east", 20);
        here.read_for(Duration::from_secs(2)).await;
        there.read_for(Duration::from_secs(2)).await;
    }
    assert!(here.count(Part::Live) > 20, "the old owner goes on");
    world.cut_off(owner, false);
    finish(&world, &mut here).await;
    finish(&world, &mut there).await;
    assert!(here.gaps().is_empty() && there.gaps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restored_history_is_reported_even_where_it_is_overtaken() {
    for writes in [0, 30] {
        let mut world = World::new(16, LARGE).await;
        let mut subscriber = subscribe(&world, A, Begin::Snapshot).await;
        world.write("east", 40);
        catch_up(&world, &mut subscriber).await;
        let more: Vec<_> = (0..writes).map(|_| world.any_write()).collect();
        world.etcd("east").rewind(15, &more);
        subscriber.read_for(Duration::from_secs(900)).await;
        world.write("east", 3);
        catch_up(&world, &mut subscriber).await;
        assert_eq!(crate::table::judge(&world, &subscriber), Ok(()));
        let reasons = subscriber.records.iter().filter_map(|it| match &it.seen {
            Seen::Gap(gap) => Some(gap.reason),
            _ => None,
        });
        let reset = [GapReason::HistoryReset, GapReason::UpstreamInconsistent];
        let mut reasons = reasons.filter(|reason| reset.contains(reason));
        assert!(reasons.next().is_some(), "after {writes} writes");
    }
}
