//! Keeps one stream to the leader: heartbeats up, lease grants down.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::warm::Available;
use crate::{
    clock::unix_now,
    domain::{id::ReplicaId, lease::HEARTBEAT_EVERY, pace::Pace},
    group::lease::LeaseClock,
    net::Channels,
    pipeline::owned::Owned,
    proto::internal::v1::{
        HeartbeatRequest, HeartbeatResponse, StreamReport,
        leader_service_client::LeaderServiceClient,
    },
    raft::{
        Leadership, Raft,
        protocol::{PROTOCOL, VERSION},
    },
};

/// Heartbeats that may be under way: a leader that answers none for so long is no leader any more.
const UNANSWERED_MAX: usize = 20;

/// How often a heartbeat also carries how the streams do.
const REPORT_EVERY: u64 = 10;

/// The pause before a leader that could not be reached is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Sends heartbeats to the leader until it is dropped. A replica that is about to stop continues
/// with them: it publishes under its lease until others have its shards.
pub(super) struct Heartbeat {
    pub(super) raft: Raft,
    pub(super) channels: Channels,
    pub(super) owned: Owned,
    pub(super) lease: LeaseClock,
    /// Cancelled when the replica is about to stop.
    pub(super) leaving: CancellationToken,
    /// Round-trip time of the last answered heartbeat, in microseconds.
    pub(super) round_trip_us: AtomicU64,
    /// Who is there, as the last leader reported.
    pub(super) available: watch::Sender<Option<Available>>,
}

impl Heartbeat {
    pub(super) async fn run(self) {
        let mut leadership = self.raft.leadership();
        let (started, mut pace) = (Instant::now(), Pace::default());
        loop {
            let leader = leadership.borrow_and_update().leader;
            if let Some(leader) = leader {
                match self.serve_leader(leader, &mut leadership).await {
                    Ok(()) => {}
                    Err(status) if status.code() == tonic::Code::PermissionDenied => {
                        let reason = status.message();
                        if pace.is_due(reason, started.elapsed()) {
                            tracing::warn!(%leader, reason, "the leader rejected this replica's heartbeat");
                        }
                    }
                    Err(error) => tracing::debug!(%leader, %error, "heartbeat stream ended"),
                }
            }
            if leadership.has_changed().unwrap_or(true) {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_AFTER) => {}
                _ = leadership.changed() => leadership.mark_changed(),
            }
        }
    }

    async fn serve_leader(
        &self,
        leader: ReplicaId,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> Result<(), tonic::Status> {
        let unavailable = |reason: &str| tonic::Status::unavailable(reason);
        let address = self
            .raft
            .peer_address_of(leader)
            .ok_or_else(|| unavailable("the leader's address is not known"))?;
        let channel = self
            .channels
            .channel(&address)
            .map_err(|error| unavailable(&error.to_string()))?;
        let (sender, receiver) = mpsc::channel(UNANSWERED_MAX);
        // The leader answers the call with its first grant.
        let mut sent = VecDeque::new();
        self.send(&sender, &mut sent, 1)?;
        let call = LeaderServiceClient::new(channel);
        let mut call = call.max_decoding_message_size(64 * 1024);
        let mut grants = call
            .heartbeat(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        let mut tick = tokio::time::interval(HEARTBEAT_EVERY);
        let mut sequence = 1;
        let mut is_leaving = self.leaving.is_cancelled();
        loop {
            tokio::select! {
                grant = grants.message() => match grant? {
                    Some(grant) => {
                        self.take(&grant, &mut sent);
                        self.learn_available(leader, &grant);
                    }
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    sequence += 1;
                    self.send(&sender, &mut sent, sequence)?;
                }
                _ = leadership.changed() => {
                    if leadership.borrow_and_update().leader != Some(leader) {
                        leadership.mark_changed();
                        return Ok(());
                    }
                }
                () = self.leaving.cancelled(), if !is_leaving => {
                    // The leader is to know at once.
                    is_leaving = true;
                    tick.reset_immediately();
                }
            }
        }
    }

    fn send(
        &self,
        sender: &mpsc::Sender<HeartbeatRequest>,
        sent: &mut VecDeque<(u64, Instant)>,
        sequence: u64,
    ) -> Result<(), tonic::Status> {
        let state = self.raft.state();
        let id = self.raft.replica_id();
        let report = sequence % REPORT_EVERY == 1;
        let request = HeartbeatRequest {
            replica_id: id.0,
            incarnation: state
                .members
                .get(&id)
                .map_or(0, |member| member.incarnation.0),
            sequence,
            leaving: self.leaving.is_cancelled(),
            streams: if report { self.reports() } else { Vec::new() },
            applied_index: state.revision.0,
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            clock_ms: unix_now().0,
            round_trip_us: self.round_trip_us.load(Ordering::Relaxed),
        };
        sent.push_back((sequence, Instant::now()));
        sender
            .try_send(request)
            .map_err(|_| tonic::Status::unavailable("the leader does not answer heartbeats"))
    }

    fn take(&self, grant: &HeartbeatResponse, sent: &mut VecDeque<(u64, Instant)>) {
        while let Some((sequence, sent_at)) = sent.pop_front() {
            if sequence == grant.sequence {
                let took = u64::try_from(sent_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.round_trip_us.store(took, Ordering::Relaxed);
                self.lease
                    .granted(sent_at, Duration::from_millis(grant.lease_ms));
                return;
            }
        }
    }

    fn learn_available(&self, leader: ReplicaId, grant: &HeartbeatResponse) {
        let active = grant.active.iter().copied().map(ReplicaId).collect();
        let available = Some(Available { leader, active });
        self.available.send_if_modified(|known| {
            let is_other = *known != available;
            *known = available;
            is_other
        });
    }

    fn reports(&self) -> Vec<StreamReport> {
        let report = |stream: std::sync::Arc<crate::pipeline::owned::OwnedStream>| StreamReport {
            stream_id: stream.id.0,
            lag_ms: u64::try_from(stream.lag().as_millis()).unwrap_or(u64::MAX),
        };
        self.owned.all().into_iter().map(report).collect()
    }
}
