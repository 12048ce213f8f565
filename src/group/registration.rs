//! Registration with the group at every start, and what ends it: removal, and another process that
//! registers with the same data.

use std::time::Duration;

use super::{FormError, Group};
use crate::{
    clock,
    domain::{
        command::{Command, Outcome},
        id::Incarnation,
        lifecycle::{Milestone, Registration},
    },
    raft::ProposeError,
};

/// How long the log may take to be applied before that is logged.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before the peers are asked whether this replica was removed.
const REMOVAL_PAUSE: Duration = Duration::from_secs(2);

/// A replica that hears nothing for so long asks whether it is still a member, and the only one with
/// its identity.
const SILENCE_MAX: Duration = Duration::from_secs(3);

impl Group {
    /// Registers this replica, however long that takes.
    pub(super) async fn register(&self) -> Result<(), FormError> {
        let at = clock::unix_now();
        loop {
            self.raft().running().map_err(FormError::Stopped)?;
            let command = Command::RegisterMember {
                replica: self.replica_id(),
                name: self.name().to_owned(),
                peer_address: self.inner.options.peer_address.clone(),
                client_address: self.inner.options.client_address.clone(),
                at,
            };
            let submitted = tokio::select! {
                submitted = self.raft().submit(command) => submitted,
                removed = self.removal() => return Err(removed),
            };
            match submitted {
                Ok(proposed) => {
                    if let Outcome::Rejected(rejection) = proposed.outcome {
                        return Err(FormError::Refused(rejection.to_string()));
                    }
                    let incarnation = Incarnation(proposed.revision.0);
                    // From here on this replica's state is at least as new as before its restart.
                    while !self
                        .raft()
                        .wait_applied(proposed.revision, APPLY_TIMEOUT)
                        .await
                    {
                        tracing::info!("waiting for the log to be applied");
                    }
                    let registration = Registration { incarnation, at };
                    self.passed(Milestone::Registered(registration));
                    return Ok(());
                }
                Err(ProposeError::Stopped(error)) => return Err(FormError::Stopped(error)),
                Err(ProposeError::Refused(error)) => {
                    let removed = self.removed().await;
                    return Err(removed.unwrap_or(FormError::Refused(error)));
                }
                Err(ProposeError::NoLeader) => {
                    let reach = self.reach().await.to_string();
                    if self.inner.throttle.is_due(&reach) {
                        tracing::warn!(error = reach, "waiting to register with the group");
                    }
                }
                // Registering twice does no harm, so "unknown" is tried again too.
                Err(error) => {
                    if self.inner.throttle.is_due(&error.to_string()) {
                        tracing::warn!(%error, "waiting to register with the group");
                    }
                }
            }
        }
    }

    /// Waits until the leader reports that it does not know this replica.
    async fn removal(&self) -> FormError {
        loop {
            // A member registers long before this.
            tokio::time::sleep(REMOVAL_PAUSE).await;
            if let Some(removed) = self.removed().await {
                return removed;
            }
        }
    }

    async fn removed(&self) -> Option<FormError> {
        let by = self.who_removed().await?;
        Some(FormError::Removed {
            name: self.name().to_owned(),
            by,
            dir: self.inner.options.data_dir.clone(),
        })
    }

    /// Waits until this replica is no member any more: it was removed, or another process has
    /// registered with its identity. It must end then.
    pub async fn excluded(&self) -> FormError {
        let mut lifecycle = self.lifecycle();
        let registered = lifecycle.wait_for(|lifecycle| lifecycle.registration().is_some());
        let own = registered.await.ok().and_then(|now| now.registration());
        let Some(own) = own else {
            // The sender lives in `self`, so waiting does not fail.
            return std::future::pending().await;
        };
        let supplanted = |address: String| FormError::Supplanted {
            name: self.name().to_owned(),
            address,
        };
        let id = self.replica_id();
        let mut states = self.raft().watch_state();
        loop {
            let state = states.borrow_and_update().clone();
            // Two processes that share an identity: it is the one that the group forgot that ends.
            if let Some(member) = state.members.get(&id)
                && member.incarnation > own.incarnation
                && member.started != own.at
            {
                return supplanted(member.peer_address.clone());
            }
            let changed = tokio::time::timeout(SILENCE_MAX, states.changed()).await;
            match changed {
                Ok(Ok(())) => {}
                // Consensus has stopped, which ends the replica by itself.
                Ok(Err(_)) => std::future::pending::<()>().await,
                // Nothing is heard, perhaps because another one hears it in its place, or because
                // this replica was removed while it was cut off.
                Err(_) => {
                    if let Some(address) = self.who_supplanted(own).await {
                        return supplanted(address);
                    }
                    if let Some(removed) = self.removed().await {
                        return removed;
                    }
                }
            }
        }
    }
}
