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
    /// See [`State::run_revision`]. Labels and the like change without another run.
    pub run: Revision,
}

/// The differences between what runs and what is assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// These shards are no longer published under the epoch under which they run.
    pub stop: Vec<ShardId>,
    /// These begin; a shard may be among both.
    pub start: Vec<(ShardId, RunKey)>,
    /// What is watched of these has changed; they stay with their owner and their epoch.
    pub change: Vec<(ShardId, RunKey)>,
}

/// Compares what is assigned to `replica` with what runs.
pub fn reconcile(state: &State, replica: ReplicaId, running: &BTreeMap<ShardId, RunKey>) -> Steps {
    let assigned: BTreeMap<ShardId, RunKey> = state
        .assignments
        .values()
        .filter(|assignment| assignment.owner() == Some(replica))
        .filter_map(|assignment| {
            let key = RunKey {
                epoch: assignment.epoch(),
                run: state.run_revision(assignment.shard())?,
            };
            Some((assignment.shard(), key))
        })
        .collect();
    let epoch_in =
        |runs: &BTreeMap<ShardId, RunKey>, shard: &ShardId| runs.get(shard).map(|key| key.epoch);
    let mut steps = Steps::default();
    for (shard, key) in running {
        if epoch_in(&assigned, shard) != Some(key.epoch) {
            steps.stop.push(*shard);
        }
    }
    for (shard, key) in assigned {
        if epoch_in(running, &shard) != Some(key.epoch) {
            steps.start.push((shard, key));
        } else if running.get(&shard) != Some(&key) {
            steps.change.push((shard, key));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, ReplicaId, RunKey, ShardId, State, Steps, reconcile};
    use crate::domain::{
        cluster::{ClusterSpec, Source},
        command::{Command, Outcome},
        fixtures::{assign, create, register, spec},
        id::{Epoch, Revision, UnixMillis},
    };

    const ME: ReplicaId = ReplicaId(1);
    const AT: UnixMillis = UnixMillis(0);

    fn apply(state: &mut State, command: &Command) {
        let applied = state.apply(Revision(state.revision.0 + 1), command);
        assert!(!matches!(applied.outcome, Outcome::Rejected(_)));
    }

    fn state() -> (State, ShardId) {
        let mut state = State::default();
        apply(&mut state, &register(ME, "a"));
        apply(&mut state, &create(spec("c", &["v1/events"])));
        let shard = *state.assignments.keys().next().unwrap();
        let assign = assign(&state, shard, Some(ME));
        apply(&mut state, &assign);
        (state, shard)
    }

    fn update(state: &mut State, change: impl FnOnce(&mut ClusterSpec)) {
        let id = *state.clusters.keys().next().unwrap();
        let mut spec = (*state.clusters[&id].spec).clone();
        change(&mut spec);
        let command = Command::UpdateCluster {
            id,
            expected: None,
            spec,
            request_id: None,
            at: AT,
        };
        apply(state, &command);
    }

    fn key(epoch: u64, run: u64) -> RunKey {
        RunKey {
            epoch: Epoch(epoch),
            run: Revision(run),
        }
    }

    #[test]
    fn what_is_assigned_and_does_not_run_starts() {
        let (state, shard) = state();
        let steps = reconcile(&state, ME, &BTreeMap::new());
        assert_eq!(
            steps,
            Steps {
                start: vec![(shard, key(1, 2))],
                ..Steps::default()
            }
        );
        let rest = reconcile(&state, ME, &[(shard, key(1, 2))].into());
        assert_eq!(rest, Steps::default());
    }

    #[test]
    fn a_newer_epoch_is_a_new_run_and_a_newer_source_changes_the_run() {
        let (mut state, shard) = state();
        let running = |key| BTreeMap::from([(shard, key)]);
        let steps = reconcile(&state, ME, &running(key(0, 2)));
        assert_eq!((steps.stop.len(), steps.start.len()), (1, 1));
        update(&mut state, |spec| {
            spec.source = Source::Configured { name: "eu".into() };
        });
        let steps = reconcile(&state, ME, &running(key(1, 2)));
        let changed = |run| Steps {
            change: vec![(shard, key(1, run))],
            ..Steps::default()
        };
        assert_eq!(steps, changed(4));
        update(&mut state, |spec| {
            spec.resources[0].namespaces = vec!["shop".into()];
        });
        assert_eq!(reconcile(&state, ME, &running(key(1, 4))), changed(5));
    }

    #[test]
    fn a_restart_of_the_owner_is_a_new_run() {
        let (mut state, shard) = state();
        apply(&mut state, &register(ME, "a"));
        let steps = reconcile(&state, ME, &BTreeMap::new());
        assert_eq!(steps.start, [(shard, key(1, 4))]);
    }

    #[test]
    fn what_does_not_change_the_watches_does_not_restart_them() {
        let (mut state, shard) = state();
        let running = BTreeMap::from([(shard, key(1, 2))]);
        let changes: [fn(&mut ClusterSpec); 4] = [
            |spec| drop(spec.labels.insert("team".into(), "a".into())),
            |spec| spec.description = "a description".into(),
            |spec| spec.duplicate_of = "other".into(),
            |_| {},
        ];
        for change in changes {
            update(&mut state, change);
            assert_eq!(reconcile(&state, ME, &running), Steps::default());
        }
        // The same streams, written in another way.
        update(&mut state, |spec| spec.resources.clear());
        assert_eq!(reconcile(&state, ME, &running), Steps::default());
    }

    #[test]
    fn what_belongs_to_others_stops() {
        let (state, shard) = state();
        let steps = reconcile(&state, ReplicaId(2), &[(shard, key(1, 2))].into());
        assert_eq!(
            steps,
            Steps {
                stop: vec![shard],
                ..Steps::default()
            }
        );
    }
}
