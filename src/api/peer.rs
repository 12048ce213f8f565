//! `PeerService`: what replicas ask of each other.

use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert::millis,
    status::{member_in_use, membership_error, no_quorum, outcome},
};
use crate::{
    clock::unix_now,
    controller::{Controller, HeartbeatIn},
    domain::{
        command::Command,
        id::{Epoch, Incarnation, ReplicaId, Revision, StreamId},
        member::Availability,
    },
    peer::{self, relay, sources},
    pipeline::{feed::FeedFrom, hub::SourceAddress, owned::Owned},
    proto::internal::v1::{
        HeartbeatRequest, HeartbeatResponse, HelloRequest, HelloResponse, JoinRequest,
        JoinResponse, ObserveRequest, ObserveResponse, ObservedReplica, ProposeRequest,
        ProposeResponse, RelayRequest, RelayResponse, RemoveRequest, RemoveResponse, StreamReport,
        peer_service_server::PeerService, relay_request,
    },
    raft::{Raft, protocol},
};

/// How long an asker's revision may take to be applied here.
const APPLY_WITHIN: Duration = Duration::from_secs(2);

/// How long a machine may take to refuse a connection; one that takes longer refuses nothing.
const REFUSED_WITHIN: Duration = Duration::from_millis(500);

/// Grants that may wait for the transport; heartbeats are answered one by one.
const GRANTS_MAX: usize = 4;

/// Longest version that is shown; a real one has five to twenty characters.
const VERSION_CHARS_MAX: usize = 40;

/// By how much the sender's clock seems to be ahead of this one, in milliseconds.
fn clock_sample(request: &HeartbeatRequest) -> Option<i64> {
    if request.clock_ms == 0 {
        return None;
    }
    let half_trip_ms = request.round_trip_us / 2_000;
    let theirs = request.clock_ms.checked_add(half_trip_ms)?;
    i64::try_from(i128::from(theirs) - i128::from(unix_now().0)).ok()
}

/// `PeerService`.
#[derive(Clone)]
pub struct Peers {
    raft: Raft,
    controller: Controller,
    owned: Owned,
    /// Ends every stream.
    stop: tokio_util::sync::CancellationToken,
}

impl Peers {
    /// Answers for this replica.
    pub fn new(
        raft: Raft,
        controller: Controller,
        owned: Owned,
        stop: tokio_util::sync::CancellationToken,
    ) -> Self {
        Self {
            raft,
            controller,
            owned,
            stop,
        }
    }

    /// Takes one heartbeat; `None` where this replica may not grant anything.
    fn heartbeat(&self, request: &HeartbeatRequest) -> Option<HeartbeatResponse> {
        let reports = request.streams.iter();
        let streams = reports
            .map(|report| {
                (
                    StreamId(report.stream_id),
                    Duration::from_millis(report.silent_ms),
                )
            })
            .collect();
        let grant = self.controller.heartbeat(HeartbeatIn {
            replica: ReplicaId(request.replica_id),
            incarnation: Incarnation(request.incarnation),
            leaving: request.leaving,
            streams,
            applied_index: request.applied_index,
            version: request.version.chars().take(VERSION_CHARS_MAX).collect(),
            clock_sample_ms: clock_sample(request),
        })?;
        Some(HeartbeatResponse {
            sequence: request.sequence,
            lease_ms: millis(grant.lease),
        })
    }

    /// Answers heartbeats until the stream ends, one way or another.
    async fn answer_heartbeats(
        self,
        mut requests: Streaming<HeartbeatRequest>,
        grants: mpsc::Sender<Result<HeartbeatResponse, Status>>,
    ) {
        let mut sender = None;
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                () = grants.closed() => None,
                () = self.stop.cancelled() => return,
            };
            let Some(Ok(request)) = request else { break };
            sender = Some((ReplicaId(request.replica_id), request.leaving));
            let who = format!("replica {}", request.replica_id);
            let understood = protocol::check(&who, request.protocol, &request.version);
            let answer = match understood {
                Err(error) => Err(Status::permission_denied(error.to_string())),
                Ok(()) => self.heartbeat(&request).ok_or_else(|| {
                    Status::failed_precondition("this replica grants no leases now")
                }),
            };
            let refused = answer.is_err();
            if grants.send(answer).await.is_err() || refused {
                break;
            }
        }
        if let Some((replica, false)) = sender {
            self.look_after(replica).await;
        }
    }

    /// A stream that breaks while nobody listens at the sender's address any more is evidence that
    /// its process has died: its kernel has closed both.
    async fn look_after(&self, replica: ReplicaId) {
        let Some(address) = self.raft.peer_address_of(replica) else {
            return;
        };
        if peer::is_refused(&address, REFUSED_WITHIN).await {
            tracing::info!(%replica, "peer closed its connection and refuses new ones");
            self.controller.mark_dead(replica);
        }
    }
}

#[tonic::async_trait]
impl PeerService for Peers {
    async fn hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(self.raft.hello(&request.into_inner())))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.raft
            .serve_join(request.into_inner())
            .await
            .map(Response::new)
    }

    type HeartbeatStream = Pin<Box<dyn Stream<Item = Result<HeartbeatResponse, Status>> + Send>>;

    async fn heartbeat(
        &self,
        request: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let (sender, receiver) = mpsc::channel(GRANTS_MAX);
        tokio::spawn(self.clone().answer_heartbeats(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn propose(
        &self,
        request: Request<ProposeRequest>,
    ) -> Result<Response<ProposeResponse>, Status> {
        self.raft
            .serve_propose(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn observe(
        &self,
        request: Request<ObserveRequest>,
    ) -> Result<Response<ObserveResponse>, Status> {
        // First: what is answered then is no older.
        let applied_index = self.raft.watch_applied().borrow().0;
        let without_streams = request.into_inner().without_streams;
        let observed = self
            .controller
            .observed()
            .ok_or_else(|| Status::failed_precondition("this replica does not lead"))?;
        let replicas = observed
            .replicas
            .into_iter()
            .map(|(replica, seen)| ObservedReplica {
                replica_id: replica.0,
                availability: match seen.availability {
                    Availability::Active => 1,
                    Availability::Suspect => 2,
                    Availability::Unavailable => 3,
                },
                silent_ms: seen.silence.map(millis),
                version: seen.version,
                clock_offset_ms: seen.clock_offset_ms,
            });
        let streams = observed
            .streams
            .into_iter()
            .filter(|_| !without_streams)
            .map(|(stream, silence)| StreamReport {
                stream_id: stream.0,
                silent_ms: millis(silence),
            });
        Ok(Response::new(ObserveResponse {
            replicas: replicas.collect(),
            streams: streams.collect(),
            has_quorum: self.raft.leads_a_quorum(),
            applied_index,
        }))
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        let replica = ReplicaId(request.into_inner().replica_id);
        let observed = self
            .controller
            .observed()
            .ok_or_else(|| no_quorum("this replica does not lead the group; try again"))?;
        let seen = observed.replicas.get(&replica);
        if seen.is_some_and(|seen| seen.availability != Availability::Unavailable) {
            return Err(member_in_use(
                "the replica is alive: stop it first, and wait until its health is unavailable \
                 (`quorumwatch members` shows it)",
            ));
        }
        let removed = self.raft.remove_replica(replica).await;
        removed.map_err(|error| membership_error(&error))?;
        let proposed = outcome(self.raft.propose(Command::RemoveMember { replica }).await)?;
        Ok(Response::new(RemoveResponse {
            revision: proposed.revision.0,
        }))
    }

    type RelayStream = Pin<Box<dyn Stream<Item = Result<RelayResponse, Status>> + Send>>;

    async fn relay(
        &self,
        request: Request<RelayRequest>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let request = request.into_inner();
        let invalid = |reason: String| Status::invalid_argument(reason);
        let from = match request.from {
            Some(relay_request::From::Position(text)) => {
                FeedFrom::After(text.parse().map_err(|error| invalid(format!("{error}")))?)
            }
            Some(relay_request::From::Snapshot(_)) => FeedFrom::Snapshot,
            None => return Err(invalid("from is missing".into())),
        };
        let address = SourceAddress {
            stream: StreamId(request.stream_id),
            owner: self.raft.replica_id(),
            epoch: Epoch(request.epoch),
            revision: Revision(request.revision),
        };
        if !self.raft.wait_applied(address.revision, APPLY_WITHIN).await {
            return Err(Status::unavailable(
                "this replica is behind the asker; try again",
            ));
        }
        let feed = sources::open_local(&self.owned, &address, from, request.snapshot_on_gap)
            .await
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let messages = ReceiverStream::new(feed).map(|message| {
            message
                .map(relay::to_message)
                .map_err(|error| Status::unavailable(error.to_string()))
        });
        Ok(Response::new(Box::pin(messages)))
    }
}
