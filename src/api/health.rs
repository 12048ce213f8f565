//! `grpc.health.v1`: whether a replica can serve.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{domain::lifecycle::Lifecycle, raft::Raft};

/// Health services that report whether a replica can serve: it is part of a group that has a
/// leader, and in contact with a majority of it.
const READINESS: [&str; 3] = ["", "readiness", "quorumwatch.v1.EventService"];

/// The health service that reports only that the process answers. A replica that waits for the
/// others is well: to restart it would help nobody.
const LIVENESS: &str = "liveness";

/// What readiness depends on.
pub struct Readiness {
    /// Whether there is a leader.
    pub raft: Raft,
    /// Whether this replica is a member in contact with a majority.
    pub lifecycle: watch::Receiver<Lifecycle>,
    /// Cancelled when it stops serving.
    pub close: CancellationToken,
}

impl Readiness {
    /// Updates the health service at every change, until the end.
    pub async fn run(mut self, health: HealthReporter) {
        let serving = ServingStatus::Serving;
        health.set_service_status(LIVENESS, serving).await;
        let mut leadership = self.raft.leadership();
        loop {
            let led = leadership.borrow_and_update().leader.is_some();
            let in_contact = self.lifecycle.borrow_and_update().is_in_contact();
            let status = if led && in_contact && !self.close.is_cancelled() {
                serving
            } else {
                ServingStatus::NotServing
            };
            for service in READINESS {
                health.set_service_status(service, status).await;
            }
            if self.close.is_cancelled() {
                return;
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                Ok(()) = self.lifecycle.changed() => {}
                () = self.close.cancelled() => {}
            }
        }
    }
}
