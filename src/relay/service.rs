//! The owner's half of the relay: `RelayService`.

use std::{pin::Pin, time::Duration};

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{client::open_local, codec};
use crate::{
    domain::{
        delivery::place::{Place, Reader},
        id::{Epoch, ReplicaId, Revision, StreamId},
    },
    pipeline::{hub::OwnerAddress, owned::Owned},
    proto::internal::v1::{RelayRequest, RelayResponse, relay_service_server::RelayService},
};

/// How long to wait until the requester's revision is applied here.
const APPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// `RelayService`.
#[derive(Clone)]
pub struct RelayServer {
    /// This replica.
    pub replica: ReplicaId,
    /// What it publishes.
    pub owned: Owned,
    /// The last log index that it has applied.
    pub applied: watch::Receiver<Revision>,
}

impl RelayServer {
    async fn has_applied(&self, revision: Revision) -> bool {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| *applied >= revision);
        matches!(
            tokio::time::timeout(APPLY_TIMEOUT, reached).await,
            Ok(Ok(_))
        )
    }
}

#[tonic::async_trait]
impl RelayService for RelayServer {
    type RelayStream = Pin<Box<dyn Stream<Item = Result<RelayResponse, Status>> + Send>>;

    async fn relay(
        &self,
        request: Request<RelayRequest>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let request = request.into_inner();
        let place: Result<Place, _> = request.place.parse();
        let place = place.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let reader = if request.for_subscriber {
            Reader::Subscriber
        } else {
            Reader::Log
        };
        let address = OwnerAddress {
            stream: StreamId(request.stream_id),
            owner: self.replica,
            epoch: Epoch(request.epoch),
            revision: Revision(request.revision),
        };
        if !self.has_applied(address.revision).await {
            return Err(Status::unavailable(
                "this replica is behind the requester; try again",
            ));
        }
        let feed = open_local(&self.owned, &address, place, reader)
            .await
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let messages = ReceiverStream::new(feed).map(|message| {
            message
                .map(codec::to_message)
                .map_err(|error| Status::unavailable(error.to_string()))
        });
        Ok(Response::new(Box::pin(messages)))
    }
}
