//! What a watch does not give any more: history that is gone, or said to be, and net changes.

use quorumwatch::domain::{
    event::{Change, GapReason},
    id::Era,
    stream::ResumePoint,
};

use crate::{
    api::{Api, status},
    harness::{closed, object, seen, start},
};

#[tokio::test]
async fn t2_history_that_is_gone_in_either_form_begins_an_era() {
    for in_stream in [false, true] {
        let mut api = Api::start().await;
        api.set(|world| {
            world.put(50, &[]);
            world.compacted = 40;
        });
        let mut watched = start(&api.address, closed(5));
        let asked = api.watch().await;
        if in_stream {
            asked.open().error(410).await;
        } else {
            asked.refuse(status(410));
        }
        watched.grant(GapReason::HistoryExpired, 50, false).await;
        api.open(50).await;
    }
}

#[tokio::test]
async fn t3_a_watch_that_closes_in_silence_twice_is_not_tried_a_third_time() {
    let mut api = Api::start().await;
    api.set(|world| {
        world.put(50, &[]);
        world.compacted = 40;
    });
    let mut watched = start(&api.address, closed(5));
    drop(api.open(5).await);
    drop(api.open(5).await);
    watched.grant(GapReason::HistoryExpired, 50, false).await;
    api.open(50).await;
}

#[tokio::test]
async fn t3_watches_that_close_in_silence_are_opened_again_where_nothing_has_changed() {
    let mut api = Api::start().await;
    let kept = object("a", "1", 4);
    api.set(|world| {
        world.put(5, &[&kept]);
        world.put(50, &[&kept]);
    });
    let mut watched = start(&api.address, closed(5));
    drop(api.open(5).await);
    drop(api.open(5).await);
    let open = api.open(5).await;
    open.event("ADDED", &object("b", "2", 51)).await;
    assert_eq!(watched.events(1).await.len(), 1);
}

#[tokio::test]
async fn t3_what_changed_while_watches_closed_in_silence_is_repaired() {
    let mut api = Api::start().await;
    api.set(|world| {
        world.put(5, &[&object("a", "1", 4)]);
        world.put(50, &[&object("a", "1", 49)]);
    });
    let mut watched = start(&api.address, closed(5));
    drop(api.open(5).await);
    drop(api.open(5).await);
    watched.closed(5).await;
    watched.grant(GapReason::WatchCacheReset, 50, true).await;
    assert_eq!(watched.repaired(50).await.len(), 1);
    api.open(50).await;
}

#[tokio::test]
async fn t12_an_error_that_stays_is_passed_by_a_repair() {
    let mut api = Api::start().await;
    let a = object("a", "1", 6);
    api.set(|world| {
        world.put(5, &[]);
        world.put(6, &[&a]);
    });
    let mut watched = start(&api.address, closed(5));
    for _ in 0..3 {
        api.open(5).await.error(500).await;
    }
    watched.closed(5).await;
    watched.grant(GapReason::WatchCacheReset, 6, true).await;
    assert_eq!(
        seen(&watched.repaired(6).await),
        [(Change::Added, "a", a.as_str())]
    );
    api.open(6).await;
}

#[tokio::test]
async fn t29_a_reset_watch_cache_is_repaired_with_the_net_changes() {
    let mut api = Api::start().await;
    let [a, b, c, e] = [("a", 1), ("b", 2), ("c", 3), ("e", 4)].map(|(n, rv)| object(n, n, rv));
    let [new_b, d, new_e] =
        [("b", "b", 7), ("d", "d", 8), ("e", "e2", 9)].map(|(name, uid, rv)| object(name, uid, rv));
    api.set(|world| {
        world.put(5, &[&a, &b, &c, &e]);
        world.put(9, &[&a, &new_b, &d, &new_e]);
    });
    let mut watched = start(&api.address, closed(5));
    api.watch().await.refuse(status(410));
    watched.closed(5).await;
    watched.grant(GapReason::WatchCacheReset, 9, true).await;
    let events = watched.repaired(9).await;
    let expected = [
        (Change::Modified, "b", new_b.as_str()),
        (Change::Deleted, "c", c.as_str()),
        (Change::Added, "d", d.as_str()),
        (Change::Deleted, "e", e.as_str()),
        (Change::Added, "e", new_e.as_str()),
    ];
    assert_eq!(seen(&events), expected);
    // What is deleted is only in the old list, of which nothing but the metadata is asked for.
    for event in &events {
        assert_eq!(event.metadata_only, event.change == Change::Deleted);
    }
    let open = api.open(9).await;
    watched.watcher.stop().await;
    open.abandoned().await;

    // A successor does it again, from the log, and sends the same.
    let resume = ResumePoint::Repair {
        era: Era(2),
        from: 5.into(),
        to: 9.into(),
    };
    api.set(|world| world.version = 30);
    let mut successor = start(&api.address, resume.clone());
    assert_eq!(seen(&successor.repaired(9).await), expected);
    let open = api.open(9).await;
    successor.watcher.stop().await;
    open.abandoned().await;

    // Once the lists are gone too, it says so.
    api.set(|world| world.compacted = 20);
    let mut late = start(&api.address, resume);
    late.grant(GapReason::HistoryExpired, 30, false).await;
    api.open(30).await;
}

#[tokio::test]
async fn an_exact_list_that_takes_too_long_is_not_one_that_is_gone() {
    let mut api = Api::start().await;
    let a = object("a", "1", 8);
    api.set(|world| {
        world.put(5, &[]);
        world.put(9, &[&a]);
        world.is_slow = true;
    });
    let mut watched = start(&api.address, closed(5));
    api.watch().await.refuse(status(410));
    api.until(|world| world.exact_lists >= 2).await;
    api.set(|world| world.is_slow = false);
    watched.closed(5).await;
    watched.grant(GapReason::WatchCacheReset, 9, true).await;
    watched.repaired(9).await;
    api.open(9).await;
}
