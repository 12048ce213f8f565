//! Incoming Raft calls.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use openraft::{
    Raft as OpenRaft, alias::SnapshotOf, async_runtime::WatchReceiver as _,
    raft::AppendEntriesRequest,
};
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

use super::{
    Raft, StreamEnd,
    codec::Corrupt,
    propose::not_proposed,
    protocol,
    state_machine::StateMachine,
    storage::Store,
    types::{SnapshotMeta, TypeConfig},
    wire,
};
use crate::{
    domain::{id::ReplicaId, lifecycle::Lifecycle},
    proto::internal::v1::{
        AppendRequest, AppendResponse, Envelope, InstallSnapshotRequest, InstallSnapshotResponse,
        PreVoteRequest, PreVoteResponse, ProposeRequest, ProposeResponse, StreamAppendRequest,
        StreamAppendResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
        VoteResponse, raft_service_server::RaftService,
    },
    telemetry::LogThrottle,
};

/// Largest snapshot taken: 10,000 clusters with everything that they may carry, several times.
const SNAPSHOT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Answers other replicas' Raft calls.
#[derive(Clone)]
pub struct Service {
    pub(super) handle: Raft,
    pub(super) raft: OpenRaft<TypeConfig, StateMachine>,
    pub(super) store: Arc<Store>,
    pub(super) stream_ends: mpsc::Sender<StreamEnd>,
    /// Whether calls are answered yet.
    pub(super) lifecycle: watch::Receiver<Lifecycle>,
    pub(super) throttle: Arc<LogThrottle>,
}

impl Service {
    /// Rejects calls that are meant for another replica. Returns the sender.
    fn check(&self, envelope: Option<Envelope>) -> Result<u64, Status> {
        let envelope =
            envelope.ok_or_else(|| Status::invalid_argument("the envelope is missing"))?;
        let running = self.raft.metrics().borrow_watched().running_state.clone();
        running.map_err(stopped)?;
        let who = format!("replica {}", envelope.from);
        protocol::check(&who, envelope.protocol, &envelope.version).map_err(|error| {
            if self.throttle.is_due(&error.to_string()) {
                tracing::warn!(%error, "rejected a peer that runs an incompatible version");
            }
            Status::permission_denied(error.to_string())
        })?;
        let own_id = self.store.replica_id().0;
        if envelope.to != own_id {
            let name = self.store.name();
            return Err(Status::failed_precondition(format!(
                "the call is for replica {}, this is {name:?} with id {own_id}: it was given an \
                 empty data directory, or its address",
                envelope.to
            )));
        }
        if envelope.from == own_id {
            return Err(Status::failed_precondition(
                "the call comes from this replica itself: two replicas share a data directory",
            ));
        }
        if !self.lifecycle.borrow().answers_raft() {
            return Err(Status::unavailable("this replica is starting"));
        }
        match self.store.group() {
            Some(group) if !envelope.group_id.is_empty() && envelope.group_id != group.0[..] => {
                Err(Status::failed_precondition(format!(
                    "the call comes from another group, this replica belongs to group {group}"
                )))
            }
            _ => Ok(envelope.from),
        }
    }

    /// The requests of a stream; it ends at the first invalid one, with the reason in `end`.
    fn requests(
        &self,
        inbound: Streaming<StreamAppendRequest>,
        end: Arc<Mutex<Option<Status>>>,
    ) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + use<> {
        let service = self.clone();
        stream::unfold((inbound, None), move |(mut inbound, mut sender)| {
            let service = service.clone();
            let end = Arc::clone(&end);
            async move {
                match service.next_request(&mut inbound, &mut sender).await {
                    Ok(request) => Some((request?, (inbound, sender))),
                    Err(status) => {
                        *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                        None
                    }
                }
            }
        })
    }

    async fn next_request(
        &self,
        inbound: &mut Streaming<StreamAppendRequest>,
        sender: &mut Option<u64>,
    ) -> Result<Option<AppendEntriesRequest<TypeConfig>>, Status> {
        let message = inbound.message().await;
        if !matches!(message, Ok(Some(_)))
            && let Some(sender) = sender
        {
            let sender = ReplicaId(*sender);
            // If many wait already, one of them reports the same.
            let _ = self.stream_ends.try_send(StreamEnd { sender });
        }
        let Some(message) = message? else {
            return Ok(None);
        };
        if sender.is_none() {
            *sender = Some(self.check(message.envelope)?);
        }
        wire::entries_from(message.entries)
            .map(Some)
            .map_err(refuse)
    }

    /// Puts the chunks of a snapshot together.
    async fn receive(
        &self,
        inbound: &mut Streaming<InstallSnapshotRequest>,
    ) -> Result<(super::types::Vote, SnapshotMeta, Bytes), Status> {
        let missing = || Status::invalid_argument("the snapshot has no header");
        let first = inbound.message().await?.ok_or_else(missing)?;
        let header = first.header.ok_or_else(missing)?;
        self.check(header.envelope)?;
        if header.length > SNAPSHOT_BYTES_MAX {
            return Err(Status::resource_exhausted("the snapshot is too large"));
        }
        let mut bytes = BytesMut::new();
        while let Some(message) = inbound.message().await? {
            bytes.extend_from_slice(&message.chunk);
            if bytes.len() as u64 > header.length {
                break;
            }
        }
        if bytes.len() as u64 != header.length || crc32c::crc32c(&bytes) != header.checksum {
            return Err(Status::data_loss("the snapshot arrived damaged"));
        }
        let meta = header.meta.ok_or_else(missing)?;
        let meta = meta.try_into().map_err(refuse)?;
        Ok((
            wire::vote(header.vote).map_err(refuse)?,
            meta,
            bytes.freeze(),
        ))
    }
}

fn refuse(error: Corrupt) -> Status {
    Status::invalid_argument(error.0)
}

/// Raft has stopped; the process is about to end.
fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("Raft has stopped on this replica: {error}"))
}

#[tonic::async_trait]
impl RaftService for Service {
    type StreamAppendStream = BoxStream<StreamAppendResponse>;

    async fn stream_append(
        &self,
        request: Request<Streaming<StreamAppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        let end = Arc::new(Mutex::new(None));
        let requests = self.requests(request.into_inner(), Arc::clone(&end));
        let results = self.raft.stream_append(requests).map(|result| {
            let appended = wire::appended_to(&result.map_err(stopped)?);
            Ok(StreamAppendResponse {
                appended: Some(appended),
            })
        });
        let end = stream::once(async move { end }).filter_map(|end| async move {
            let status = end.lock().unwrap_or_else(PoisonError::into_inner).take();
            status.map(Err)
        });
        Ok(Response::new(Box::pin(results.chain(end))))
    }

    async fn append(
        &self,
        request: Request<AppendRequest>,
    ) -> Result<Response<AppendResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope)?;
        let entries = wire::entries_from(request.entries).map_err(refuse)?;
        let previous = entries.prev_log_id;
        let response = self.raft.append_entries(entries).await.map_err(stopped)?;
        Ok(Response::new(AppendResponse {
            appended: Some(wire::response_to(&response, previous)),
        }))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        let mut request = request.into_inner();
        self.check(request.envelope.take())?;
        let request = wire::vote_request_from(&request).map_err(refuse)?;
        let response = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::vote_response_to(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<PreVoteRequest>,
    ) -> Result<Response<PreVoteResponse>, Status> {
        let mut request = request.into_inner().vote.unwrap_or_default();
        self.check(request.envelope.take())?;
        let request = wire::vote_request_from(&request).map_err(refuse)?;
        let response = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(PreVoteResponse {
            vote: Some(wire::vote_response_to(&response)),
        }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<InstallSnapshotRequest>>,
    ) -> Result<Response<InstallSnapshotResponse>, Status> {
        let (vote, meta, snapshot) = self.receive(&mut request.into_inner()).await?;
        let snapshot = SnapshotOf::<TypeConfig, Bytes> { meta, snapshot };
        let response = self
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(stopped)?;
        Ok(Response::new(InstallSnapshotResponse {
            vote: Some(response.vote.into()),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let mut request = request.into_inner();
        self.check(request.envelope.take())?;
        let request = wire::transfer_from(&request).map_err(refuse)?;
        self.handle
            .note_handover(request.from_leader().leader_id.term);
        let response = self
            .raft
            .handle_transfer_leader(request)
            .await
            .map_err(stopped)?;
        Ok(Response::new(wire::transferred_to(&response)))
    }

    async fn propose(
        &self,
        request: Request<ProposeRequest>,
    ) -> Result<Response<ProposeResponse>, Status> {
        let mut request = request.into_inner();
        let sender = self.check(request.envelope.take());
        let sender = ReplicaId(sender.map_err(not_proposed)?);
        let proposed = self.handle.serve_propose(sender, request.command).await;
        proposed.map(Response::new)
    }
}
