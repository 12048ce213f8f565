//! Questions to one replica, over its public API.

use prost_types::FieldMask;
use quorumwatch::{
    cli::Endpoint,
    proto::v1::{
        Cluster, CreateClusterRequest, DeleteClusterRequest, GetClusterRequest, GetGroupRequest,
        GetGroupResponse, GetShardRequest, ListClustersRequest, ListShardsRequest,
        RemoveMemberRequest, Shard, SubscribeRequest, SubscribeResponse, UpdateClusterRequest,
        WatchShardsRequest, WatchShardsResponse, cluster_service_client::ClusterServiceClient,
        event_service_client::EventServiceClient, group_service_client::GroupServiceClient,
        shard_service_client::ShardServiceClient,
    },
};
use tokio::sync::OnceCell;
use tonic::{Status, Streaming, transport::Channel};

/// One replica.
#[derive(Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    channel: OnceCell<Channel>,
}

type Answer<T> = Result<T, Status>;

impl Client {
    /// Connects at the first question.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            channel: OnceCell::new(),
        }
    }

    async fn channel(&self) -> Answer<Channel> {
        let connect = || async { self.endpoint.connect().await };
        let channel = self.channel.get_or_try_init(connect).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(channel.clone())
    }

    pub(crate) async fn group(&self) -> Answer<GetGroupResponse> {
        let mut client = GroupServiceClient::new(self.channel().await?);
        Ok(client.get_group(GetGroupRequest {}).await?.into_inner())
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

    pub(crate) async fn shards(&self) -> Answer<Vec<Shard>> {
        let (shards, _) = self.shards_page(0, "").await?;
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
        };
        let listed = self.shard_service().await?.list_shards(request).await?;
        let listed = listed.into_inner();
        Ok((listed.shards, listed.next_page_token))
    }

    pub(crate) async fn shard(&self, id: &str) -> Answer<Shard> {
        let request = GetShardRequest { id: id.to_owned() };
        let found = self.shard_service().await?.get_shard(request).await?;
        let shard = found.into_inner().shard;
        shard.ok_or_else(|| Status::not_found("an answer without a shard"))
    }

    pub(crate) async fn watch_shards(
        &self,
        start_revision: u64,
    ) -> Answer<Streaming<WatchShardsResponse>> {
        let request = WatchShardsRequest { start_revision };
        let watch = self.shard_service().await?.watch_shards(request).await?;
        Ok(watch.into_inner())
    }

    async fn cluster_service(&self) -> Answer<ClusterServiceClient<Channel>> {
        Ok(ClusterServiceClient::new(self.channel().await?))
    }

    pub(crate) async fn create(&self, cluster: Cluster) -> Answer<Cluster> {
        let cluster = Some(cluster);
        let request = CreateClusterRequest { cluster };
        let created = self
            .cluster_service()
            .await?
            .create_cluster(request)
            .await?;
        Ok(created.into_inner().cluster.unwrap())
    }

    pub(crate) async fn cluster(&self, name: &str) -> Answer<Cluster> {
        let name = name.to_owned();
        let request = GetClusterRequest { name };
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
            revision: 0,
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
    }
}
