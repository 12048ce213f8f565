//! What must start and stop so that what runs equals what is assigned. Pure.

use std::collections::BTreeMap;

use crate::domain::{
    id::{Epoch, ReplicaId, Revision, ShardId},
    state::State,
};

/// What makes one run of a shard: another run is due when any of it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunKey {
    /// The epoch of the assignment.
    pub epoch: Epoch,
    /// The revision of the cluster's specification.
    pub cluster: Revision,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// These runs end; a shard may be among both.
    pub stop: Vec<ShardId>,
    /// These begin.
    pub start: Vec<(ShardId, RunKey)>,
}

/// Compares what is assigned to `replica` with what runs.
pub fn reconcile(state: &State, replica: ReplicaId, running: &BTreeMap<ShardId, RunKey>) -> Steps {
    let assigned: BTreeMap<ShardId, RunKey> = state
        .assignments
        .values()
        .filter(|assignment| assignment.owner() == Some(replica))
        .filter_map(|assignment| {
            let cluster = state.clusters.get(&assignment.shard().cluster)?.revision;
            Some((
                assignment.shard(),
                RunKey {
                    epoch: assignment.epoch(),
                    cluster,
                },
            ))
        })
        .collect();
    let differs = |shard: &ShardId, key: &RunKey, other: &BTreeMap<ShardId, RunKey>| {
        other.get(shard) != Some(key)
    };
    Steps {
        stop: running
            .iter()
            .filter(|(shard, key)| differs(shard, key, &assigned))
            .map(|(shard, _)| *shard)
            .collect(),
        start: assigned
            .iter()
            .filter(|(shard, key)| differs(shard, key, running))
            .map(|(shard, key)| (*shard, *key))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, ReplicaId, RunKey, ShardId, State, Steps, reconcile};
    use crate::domain::{
        assignment::MoveReason,
        cluster::{ClusterSpec, Resource, ResourceSelector, Source},
        command::{Command, Move},
        id::{Epoch, Revision, UnixMillis},
    };

    const ME: ReplicaId = ReplicaId(1);
    const AT: UnixMillis = UnixMillis(0);

    fn state() -> (State, ShardId) {
        let mut state = State::default();
        let register = Command::RegisterMember {
            replica: ME,
            name: "a".into(),
            peer_address: String::new(),
            client_address: String::new(),
            at: AT,
        };
        state.apply(Revision(1), &register);
        let spec = ClusterSpec {
            name: "c".into(),
            labels: BTreeMap::new(),
            source: Source::InCluster,
            selectors: vec![ResourceSelector::all(Resource::events())],
            paused: false,
        };
        state.apply(Revision(2), &Command::CreateCluster { spec, at: AT });
        let shard = *state.assignments.keys().next().unwrap();
        let step = Move {
            shard,
            epoch: Epoch(0),
            to: Some(ME),
            reason: MoveReason::Placed,
        };
        state.apply(
            Revision(3),
            &Command::Assign {
                moves: vec![step],
                at: AT,
            },
        );
        (state, shard)
    }

    #[test]
    fn what_is_assigned_and_does_not_run_starts() {
        let (state, shard) = state();
        let key = RunKey {
            epoch: Epoch(1),
            cluster: Revision(2),
        };
        let steps = reconcile(&state, ME, &BTreeMap::new());
        assert_eq!(
            steps,
            Steps {
                stop: vec![],
                start: vec![(shard, key)]
            }
        );
        let rest = reconcile(&state, ME, &[(shard, key)].into());
        assert_eq!(rest, Steps::default());
    }

    #[test]
    fn a_newer_epoch_and_a_newer_specification_are_new_runs() {
        let (state, shard) = state();
        for (epoch, cluster) in [(0, 2), (1, 1)] {
            let old = RunKey {
                epoch: Epoch(epoch),
                cluster: Revision(cluster),
            };
            let steps = reconcile(&state, ME, &[(shard, old)].into());
            assert_eq!((steps.stop.len(), steps.start.len()), (1, 1));
        }
    }

    #[test]
    fn what_belongs_to_others_stops() {
        let (state, shard) = state();
        let key = RunKey {
            epoch: Epoch(1),
            cluster: Revision(2),
        };
        let steps = reconcile(&state, ReplicaId(2), &[(shard, key)].into());
        assert_eq!(
            steps,
            Steps {
                stop: vec![shard],
                start: vec![]
            }
        );
    }
}
