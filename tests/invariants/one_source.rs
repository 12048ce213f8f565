//! Under one epoch a shard is published by one replica, the one that the epoch was given to.

use quorumwatch::domain::id::{Epoch, ReplicaId};

use super::Verdict;

/// `assigned`: who was given the shard under each epoch. `publishing`: who publishes it now, and
/// under which epoch.
pub(crate) fn check(
    assigned: &[(Epoch, Option<ReplicaId>)],
    publishing: &[(ReplicaId, Epoch)],
) -> Verdict {
    for (index, (replica, epoch)) in publishing.iter().enumerate() {
        if !assigned.contains(&(*epoch, Some(*replica))) {
            return Err(format!(
                "replica {replica} publishes under epoch {epoch}, which was not given to it"
            ));
        }
        let others = &publishing[index + 1..];
        if others.iter().any(|(_, other)| other == epoch) {
            return Err(format!("two runs publish under epoch {epoch}"));
        }
    }
    Ok(())
}
