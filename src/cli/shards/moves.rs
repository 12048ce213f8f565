//! Changes of shards as lines of text.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{
    cli::{
        json::word,
        table::{or_dash, plain},
        terminal::Tone,
        time::{instant, rfc3339},
    },
    proto::v1::{MoveReason, Shard, ShardChange, ShardChangeType},
};

/// Why a shard has its owner, in words.
pub(in crate::cli) fn reason(reason: MoveReason) -> String {
    word(reason.as_str_name(), "MOVE_REASON_").replace('_', " ")
}

/// Turns changes into aligned lines, and remembers since when a shard has had no owner.
pub(super) struct Moves {
    colours: bool,
    widest_name: usize,
    widest_owners: usize,
    unowned_since: BTreeMap<String, DateTime<Utc>>,
}

impl Moves {
    pub(super) fn new(colours: bool) -> Self {
        Self {
            colours,
            widest_name: 0,
            widest_owners: 0,
            unowned_since: BTreeMap::new(),
        }
    }

    /// Begins with what a snapshot shows.
    pub(super) fn begin<'a>(&mut self, shards: impl IntoIterator<Item = &'a Shard>) {
        self.unowned_since.clear();
        for shard in shards {
            self.widest_name = self.widest_name.max(shard.name.chars().count());
            let since = shard.since_time.as_ref().and_then(instant);
            if let (true, Some(since)) = (shard.owner.is_empty(), since) {
                self.unowned_since.insert(shard.name.clone(), since);
            }
        }
    }

    /// `2026-01-02T10:00:00.123Z   prod-eu/0   a -> b   takeover   epoch 4`.
    pub(super) fn line(&mut self, change: &ShardChange) -> String {
        let at = change.time.as_ref().and_then(instant);
        let unknown = Shard::default();
        let shard = change.shard.as_ref().unwrap_or(&unknown);
        let (owners, what) = owners_and_what(change, shard);
        self.widest_name = self.widest_name.max(shard.name.chars().count());
        self.widest_owners = self.widest_owners.max(owners.chars().count());
        let rest = match change.r#type() {
            ShardChangeType::Updated => streams(shard.streams.len()),
            _ => self.unowned(change, shard, at),
        };
        let tone = match shard.reason() {
            _ if change.r#type() != ShardChangeType::Moved => Tone::Plain,
            MoveReason::Takeover
            | MoveReason::Reachability
            | MoveReason::Drained
            | MoveReason::Requested => Tone::Move,
            MoveReason::NoReplica => Tone::Bad,
            _ => Tone::Plain,
        };
        let line = format!(
            "{}   {:name$}   {:owners$}   {what:10}   epoch {}{rest}",
            at.map_or_else(|| "-".into(), |at| rfc3339(&at)),
            plain(&shard.name),
            plain(&owners),
            shard.epoch,
            name = self.widest_name,
            owners = self.widest_owners,
        );
        tone.paint(&line, self.colours)
    }

    /// The words about the time without an owner.
    fn unowned(
        &mut self,
        change: &ShardChange,
        shard: &Shard,
        at: Option<DateTime<Utc>>,
    ) -> String {
        let since = self.unowned_since.remove(&shard.name);
        let Some(at) = at.filter(|_| change.r#type() != ShardChangeType::Deleted) else {
            return String::new();
        };
        if shard.owner.is_empty() {
            self.unowned_since.insert(shard.name.clone(), at);
            return "   without an owner now".into();
        }
        since.map_or_else(String::new, |since| {
            let milliseconds = (at - since).num_milliseconds().max(0);
            format!("   after {milliseconds} ms without an owner")
        })
    }
}

fn owners_and_what(change: &ShardChange, shard: &Shard) -> (String, String) {
    let owner = or_dash(&shard.owner);
    match change.r#type() {
        ShardChangeType::Created => (owner, "created".into()),
        ShardChangeType::Updated => (owner, "updated".into()),
        ShardChangeType::Deleted if change.old_owner.is_empty() => (owner, "deleted".into()),
        ShardChangeType::Deleted => (format!("{} -> -", change.old_owner), "deleted".into()),
        ShardChangeType::Moved | ShardChangeType::Unspecified => {
            let owners = format!("{} -> {owner}", or_dash(&change.old_owner));
            (owners, reason(shard.reason()))
        }
    }
}

fn streams(count: usize) -> String {
    match count {
        1 => "   1 stream now".into(),
        count => format!("   {count} streams now"),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::{MoveReason, Moves, Shard, ShardChange, ShardChangeType};
    use crate::proto::v1::Stream;

    fn moved(old: &str, new: &str, reason: MoveReason, nanos: i32) -> ShardChange {
        ShardChange {
            r#type: ShardChangeType::Moved.into(),
            shard: Some(Shard {
                name: "a/0".into(),
                owner: new.into(),
                epoch: 4,
                reason: reason.into(),
                ..Shard::default()
            }),
            old_owner: old.into(),
            time: Some(Timestamp { seconds: 0, nanos }),
        }
    }

    #[test]
    fn a_move_is_one_line_that_says_for_how_long_nobody_owned_the_shard() {
        let mut moves = Moves::new(false);
        moves.begin([&Shard {
            name: "long-name/0".into(),
            owner: "x".into(),
            ..Shard::default()
        }]);
        let lines = [
            moves.line(&moved("x", "y", MoveReason::Takeover, 0)),
            moves.line(&moved("y", "", MoveReason::NoReplica, 1_000_000)),
            moves.line(&moved("", "x", MoveReason::Placed, 9_000_000)),
        ];
        let expected = [
            "1970-01-01T00:00:00.000Z   a/0           x -> y   takeover     epoch 4",
            "1970-01-01T00:00:00.001Z   a/0           y -> -   no replica   epoch 4   without an owner now",
            "1970-01-01T00:00:00.009Z   a/0           - -> x   placed       epoch 4   after 8 ms without an owner",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_shard_that_is_new_has_other_streams_or_is_deleted_says_so() {
        let mut moves = Moves::new(false);
        let mut change = moved("", "", MoveReason::Created, 0);
        let mut line = |kind: ShardChangeType, owner: &str| {
            change.r#type = kind.into();
            let shard = change.shard.as_mut().unwrap();
            shard.owner = owner.into();
            shard.streams = vec![Stream::default(); 2];
            moves.line(&change)[24..].to_owned()
        };
        let lines = [
            line(ShardChangeType::Created, ""),
            line(ShardChangeType::Updated, "x"),
            line(ShardChangeType::Deleted, ""),
        ];
        let expected = [
            "   a/0   -   created      epoch 4   without an owner now",
            "   a/0   x   updated      epoch 4   2 streams now",
            "   a/0   -   deleted      epoch 4",
        ];
        assert_eq!(lines, expected);
    }
}
