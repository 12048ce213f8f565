//! Feed items as they travel between replicas, and back.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{
        delivery::item::{Gap, Item, Part, Published},
        event::{Change, Event, GapReason, ObjectKey},
        id::{Epoch, Era, UnixMillis},
        position::{Ordinal, Position, ResourceVersion},
    },
    memory::held,
    proto::internal::v1::{RelayEvent, RelayGap, RelayItem, RelayResponse, relay_item},
};

/// What a peer sent is not an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer sent a malformed item: {0}")]
pub struct Malformed(&'static str);

/// What an item takes besides its object, and holding that, roughly.
const ITEM_BYTES: usize = 800;

/// What a message's items take in memory.
pub fn cost_bytes(message: &RelayResponse) -> usize {
    let objects = message.items.iter().map(|item| match &item.item {
        Some(relay_item::Item::Event(event)) => event.object.len(),
        _ => 0,
    });
    objects.map(|object| object + ITEM_BYTES).sum()
}

/// Holds `hold` until the last of the message's objects is dropped, wherever they travel.
pub fn hold_for<T: Send + Sync + 'static>(message: &mut RelayResponse, hold: T) {
    let hold = Arc::new(hold);
    for item in &mut message.items {
        if let Some(relay_item::Item::Event(event)) = &mut item.item {
            event.object = held(std::mem::take(&mut event.object), hold.clone());
        }
    }
}

/// The message that carries some items.
pub fn to_message(items: Vec<Item>) -> RelayResponse {
    let items = items.into_iter().map(|item| RelayItem {
        item: Some(to_item(item)),
    });
    RelayResponse {
        items: items.collect(),
    }
}

/// The items that a message carries.
pub fn from_message(message: RelayResponse) -> Result<Vec<Item>, Malformed> {
    message.items.into_iter().map(from_item).collect()
}

fn to_item(item: Item) -> relay_item::Item {
    match item {
        Item::Event(published) => relay_item::Item::Event(to_event(&published)),
        Item::At(position) => relay_item::Item::At(position.to_string()),
        Item::Synced(position) => relay_item::Item::Synced(position.to_string()),
        Item::Hole(position) => relay_item::Item::Hole(position.to_string()),
        Item::Snapshot(list) => relay_item::Item::Snapshot(list.to_string()),
        Item::Gap(gap) => relay_item::Item::Gap(RelayGap {
            from: gap.from.map(|from| from.to_string()).unwrap_or_default(),
            to: gap.to.map(|to| to.to_string()).unwrap_or_default(),
            reason: gap_reason_number(gap.reason),
            repaired: gap.repaired,
        }),
        Item::Alive { lag } => {
            relay_item::Item::Alive(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX))
        }
    }
}

fn from_item(item: RelayItem) -> Result<Item, Malformed> {
    let position = |text: &str| text.parse::<Position>().map_err(|_| Malformed("position"));
    Ok(match item.item.ok_or(Malformed("empty item"))? {
        relay_item::Item::Event(event) => Item::Event(Arc::new(from_event(event)?)),
        relay_item::Item::At(at) => Item::At(position(&at)?),
        relay_item::Item::Synced(at) => Item::Synced(position(&at)?),
        relay_item::Item::Hole(at) => Item::Hole(position(&at)?),
        relay_item::Item::Snapshot(list) => Item::Snapshot(position(&list)?),
        relay_item::Item::Gap(gap) => {
            let end = |text: &str| (!text.is_empty()).then(|| position(text)).transpose();
            Item::gap(Gap {
                from: end(&gap.from)?,
                to: end(&gap.to)?,
                reason: gap_reason(gap.reason)?,
                repaired: gap.repaired,
            })
        }
        relay_item::Item::Alive(lag_ms) => Item::Alive {
            lag: Duration::from_millis(lag_ms),
        },
    })
}

fn to_event(published: &Published) -> RelayEvent {
    let Published {
        position,
        epoch,
        part,
        event,
        ..
    } = published;
    let short = position.rv.as_u64();
    RelayEvent {
        era: position.era.0,
        rv: short.unwrap_or_default(),
        long_rv: if short.is_some() {
            String::new()
        } else {
            position.rv.to_string()
        },
        ordinal: position.ordinal.get(),
        change: change_number(event.change),
        object_rv: if event.rv == position.rv {
            String::new()
        } else {
            event.rv.to_string()
        },
        namespace: event.namespace().to_owned(),
        name: event.name().to_owned(),
        uid: event.uid().to_owned(),
        object: event.object.clone(),
        seen_ms: event.seen.0,
        epoch: epoch.0,
        part: part_number(*part),
        metadata_only: event.metadata_only,
    }
}

fn from_event(event: RelayEvent) -> Result<Published, Malformed> {
    let rv = if event.long_rv.is_empty() {
        ResourceVersion::from(event.rv)
    } else {
        event
            .long_rv
            .parse()
            .map_err(|_| Malformed("resource version"))?
    };
    let object_rv = if event.object_rv.is_empty() {
        rv.clone()
    } else {
        event
            .object_rv
            .parse()
            .map_err(|_| Malformed("object resource version"))?
    };
    let position = Position::at(Era(event.era), rv, Ordinal::from_number(event.ordinal));
    let (epoch, part) = (Epoch(event.epoch), part(event.part)?);
    let event = Event {
        change: change(event.change)?,
        rv: object_rv,
        key: ObjectKey::new(&event.namespace, &event.name, &event.uid),
        object: event.object,
        metadata_only: event.metadata_only,
        seen: UnixMillis(event.seen_ms),
    };
    Ok(Published::new(position, epoch, part, event))
}

fn part_number(part: Part) -> u32 {
    match part {
        Part::Live => 0,
        Part::Repair => 1,
        Part::Snapshot => 2,
    }
}

fn part(number: u32) -> Result<Part, Malformed> {
    Ok(match number {
        0 => Part::Live,
        1 => Part::Repair,
        2 => Part::Snapshot,
        _ => return Err(Malformed("part of a stream")),
    })
}

fn change_number(change: Change) -> u32 {
    match change {
        Change::Added => 1,
        Change::Modified => 2,
        Change::Deleted => 3,
        Change::Snapshot => 4,
    }
}

fn change(number: u32) -> Result<Change, Malformed> {
    Ok(match number {
        1 => Change::Added,
        2 => Change::Modified,
        3 => Change::Deleted,
        4 => Change::Snapshot,
        _ => return Err(Malformed("change")),
    })
}

fn gap_reason_number(reason: GapReason) -> u32 {
    match reason {
        GapReason::StreamCreated => 1,
        GapReason::HistoryExpired => 2,
        GapReason::HistoryReset => 3,
        GapReason::ClusterReplaced => 4,
        GapReason::WatchCacheReset => 5,
        GapReason::UpstreamInconsistent => 6,
    }
}

fn gap_reason(number: u32) -> Result<GapReason, Malformed> {
    Ok(match number {
        1 => GapReason::StreamCreated,
        2 => GapReason::HistoryExpired,
        3 => GapReason::HistoryReset,
        4 => GapReason::ClusterReplaced,
        5 => GapReason::WatchCacheReset,
        6 => GapReason::UpstreamInconsistent,
        _ => return Err(Malformed("gap reason")),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        Arc, Change, Duration, Epoch, Era, Event, Gap, GapReason, Item, ObjectKey, Ordinal, Part,
        Position, Published, UnixMillis, from_message, to_message,
    };

    #[test]
    fn items_read_back_as_they_were_sent() {
        let position = Position::at(
            Era(2),
            "99999999999999999999".parse().unwrap(),
            Ordinal::new(3),
        );
        let event = |rv: &str| Event {
            change: Change::Deleted,
            rv: rv.parse().unwrap(),
            key: ObjectKey::new("ns", "n", "u"),
            object: "{}".into(),
            metadata_only: true,
            seen: UnixMillis(7),
        };
        let published = |at: &Position, rv| {
            let published = Published::new(at.clone(), Epoch(4), Part::Repair, event(rv));
            Item::Event(Arc::new(published))
        };
        let gap = Gap {
            from: None,
            to: Some(position.to_closed()),
            reason: GapReason::WatchCacheReset,
            repaired: true,
        };
        let items = vec![
            published(&position, "99999999999999999999"),
            published(&Position::closed(Era(2), 12.into()), "12"),
            Item::At(position.clone()),
            Item::Synced(position.to_closed()),
            Item::gap(gap),
            Item::Hole(position.clone()),
            Item::Snapshot(position.to_closed()),
            Item::Alive {
                lag: Duration::from_millis(5),
            },
        ];
        assert_eq!(from_message(to_message(items.clone())), Ok(items));
    }
}
