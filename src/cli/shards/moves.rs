//! Changes of ownership as lines for people.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{
    cli::{
        json::word,
        table::{or_dash, plain},
        terminal::Tone,
        time::{instant, rfc3339},
    },
    proto::v1::{MoveReason, Shard, ShardChange},
};

/// Why a shard has its owner, in words.
pub(in crate::cli) fn reason(reason: MoveReason) -> String {
    word(reason.as_str_name(), "MOVE_REASON_").replace('_', " ")
}

/// Turns changes into aligned lines, and remembers since when a shard has had no owner.
pub(super) struct Moves {
    colours: bool,
    widest_id: usize,
    widest_owners: usize,
    unowned_since: BTreeMap<String, DateTime<Utc>>,
}

impl Moves {
    pub(super) fn new(colours: bool) -> Self {
        Self {
            colours,
            widest_id: 0,
            widest_owners: 0,
            unowned_since: BTreeMap::new(),
        }
    }

    /// Begins with what a snapshot shows.
    pub(super) fn begin(&mut self, shards: &[Shard]) {
        self.unowned_since.clear();
        for shard in shards {
            self.widest_id = self.widest_id.max(shard.id.chars().count());
            let since = shard.since_time.as_ref().and_then(instant);
            if let (true, Some(since)) = (shard.owner.is_empty(), since) {
                self.unowned_since.insert(shard.id.clone(), since);
            }
        }
    }

    /// `2026-01-02T10:00:00.123Z   prod-eu/0   a -> b   takeover   epoch 4`.
    pub(super) fn line(&mut self, change: &ShardChange) -> String {
        let at = change.time.as_ref().and_then(instant);
        let owners = format!(
            "{} -> {}",
            or_dash(&change.old_owner),
            or_dash(&change.new_owner)
        );
        self.widest_id = self.widest_id.max(change.id.chars().count());
        self.widest_owners = self.widest_owners.max(owners.chars().count());
        let unowned = self.unowned(change, at);
        let tone = match change.reason() {
            MoveReason::Takeover => Tone::Move,
            MoveReason::NoReplica => Tone::Bad,
            _ => Tone::Plain,
        };
        let line = format!(
            "{}   {:id$}   {:owners$}   {:10}   epoch {}{unowned}",
            at.map_or_else(|| "-".into(), |at| rfc3339(&at)),
            plain(&change.id),
            plain(&owners),
            reason(change.reason()),
            change.epoch,
            id = self.widest_id,
            owners = self.widest_owners,
        );
        tone.paint(&line, self.colours)
    }

    /// What is to be said about the time without an owner.
    fn unowned(&mut self, change: &ShardChange, at: Option<DateTime<Utc>>) -> String {
        let Some(at) = at else {
            return String::new();
        };
        if change.new_owner.is_empty() {
            if change.reason() != MoveReason::Deleted {
                self.unowned_since.insert(change.id.clone(), at);
            }
            return "   without an owner now".into();
        }
        match self.unowned_since.remove(&change.id) {
            Some(since) => {
                let milliseconds = (at - since).num_milliseconds().max(0);
                format!("   after {milliseconds} ms without an owner")
            }
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::{MoveReason, Moves, Shard, ShardChange};

    fn change(old: &str, new: &str, reason: MoveReason, nanos: i32) -> ShardChange {
        ShardChange {
            id: "a/0".into(),
            old_owner: old.into(),
            new_owner: new.into(),
            epoch: 4,
            reason: reason.into(),
            time: Some(Timestamp { seconds: 0, nanos }),
            ..ShardChange::default()
        }
    }

    #[test]
    fn a_move_is_one_line_that_says_for_how_long_nobody_owned_the_shard() {
        let mut moves = Moves::new(false);
        moves.begin(&[Shard {
            id: "long-name/0".into(),
            owner: "x".into(),
            ..Shard::default()
        }]);
        let lines = [
            moves.line(&change("x", "y", MoveReason::Takeover, 0)),
            moves.line(&change("y", "", MoveReason::NoReplica, 1_000_000)),
            moves.line(&change("", "x", MoveReason::Placed, 9_000_000)),
        ];
        let told = [
            "1970-01-01T00:00:00.000Z   a/0           x -> y   takeover     epoch 4",
            "1970-01-01T00:00:00.001Z   a/0           y -> -   no replica   epoch 4   without an owner now",
            "1970-01-01T00:00:00.009Z   a/0           - -> x   placed       epoch 4   after 8 ms without an owner",
        ];
        assert_eq!(lines, told);
    }
}
