//! Leadership on a planned stop.

use std::time::Duration;

use super::Group;
use crate::raft::Role;

/// How long a voter may take to become the leader; an election takes a few milliseconds.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(500);

impl Group {
    /// A leader that stops lets another voter lead first, so that its own shards move at once.
    pub async fn hand_leadership_over(&self) {
        let raft = self.raft();
        if !raft.leadership().borrow().is_self {
            return;
        }
        let roles = raft.status().roles;
        let heirs = roles
            .into_iter()
            .filter(|(id, role)| *id != raft.replica_id() && *role == Role::Voter);
        for (heir, _) in heirs {
            let mut leadership = raft.leadership();
            if let Err(error) = raft.transfer_leadership(heir).await {
                tracing::debug!(%heir, %error, "leadership transfer failed");
                continue;
            }
            let follows = leadership.wait_for(|now| !now.is_self && now.leader.is_some());
            if tokio::time::timeout(HANDOVER_TIMEOUT, follows)
                .await
                .is_ok()
            {
                tracing::info!(%heir, "leadership transferred");
                return;
            }
        }
    }
}
