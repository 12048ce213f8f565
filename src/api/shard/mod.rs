//! `ShardService`.

mod moving;
mod select;

use std::{pin::Pin, time::Duration};

use prost::Message as _;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{
    convert,
    observed::LeaderView,
    page::Paging,
    reads::{APPLY_TIMEOUT, Reads, timeout},
    token::Digest,
    watch::{From, Watch, Watches},
};
use crate::{
    proto::v1::{
        GetShardRequest, GetShardResponse, ListShardsRequest, ListShardsResponse, MoveShardRequest,
        MoveShardResponse, WatchShardsRequest, WatchShardsResponse,
        shard_service_server::ShardService,
    },
    raft::Raft,
};

/// How long a move may take where its caller sets no deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// `ShardService`.
#[derive(Clone)]
pub struct Shards {
    raft: Raft,
    reads: Reads,
    leader: LeaderView,
    watches: Watches,
}

impl Shards {
    /// Answers from what this replica has applied; moves are for the leader.
    pub fn new(raft: Raft, leader: LeaderView, watches: Watches) -> Self {
        let reads = Reads::new(&raft);
        Self {
            raft,
            reads,
            leader,
            watches,
        }
    }
}

#[tonic::async_trait]
impl ShardService for Shards {
    type WatchShardsStream =
        Pin<Box<dyn Stream<Item = Result<WatchShardsResponse, Status>> + Send>>;

    async fn get_shard(
        &self,
        request: Request<GetShardRequest>,
    ) -> Result<Response<GetShardResponse>, Status> {
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let request = request.into_inner();
        let read = self.reads.at_least(request.min_revision, timeout).await?;
        let state = &read.state;
        let id = convert::shard_id(state, &request.name)?;
        let shard = state.assignments.get(&id);
        let shard = shard.map(|found| convert::shard(state, found, state.streams_of(id)));
        Ok(Response::new(GetShardResponse {
            shard,
            revision: read.revision.0,
        }))
    }

    async fn list_shards(
        &self,
        request: Request<ListShardsRequest>,
    ) -> Result<Response<ListShardsResponse>, Status> {
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let request = request.into_inner();
        let same = ListShardsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let digest = Digest::of("ListShards", &same.encode_to_vec());
        let paging = Paging::new(request.page_size, &request.page_token, digest)?;
        let read = self.reads.at_least(request.min_revision, timeout).await?;
        let state = &read.state;
        let shards = select::Shards::new(request.clusters, request.owners).sorted(state);
        let page = paging.page(shards.into_iter().map(|(order, key)| {
            let shown = move || select::Shards::shown(state, &key).unwrap_or_default();
            (order, shown)
        }));
        Ok(Response::new(ListShardsResponse {
            shards: page.items,
            next_page_token: page.next_page_token,
            revision: read.revision.0,
        }))
    }

    async fn watch_shards(
        &self,
        request: Request<WatchShardsRequest>,
    ) -> Result<Response<Self::WatchShardsStream>, Status> {
        self.watches.check(&self.reads)?;
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let request = request.into_inner();
        let same = WatchShardsRequest {
            resume_token: String::new(),
            min_revision: 0,
            ..request.clone()
        };
        let from = From {
            resume_token: &request.resume_token,
            min_revision: request.min_revision,
            method: "WatchShards",
            request: &same.encode_to_vec(),
            timeout,
        };
        let shards = select::Shards::new(request.clusters, request.owners);
        let log = self.raft.changes().shards.clone();
        let watch = Watch::open(shards, self.reads.clone(), log, from).await?;
        Ok(Response::new(Box::pin(self.watches.serve(watch))))
    }

    async fn move_shard(
        &self,
        request: Request<MoveShardRequest>,
    ) -> Result<Response<MoveShardResponse>, Status> {
        let timeout = timeout(request.metadata(), REQUEST_TIMEOUT);
        let moved = moving::move_shard(self, request.into_inner(), timeout);
        moved.await.map(Response::new)
    }
}
