//! Catch-up watches, snapshots and repairs beside the live watch.

use std::time::Duration;

use quorumwatch::{
    domain::event::{Change, Event},
    domain::history::HistoryItem,
};

use crate::{
    api::{Api, status},
    harness::{STREAM, closed, item, object, seen, start},
};

#[tokio::test]
async fn a_catch_up_is_a_second_watch_that_ends_with_its_receiver() {
    let mut api = Api::start().await;
    api.set(|world| world.version = 9);
    let watched = start(&api.address, closed(9));
    let _live = api.open(9).await;
    let mut items = watched.watcher.history(STREAM).unwrap().catch_up(5.into());
    let open = api.open(5).await;
    let a = object("a", "1", 7);
    api.set(|world| {
        world.put(5, &[]);
        world.put(7, &[&a]);
        world.version = 9;
    });
    open.event("ADDED", &a).await;
    let Some(HistoryItem::Events(events)) = item(&mut items).await else {
        panic!("events come first")
    };
    assert_eq!(seen(&events), [(Change::Added, "a", a.as_str())]);
    assert_eq!(item(&mut items).await, Some(HistoryItem::Closed(9.into())));
    drop(items);
    open.abandoned().await;
}

#[tokio::test]
async fn a_catch_up_ends_where_its_watch_is_lost_and_says_whether_the_lists_are() {
    let mut api = Api::start().await;
    let (a, b) = (object("a", "1", 4), object("b", "2", 8));
    api.set(|world| {
        world.put(5, &[&a]);
        world.put(9, &[&b]);
    });
    let watched = start(&api.address, closed(9));
    let _live = api.open(9).await;
    let history = watched.watcher.history(STREAM).unwrap();
    let mut items = history.catch_up(5.into());
    api.watch().await.refuse(status(410));
    assert_eq!(item(&mut items).await, Some(HistoryItem::Closed(5.into())));
    let lost = HistoryItem::WatchLost { to: 9.into() };
    assert_eq!(item(&mut items).await, Some(lost));
    assert_eq!(item(&mut items).await, None);
    let expected = [
        (Change::Deleted, "a", a.as_str()),
        (Change::Added, "b", b.as_str()),
    ];
    for _ in 0..2 {
        let mut items = history.repair(5.into(), 9.into());
        assert_eq!(seen(&repaired(&mut items, 9).await), expected);
        assert_eq!(item(&mut items).await, None);
    }

    api.set(|world| world.compacted = 8);
    let mut gone = history.catch_up(5.into());
    api.watch().await.refuse(status(410));
    assert_eq!(item(&mut gone).await, Some(HistoryItem::Expired));
    assert_eq!(item(&mut gone).await, None);
    let mut gone = history.repair(5.into(), 9.into());
    assert_eq!(item(&mut gone).await, Some(HistoryItem::Expired));
}

#[tokio::test]
async fn a_server_that_ignores_the_version_of_a_list_repairs_nothing() {
    let mut api = Api::start().await;
    api.set(|world| {
        world.put(5, &[&object("a", "1", 4)]);
        world.put(9, &[&object("b", "2", 8)]);
        world.ignores_exact = true;
    });
    let watched = start(&api.address, closed(9));
    let _live = api.open(9).await;
    let history = watched.watcher.history(STREAM).unwrap();
    // Both lists would be equal, and what happened between 5 and 9 would be missing in silence.
    let mut items = history.catch_up(5.into());
    api.watch().await.refuse(status(410));
    assert_eq!(item(&mut items).await, Some(HistoryItem::Expired));
    let mut items = history.repair(5.into(), 9.into());
    assert_eq!(item(&mut items).await, Some(HistoryItem::Expired));
}

async fn repaired(
    items: &mut tokio::sync::mpsc::Receiver<HistoryItem>,
    expected: u64,
) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match item(items).await {
            Some(HistoryItem::Repaired { to, events, last }) => {
                assert_eq!(to, expected.into());
                all.extend(events);
                if last {
                    return all;
                }
            }
            other => panic!("{other:?} instead of net changes"),
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_a_consistent_list_in_pages() {
    let mut api = Api::start().await;
    let objects = ["a", "b", "c", "d", "e"].map(|name| object(name, name, 3));
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    api.set(|world| {
        world.put(3, &objects);
        world.version = 40;
    });
    let watched = start(&api.address, closed(40));
    let _live = api.open(40).await;
    let history = watched.watcher.history(STREAM).unwrap();
    let mut items = history.snapshot(None);
    assert_eq!(
        item(&mut items).await,
        Some(HistoryItem::Listing(40.into()))
    );
    let mut found = Vec::new();
    loop {
        match item(&mut items).await {
            Some(HistoryItem::Snapshot(events)) => found.extend(events),
            Some(HistoryItem::Synced(at)) => {
                assert_eq!(at, 40.into());
                break;
            }
            other => panic!("{other:?} in a snapshot"),
        }
    }
    let names: Vec<_> = found.iter().map(|event| event.name()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert!(found.iter().all(|event| event.change == Change::Snapshot));
    assert_eq!(item(&mut items).await, None);

    // T17: a list whose token expires is never continued by another one.
    api.set(|world| world.tokens_expire = true);
    let mut items = history.snapshot(None);
    assert!(matches!(
        item(&mut items).await,
        Some(HistoryItem::Listing(_))
    ));
    assert!(matches!(
        item(&mut items).await,
        Some(HistoryItem::Snapshot(_))
    ));
    assert!(matches!(
        item(&mut items).await,
        Some(HistoryItem::Failed(_))
    ));
    assert!(api.is_quiet(Duration::ZERO).await);
}
