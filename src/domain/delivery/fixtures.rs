//! Shorthands for the tests of this directory.

use std::sync::Arc;

use super::{
    item::{Gap, Item, Part, Published},
    place::Place,
    way::Located,
};
use crate::domain::{
    event::{Change, Event, GapReason, ObjectKey},
    id::{Epoch, Era, UnixMillis},
    position::Position,
    stream::EraStart,
};

pub(super) const EPOCH: Epoch = Epoch(3);

/// A position from its text.
pub(super) fn position(text: &str) -> Position {
    text.parse().unwrap()
}

/// An event of an object.
pub(super) fn event(change: Change, rv: u64, name: &str) -> Event {
    Event {
        change,
        rv: rv.into(),
        key: ObjectKey::new("ns", name, name),
        object: bytes::Bytes::from_static(b"{}"),
        metadata_only: false,
        seen: UnixMillis(0),
    }
}

/// An event at this position.
pub(super) fn item(part: Part, at: &str) -> Item {
    let at = position(at);
    let rv = at.rv.as_u64().unwrap();
    let change = match part {
        Part::Snapshot => Change::Snapshot,
        _ if at.is_closed() => Change::Added,
        _ => Change::Deleted,
    };
    let event = event(change, rv, &at.to_string());
    Item::Event(Arc::new(Published::new(at, EPOCH, part, event)))
}

/// A repaired gap.
pub(super) fn repaired(from: &str, to: &str) -> Item {
    Item::gap(Gap {
        from: Some(position(from)),
        to: Some(position(to)),
        reason: GapReason::WatchCacheReset,
        repaired: true,
    })
}

/// A gap that a snapshot follows.
pub(super) fn broken(from: Option<&str>, to: Option<&str>) -> Item {
    Item::gap(Gap {
        from: from.map(position),
        to: to.map(position),
        reason: GapReason::HistoryExpired,
        repaired: false,
    })
}

/// An era that begins at `to`: repaired from `from`, where that is given.
pub(super) fn era(era: u64, from: Option<&str>, to: u64) -> EraStart {
    EraStart {
        era: Era(era),
        reason: GapReason::WatchCacheReset,
        from: from.map(position),
        to: to.into(),
        repaired: from.is_some(),
        unbroken_since: from.map_or(Era(era), |from| position(from).era),
        broken_by: GapReason::HistoryReset,
        at: UnixMillis(0),
    }
}

/// An owner in era 3, which continues with era 2 by a repair from 2/10 to version 20; era 2 did not
/// continue with era 1. Its log begins at 3/30.
pub(super) fn owner(next: Option<u64>) -> Located {
    Located {
        era: era(3, Some("2/10"), 20),
        next,
        floor: position("3/30"),
    }
}

/// A place from its text.
pub(super) fn place(text: &str) -> Place {
    text.parse().unwrap()
}

/// Items as short texts: "event 1/7/0", "at 1/9", "gap 1/6>2/9", "hole 1/5", "list 1/9", ...
pub(super) fn texts(items: &[Item]) -> Vec<String> {
    let text = |item: &Item| match item {
        Item::Event(published) => match published.part {
            Part::Live => format!("event {}", published.position),
            Part::Repair => format!("change {}", published.position),
            Part::Snapshot => format!("object {}", published.position),
        },
        Item::At(at) => format!("at {at}"),
        Item::Gap(gap) => {
            let end = |end: &Option<Position>| {
                end.as_ref().map_or_else(|| "?".into(), Position::to_string)
            };
            let kind = if gap.repaired { "repaired" } else { "broken" };
            format!("{kind} {}>{}", end(&gap.from), end(&gap.to))
        }
        Item::Hole(to) => format!("hole {to}"),
        Item::Snapshot(list) => format!("list {list}"),
        Item::Synced(at) => format!("synced {at}"),
        Item::Alive { .. } => "alive".into(),
    };
    items.iter().map(text).collect()
}
