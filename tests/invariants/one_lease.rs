//! Of the replicas that take a shard for theirs, no two hold a valid lease at the same time. Not to
//! be asked of a planned move, nor of a lease that was granted after the shard was taken away: with
//! it the owner before continues until it has applied the move.

use quorumwatch::domain::id::ReplicaId;

use super::Verdict;

/// `holders`: who acts as the owner of one shard, and whether its lease is valid now.
pub(crate) fn check(holders: &[(ReplicaId, bool)]) -> Verdict {
    let mut valid = holders.iter().filter(|(_, is_valid)| *is_valid);
    match (valid.next(), valid.next()) {
        (Some((one, _)), Some((other, _))) => Err(format!(
            "replicas {one} and {other} own the shard, both with a valid lease"
        )),
        _ => Ok(()),
    }
}
