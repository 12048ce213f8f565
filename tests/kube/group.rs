//! Calls to the group.

use std::path::Path;

use quorumwatch::{
    client::{Client, Endpoints},
    proto::v1::{
        Cluster, ClusterCondition, ClusterSource, CreateClusterRequest, ErrorReason, Group,
        KubeconfigFile, MemberHealth, ResourceSelector, Shard, cluster_source::Source,
    },
};

use crate::{kind::Kind, replicas::Replicas};

async fn group(endpoints: &Endpoints) -> Option<Group> {
    let answer = Client::new(endpoints.clone()).get_group().await;
    answer.ok()?.group
}

/// The leader that all running replicas follow, once all of them are healthy.
pub(crate) async fn agreed_leader(replicas: &Replicas) -> Option<String> {
    let running = replicas.running();
    let mut leaders = Vec::new();
    for endpoints in &running {
        let group = group(endpoints).await?;
        let healthy = group
            .members
            .iter()
            .filter(|member| member.health() == MemberHealth::Active)
            .count();
        if healthy < running.len() {
            return None;
        }
        leaders.push(group.leader);
    }
    let first = leaders.first()?.clone();
    let agreed = !first.is_empty() && leaders.iter().all(|leader| *leader == first);
    agreed.then_some(first)
}

/// A cluster to be monitored.
pub(crate) fn cluster(name: &str, kubeconfig: &Path, kinds: &[Kind]) -> Cluster {
    let selector = |kind: &Kind| ResourceSelector {
        resource: kind.resource().into(),
        ..ResourceSelector::default()
    };
    let file = KubeconfigFile {
        path: kubeconfig.to_str().unwrap().into(),
        context: String::new(),
    };
    Cluster {
        name: name.into(),
        source: Some(ClusterSource {
            source: Some(Source::KubeconfigFile(file)),
        }),
        resources: kinds.iter().map(selector).collect(),
        ..Cluster::default()
    }
}

/// Asks for a cluster to be monitored; false where the group cannot take it yet.
pub(crate) async fn create(endpoints: &Endpoints, cluster: &Cluster) -> bool {
    let request = CreateClusterRequest {
        cluster: Some(cluster.clone()),
        ..CreateClusterRequest::default()
    };
    let created = Client::new(endpoints.clone()).create_cluster(request).await;
    match created {
        Ok(_) => true,
        // An earlier try whose outcome was not known.
        Err(error) if error.reason() == Some(ErrorReason::ClusterExists) => true,
        Err(error) if error.is_final() => panic!("{}: {error}", cluster.name),
        Err(_) => false,
    }
}

/// A cluster's condition, and why.
pub(crate) async fn health(
    endpoints: &Endpoints,
    name: &str,
) -> Option<(ClusterCondition, String)> {
    let answer = Client::new(endpoints.clone()).get_cluster(name).await;
    let health = answer.ok()?.cluster?.health?;
    Some((health.condition(), health.reason))
}

/// A cluster's only shard.
pub(crate) async fn shard(endpoints: &Endpoints, cluster: &str) -> Option<Shard> {
    let answer = Client::new(endpoints.clone()).get_shard(cluster).await;
    answer.ok()?.shard
}
