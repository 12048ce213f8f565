//! Calls with one answer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use uuid::Uuid;

use super::{Connection, Endpoints, Error, Options, Subscription};
use crate::proto::v1::{
    CreateClusterRequest, CreateClusterResponse, DeleteClusterRequest, DeleteClusterResponse,
    DrainMemberRequest, DrainMemberResponse, GetClusterRequest, GetClusterResponse,
    GetGroupRequest, GetGroupResponse, GetShardRequest, GetShardResponse, ListClustersRequest,
    ListClustersResponse, ListShardsRequest, ListShardsResponse, MoveShardRequest,
    MoveShardResponse, RemoveMemberRequest, RemoveMemberResponse, ResumeMemberRequest,
    ResumeMemberResponse, UpdateClusterRequest, UpdateClusterResponse,
};

/// A `request_id` for one intended write.
pub fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// Makes calls to a group. Clones share what they know; they are cheap.
///
/// - Reads are made at the next replica where one does not answer.
/// - Writes carry a `request_id`, so that they are repeated without taking effect twice where their
///   outcome is not known.
/// - After a write, reads are answered from its revision or a later one, whichever replica answers.
#[derive(Clone, Debug)]
pub struct Client {
    endpoints: Endpoints,
    /// The newest revision of a write of this client.
    written: Arc<AtomicU64>,
}

impl Client {
    /// A client of the group that these replicas belong to.
    pub fn new(endpoints: impl Into<Endpoints>) -> Self {
        Self {
            endpoints: endpoints.into(),
            written: Arc::default(),
        }
    }

    /// The endpoints that calls try, in order.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The newest revision of a write of this client; 0 before the first.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Begins to monitor a cluster. An empty `request_id` is filled in.
    pub async fn create_cluster(
        &self,
        mut request: CreateClusterRequest,
    ) -> Result<CreateClusterResponse, Error> {
        fill_in(&mut request.request_id);
        let call = |replica: Connection| {
            let request = request.clone();
            async move { replica.clusters().create_cluster(request).await }
        };
        let answer = self.endpoints.write(call).await?;
        self.wrote(answer.revision);
        Ok(answer)
    }

    /// Changes a cluster. An empty `request_id` is filled in.
    pub async fn update_cluster(
        &self,
        mut request: UpdateClusterRequest,
    ) -> Result<UpdateClusterResponse, Error> {
        fill_in(&mut request.request_id);
        let call = |replica: Connection| {
            let request = request.clone();
            async move { replica.clusters().update_cluster(request).await }
        };
        let answer = self.endpoints.write(call).await?;
        self.wrote(answer.revision);
        Ok(answer)
    }

    /// Stops monitoring a cluster. An empty `request_id` is filled in.
    pub async fn delete_cluster(
        &self,
        mut request: DeleteClusterRequest,
    ) -> Result<DeleteClusterResponse, Error> {
        fill_in(&mut request.request_id);
        let call = |replica: Connection| {
            let request = request.clone();
            async move { replica.clusters().delete_cluster(request).await }
        };
        let answer = self.endpoints.write(call).await?;
        self.wrote(answer.revision);
        Ok(answer)
    }

    /// Reads one cluster by name.
    pub async fn get_cluster(&self, name: &str) -> Result<GetClusterResponse, Error> {
        let call = |replica: Connection| {
            let request = GetClusterRequest {
                name: name.to_owned(),
                min_revision: self.written(),
            };
            async move { replica.clusters().get_cluster(request).await }
        };
        self.endpoints.read(call).await
    }

    /// Clusters, all pages in one, with the revision of the last page; `page_token` plays no part.
    pub async fn list_clusters(
        &self,
        mut request: ListClustersRequest,
    ) -> Result<ListClustersResponse, Error> {
        request.page_token.clear();
        request.min_revision = request.min_revision.max(self.written());
        let mut clusters = Vec::new();
        loop {
            let call = |replica: Connection| {
                let request = request.clone();
                async move { replica.clusters().list_clusters(request).await }
            };
            let page = self.endpoints.read(call).await?;
            clusters.extend(page.clusters);
            if page.next_page_token.is_empty() {
                return Ok(ListClustersResponse {
                    clusters,
                    next_page_token: String::new(),
                    revision: page.revision,
                });
            }
            request.page_token = page.next_page_token;
        }
    }

    /// One shard: `cluster/slice`, or the cluster's name.
    pub async fn get_shard(&self, name: &str) -> Result<GetShardResponse, Error> {
        let call = |replica: Connection| {
            let request = GetShardRequest {
                name: name.to_owned(),
                min_revision: self.written(),
            };
            async move { replica.shards().get_shard(request).await }
        };
        self.endpoints.read(call).await
    }

    /// Shards, all pages in one, with the revision of the last page; `page_token` plays no part.
    pub async fn list_shards(
        &self,
        mut request: ListShardsRequest,
    ) -> Result<ListShardsResponse, Error> {
        request.page_token.clear();
        request.min_revision = request.min_revision.max(self.written());
        let mut shards = Vec::new();
        loop {
            let call = |replica: Connection| {
                let request = request.clone();
                async move { replica.shards().list_shards(request).await }
            };
            let page = self.endpoints.read(call).await?;
            shards.extend(page.shards);
            if page.next_page_token.is_empty() {
                return Ok(ListShardsResponse {
                    shards,
                    next_page_token: String::new(),
                    revision: page.revision,
                });
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The group, as the replica that answers sees it.
    pub async fn get_group(&self) -> Result<GetGroupResponse, Error> {
        let call = |replica: Connection| {
            let min_revision = self.written();
            let request = GetGroupRequest { min_revision };
            async move { replica.group().get_group(request).await }
        };
        self.endpoints.read(call).await
    }

    /// Removes a replica that is gone for good.
    pub async fn remove_member(&self, name: &str) -> Result<RemoveMemberResponse, Error> {
        let call = |replica: Connection| {
            let name = name.to_owned();
            let request = RemoveMemberRequest { name };
            async move { replica.group().remove_member(request).await }
        };
        let answer = self.endpoints.write_once(call).await?;
        self.wrote(answer.revision);
        Ok(answer)
    }

    /// Drains a replica. It is empty when its `shards` are 0.
    pub async fn drain_member(&self, name: &str) -> Result<DrainMemberResponse, Error> {
        let call = |replica: Connection| {
            let name = name.to_owned();
            let request = DrainMemberRequest { name };
            async move { replica.group().drain_member(request).await }
        };
        let answer = self.endpoints.write(call).await?;
        self.wrote(answer.revision);
        Ok(answer)
    }

    /// Lets a replica that was drained take shards again.
    pub async fn resume_member(&self, name: &str) -> Result<ResumeMemberResponse, Error> {
        let call = |replica: Connection| {
            let name = name.to_owned();
            let request = ResumeMemberRequest { name };
            async move { replica.group().resume_member(request).await }
        };
        let answer = self.endpoints.write(call).await?;
        self.wrote(answer.revision);
        Ok(answer)
    }

    /// Moves a shard to a replica, once that one has opened its watches.
    pub async fn move_shard(&self, request: MoveShardRequest) -> Result<MoveShardResponse, Error> {
        let call = |replica: Connection| {
            let request = request.clone();
            async move { replica.shards().move_shard(request).await }
        };
        let answer = self.endpoints.write(call).await?;
        self.wrote(answer.revision);
        Ok(answer)
    }

    /// Subscribes; see [`Subscription`].
    pub fn subscribe(&self, options: Options) -> Subscription {
        Subscription::new(self.endpoints.clone(), options)
    }

    fn wrote(&self, revision: u64) {
        self.written.fetch_max(revision, Ordering::Relaxed);
    }
}

fn fill_in(id: &mut String) {
    if id.is_empty() {
        *id = request_id();
    }
}

#[cfg(test)]
mod tests;
