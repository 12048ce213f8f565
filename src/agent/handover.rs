//! `HandoverService`, both sides: the leader asks the replica that is to own a shard to open its
//! watches first.

use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use super::prepare::{PrepareError, Preparer, Wanted};
use crate::{
    domain::{
        assignment::MoveReason,
        id::{ClusterId, Epoch, ReplicaId, Revision, ShardId},
        preparation::{self, ANSWER_MARGIN, Answer, Outcome, PREPARE_TIMEOUT},
    },
    net::Channels,
    proto::internal::v1::{
        PrepareRequest, PrepareResponse, handover_service_client::HandoverServiceClient,
        handover_service_server::HandoverService,
    },
    raft::Raft,
};

/// How long a receiver may take to apply what the leader has planned with. One that is further
/// behind has just started, and takes the shard at a later attempt.
const APPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers for this replica.
pub struct Handover {
    raft: Raft,
    preparer: Preparer,
}

impl Handover {
    /// Prepares shards by this agent.
    pub fn new(raft: Raft, preparer: Preparer) -> Self {
        Self { raft, preparer }
    }
}

#[tonic::async_trait]
impl HandoverService for Handover {
    async fn prepare(
        &self,
        request: Request<PrepareRequest>,
    ) -> Result<Response<PrepareResponse>, Status> {
        let request = request.into_inner();
        let shard = ShardId {
            cluster: ClusterId(request.cluster_id),
            slice: request.slice,
        };
        let revision = Revision(request.revision);
        let timeout = match request.timeout_ms {
            0 => PREPARE_TIMEOUT,
            ms => Duration::from_millis(ms.into()).min(PREPARE_TIMEOUT),
        };
        if !self.raft.wait_applied(revision, APPLY_TIMEOUT).await {
            return Err(Status::unavailable("this replica's log is behind"));
        }
        let prepared = self.preparer.prepare(Wanted {
            shard,
            epoch: Epoch(request.epoch),
            must_connect: request.must_connect,
            timeout,
        });
        match prepared.await {
            Ok(()) => Ok(Response::new(PrepareResponse {})),
            Err(error) => Err(Status::new(code_of(&error), error.to_string())),
        }
    }
}

fn code_of(error: &PrepareError) -> Code {
    match error {
        PrepareError::Unfit(_) => Code::FailedPrecondition,
        PrepareError::Stale => Code::Aborted,
        PrepareError::Stopped => Code::Unavailable,
    }
}

/// Asks the receiver of a move to open its watches, and waits until it has.
pub async fn prepare(
    raft: Raft,
    channels: Channels,
    request: preparation::Request,
    revision: Revision,
) -> Answer {
    let step = &request.step;
    let Some(receiver) = step.to else {
        return Outcome::Failed.into();
    };
    let answer = ask(&raft, &channels, receiver, &request, revision);
    let answer = tokio::time::timeout(request.timeout + ANSWER_MARGIN, answer).await;
    match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("timeout"))) {
        Ok(()) => Outcome::Ready.into(),
        Err(status) => {
            let reason = status.message().to_owned();
            tracing::info!(shard = %step.shard, %receiver, reason, "shard move not prepared");
            let outcome = match status.code() {
                Code::FailedPrecondition => Outcome::Unfit,
                _ => Outcome::Failed,
            };
            Answer { outcome, reason }
        }
    }
}

async fn ask(
    raft: &Raft,
    channels: &Channels,
    receiver: ReplicaId,
    wanted: &preparation::Request,
    revision: Revision,
) -> Result<(), Status> {
    let address = raft
        .peer_address_of(receiver)
        .ok_or_else(|| Status::unavailable("its address is not known"))?;
    let channel = channels
        .channel(&address)
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let preparation::Request { step, timeout } = wanted;
    let request = PrepareRequest {
        cluster_id: step.shard.cluster.0,
        slice: step.shard.slice,
        epoch: step.epoch.0,
        revision: revision.0,
        must_connect: step.reason == MoveReason::Reachability,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(0),
    };
    HandoverServiceClient::new(channel).prepare(request).await?;
    Ok(())
}
