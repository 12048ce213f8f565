//! What the configuration means to the parts of a replica.

use std::sync::Arc;

use super::Platform;
use crate::{
    config::Serve,
    domain::watch_session::SessionPolicy,
    group,
    memory::Budgets,
    raft,
    watcher::{CredentialPolicy, WatchPolicy},
};

/// Who the replica is and whom it forms a group with.
pub(super) fn group_options(config: &Serve, platform: &Platform) -> group::Options {
    group::Options {
        data_dir: config.data_dir.clone(),
        name: config.name.clone(),
        peer_address: config.advertise_peer.clone(),
        client_address: config.advertise_client.clone(),
        peers: config.peers.clone(),
        timing: raft::Timing::default(),
        disk: Arc::clone(&platform.disk),
        blocking: Arc::clone(&platform.blocking),
    }
}

/// The limits and times of watches.
pub(super) fn watch_policy(config: &Serve, budgets: &Budgets, platform: &Platform) -> WatchPolicy {
    WatchPolicy {
        session: SessionPolicy {
            audit_ms: config.watch.audit_interval_ms.unwrap_or(0),
            quiet_ms: config.watch.quiet_interval_ms,
            ..SessionPolicy::default()
        },
        budgets: budgets.clone(),
        network: platform.api_servers.clone(),
        blocking: Arc::clone(&platform.blocking),
        ..WatchPolicy::default()
    }
}

/// What a replica of this configuration allows kubeconfigs to do.
pub fn credentials(config: &Serve) -> CredentialPolicy {
    CredentialPolicy {
        kubeconfig_dirs: config.kubeconfig_dirs.clone(),
        configured: config.sources.clone(),
        allow_exec: config.allow_exec.clone(),
        allow_file_references: config.allow_file_references,
        ..CredentialPolicy::default()
    }
}
