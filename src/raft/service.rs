//! Incoming Raft calls.

use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use crate::proto::internal::v1::{
    AppendRequest, AppendResponse, InstallSnapshotRequest, InstallSnapshotResponse, PreVoteRequest,
    PreVoteResponse, StreamAppendRequest, StreamAppendResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse, raft_service_server::RaftService,
};

/// Answers other replicas' Raft calls.
#[derive(Clone)]
pub struct Service {}

#[tonic::async_trait]
impl RaftService for Service {
    type StreamAppendStream = BoxStream<StreamAppendResponse>;

    async fn stream_append(
        &self,
        _request: Request<Streaming<StreamAppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        unimplemented!()
    }

    async fn append(
        &self,
        _request: Request<AppendRequest>,
    ) -> Result<Response<AppendResponse>, Status> {
        unimplemented!()
    }

    async fn vote(&self, _request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        unimplemented!()
    }

    async fn pre_vote(
        &self,
        _request: Request<PreVoteRequest>,
    ) -> Result<Response<PreVoteResponse>, Status> {
        unimplemented!()
    }

    async fn install_snapshot(
        &self,
        _request: Request<Streaming<InstallSnapshotRequest>>,
    ) -> Result<Response<InstallSnapshotResponse>, Status> {
        unimplemented!()
    }

    async fn transfer_leader(
        &self,
        _request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        unimplemented!()
    }
}
