//! Keeps ready what a takeover needs: clients, credentials and open connections for the shards that
//! this replica may take over next ([`takers`]).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::options::RunOptions;
use crate::{
    domain::{
        id::{ReplicaId, Revision, ShardId},
        placement::takers,
        state::State,
    },
    watcher::{WarmClient, Warming},
};

/// A change of owners is seldom alone: after a death all shards of a replica move.
const SETTLE: Duration = Duration::from_millis(250);

/// How long a client is kept for a shard that another replica would take over by now. Each move
/// shifts who would take what, and shifts it back with the next.
const LINGER: Duration = Duration::from_secs(60);

/// The clients that are kept ready.
struct Warm {
    options: RunOptions,
    warming: Warming,
    /// How many there may be.
    max: usize,
    kept: BTreeMap<ShardId, Kept>,
}

struct Kept {
    /// See [`Cluster::watch_revision`](crate::domain::cluster::Cluster::watch_revision).
    watch_revision: Revision,
    /// When this replica was last named as a taker of the shard.
    wanted_at: Instant,
    _client: WarmClient,
}

/// Who is there, in the opinion of a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Available {
    pub(super) leader: ReplicaId,
    /// The replicas that take shards.
    pub(super) active: BTreeSet<ReplicaId>,
}

/// Keeps up to `max` clients ready until it is dropped.
pub(super) async fn run(
    options: RunOptions,
    max: usize,
    mut available: watch::Receiver<Option<Available>>,
) {
    let mut states = options.group.watch_topology();
    let mut warm = Warm {
        warming: Warming::new(options.credentials.clone(), options.watch.clone()),
        options,
        max,
        kept: BTreeMap::new(),
    };
    loop {
        let known = available.borrow_and_update().clone();
        if let Some(available) = known {
            // Let go before waiting.
            let state = Arc::clone(&states.borrow_and_update());
            warm.follow(&state, &available);
        }
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            changed = available.changed() => if changed.is_err() { return },
            () = sleep(LINGER), if !warm.kept.is_empty() => {}
        }
        sleep(SETTLE).await;
    }
}

impl Warm {
    fn follow(&mut self, state: &State, available: &Available) {
        let replica = self.options.replica;
        let takers = takers(state, &available.active, available.leader);
        let wanted: BTreeSet<ShardId> = takers
            .into_iter()
            .filter(|(_, takers)| takers.contains(&replica))
            .map(|(shard, _)| shard)
            .collect();
        let now = Instant::now();
        self.kept.retain(|shard, kept| {
            let cluster = state.clusters.get(&shard.cluster);
            let is_current =
                cluster.is_some_and(|cluster| cluster.watch_revision == kept.watch_revision);
            let owner = state.assignments.get(shard).and_then(|found| found.owner());
            // The owner's watches use the client themselves.
            is_current && owner.is_some_and(|owner| owner != replica)
        });
        for (shard, kept) in &mut self.kept {
            if wanted.contains(shard) {
                kept.wanted_at = now;
            }
        }
        let since = |kept: &Kept| now.duration_since(kept.wanted_at);
        let kept = self.kept.iter().map(|(shard, kept)| (*shard, since(kept)));
        let chosen = choose(&wanted, &kept.collect(), self.max);
        self.kept.retain(|shard, _| chosen.contains(shard));
        for shard in chosen {
            self.keep(state, shard, now);
        }
        let (clusters, next) = (self.kept.len(), wanted.len());
        tracing::debug!(clusters, next, "connections kept ready for takeovers");
    }

    fn keep(&mut self, state: &State, shard: ShardId, now: Instant) {
        if self.kept.contains_key(&shard) {
            return;
        }
        let Some(cluster) = state.clusters.get(&shard.cluster) else {
            return;
        };
        let streams = state.streams_of(shard).count();
        let client = WarmClient::keep(&self.warming, Arc::new(cluster.clone()), streams);
        let kept = Kept {
            watch_revision: cluster.watch_revision,
            wanted_at: now,
            _client: client,
        };
        self.kept.insert(shard, kept);
    }
}

/// Which shards to keep ready: of those that are wanted first the ones that are ready already, then
/// the others; where there is room, those that were wanted last, and not too long ago.
fn choose(
    wanted: &BTreeSet<ShardId>,
    kept: &BTreeMap<ShardId, Duration>,
    max: usize,
) -> BTreeSet<ShardId> {
    let mut candidates: Vec<_> = kept
        .iter()
        .filter(|(shard, unwanted)| wanted.contains(shard) || **unwanted < LINGER)
        .map(|(shard, unwanted)| (*shard, *unwanted))
        .collect();
    let others = wanted.iter().filter(|shard| !kept.contains_key(shard));
    candidates.extend(others.map(|shard| (*shard, Duration::ZERO)));
    candidates.sort_by_key(|(shard, unwanted)| {
        (
            Reverse(wanted.contains(shard)),
            Reverse(kept.contains_key(shard)),
            *unwanted,
            *shard,
        )
    });
    candidates.truncate(max);
    candidates.into_iter().map(|(shard, _)| shard).collect()
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, BTreeSet, Duration, LINGER, ShardId, choose};
    use crate::domain::id::ClusterId;

    fn shard(n: u64) -> ShardId {
        ShardId {
            cluster: ClusterId(n),
            slice: 0,
        }
    }

    fn wanted(shards: &[u64]) -> BTreeSet<ShardId> {
        shards.iter().copied().map(shard).collect()
    }

    fn kept(shards: &[(u64, Duration)]) -> BTreeMap<ShardId, Duration> {
        shards
            .iter()
            .map(|(n, since)| (shard(*n), *since))
            .collect()
    }

    #[test]
    fn what_is_ready_goes_before_what_is_not() {
        let now = Duration::ZERO;
        let chosen = choose(&wanted(&[1, 2, 3]), &kept(&[(3, now)]), 2);
        assert_eq!(chosen, wanted(&[1, 3]));
    }

    #[test]
    fn what_was_wanted_a_moment_ago_stays_where_there_is_room() {
        let second = Duration::from_secs(1);
        let kept = kept(&[(5, second), (6, 2 * second), (7, LINGER)]);
        assert_eq!(choose(&wanted(&[1]), &kept, 9), wanted(&[1, 5, 6]));
        assert_eq!(choose(&wanted(&[1]), &kept, 2), wanted(&[1, 5]));
        assert_eq!(choose(&wanted(&[1, 2]), &kept, 2), wanted(&[1, 2]));
        assert_eq!(choose(&wanted(&[1]), &kept, 0), wanted(&[]));
    }
}
