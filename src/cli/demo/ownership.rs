//! Who owns what, as far as the demo knows.

use std::collections::BTreeMap;

use crate::proto::v1::{Shard, ShardChange, ShardChangeType};

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) cluster: String,
    /// Empty for none.
    pub(super) owner: String,
    pub(super) epoch: u64,
}

impl Owned {
    fn of(shard: &Shard) -> Self {
        Self {
            cluster: shard.cluster.clone(),
            owner: shard.owner.clone(),
            epoch: shard.epoch,
        }
    }
}

/// Who owns what, by shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Ownership(BTreeMap<String, Owned>);

impl Ownership {
    /// As listed.
    pub(super) fn of<'a>(shards: impl IntoIterator<Item = &'a Shard>) -> Self {
        let shards = shards.into_iter();
        Self(
            shards
                .map(|shard| (shard.name.clone(), Owned::of(shard)))
                .collect(),
        )
    }

    /// Applies a change; returns whether the owner changed.
    pub(super) fn take(&mut self, change: &ShardChange) -> bool {
        if let Some(shard) = &change.shard {
            if change.r#type() == ShardChangeType::Deleted {
                self.0.remove(&shard.name);
            } else {
                self.0.insert(shard.name.clone(), Owned::of(shard));
            }
        }
        change.r#type() == ShardChangeType::Moved
    }

    /// What a replica owns.
    pub(super) fn of_replica(&self, name: &str) -> BTreeMap<String, Owned> {
        let own = self.0.iter().filter(|(_, owned)| owned.owner == name);
        own.map(|(name, owned)| (name.clone(), owned.clone()))
            .collect()
    }

    /// Whether each of these has an owner again, under a later epoch.
    pub(super) fn has_successors_of(&self, lost: &BTreeMap<String, Owned>) -> bool {
        lost.iter().all(|(name, before)| {
            let now = self.0.get(name);
            now.is_some_and(|now| now.epoch > before.epoch && !now.owner.is_empty())
        })
    }

    /// How many shards there are, and how many of them have an owner.
    pub(super) fn counts(&self) -> (usize, usize) {
        let owned = self.0.values().filter(|owned| !owned.owner.is_empty());
        (self.0.len(), owned.count())
    }
}

#[cfg(test)]
mod tests {
    use super::{Ownership, Shard, ShardChange, ShardChangeType};

    #[test]
    fn a_shard_has_a_successor_when_it_is_owned_under_a_later_epoch() {
        let shard = |owner: &str, epoch| Shard {
            name: "c/0".into(),
            cluster: "c".into(),
            owner: owner.into(),
            epoch,
            ..Shard::default()
        };
        let mut ownership = Ownership::of(&[shard("a", 1)]);
        let lost = ownership.of_replica("a");
        let mut moved = |owner: &str, epoch| {
            let change = ShardChange {
                r#type: ShardChangeType::Moved.into(),
                shard: Some(shard(owner, epoch)),
                ..ShardChange::default()
            };
            assert!(ownership.take(&change));
            ownership.has_successors_of(&lost)
        };
        assert!(!moved("", 2));
        assert!(moved("b", 3));
    }
}
