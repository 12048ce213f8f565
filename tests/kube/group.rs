//! Questions to the group.

use quorumwatch::{
    cli::Endpoints,
    proto::v1::{
        Cluster, ClusterCondition, ClusterSource, CreateClusterRequest, GetClusterRequest,
        GetGroupRequest, GetGroupResponse, GetShardRequest, KubeconfigFile, MemberHealth,
        ResourceSelector, Shard, cluster_service_client::ClusterServiceClient,
        cluster_source::Source, group_service_client::GroupServiceClient,
        shard_service_client::ShardServiceClient,
    },
};

use crate::{kind::Kind, replicas::Replicas};

async fn group(endpoints: &Endpoints) -> Option<GetGroupResponse> {
    let ask = endpoints.ask(|channel| async move {
        GroupServiceClient::new(channel)
            .get_group(GetGroupRequest {})
            .await
    });
    ask.await.ok()
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

/// Asks for a cluster to be monitored; false where the group cannot take it yet.
pub(crate) async fn create(
    endpoints: &Endpoints,
    name: &str,
    kubeconfig: &str,
    kinds: &[Kind],
) -> bool {
    let selector = |kind: &Kind| ResourceSelector {
        resource: kind.resource().into(),
        ..ResourceSelector::default()
    };
    let cluster = Cluster {
        name: name.into(),
        source: Some(ClusterSource {
            source: Some(Source::KubeconfigFile(KubeconfigFile {
                path: kubeconfig.into(),
                context: String::new(),
            })),
        }),
        resources: kinds.iter().map(selector).collect(),
        ..Cluster::default()
    };
    let request = CreateClusterRequest {
        cluster: Some(cluster),
    };
    let tell = endpoints.tell(|channel| {
        let request = request.clone();
        async move {
            ClusterServiceClient::new(channel)
                .create_cluster(request)
                .await
        }
    });
    match tell.await {
        Ok(_) => true,
        Err(quorumwatch::cli::Error::Refused { status, .. }) => match status.code() {
            tonic::Code::AlreadyExists => true,
            tonic::Code::Unavailable => false,
            code => panic!("{name} was refused: {code:?}: {}", status.message()),
        },
        Err(_) => false,
    }
}

/// How a cluster fares, and why.
pub(crate) async fn health(
    endpoints: &Endpoints,
    name: &str,
) -> Option<(ClusterCondition, String)> {
    let ask = endpoints.ask(|channel| {
        let name = name.to_owned();
        async move {
            ClusterServiceClient::new(channel)
                .get_cluster(GetClusterRequest { name })
                .await
        }
    });
    let health = ask.await.ok()?.cluster?.health?;
    Some((health.condition(), health.reason))
}

/// A cluster's only shard.
pub(crate) async fn shard(endpoints: &Endpoints, cluster: &str) -> Option<Shard> {
    let ask = endpoints.ask(|channel| {
        let id = cluster.to_owned();
        async move {
            ShardServiceClient::new(channel)
                .get_shard(GetShardRequest { id })
                .await
        }
    });
    ask.await.ok()?.shard
}
