//! Feed items as they travel between replicas, and back.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{
        frame::{Change, Frame, GapReason},
        id::{Epoch, Era, UnixMillis},
        position::{Ordinal, Position, ResourceVersion},
    },
    pipeline::item::{Gap, Item, Published},
    proto::internal::v1::{RelayFrame, RelayGap, RelayItem, RelayResponse, relay_item},
};

/// What a peer sent is not an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer sent a malformed item: {0}")]
pub struct Malformed(&'static str);

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
        Item::Frame(published) => relay_item::Item::Frame(to_frame(&published)),
        Item::At(position) => relay_item::Item::At(position.to_string()),
        Item::Synced(position) => relay_item::Item::Synced(position.to_string()),
        Item::Gap(gap) => relay_item::Item::Gap(RelayGap {
            from: gap.from.map(|from| from.to_string()).unwrap_or_default(),
            to: gap.to.to_string(),
            reason: gap_reason_number(gap.reason),
            repaired: gap.repaired,
            replay: gap.replay,
        }),
        Item::Alive { silent } => {
            relay_item::Item::Alive(u64::try_from(silent.as_millis()).unwrap_or(u64::MAX))
        }
    }
}

fn from_item(item: RelayItem) -> Result<Item, Malformed> {
    let position = |text: &str| text.parse::<Position>().map_err(|_| Malformed("position"));
    Ok(match item.item.ok_or(Malformed("empty item"))? {
        relay_item::Item::Frame(frame) => Item::Frame(Arc::new(from_frame(frame)?)),
        relay_item::Item::At(at) => Item::At(position(&at)?),
        relay_item::Item::Synced(at) => Item::Synced(position(&at)?),
        relay_item::Item::Gap(gap) => Item::Gap(Gap {
            from: if gap.from.is_empty() {
                None
            } else {
                Some(position(&gap.from)?)
            },
            to: position(&gap.to)?,
            reason: gap_reason(gap.reason)?,
            repaired: gap.repaired,
            replay: gap.replay,
        }),
        relay_item::Item::Alive(silent_ms) => Item::Alive {
            silent: Duration::from_millis(silent_ms),
        },
    })
}

fn to_frame(published: &Published) -> RelayFrame {
    let Published {
        position,
        epoch,
        replay,
        frame,
        ..
    } = published;
    let short = position.rv.as_u64();
    RelayFrame {
        era: position.era.0,
        rv: short.unwrap_or_default(),
        long_rv: if short.is_some() {
            String::new()
        } else {
            position.rv.to_string()
        },
        ordinal: position.ordinal.get(),
        change: change_number(frame.change),
        object_rv: if frame.rv == position.rv {
            String::new()
        } else {
            frame.rv.to_string()
        },
        namespace: frame.namespace.to_string(),
        name: frame.name.to_string(),
        uid: frame.uid.to_string(),
        object: frame.object.clone(),
        seen_ms: frame.seen.0,
        epoch: epoch.0,
        replay: *replay,
        metadata_only: frame.metadata_only,
    }
}

fn from_frame(frame: RelayFrame) -> Result<Published, Malformed> {
    let rv = if frame.long_rv.is_empty() {
        ResourceVersion::from(frame.rv)
    } else {
        frame
            .long_rv
            .parse()
            .map_err(|_| Malformed("resource version"))?
    };
    let object_rv = if frame.object_rv.is_empty() {
        rv.clone()
    } else {
        frame
            .object_rv
            .parse()
            .map_err(|_| Malformed("object resource version"))?
    };
    let position = Position::at(Era(frame.era), rv, Ordinal::new(frame.ordinal));
    let (epoch, replay) = (Epoch(frame.epoch), frame.replay);
    let frame = Frame {
        change: change(frame.change)?,
        rv: object_rv,
        namespace: frame.namespace.into(),
        name: frame.name.into(),
        uid: frame.uid.into(),
        object: frame.object,
        metadata_only: frame.metadata_only,
        seen: UnixMillis(frame.seen_ms),
    };
    Ok(Published::new(position, epoch, replay, frame))
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
        Arc, Change, Duration, Epoch, Era, Frame, Gap, GapReason, Item, Ordinal, Position,
        Published, UnixMillis, from_message, to_message,
    };

    #[test]
    fn items_read_back_as_they_were_sent() {
        let position = Position::at(
            Era(2),
            "99999999999999999999".parse().unwrap(),
            Ordinal::new(3),
        );
        let frame = |rv: &str| Frame {
            change: Change::Deleted,
            rv: rv.parse().unwrap(),
            namespace: "ns".into(),
            name: "n".into(),
            uid: "u".into(),
            object: "{}".into(),
            metadata_only: true,
            seen: UnixMillis(7),
        };
        let published = |rv| {
            let published = Published::new(position.clone(), Epoch(4), true, frame(rv));
            Item::Frame(Arc::new(published))
        };
        let gap = Gap {
            from: None,
            to: position.to_closed(),
            reason: GapReason::WatchCacheReset,
            repaired: true,
            replay: false,
        };
        let items = vec![
            published("99999999999999999999"),
            published("12"),
            Item::At(position.clone()),
            Item::Synced(position.to_closed()),
            Item::Gap(gap),
            Item::Alive {
                silent: Duration::from_millis(5),
            },
        ];
        assert_eq!(from_message(to_message(items.clone())), Ok(items));
    }
}
