//! Moves on request.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::Shards;
use crate::{
    api::{
        convert,
        observed::Unmoved,
        reads::{APPLY_TIMEOUT, Read},
        status::{Kind, invalid, leader_silent, no_leader, not_found},
    },
    domain::id::{ReplicaId, ShardId},
    proto::v1::{MoveShardRequest, MoveShardResponse},
};

/// Moves a shard, or sees whether it could move.
pub(super) async fn move_shard(
    shards: &Shards,
    request: MoveShardRequest,
    timeout: Duration,
) -> Result<MoveShardResponse, Status> {
    let deadline = Instant::now() + timeout;
    let left = || deadline.duration_since(Instant::now());
    if request.to.is_empty() {
        return Err(invalid("to", "is missing: the name of the replica"));
    }
    let (shard, to) = match named(&shards.reads.now(), &request) {
        Ok(named) => named,
        // It may have been added at another replica a moment ago.
        Err(_) => named(
            &shards.leader.catch_up(&shards.reads, left()).await?,
            &request,
        )?,
    };
    let revision = loop {
        let moved = shards
            .leader
            .move_shard(shard, to, request.validate_only, left());
        let why = match moved.await {
            Ok(revision) => break revision,
            Err(Unmoved::Refused(status)) => return Err(*status),
            Err(Unmoved::NoLeader) => None,
            Err(Unmoved::AskAgain(why)) => Some(why),
        };
        // Deleted or removed meanwhile, it is not asked for again.
        named(&shards.reads.now(), &request)?;
        if left().is_zero() {
            return Err(match why {
                Some(why) => leader_silent(&why),
                None => no_leader(&shards.leader.problem().await),
            });
        }
    };
    let read = shards.reads.at_least(revision.0, APPLY_TIMEOUT).await?;
    let state = &read.state;
    let found = state.assignments.get(&shard);
    let found = found.ok_or_else(|| not_found(Kind::Shard, &request.name))?;
    Ok(MoveShardResponse {
        shard: Some(convert::shard(state, found, state.streams_of(shard))),
        revision: read.revision.0,
    })
}

/// The shard and the replica that a request names.
fn named(read: &Read, request: &MoveShardRequest) -> Result<(ShardId, ReplicaId), Status> {
    let shard = convert::shard_id(&read.state, &request.name)?;
    let member = read.state.member_named(&request.to);
    let member = member.ok_or_else(|| not_found(Kind::Member, &request.to))?;
    Ok((shard, member.id))
}
