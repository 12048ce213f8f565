//! Questions to one replica, over its public API.

use prost_types::FieldMask;
use quorumwatch::{
    client::{Connection, Endpoint},
    proto::v1::{
        Cluster, CreateClusterRequest, DeleteClusterRequest, DrainMemberRequest, GetClusterRequest,
        GetGroupRequest, GetShardRequest, Group, ListClustersRequest, ListShardsRequest, Member,
        MoveShardRequest, RemoveMemberRequest, ResumeMemberRequest, Shard, SubscribeRequest,
        SubscribeResponse, UpdateClusterRequest, WatchShardsRequest, WatchShardsResponse,
        cluster_service_client::ClusterServiceClient, event_service_client::EventServiceClient,
        group_service_client::GroupServiceClient, shard_service_client::ShardServiceClient,
    },
};
use tokio::sync::OnceCell;
use tonic::{Status, Streaming, transport::Channel};

/// One replica.
#[derive(Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    connection: OnceCell<Connection>,
}

type Answer<T> = Result<T, Status>;

impl Client {
    /// Connects at the first question.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            connection: OnceCell::new(),
        }
    }

    async fn channel(&self) -> Answer<Channel> {
        let connect = || async { self.endpoint.connect().await };
        let connection = self.connection.get_or_try_init(connect).await;
        let connection = connection.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(connection.channel())
    }

    pub(crate) async fn group(&self) -> Answer<Group> {
        let mut client = GroupServiceClient::new(self.channel().await?);
        let answer = client.get_group(GetGroupRequest::default()).await?;
        let group = answer.into_inner().group;
        group.ok_or_else(|| Status::internal("an answer without a group"))
    }

    async fn shard_service(&self) -> Answer<ShardServiceClient<Channel>> {
        Ok(ShardServiceClient::new(self.channel().await?))
    }

    pub(crate) async fn remove(&self, name: &str) -> Answer<()> {
        let mut client = GroupServiceClient::new(self.channel().await?);
        let name = name.to_owned();
        client
            .remove_member(RemoveMemberRequest { name })
            .await
            .map(drop)
    }

    pub(crate) async fn drain(&self, name: &str) -> Answer<Member> {
        let mut client = GroupServiceClient::new(self.channel().await?);
        let name = name.to_owned();
        let drained = client.drain_member(DrainMemberRequest { name }).await?;
        Ok(drained.into_inner().member.unwrap())
    }

    pub(crate) async fn resume(&self, name: &str) -> Answer<Member> {
        let mut client = GroupServiceClient::new(self.channel().await?);
        let name = name.to_owned();
        let resumed = client.resume_member(ResumeMemberRequest { name }).await?;
        Ok(resumed.into_inner().member.unwrap())
    }

    /// Moves a shard, or only sees whether it could move.
    pub(crate) async fn move_shard(
        &self,
        name: &str,
        to: &str,
        validate_only: bool,
    ) -> Answer<Shard> {
        let request = MoveShardRequest {
            name: name.to_owned(),
            to: to.to_owned(),
            validate_only,
        };
        let moved = self.shard_service().await?.move_shard(request).await?;
        Ok(moved.into_inner().shard.unwrap())
    }

    pub(crate) async fn shards(&self) -> Answer<Vec<Shard>> {
        let (shards, _) = self.shards_page(1_000, "").await?;
        Ok(shards)
    }

    pub(crate) async fn shards_page(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Answer<(Vec<Shard>, String)> {
        let request = ListShardsRequest {
            page_size,
            page_token: page_token.to_owned(),
            ..ListShardsRequest::default()
        };
        let listed = self.shard_service().await?.list_shards(request).await?;
        let listed = listed.into_inner();
        Ok((listed.shards, listed.next_page_token))
    }

    pub(crate) async fn shard(&self, name: &str) -> Answer<Shard> {
        let request = GetShardRequest {
            name: name.to_owned(),
            min_revision: 0,
        };
        let found = self.shard_service().await?.get_shard(request).await?;
        let shard = found.into_inner().shard;
        shard.ok_or_else(|| Status::not_found("an answer without a shard"))
    }

    pub(crate) async fn watch_shards(
        &self,
        resume_token: &str,
    ) -> Answer<Streaming<WatchShardsResponse>> {
        let request = WatchShardsRequest {
            resume_token: resume_token.to_owned(),
            ..WatchShardsRequest::default()
        };
        let watch = self.shard_service().await?.watch_shards(request).await?;
        Ok(watch.into_inner())
    }

    async fn cluster_service(&self) -> Answer<ClusterServiceClient<Channel>> {
        Ok(ClusterServiceClient::new(self.channel().await?))
    }

    pub(crate) async fn create(&self, cluster: Cluster) -> Answer<Cluster> {
        let request = CreateClusterRequest {
            cluster: Some(cluster),
            ..CreateClusterRequest::default()
        };
        let created = self
            .cluster_service()
            .await?
            .create_cluster(request)
            .await?;
        Ok(created.into_inner().cluster.unwrap())
    }

    pub(crate) async fn cluster(&self, name: &str) -> Answer<Cluster> {
        let request = GetClusterRequest {
            name: name.to_owned(),
            min_revision: 0,
        };
        let found = self.cluster_service().await?.get_cluster(request).await?;
        Ok(found.into_inner().cluster.unwrap())
    }

    pub(crate) async fn clusters(&self) -> Answer<Vec<Cluster>> {
        let request = ListClustersRequest::default();
        let listed = self.cluster_service().await?.list_clusters(request).await?;
        Ok(listed.into_inner().clusters)
    }

    pub(crate) async fn update(&self, request: UpdateClusterRequest) -> Answer<Cluster> {
        let updated = self
            .cluster_service()
            .await?
            .update_cluster(request)
            .await?;
        Ok(updated.into_inner().cluster.unwrap())
    }

    pub(crate) async fn delete(&self, name: &str) -> Answer<()> {
        let request = DeleteClusterRequest {
            name: name.to_owned(),
            ..DeleteClusterRequest::default()
        };
        let mut service = self.cluster_service().await?;
        service.delete_cluster(request).await?;
        Ok(())
    }

    pub(crate) async fn subscribe(
        &self,
        request: SubscribeRequest,
    ) -> Answer<Streaming<SubscribeResponse>> {
        let mut client = EventServiceClient::new(self.channel().await?);
        Ok(client.subscribe(request).await?.into_inner())
    }
}

/// A request that changes one field of a cluster.
pub(crate) fn masked_update(cluster: Cluster, field: &str) -> UpdateClusterRequest {
    let paths = vec![field.to_owned()];
    UpdateClusterRequest {
        cluster: Some(cluster),
        update_mask: Some(FieldMask { paths }),
        ..UpdateClusterRequest::default()
    }
}
