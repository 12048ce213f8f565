//! What replicas ask of each other as members of a group: the server halves of `MembershipService`
//! and `LeaderService`.

use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Group, RemoveError};
use crate::{
    clock::unix_now,
    controller::{self, Controller, Grant},
    domain::{
        id::{ClusterId, Incarnation, ReplicaId, ShardId, StreamId},
        leader::Heartbeat,
        member::Availability,
        requested::NotMoved,
    },
    proto::internal::v1::{
        self as internal, HeartbeatRequest, HeartbeatResponse, HelloRequest, HelloResponse,
        JoinRequest, JoinResponse, MoveRequest, MoveResponse, NotMovedKind, ObserveRequest,
        ObserveResponse, ObservedReplica, RemoveRequest, RemoveResponse, StreamReport,
        leader_service_server::LeaderService, membership_service_server::MembershipService,
        move_response, remove_response,
    },
    raft::protocol,
};

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

/// `MembershipService`.
#[derive(Clone)]
pub struct MembershipServer(pub Group);

#[tonic::async_trait]
impl MembershipService for MembershipServer {
    async fn hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(self.0.hello(&request.into_inner())))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let joined = self.0.serve_join(request.into_inner()).await;
        joined.map(Response::new)
    }
}

/// `LeaderService`.
#[derive(Clone)]
pub struct LeaderServer {
    group: Group,
    controller: Controller,
    /// Ends every stream.
    stop: CancellationToken,
}

impl LeaderServer {
    /// Answers for this replica.
    pub fn new(group: Group, controller: Controller, stop: CancellationToken) -> Self {
        Self {
            group,
            controller,
            stop,
        }
    }

    /// Takes one heartbeat; `None` where this replica may not grant anything.
    async fn grant(&self, request: &HeartbeatRequest) -> Option<HeartbeatResponse> {
        let reports = request.streams.iter();
        let streams = reports
            .map(|report| {
                (
                    StreamId(report.stream_id),
                    Duration::from_millis(report.lag_ms),
                )
            })
            .collect();
        let grant = self.controller.heartbeat(Heartbeat {
            replica: ReplicaId(request.replica_id),
            incarnation: Incarnation(request.incarnation),
            leaving: request.leaving,
            streams,
            version: request.version.chars().take(VERSION_CHARS_MAX).collect(),
            clock_sample_ms: clock_sample(request),
        });
        let Grant { lease, active } = grant.await?;
        Some(HeartbeatResponse {
            sequence: request.sequence,
            lease_ms: millis(lease),
            active: active.into_iter().map(|replica| replica.0).collect(),
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
            sender = Some(ReplicaId(request.replica_id));
            let who = format!("replica {}", request.replica_id);
            let understood = protocol::check(&who, request.protocol, &request.version);
            let answer = match understood {
                Err(error) => Err(Status::permission_denied(error.to_string())),
                Ok(()) => self.grant(&request).await.ok_or_else(|| {
                    Status::failed_precondition("this replica does not grant leases now")
                }),
            };
            let refused = answer.is_err();
            if grants.send(answer).await.is_err() || refused {
                break;
            }
        }
        if let Some(replica) = sender {
            self.group.heartbeats_ended(replica, &self.controller).await;
        }
    }
}

#[tonic::async_trait]
impl LeaderService for LeaderServer {
    type HeartbeatStream = Pin<Box<dyn Stream<Item = Result<HeartbeatResponse, Status>> + Send>>;

    async fn heartbeat(
        &self,
        request: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let (sender, receiver) = mpsc::channel(GRANTS_MAX);
        tokio::spawn(self.clone().answer_heartbeats(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn observe(
        &self,
        request: Request<ObserveRequest>,
    ) -> Result<Response<ObserveResponse>, Status> {
        // First: what is answered then is no older.
        let applied_index = self.group.raft().watch_applied().borrow().0;
        let without_streams = request.into_inner().without_streams;
        let observed = self
            .controller
            .observed()
            .await
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
                silence_ms: seen.silence.map(millis),
                version: seen.version,
                clock_offset_ms: seen.clock_offset_ms,
            });
        let streams = observed
            .streams
            .into_iter()
            .filter(|_| !without_streams)
            .map(|(stream, lag)| StreamReport {
                stream_id: stream.0,
                lag_ms: millis(lag),
            });
        Ok(Response::new(ObserveResponse {
            replicas: replicas.collect(),
            streams: streams.collect(),
            has_quorum: self.group.raft().leads_a_quorum(),
            applied_index,
        }))
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        let replica = ReplicaId(request.into_inner().replica_id);
        let removed = match self.controller.observed().await {
            Some(observed) => {
                let seen = observed.replicas.get(&replica);
                self.group
                    .remove(replica, seen.map(|seen| seen.availability))
                    .await
            }
            None => Err(RemoveError::NotNow(
                "this replica is not the leader; try again".into(),
            )),
        };
        let result = match removed {
            Ok(revision) => remove_response::Result::Revision(revision.0),
            Err(RemoveError::InUse(why)) => remove_response::Result::InUse(why),
            Err(RemoveError::NotNow(why)) => remove_response::Result::NotNow(why),
            Err(RemoveError::Unknown(why)) => return Err(Status::unknown(why)),
        };
        Ok(Response::new(RemoveResponse {
            result: Some(result),
        }))
    }

    async fn r#move(
        &self,
        request: Request<MoveRequest>,
    ) -> Result<Response<MoveResponse>, Status> {
        let request = request.into_inner();
        let shard = ShardId {
            cluster: ClusterId(request.cluster_id),
            slice: request.slice,
        };
        let moved = self.controller.move_shard(controller::MoveRequest {
            shard,
            to: ReplicaId(request.replica_id),
            validate_only: request.validate_only,
        });
        let moved = moved.await.ok_or_else(|| {
            Status::failed_precondition("this replica does not lead, or no longer does")
        })?;
        let result = match moved {
            Ok(revision) => move_response::Result::Revision(revision.0),
            Err(refused) => move_response::Result::NotMoved(not_moved(&refused)),
        };
        Ok(Response::new(MoveResponse {
            result: Some(result),
        }))
    }
}

fn not_moved(refused: &NotMoved) -> internal::NotMoved {
    let kind = match refused {
        NotMoved::NotYet(_) => NotMovedKind::NotYet,
        NotMoved::Drained(_) | NotMoved::NotActive(_) => NotMovedKind::TakesNone,
        NotMoved::OutOfReach { .. } => NotMovedKind::OutOfReach,
        NotMoved::Elsewhere(_) | NotMoved::Overtaken | NotMoved::Late { .. } => {
            NotMovedKind::Overtaken
        }
        NotMoved::Paused | NotMoved::Busy => NotMovedKind::Refused,
    };
    internal::NotMoved {
        kind: kind.into(),
        why: refused.to_string(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
