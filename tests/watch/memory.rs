//! Memory: what is read and not taken is bounded, and stops nobody else.

use std::time::Duration;

use quorumwatch::{
    config,
    domain::{history::HistoryItem, id::StreamId},
    memory::Budgets,
    watcher::{Signal, Signals, StreamStart, WatchPolicy},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    api::{Api, PATIENCE},
    harness::{STREAM, closed, item, policy, selector, start_all, start_with},
};

/// Objects whose list is far longer than what may be on its way to a reader who takes nothing.
const MANY: usize = 200;

fn many() -> Vec<String> {
    let padding = "x".repeat(4_000);
    let object = |n| {
        format!(
            r#"{{"metadata":{{"name":"o-{n:04}","namespace":"n","uid":"{n}","resourceVersion":"3"}},"x":"{padding}"}}"#
        )
    };
    (0..MANY).map(object).collect()
}

async fn api_with_many() -> Api {
    let api = Api::start().await;
    let objects = many();
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    api.set(|world| world.put(9, &objects));
    api
}

/// The objects of a snapshot and what follows them.
async fn taken(items: &mut mpsc::Receiver<HistoryItem>) -> (usize, HistoryItem) {
    let mut objects = 0;
    loop {
        match item(items).await.expect("it goes on") {
            HistoryItem::Listing(_) => {}
            HistoryItem::Snapshot(events) => objects += events.len(),
            end => return (objects, end),
        }
    }
}

fn with_snapshots(bytes: usize) -> WatchPolicy {
    let memory = config::Memory {
        snapshots: bytes,
        ..config::Memory::default()
    };
    WatchPolicy {
        budgets: Budgets::new(&memory),
        ..policy()
    }
}

#[tokio::test]
async fn a_snapshot_is_read_at_once_and_outlives_its_token_however_slowly_it_is_taken() {
    let mut api = api_with_many().await;
    let policy = policy();
    let budgets = policy.budgets.clone();
    let watched = start_with(&api.address, closed(9), policy);
    let _live = api.open(9).await;
    let history = watched.watcher.history(STREAM).unwrap();
    let mut items = history.snapshot(None);
    // Nothing is taken, and yet all of it is read.
    let before = api.pages_served();
    api.served(before + MANY / 2).await;
    api.set(|world| world.tokens_expire = true);
    let (objects, end) = taken(&mut items).await;
    assert_eq!((objects, end), (MANY, HistoryItem::Synced(9.into())));
    assert_eq!(budgets.snapshots.used(), 0);
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_and_is_taken_too_slowly_says_so() {
    let mut api = api_with_many().await;
    let policy = with_snapshots(64 * 1024);
    let budgets = policy.budgets.clone();
    let watched = start_with(&api.address, closed(9), policy);
    let _live = api.open(9).await;
    let history = watched.watcher.history(STREAM).unwrap();
    // One that is taken is complete, although it does not fit.
    let (objects, end) = taken(&mut history.snapshot(None)).await;
    assert_eq!((objects, end), (MANY, HistoryItem::Synced(9.into())));
    let mut items = history.snapshot(None);
    let listing = item(&mut items).await;
    assert!(matches!(listing, Some(HistoryItem::Listing(_))));
    let Some(HistoryItem::Snapshot(first)) = item(&mut items).await else {
        panic!("objects come first")
    };
    // Memory is used up: nothing more is read until something is taken.
    api.no_page_for(Duration::from_millis(300)).await;
    api.set(|world| world.tokens_expire = true);
    let (objects, end) = taken(&mut items).await;
    let HistoryItem::Failed(reason) = end else {
        panic!("{end:?} of a list that has expired")
    };
    assert!(objects + first.len() < MANY, "{objects}");
    assert!(reason.contains("memory.snapshots"), "{reason}");
    drop((first, items));
    assert_eq!(budgets.snapshots.used(), 0);
}

#[tokio::test]
async fn a_list_that_has_no_room_is_complete_and_is_read_in_small_pages() {
    const SMALL_PAGE_BYTES: usize = 64 * 1024;
    let mut api = api_with_many().await;
    let policy = WatchPolicy {
        page_items: 1_000,
        ..policy()
    };
    let snapshots = policy.budgets.snapshots.clone();
    let watched = start_with(&api.address, closed(9), policy);
    let _live = api.open(9).await;
    let history = watched.watcher.history(STREAM).unwrap();
    let _all = snapshots.reserve(snapshots.limit()).await;
    let before = api.pages_served();
    let (objects, end) = taken(&mut history.snapshot(None)).await;
    assert_eq!((objects, end), (MANY, HistoryItem::Synced(9.into())));
    let bytes: usize = many().iter().map(String::len).sum();
    let pages = api.pages_served() - before;
    assert!(
        pages >= bytes / SMALL_PAGE_BYTES,
        "{pages} pages of {bytes} bytes"
    );
}

#[tokio::test]
async fn snapshots_that_nobody_takes_hold_up_no_other() {
    let mut api = api_with_many().await;
    let watched = start_with(&api.address, closed(9), with_snapshots(64 * 1024));
    let _live = api.open(9).await;
    let history = watched.watcher.history(STREAM).unwrap();
    let stopped: Vec<_> = (0..5).map(|_| history.snapshot(None)).collect();
    let before = api.pages_served();
    api.served(before + stopped.len()).await;
    let (objects, end) = taken(&mut history.snapshot(None)).await;
    assert_eq!((objects, end), (MANY, HistoryItem::Synced(9.into())));
    drop(stopped);
}

#[tokio::test]
async fn repairs_that_nobody_takes_hold_up_no_other() {
    let mut api = api_with_many().await;
    api.set(|world| world.put(5, &[]));
    let watched = start_with(&api.address, closed(9), with_snapshots(64 * 1024));
    let _live = api.open(9).await;
    let history = watched.watcher.history(STREAM).unwrap();
    let repair = || history.repair(5.into(), 9.into());
    let stopped: Vec<_> = (0..3).map(|_| repair()).collect();
    let before = api.pages_served();
    api.served(before + 2 * stopped.len()).await;
    let (mut items, mut objects) = (repair(), 0);
    loop {
        match item(&mut items).await {
            Some(HistoryItem::Repaired { events, last, .. }) => {
                objects += events.len();
                if last {
                    break;
                }
            }
            other => panic!("{other:?} after {objects} net changes"),
        }
    }
    assert_eq!(objects, MANY);
    drop(stopped);
}

#[tokio::test]
async fn a_stream_whose_owner_takes_nothing_waits_and_stops_no_other() {
    const EVENTS: u64 = 20;
    let memory = config::Memory {
        queues: 64 * 1024,
        ..config::Memory::default()
    };
    let policy = WatchPolicy {
        budgets: Budgets::new(&memory),
        ..policy()
    };
    let budgets = policy.budgets.clone();
    let mut api = Api::start().await;
    api.set(|world| world.put(100, &[]));
    let stream = |id, resource| StreamStart {
        stream: StreamId(id),
        selector: selector(resource),
        resume: closed(1),
        cluster_uid: None,
    };
    let streams = vec![stream(1, "v1/pods"), stream(2, "v1/configmaps")];
    let (_watcher, mut signals, _health) = start_all(&api.address, streams, policy);
    let (mut taken, mut left) = (signals.pop().unwrap().1, signals.pop().unwrap().1);
    let mut writers = Vec::new();
    for _ in 0..2 {
        let open = api.watch().await.open();
        writers.push(tokio::spawn(async move {
            let padding = "x".repeat(200_000);
            for rv in 2..2 + EVENTS {
                let object = format!(
                    r#"{{"metadata":{{"name":"a","uid":"1","resourceVersion":"{rv}"}},"x":"{padding}"}}"#
                );
                open.event("ADDED", &object).await;
            }
            open
        }));
    }
    // What has no room in memory waits at the API server, and no other stream for it.
    assert_eq!(versions(&mut taken, EVENTS).await, EVENTS);
    assert!(budgets.queues.used() <= budgets.queues.limit());
    assert_eq!(versions(&mut left, EVENTS).await, EVENTS);
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Takes so many events, which have to have the versions that follow 1.
async fn versions(signals: &mut Signals, count: u64) -> u64 {
    let mut next = 2;
    while next < 2 + count {
        let signal = timeout(PATIENCE, signals.recv()).await;
        let signal = signal.expect("it goes on").expect("it goes on");
        if let Signal::Events(events) = signal {
            for event in events {
                assert_eq!(event.rv, next.into());
                next += 1;
            }
        }
    }
    next - 2
}
