//! `ClusterService`.

mod mask;
mod select;
mod write;

use std::pin::Pin;

use prost::Message as _;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use write::{Write, Writer, Written};

use super::{
    convert,
    observed::LeaderView,
    page::Paging,
    reads::{APPLY_TIMEOUT, Reads, timeout},
    status::{Kind, invalid, not_found},
    token::Digest,
    watch::{From, Watch, Watches},
};
use crate::{
    proto::v1::{
        self, CreateClusterRequest, CreateClusterResponse, DeleteClusterRequest,
        DeleteClusterResponse, GetClusterRequest, GetClusterResponse, ListClustersRequest,
        ListClustersResponse, UpdateClusterRequest, UpdateClusterResponse, WatchClustersRequest,
        WatchClustersResponse, cluster_service_server::ClusterService,
    },
    raft::Raft,
};

/// `ClusterService`.
#[derive(Clone)]
pub struct Clusters {
    writer: Writer,
    watches: Watches,
}

impl Clusters {
    /// Answers from what this replica has applied; writes go through the leader.
    pub fn new(raft: Raft, leader: LeaderView, watches: Watches) -> Self {
        let reads = Reads::new(&raft);
        let writer = Writer {
            raft,
            reads,
            leader,
        };
        Self { writer, watches }
    }

    fn reads(&self) -> &Reads {
        &self.writer.reads
    }

    /// The cluster that was written, as it is now. One that was only checked has no etag: nobody
    /// could ever give it back.
    async fn shown(
        &self,
        write: &Write,
        name: &str,
        (id, read): &Written,
    ) -> Result<v1::Cluster, Status> {
        let state = &read.state;
        let cluster = state.clusters.get(id);
        let cluster = cluster.ok_or_else(|| not_found(Kind::Cluster, name))?;
        if write.validate_only {
            return Ok(v1::Cluster {
                etag: String::new(),
                ..convert::cluster(cluster, None)
            });
        }
        let lags = select::lags(state, &*self.writer.leader.whole().await);
        Ok(convert::cluster(cluster, lags.get(id).copied()))
    }
}

/// By what a request is distinguished from another with the same `request_id`.
fn content(method: &str, request: &impl prost::Message) -> Vec<u8> {
    [method.as_bytes(), b"\0", &request.encode_to_vec()].concat()
}

/// A cluster without what may differ when the same is asked for again: what was read may be sent.
fn as_written(cluster: Option<v1::Cluster>) -> Option<v1::Cluster> {
    cluster.map(|cluster| v1::Cluster {
        uid: String::new(),
        health: None,
        create_time: None,
        update_time: None,
        etag: String::new(),
        lag: None,
        ..cluster
    })
}

#[tonic::async_trait]
impl ClusterService for Clusters {
    type WatchClustersStream =
        Pin<Box<dyn Stream<Item = Result<WatchClustersResponse, Status>> + Send>>;

    async fn create_cluster(
        &self,
        request: Request<CreateClusterRequest>,
    ) -> Result<Response<CreateClusterResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let same = CreateClusterRequest {
            cluster: as_written(request.cluster.clone()),
            ..CreateClusterRequest::default()
        };
        let content = content("CreateCluster", &same);
        let validate_only = request.validate_only;
        let write = Write::new(&metadata, &request.request_id, &content, validate_only)?;
        let cluster = request.cluster;
        let cluster = cluster.ok_or_else(|| invalid("cluster", "is missing"))?;
        let spec = convert::cluster_spec(cluster)?;
        let name = spec.name.clone();
        let written = self.writer.create(&write, spec).await?;
        Ok(Response::new(CreateClusterResponse {
            cluster: Some(self.shown(&write, &name, &written).await?),
            revision: written.1.revision.0,
        }))
    }

    async fn get_cluster(
        &self,
        request: Request<GetClusterRequest>,
    ) -> Result<Response<GetClusterResponse>, Status> {
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let request = request.into_inner();
        let min_revision = request.min_revision;
        let read = self.reads().at_least(min_revision, timeout).await?;
        let cluster = read.state.cluster_named(&request.name);
        let cluster = cluster.ok_or_else(|| not_found(Kind::Cluster, &request.name))?;
        let lags = select::lags(&read.state, &*self.writer.leader.whole().await);
        let lag = lags.get(&cluster.id).copied();
        Ok(Response::new(GetClusterResponse {
            cluster: Some(convert::cluster(cluster, lag)),
            revision: read.revision.0,
        }))
    }

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let request = request.into_inner();
        let same = ListClustersRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let digest = Digest::of("ListClusters", &same.encode_to_vec());
        let paging = Paging::new(request.page_size, &request.page_token, digest)?;
        let asked = select::Clusters::new(&request.cluster_selector)?;
        let min_revision = request.min_revision;
        let read = self.reads().at_least(min_revision, timeout).await?;
        let lags = select::lags(&read.state, &*self.writer.leader.whole().await);
        let page = paging.page(asked.sorted(&read.state).into_iter().map(|cluster| {
            let order = cluster.spec.name.clone().into_bytes();
            let lag = lags.get(&cluster.id).copied();
            (order, move || convert::cluster(cluster, lag))
        }));
        Ok(Response::new(ListClustersResponse {
            clusters: page.items,
            next_page_token: page.next_page_token,
            revision: read.revision.0,
        }))
    }

    async fn watch_clusters(
        &self,
        request: Request<WatchClustersRequest>,
    ) -> Result<Response<Self::WatchClustersStream>, Status> {
        self.watches.check(self.reads())?;
        let timeout = timeout(request.metadata(), APPLY_TIMEOUT);
        let request = request.into_inner();
        let same = WatchClustersRequest {
            resume_token: String::new(),
            min_revision: 0,
            ..request.clone()
        };
        let from = From {
            resume_token: &request.resume_token,
            min_revision: request.min_revision,
            method: "WatchClusters",
            request: &same.encode_to_vec(),
            timeout,
        };
        let clusters = select::Clusters::new(&request.cluster_selector)?;
        let log = self.writer.raft.changes().clusters.clone();
        let watch = Watch::open(clusters, self.reads().clone(), log, from).await?;
        Ok(Response::new(Box::pin(self.watches.serve(watch))))
    }

    async fn update_cluster(
        &self,
        request: Request<UpdateClusterRequest>,
    ) -> Result<Response<UpdateClusterResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let same = UpdateClusterRequest {
            cluster: as_written(request.cluster.clone()),
            update_mask: request.update_mask.clone(),
            allow_missing: request.allow_missing,
            ..UpdateClusterRequest::default()
        };
        let content = content("UpdateCluster", &same);
        let validate_only = request.validate_only;
        let write = Write::new(&metadata, &request.request_id, &content, validate_only)?;
        let name = request.cluster.as_ref().map(|cluster| cluster.name.clone());
        let written = self.writer.update(&write, request).await?;
        let name = name.unwrap_or_default();
        Ok(Response::new(UpdateClusterResponse {
            cluster: Some(self.shown(&write, &name, &written).await?),
            revision: written.1.revision.0,
        }))
    }

    async fn delete_cluster(
        &self,
        request: Request<DeleteClusterRequest>,
    ) -> Result<Response<DeleteClusterResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let same = DeleteClusterRequest {
            name: request.name.clone(),
            allow_missing: request.allow_missing,
            ..DeleteClusterRequest::default()
        };
        let content = content("DeleteCluster", &same);
        let validate_only = request.validate_only;
        let write = Write::new(&metadata, &request.request_id, &content, validate_only)?;
        let read = self.writer.delete(&write, &request).await?;
        Ok(Response::new(DeleteClusterResponse {
            revision: read.revision.0,
        }))
    }
}
