//! Which shards a request is about: [`Shards`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        convert::{self, replica_name},
        watch::{Update, Watched},
    },
    domain::{
        change::ShardChange,
        id::{ReplicaId, ShardId, StreamId},
        state::State,
    },
    proto::v1::{self, WatchShardsResponse, watch_shards_response},
};

/// Shards of some clusters, or of all, that some replicas own, or any, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shards {
    /// Names; empty for all clusters.
    clusters: BTreeSet<String>,
    /// Names, one of them empty for "no owner"; no names for everything.
    owners: BTreeSet<String>,
}

/// One shard, and where its streams are.
pub(super) struct Key {
    shard: ShardId,
    streams: Vec<StreamId>,
}

impl Shards {
    pub(super) fn new(clusters: Vec<String>, owners: Vec<String>) -> Self {
        Self {
            clusters: clusters.into_iter().collect(),
            owners: owners.into_iter().collect(),
        }
    }

    fn covers(&self, cluster: &str) -> bool {
        self.clusters.is_empty() || self.clusters.contains(cluster)
    }

    fn has_owner(&self, state: &State, owner: Option<ReplicaId>) -> bool {
        self.owners.is_empty() || self.owners.contains(&replica_name(state, owner))
    }

    /// Them, in the order of their clusters' names, with text that is ordered like that.
    pub(super) fn sorted(&self, state: &State) -> Vec<(Vec<u8>, Key)> {
        let mut streams: BTreeMap<ShardId, Vec<StreamId>> = BTreeMap::new();
        for stream in state.streams.values() {
            streams.entry(stream.shard).or_default().push(stream.id);
        }
        let assignments = state.assignments.values().filter_map(|assignment| {
            let shard = assignment.shard();
            let name = &state.clusters.get(&shard.cluster)?.spec.name;
            let asked = self.covers(name) && self.has_owner(state, assignment.owner());
            asked.then(|| {
                let order = [name.as_bytes(), b"\0", &shard.slice.to_be_bytes()].concat();
                let streams = streams.remove(&shard).unwrap_or_default();
                (order, Key { shard, streams })
            })
        });
        let mut shards: Vec<_> = assignments.collect();
        shards.sort_by(|(a, _), (b, _)| a.cmp(b));
        shards
    }

    /// One of them as it is sent.
    pub(super) fn shown(state: &State, key: &Key) -> Option<v1::Shard> {
        let assignment = state.assignments.get(&key.shard)?;
        let streams = key.streams.iter().filter_map(|id| state.streams.get(id));
        Some(convert::shard(state, assignment, streams))
    }
}

impl Watched for Shards {
    type Key = Key;
    type Item = v1::Shard;
    type Kept = ShardChange;
    type Change = v1::ShardChange;
    type Response = WatchShardsResponse;

    fn keys(&self, state: &State) -> Vec<Key> {
        self.sorted(state).into_iter().map(|(_, key)| key).collect()
    }

    fn item(&self, state: &State, key: &Key) -> Option<v1::Shard> {
        Self::shown(state, key)
    }

    fn change(&self, state: &State, change: &ShardChange) -> Option<v1::ShardChange> {
        let asked = self.covers(&change.cluster)
            && (self.has_owner(state, change.assignment.owner())
                || self.has_owner(state, change.old_owner));
        asked.then(|| convert::shard_change(state, change))
    }

    fn response(
        resume_token: String,
        revision: u64,
        update: Update<v1::Shard, v1::ShardChange>,
    ) -> WatchShardsResponse {
        use watch_shards_response::Update as Out;
        let update = match update {
            Update::Snapshot(shards) => Out::Snapshot(v1::ShardPage { shards }),
            Update::SnapshotEnd => Out::SnapshotEnd(v1::SnapshotEnd {}),
            Update::Change(change) => Out::Change(change),
            Update::Heartbeat(time) => Out::Heartbeat(v1::Heartbeat { time: Some(time) }),
        };
        WatchShardsResponse {
            resume_token,
            revision,
            update: Some(update),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplicaId, Shards, State, Watched as _};
    use crate::{
        api::convert,
        domain::{
            change::ShardChange,
            fixtures::{assign, create, register, spec},
            id::{Epoch, Revision},
        },
        proto::v1,
    };

    /// Replicas x (1) and y (2), and clusters.
    fn state(clusters: &[&str]) -> State {
        let mut state = State::default();
        for (id, name) in [(1, "x"), (2, "y")] {
            state.apply(Revision(id), &register(ReplicaId(id), name));
        }
        for name in clusters {
            let spec = spec(name, &["v1/pods", "v1/secrets"]);
            state.apply(Revision(10), &create(spec));
        }
        state
    }

    fn give(state: &mut State, shard: &str, to: Option<u64>) -> ShardChange {
        let shard = convert::shard_id(state, shard).unwrap();
        let command = assign(state, shard, to.map(ReplicaId));
        let applied = state.apply(Revision(20), &command);
        applied.changes.shards.into_iter().next().unwrap()
    }

    fn shards(clusters: &[&str], owners: &[&str]) -> Shards {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Shards::new(owned(clusters), owned(owners))
    }

    fn names(state: &State, shards: &Shards) -> Vec<String> {
        let sorted = shards.sorted(state);
        assert!(sorted.is_sorted_by(|(a, _), (b, _)| a < b));
        let shown = sorted.iter().map(|(_, key)| Shards::shown(state, key));
        shown.map(|shard| shard.unwrap().name).collect()
    }

    #[test]
    fn shards_are_in_the_order_of_their_clusters_with_their_streams() {
        let state = state(&["a.b", "a", "a-b"]);
        let all = shards(&[], &[]);
        assert_eq!(names(&state, &all), ["a/0", "a-b/0", "a.b/0"]);
        let (_, key) = &all.sorted(&state)[1];
        let shard = Shards::shown(&state, key).unwrap();
        assert_eq!(shard.cluster, "a-b");
        let resources: Vec<_> = shard.streams.iter().map(|s| s.resource.as_str()).collect();
        assert_eq!(resources, ["v1/pods", "v1/secrets"]);
    }

    #[test]
    fn shards_are_selected_by_cluster_and_by_owner() {
        let mut state = state(&["a", "b", "c"]);
        give(&mut state, "a", Some(1));
        give(&mut state, "b", Some(2));
        assert_eq!(names(&state, &shards(&["a", "b"], &["y"])), ["b/0"]);
        assert_eq!(names(&state, &shards(&[], &[""])), ["c/0"]);
        assert_eq!(names(&state, &shards(&[], &["", "x"])), ["a/0", "c/0"]);
        assert_eq!(names(&state, &shards(&["none"], &[])), [""; 0]);
    }

    #[test]
    fn a_change_is_of_both_owners() {
        let mut state = state(&["a"]);
        let placed = give(&mut state, "a", Some(1));
        let moved = give(&mut state, "a", Some(2));
        let sees = |owners: &[&str], change: &ShardChange| {
            let change = shards(&[], owners).change(&state, change)?;
            Some((change.r#type(), change.old_owner, change.shard?.owner))
        };
        let moves = |old: &str, new: &str| {
            let kind = v1::ShardChangeType::Moved;
            Some((kind, old.to_owned(), new.to_owned()))
        };
        assert_eq!(sees(&["x"], &placed), moves("", "x"));
        assert_eq!(sees(&[""], &placed), moves("", "x"));
        assert_eq!(sees(&["y"], &placed), None);
        assert_eq!(sees(&["x"], &moved), moves("x", "y"));
        assert_eq!(sees(&["y"], &moved), moves("x", "y"));
        assert_eq!(sees(&[], &moved), moves("x", "y"));
        assert!(shards(&["b"], &[]).change(&state, &moved).is_none());
        assert_eq!(moved.assignment.epoch(), Epoch(2));
    }
}
