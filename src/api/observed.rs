//! What the leader observes, asked from any replica.

use std::{collections::BTreeMap, time::Duration};

use tonic::{Status, transport::Channel};

use crate::{
    domain::{
        id::{ReplicaId, StreamId},
        member::Availability,
    },
    peer::Channels,
    proto::internal::v1::{
        ObserveRequest, ObserveResponse, RemoveRequest, peer_service_client::PeerServiceClient,
    },
    raft::Raft,
};

/// An answer that takes longer is not worth waiting for: the page is shown without it.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Asks the leader. A cheap clone.
#[derive(Clone)]
pub struct LeaderView {
    raft: Raft,
    channels: Channels,
}

/// What the leader answered; empty where none did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Its opinion of each replica, and for how long it has not heard it.
    pub(super) replicas: BTreeMap<ReplicaId, (Availability, Option<u64>)>,
    /// For how long each stream's API server has been silent, in milliseconds.
    pub(super) silent_ms: BTreeMap<StreamId, u64>,
}

impl LeaderView {
    /// Asks through the connections to peers.
    pub fn new(raft: Raft, channels: Channels) -> Self {
        Self { raft, channels }
    }

    pub(super) async fn ask(&self) -> View {
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.ask_leader()).await;
        answer.ok().flatten().map(view).unwrap_or_default()
    }

    async fn ask_leader(&self) -> Option<ObserveResponse> {
        let answer = self.leader()?.observe(ObserveRequest {}).await.ok()?;
        Some(answer.into_inner())
    }

    /// Has the leader remove a replica.
    pub(super) async fn remove(&self, replica: ReplicaId) -> Result<(), Status> {
        let no_leader = || Status::unavailable("the group has no leader now; try again");
        let replica_id = replica.0;
        let mut leader = self.leader().ok_or_else(no_leader)?;
        leader.remove(RemoveRequest { replica_id }).await.map(drop)
    }

    fn leader(&self) -> Option<PeerServiceClient<Channel>> {
        let leader = self.raft.leadership().borrow().leader?;
        let address = self.raft.peer_address_of(leader)?;
        let channel = self.channels.channel(&address).ok()?;
        Some(PeerServiceClient::new(channel))
    }
}

fn view(answer: ObserveResponse) -> View {
    let replicas = answer.replicas.into_iter().map(|replica| {
        let availability = match replica.availability {
            1 => Availability::Active,
            2 => Availability::Suspect,
            _ => Availability::Unavailable,
        };
        (
            ReplicaId(replica.replica_id),
            (availability, replica.silent_ms),
        )
    });
    let streams = answer.streams.into_iter();
    View {
        replicas: replicas.collect(),
        silent_ms: streams
            .map(|report| (StreamId(report.stream_id), report.silent_ms))
            .collect(),
    }
}
