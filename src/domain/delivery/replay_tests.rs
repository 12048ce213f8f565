use proptest::{
    collection::vec,
    prelude::{prop_assert, prop_assert_eq, proptest},
};

use super::{HistoryItem, Position, Replay, Replayed};
use crate::domain::{
    delivery::{
        fixtures::{EPOCH, event, position, texts},
        place::{Admission, Place, Reader},
        ring::ReadMax,
    },
    event::Change,
    id::Era,
};

fn replay(at: &str) -> Replay {
    Replay::new(EPOCH, &position(at))
}

fn added(versions: impl IntoIterator<Item = u64>) -> Option<HistoryItem> {
    let events = versions.into_iter();
    let events = events.map(|rv| event(Change::Added, rv, "a"));
    Some(HistoryItem::Events(events.collect()))
}

fn most(items: usize) -> ReadMax {
    let bytes = usize::MAX;
    ReadMax { items, bytes }
}

/// Everything that a reader gets at `next`.
fn read(replay: &mut Replay, next: &mut u64) -> Vec<String> {
    match replay.read(*next, most(usize::MAX)) {
        Replayed::Items { items, next: after } => {
            *next = after;
            texts(&items)
        }
        Replayed::FellBehind => vec!["fell behind".into()],
        Replayed::Ended(ended) => vec![format!("ended at {}", ended.at)],
    }
}

#[test]
fn readers_at_nearly_one_place_share_a_watch_that_begins_with_the_earliest() {
    let mut replay = replay("3/1500");
    assert_eq!(replay.join(&position("3/1100")), Some(0));
    assert_eq!(replay.join(&position("3/1999")), Some(0));
    assert_eq!(replay.join(&position("3/2900")), None, "too far ahead");
    assert_eq!(replay.join(&position("2/1100")), None, "of another era");
    assert_eq!(replay.begin(), 1_100.into());
    assert_eq!(replay.join(&position("3/1000")), None, "it has begun");
    replay.take(added([1_200, 2_000]));
    assert_eq!(replay.join(&position("3/1200")), Some(1));
    assert_eq!(replay.join(&position("3/2900")), Some(2));
}

#[test]
fn a_replay_for_a_reader_inside_a_version_begins_before_it() {
    let mut replay = replay("3/7/1");
    assert_eq!(replay.begin(), 6.into());
    let deleted = [7, 7, 7].map(|rv| event(Change::Deleted, rv, "a"));
    replay.take(Some(HistoryItem::Events(deleted.into())));
    replay.take(Some(HistoryItem::Closed(9.into())));
    assert_eq!(replay.join(&position("3/7/1")), Some(2));
    let given = ["event 3/7/0", "event 3/7/1", "event 3/7/2", "at 3/9"];
    assert_eq!(read(&mut replay, &mut 0), given);
}

#[test]
fn more_is_read_only_for_who_has_read_everything() {
    let mut replay = replay("3/5");
    assert!(!replay.is_wanted(), "it has not begun");
    replay.begin();
    assert!(replay.is_wanted());
    replay.take(added([6, 7]));
    assert!(!replay.is_wanted());
    let (mut first, mut second) = (0, 0);
    read(&mut replay, &mut first);
    assert!(replay.is_wanted(), "whatever the other one does");
    replay.take(added([8]));
    assert_eq!(read(&mut replay, &mut second).len(), 3);
    assert!(replay.ends_at(second) && !replay.ends_at(first));
}

#[test]
fn what_nobody_has_read_is_not_dropped_and_who_is_far_behind_is_left() {
    let mut replay = replay("3/5");
    replay.begin();
    replay.take(added([6, 7, 8]));
    replay.take(Some(HistoryItem::Scarce));
    let (mut first, mut second) = (0, 0);
    assert_eq!(read(&mut replay, &mut first).len(), 3);
    assert_eq!(replay.join(&position("3/6")), Some(1), "kept for others");
    assert!(!replay.take(Some(HistoryItem::Scarce)), "nothing is new");
    assert_eq!(replay.join(&position("3/6")), None);
    assert_eq!(read(&mut replay, &mut second), ["fell behind"]);
    assert!(replay.is_wanted(), "it continues for the first");
}

#[test]
fn what_is_kept_is_bounded() {
    let mut replay = replay("3/5");
    replay.begin();
    let (mut next, mut written) = (0, 5);
    for _ in 0..100 {
        replay.take(added(written + 1..=written + 100));
        written += 100;
        read(&mut replay, &mut next);
    }
    let kept = next - replay.ring.first();
    assert!((500..9_000).contains(&kept), "{kept}");
}

#[test]
fn its_end_comes_after_everything_else() {
    let mut replay = replay("3/5");
    replay.begin();
    replay.take(added([6]));
    replay.take(Some(HistoryItem::Expired));
    let mut next = 0;
    assert_eq!(read(&mut replay, &mut next), ["event 3/6"]);
    assert_eq!(read(&mut replay, &mut next), ["ended at 3/6"]);
    assert!(!replay.is_wanted() && !replay.ends_at(next));
    assert_eq!(replay.join(&position("3/6")), None);
}

proptest! {
    /// Readers that come at any time, stand anywhere and read at any speed.
    #[test]
    fn every_reader_gets_everything_after_its_place_or_is_left_behind(
        steps in vec((0..5_u8, 0..8_u32, 0..4_u32), 1..120),
    ) {
        let mut replay = replay("3/10");
        replay.begin();
        let mut written = 10;
        let mut readers: Vec<(Position, u64, Place)> = Vec::new();
        for (step, index, count) in steps {
            let chosen = index as usize % readers.len().max(1);
            match (step, readers.get_mut(chosen)) {
                (0, _) => {
                    replay.take(added(written + 1..=written + u64::from(count)));
                    written += u64::from(count);
                }
                (1, _) => prop_assert!(!replay.take(Some(HistoryItem::Scarce))),
                (2, _) | (_, None) => {
                    let here = Position::closed(Era(3), (9 + u64::from(index)).into());
                    let next = replay.join(&here);
                    readers.extend(next.map(|next| (here.clone(), next, Place::At(here))));
                }
                (_, Some((_, next, place))) => match replay.read(*next, most(count as usize)) {
                    Replayed::Items { items, next: after } => {
                        *next = after;
                        for item in items {
                            prop_assert!(place.admit(Reader::Subscriber, &item) != Admission::Missing);
                        }
                    }
                    Replayed::FellBehind => drop(readers.remove(chosen)),
                    Replayed::Ended(_) => prop_assert!(false, "it has not ended"),
                },
            }
        }
        for (began, mut next, mut place) in readers {
            if let Replayed::Items { items, next: after } = replay.read(next, most(usize::MAX)) {
                next = after;
                for item in items {
                    place.admit(Reader::Subscriber, &item);
                }
                prop_assert!(replay.ends_at(next));
                let end = began.rv.as_u64().unwrap().max(written);
                prop_assert_eq!(place.position().unwrap().rv.as_u64(), Some(end));
            }
        }
    }
}
