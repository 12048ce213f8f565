//! `ClusterService`.

use tonic::{Request, Response, Status};

use super::{
    convert,
    observed::{LeaderView, View},
    shard::page,
    status::{invalid, outcome},
};
use crate::{
    clock::unix_now,
    domain::{
        cluster::{Cluster, ClusterSpec},
        command::Command,
        id::{Revision, ShardId},
        state::State,
    },
    proto::v1::{
        self, CreateClusterRequest, CreateClusterResponse, DeleteClusterRequest,
        DeleteClusterResponse, GetClusterRequest, GetClusterResponse, ListClustersRequest,
        ListClustersResponse, UpdateClusterRequest, UpdateClusterResponse,
        cluster_service_server::ClusterService,
    },
    raft::{Proposed, Raft},
};

/// How long the answering replica may take to apply what the leader has committed.
const APPLY_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// `ClusterService`.
#[derive(Clone)]
pub struct Clusters {
    raft: Raft,
    leader: LeaderView,
}

impl Clusters {
    /// Answers from what this replica has applied; writes go through the leader.
    pub fn new(raft: Raft, leader: LeaderView) -> Self {
        Self { raft, leader }
    }

    async fn commit(&self, command: Command) -> Result<Proposed, Status> {
        let proposed = outcome(self.raft.submit(command).await)?;
        self.raft
            .wait_applied(proposed.revision, APPLY_WITHIN)
            .await;
        Ok(proposed)
    }

    async fn read(&self, name: &str) -> Result<v1::Cluster, Status> {
        let state = self.raft.state();
        let cluster = find(&state, name)?;
        let view = self.leader.ask().await;
        Ok(convert::cluster(cluster, lag_ms(&state, cluster, &view)))
    }
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Cluster, Status> {
    state.cluster_named(name).ok_or_else(|| {
        Status::not_found(format!("no cluster {name:?}; ListClusters names them all"))
    })
}

/// The largest silence of the cluster's streams; none where nobody reports them.
fn lag_ms(state: &State, cluster: &Cluster, view: &View) -> Option<u64> {
    let shard = ShardId {
        cluster: cluster.id,
        slice: 0,
    };
    state
        .streams_of(shard)
        .filter_map(|stream| view.silent_ms.get(&stream.id))
        .max()
        .copied()
}

fn expected(revision: u64) -> Option<Revision> {
    (revision != 0).then_some(Revision(revision))
}

/// The specification with the fields that the mask names replaced.
fn masked(
    current: &ClusterSpec,
    new: &v1::Cluster,
    paths: &[String],
) -> Result<ClusterSpec, Status> {
    if paths.is_empty() {
        return Err(invalid(
            "update_mask is empty: name the fields to change: labels, source, resources, paused",
        ));
    }
    let mut spec = current.clone();
    for path in paths {
        match path.as_str() {
            "labels" => spec.labels = new.labels.clone().into_iter().collect(),
            "source" => spec.source = convert::cluster_source(new.source.clone())?,
            "resources" => spec.selectors = convert::selectors(new.resources.clone())?,
            "paused" => spec.paused = new.paused,
            other => {
                return Err(invalid(format!(
                    "update_mask names {other:?}; what can change: labels, source, resources, paused"
                )));
            }
        }
    }
    Ok(spec)
}

#[tonic::async_trait]
impl ClusterService for Clusters {
    async fn create_cluster(
        &self,
        request: Request<CreateClusterRequest>,
    ) -> Result<Response<CreateClusterResponse>, Status> {
        let cluster = request
            .into_inner()
            .cluster
            .ok_or_else(|| invalid("cluster is missing"))?;
        let spec = convert::cluster_spec(cluster)?;
        spec.validate().map_err(invalid)?;
        let name = spec.name.clone();
        self.commit(Command::CreateCluster {
            spec,
            at: unix_now(),
        })
        .await?;
        let cluster = Some(self.read(&name).await?);
        Ok(Response::new(CreateClusterResponse { cluster }))
    }

    async fn get_cluster(
        &self,
        request: Request<GetClusterRequest>,
    ) -> Result<Response<GetClusterResponse>, Status> {
        let cluster = Some(self.read(&request.into_inner().name).await?);
        Ok(Response::new(GetClusterResponse { cluster }))
    }

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let request = request.into_inner();
        let view = self.leader.ask().await;
        let state = self.raft.state();
        let clusters = state.clusters.values().map(|cluster| {
            let lag = lag_ms(&state, cluster, &view);
            (cluster.spec.name.clone(), convert::cluster(cluster, lag))
        });
        let mut clusters: Vec<_> = clusters.collect();
        clusters.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (clusters, next_page_token) = page(clusters, request.page_size, &request.page_token)?;
        Ok(Response::new(ListClustersResponse {
            clusters,
            next_page_token,
        }))
    }

    async fn update_cluster(
        &self,
        request: Request<UpdateClusterRequest>,
    ) -> Result<Response<UpdateClusterResponse>, Status> {
        let request = request.into_inner();
        let new = request
            .cluster
            .ok_or_else(|| invalid("cluster is missing"))?;
        let paths = request
            .update_mask
            .map(|mask| mask.paths)
            .unwrap_or_default();
        let state = self.raft.state();
        let current = find(&state, &new.name)?;
        // Without a revision of the caller's, what was just read must still hold.
        let expected = expected(new.revision).unwrap_or(current.revision);
        let name = new.name.clone();
        let spec = masked(&current.spec, &new, &paths)?;
        spec.validate().map_err(invalid)?;
        let (id, expected, at) = (current.id, Some(expected), unix_now());
        self.commit(Command::UpdateCluster {
            id,
            expected,
            spec,
            at,
        })
        .await?;
        let cluster = Some(self.read(&name).await?);
        Ok(Response::new(UpdateClusterResponse { cluster }))
    }

    async fn delete_cluster(
        &self,
        request: Request<DeleteClusterRequest>,
    ) -> Result<Response<DeleteClusterResponse>, Status> {
        let request = request.into_inner();
        let id = find(&self.raft.state(), &request.name)?.id;
        let expected = expected(request.revision);
        self.commit(Command::DeleteCluster {
            id,
            expected,
            at: unix_now(),
        })
        .await?;
        Ok(Response::new(DeleteClusterResponse {}))
    }
}
