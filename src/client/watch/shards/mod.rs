//! The watch of shards.

use std::{collections::BTreeMap, fmt};

use tonic::{Response, Status, Streaming};

use super::{
    Update,
    resumable::{Message, News, Resumable, Watched},
};
use crate::{
    client::{Connection, Endpoints, Error},
    proto::v1::{
        self, Shard, ShardChange, ShardChangeType, WatchShardsRequest, WatchShardsResponse,
    },
};

/// A watch of shards, with a copy of them.
pub struct ShardWatch(Resumable<Shards>);

impl ShardWatch {
    /// Nothing is sent before the first call of [`Self::next`].
    pub fn new(endpoints: Endpoints, request: WatchShardsRequest) -> Self {
        Self(Resumable::new(endpoints, request))
    }

    /// The shards, by name, after everything that [`Self::next`] has returned.
    pub fn shards(&self) -> &BTreeMap<String, Shard> {
        self.0.items()
    }

    /// The revision at which the copy holds; 0 before the first snapshot.
    pub fn revision(&self) -> u64 {
        self.0.revision()
    }

    /// Waits for what comes next. It may be dropped and called again at any time.
    ///
    /// It fails where the request itself is at fault: no other replica would accept it either.
    pub async fn next(&mut self) -> Result<Update<ShardChange>, Error> {
        self.0.next().await
    }
}

impl fmt::Debug for ShardWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardWatch")
            .field("endpoint", &self.0.endpoint())
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

pub(super) struct Shards;

impl Watched for Shards {
    type Request = WatchShardsRequest;
    type Response = WatchShardsResponse;
    type Item = Shard;
    type Change = ShardChange;

    async fn call(
        connection: Connection,
        request: WatchShardsRequest,
    ) -> Result<Response<Streaming<WatchShardsResponse>>, Status> {
        connection.shards().watch_shards(request).await
    }

    fn resumed(request: &WatchShardsRequest, token: &str, revision: u64) -> WatchShardsRequest {
        let mut request = request.clone();
        if !token.is_empty() {
            token.clone_into(&mut request.resume_token);
        }
        request.min_revision = request.min_revision.max(revision);
        request
    }

    fn message(response: WatchShardsResponse) -> Message<Shard, ShardChange> {
        use v1::watch_shards_response::Update;
        Message {
            token: response.resume_token,
            revision: response.revision,
            news: match response.update {
                Some(Update::Snapshot(page)) => News::Page(page.shards),
                Some(Update::SnapshotEnd(_)) => News::SnapshotEnd,
                Some(Update::Change(change)) => News::Change(Box::new(change)),
                Some(Update::Heartbeat(_)) | None => News::Nothing,
            },
        }
    }

    fn name(shard: &Shard) -> &str {
        &shard.name
    }

    fn effect(request: &WatchShardsRequest, change: &ShardChange) -> (String, Option<Shard>) {
        let shard = change.shard.clone().unwrap_or_default();
        // Nothing more is sent of a shard after it has moved away from the owners that are asked
        // for.
        let matches = request.owners.is_empty() || request.owners.contains(&shard.owner);
        let exists = change.r#type() != ShardChangeType::Deleted;
        (shard.name.clone(), (exists && matches).then_some(shard))
    }
}

#[cfg(test)]
mod tests;
