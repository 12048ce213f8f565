//! Commands that tests of several modules set a [`State`] up with.

use super::{
    assignment::MoveReason,
    cluster::{ClusterSpec, ResourceSelector, Source},
    command::{Command, Move},
    id::{ReplicaId, ShardId, UnixMillis},
    state::State,
};

const AT: UnixMillis = UnixMillis(0);

/// Registers a replica without addresses.
pub(crate) fn register(replica: ReplicaId, name: &str) -> Command {
    Command::RegisterMember {
        replica,
        name: name.to_owned(),
        peer_address: String::new(),
        client_address: String::new(),
        at: AT,
    }
}

/// A cluster with these resources, in all namespaces.
pub(crate) fn spec(name: &str, resources: &[&str]) -> ClusterSpec {
    let selector = |text: &&str| ResourceSelector::all(text.parse().unwrap());
    ClusterSpec {
        name: name.to_owned(),
        labels: [].into(),
        source: Source::InCluster,
        resources: resources.iter().map(selector).collect(),
        paused: false,
        description: String::new(),
        duplicate_of: String::new(),
    }
}

/// Creates a cluster.
pub(crate) fn create(spec: ClusterSpec) -> Command {
    Command::CreateCluster {
        spec,
        request_id: None,
        at: AT,
    }
}

/// Gives a shard to a replica, or takes it from its owner.
pub(crate) fn assign(state: &State, shard: ShardId, to: Option<ReplicaId>) -> Command {
    let step = Move {
        shard,
        epoch: state.assignments[&shard].epoch(),
        to,
        reason: MoveReason::Placed,
    };
    Command::Assign {
        moves: vec![step],
        at: AT,
    }
}
