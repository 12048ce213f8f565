//! Who owns what, as the demo was told.

use std::collections::BTreeMap;

use crate::proto::v1::{Shard, ShardChange, WatchShardsResponse, watch_shards_response::Update};

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) cluster: String,
    /// Empty for none.
    pub(super) owner: String,
    pub(super) epoch: u64,
}

/// Who owns what, by shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Ownership(BTreeMap<String, Owned>);

impl Ownership {
    /// As listed.
    pub(super) fn of(shards: &[Shard]) -> Self {
        let owned = |shard: &Shard| Owned {
            cluster: shard.cluster.clone(),
            owner: shard.owner.clone(),
            epoch: shard.epoch,
        };
        let shards = shards.iter().map(|shard| (shard.id.clone(), owned(shard)));
        Self(shards.collect())
    }

    /// Learns; returns the change, where it is one.
    pub(super) fn take<'a>(&mut self, told: &'a WatchShardsResponse) -> Option<&'a ShardChange> {
        match told.update.as_ref()? {
            Update::Snapshot(snapshot) => {
                *self = Self::of(&snapshot.shards);
                None
            }
            Update::Change(change) => {
                let owned = Owned {
                    cluster: change.cluster.clone(),
                    owner: change.new_owner.clone(),
                    epoch: change.epoch,
                };
                self.0.insert(change.id.clone(), owned);
                Some(change)
            }
        }
    }

    /// What a replica owns.
    pub(super) fn of_replica(&self, name: &str) -> BTreeMap<String, Owned> {
        let own = self.0.iter().filter(|(_, owned)| owned.owner == name);
        own.map(|(id, owned)| (id.clone(), owned.clone())).collect()
    }

    /// Whether each of these has an owner again, later than they tell.
    pub(super) fn has_successors_of(&self, lost: &BTreeMap<String, Owned>) -> bool {
        lost.iter().all(|(id, before)| {
            let now = self.0.get(id);
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
    use super::{Ownership, Shard, ShardChange, Update, WatchShardsResponse};

    #[test]
    fn a_shard_has_a_successor_when_it_is_owned_under_a_later_epoch() {
        let shard = Shard {
            id: "c/0".into(),
            cluster: "c".into(),
            owner: "a".into(),
            epoch: 1,
            ..Shard::default()
        };
        let mut ownership = Ownership::of(&[shard]);
        let lost = ownership.of_replica("a");
        let mut change = |owner: &str, epoch| {
            let change = ShardChange {
                id: "c/0".into(),
                new_owner: owner.into(),
                epoch,
                ..ShardChange::default()
            };
            let update = Some(Update::Change(change));
            ownership.take(&WatchShardsResponse {
                revision: 1,
                update,
            });
            ownership.has_successors_of(&lost)
        };
        assert!(!change("", 2));
        assert!(change("b", 3));
    }
}
