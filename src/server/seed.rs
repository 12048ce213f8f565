//! The clusters that the configuration asks for.

use crate::{
    clock::unix_now,
    domain::{
        cluster::ClusterSpec,
        command::{Command, Outcome, Rejection},
    },
    raft::Raft,
};

/// Creates the clusters of the configuration that the group does not have yet.
pub(super) async fn create_configured(raft: Raft, clusters: Vec<ClusterSpec>) {
    for spec in clusters {
        let name = spec.name.clone();
        if raft.state().cluster_named(&name).is_some() {
            continue;
        }
        loop {
            let command = Command::CreateCluster {
                spec: spec.clone(),
                request_id: None,
                at: unix_now(),
            };
            match raft.submit(command).await.map(|proposed| proposed.outcome) {
                Ok(Outcome::Rejected(Rejection::NameTaken(_))) => {}
                Ok(Outcome::Rejected(rejection)) => {
                    tracing::error!(cluster = %name, error = %rejection, "configured cluster not created");
                }
                Ok(_) => tracing::info!(cluster = %name, "configured cluster created"),
                Err(error) => {
                    tracing::warn!(cluster = %name, %error, "configured cluster not created yet, retrying");
                    continue;
                }
            }
            break;
        }
    }
}
