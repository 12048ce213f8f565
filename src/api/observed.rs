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
    /// Its opinion of each replica.
    pub(super) replicas: BTreeMap<ReplicaId, Observed>,
    /// For how long each stream's API server has been silent, in milliseconds.
    pub(super) silent_ms: BTreeMap<StreamId, u64>,
    /// Whether it has a majority behind it.
    pub(super) has_quorum: bool,
}

/// The leader's opinion of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) availability: Availability,
    /// For how long the leader has not heard it.
    pub(super) silent_ms: Option<u64>,
    /// Its software version.
    pub(super) version: String,
    /// By how much its clock is ahead of the leader's.
    pub(super) clock_offset_ms: Option<i64>,
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
        let replica_id = replica.0;
        let Some(mut leader) = self.leader() else {
            return Err(Status::unavailable(self.problem().await));
        };
        leader.remove(RemoveRequest { replica_id }).await.map(drop)
    }

    /// What keeps the group from agreeing on anything.
    pub(super) async fn problem(&self) -> String {
        self.raft.reach().await.to_string()
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
        let observed = Observed {
            availability,
            silent_ms: replica.silent_ms,
            version: replica.version,
            clock_offset_ms: replica.clock_offset_ms,
        };
        (ReplicaId(replica.replica_id), observed)
    });
    let streams = answer.streams.into_iter();
    View {
        replicas: replicas.collect(),
        silent_ms: streams
            .map(|report| (StreamId(report.stream_id), report.silent_ms))
            .collect(),
        has_quorum: answer.has_quorum,
    }
}
