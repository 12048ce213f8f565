//! The simulated disk loses what a real one may lose, and nothing else.

use std::{collections::BTreeSet, io::ErrorKind, path::Path, time::Duration};

use tokio::time::Instant;

use super::{Crash, Disk as _, InMemory};
use crate::raft::storage::{OpenError, Volume, WriteBatch};

/// Enough for each outcome that a seed decides.
const SEEDS: u64 = 64;

fn open(disk: &InMemory) -> Volume {
    disk.open(Path::new("data")).unwrap()
}

/// Applies a batch of some keys.
fn put(volume: &Volume, keys: &[&str]) {
    let mut batch = WriteBatch::default();
    for key in keys {
        batch.put(key.as_bytes(), *b"value");
    }
    volume.tree.apply(batch).unwrap();
}

fn keys(volume: &Volume) -> String {
    let keys = volume.tree.keys((Vec::new(), vec![u8::MAX]));
    let keys: Vec<_> = keys.map(Result::unwrap).collect();
    String::from_utf8(keys.concat()).unwrap()
}

/// What is left of three batches, of which the first is flushed, by seed.
async fn left(crash: Crash, is_torn: bool) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for seed in 0..SEEDS {
        let mut disk = InMemory::new(seed);
        if is_torn {
            disk = disk.with_torn_batches();
        }
        let volume = open(&disk);
        put(&volume, &["a"]);
        volume.tree.flush().await.unwrap();
        put(&volume, &["b", "c"]);
        put(&volume, &["d"]);
        assert_eq!(keys(&volume), "abcd");
        disk.crash(crash);
        left.insert(keys(&open(&disk)));
    }
    left
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|keys| (*keys).to_owned()).collect()
}

#[tokio::test]
async fn a_crash_leaves_whole_batches_in_order_and_all_that_was_flushed() {
    assert_eq!(left(Crash::Power, false).await, set(&["a", "abc", "abcd"]));
    assert_eq!(
        left(Crash::Process, false).await,
        set(&["a", "abc", "abcd"])
    );
}

#[tokio::test]
async fn a_batch_is_torn_only_where_that_is_asked_for() {
    let torn = left(Crash::Power, true).await;
    assert_eq!(torn, set(&["a", "ab", "abc", "abcd"]));
}

#[tokio::test]
async fn what_a_process_finds_at_its_start_is_not_lost_later() {
    for seed in 0..SEEDS {
        let disk = InMemory::new(seed);
        put(&open(&disk), &["a"]);
        disk.crash(Crash::Process);
        let found = keys(&open(&disk));
        disk.crash(Crash::Power);
        assert_eq!(keys(&open(&disk)), found);
    }
}

#[tokio::test]
async fn writes_to_the_page_survive_the_process_and_some_a_loss_of_power() {
    let mut left = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = InMemory::new(seed);
        let mut volume = open(&disk);
        volume.page.write_at(b"1", 0).unwrap();
        volume.page.sync().await.unwrap();
        volume.page.write_at(b"2", 0).unwrap();
        volume.page.write_at(b"3", 1).unwrap();
        disk.crash(Crash::Process);
        let mut bytes = [0; 2];
        open(&disk).page.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"23");

        // The last process has synced what the first one left.
        let mut volume = open(&disk);
        volume.page.write_at(b"4", 0).unwrap();
        volume.page.write_at(b"5", 1).unwrap();
        disk.crash(Crash::Power);
        open(&disk).page.read_at(&mut bytes, 0).unwrap();
        left.insert(String::from_utf8(bytes.to_vec()).unwrap());
    }
    assert_eq!(left, set(&["23", "25", "43", "45"]));
}

#[tokio::test]
async fn one_process_at_a_time_has_the_data_and_nothing_remains_of_one_that_crashed() {
    let disk = InMemory::new(0);
    let first = open(&disk);
    let second = disk.open(Path::new("data")).err().unwrap();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
    put(&first, &["a"]);
    first.tree.flush().await.unwrap();
    drop(first);

    let second = open(&disk);
    disk.crash(Crash::Process);
    let third = open(&disk);
    let gone = second.tree.flush().await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotConnected);
    // Its lock is not that of the third.
    drop(second);
    put(&third, &["b"]);
    assert_eq!(keys(&third), "ab");
}

#[tokio::test]
async fn a_crash_takes_the_place_of_an_operation() {
    let disk = InMemory::new(0);
    let volume = open(&disk);
    disk.crash_in(3, Crash::Power);
    put(&volume, &["a"]);
    // To begin a flush and to end it are two.
    assert!(volume.tree.flush().await.is_err());
    assert_eq!((disk.operations(), disk.crashes()), (3, 1));
    drop(volume);
    let volume = open(&disk);
    put(&volume, &["b"]);
    volume.tree.flush().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_makes_nothing_new_durable_until_there_is_room() {
    let disk = InMemory::new(0);
    let volume = open(&disk);
    put(&volume, &["a"]);
    volume.tree.flush().await.unwrap();
    disk.set_full(true);
    volume.tree.flush().await.unwrap();
    put(&volume, &["b"]);
    let full = volume.tree.flush().await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    disk.set_full(false);
    volume.tree.flush().await.unwrap();
    disk.crash(Crash::Power);
    assert_eq!(keys(&open(&disk)), "ab");
}

#[tokio::test(start_paused = true)]
async fn a_flush_takes_its_time_and_a_crash_meanwhile_ends_it() {
    let (shortest, longest) = (Duration::from_millis(3), Duration::from_millis(5));
    let disk = InMemory::new(0).with_latency(shortest..=longest);
    let volume = open(&disk);
    put(&volume, &["a"]);
    let begun = Instant::now();
    volume.tree.flush().await.unwrap();
    // The clock counts whole milliseconds.
    let took = begun.elapsed();
    assert!(
        took >= shortest && took <= longest + Duration::from_millis(1),
        "{took:?}"
    );

    put(&volume, &["b"]);
    let crash = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        disk.crash(Crash::Power);
    };
    let (flushed, ()) = tokio::join!(volume.tree.flush(), crash);
    assert!(flushed.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_becomes_slow_takes_longer_from_then_on() {
    let quick = Duration::ZERO..=Duration::ZERO;
    let slow = Duration::from_millis(700)..=Duration::from_millis(900);
    let disk = InMemory::new(0);
    let volume = open(&disk);
    for (latency, at_least) in [(quick.clone(), 0), (slow, 700), (quick, 0)] {
        disk.set_latency(latency);
        put(&volume, &["a"]);
        let begun = Instant::now();
        volume.tree.flush().await.unwrap();
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
        assert_eq!(took >= 700, at_least > 0, "{took} ms");
    }
}
