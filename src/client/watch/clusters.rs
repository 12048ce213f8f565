//! The watch of clusters.

use std::{collections::BTreeMap, fmt};

use tonic::{Response, Status, Streaming};

use super::{
    Update,
    resumable::{Message, News, Resumable, Watched},
};
use crate::{
    client::{Connection, Endpoints, Error},
    proto::v1::{
        self, Cluster, ClusterChange, ClusterChangeType, WatchClustersRequest,
        WatchClustersResponse,
    },
};

/// A watch of clusters, with a copy of them.
///
/// With a `cluster_selector`, a cluster that ceases to match stays in the copy as it is then, until
/// it is deleted or a snapshot replaces the copy: its labels show that it does not match.
pub struct ClusterWatch(Resumable<Clusters>);

impl ClusterWatch {
    /// Nothing is sent before the first call of [`Self::next`].
    pub fn new(endpoints: Endpoints, request: WatchClustersRequest) -> Self {
        Self(Resumable::new(endpoints, request))
    }

    /// The clusters, by name, after everything that [`Self::next`] has returned.
    pub fn clusters(&self) -> &BTreeMap<String, Cluster> {
        self.0.items()
    }

    /// The revision at which the copy holds; 0 before the first snapshot.
    pub fn revision(&self) -> u64 {
        self.0.revision()
    }

    /// Waits for what comes next. It may be dropped and called again at any time.
    ///
    /// It fails where the request itself is at fault: no other replica would accept it either.
    pub async fn next(&mut self) -> Result<Update<ClusterChange>, Error> {
        self.0.next().await
    }
}

impl fmt::Debug for ClusterWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterWatch")
            .field("endpoint", &self.0.endpoint())
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

pub(super) struct Clusters;

impl Watched for Clusters {
    type Request = WatchClustersRequest;
    type Response = WatchClustersResponse;
    type Item = Cluster;
    type Change = ClusterChange;

    async fn call(
        connection: Connection,
        request: WatchClustersRequest,
    ) -> Result<Response<Streaming<WatchClustersResponse>>, Status> {
        connection.clusters().watch_clusters(request).await
    }

    fn resumed(request: &WatchClustersRequest, token: &str, revision: u64) -> WatchClustersRequest {
        let mut request = request.clone();
        if !token.is_empty() {
            token.clone_into(&mut request.resume_token);
        }
        request.min_revision = request.min_revision.max(revision);
        request
    }

    fn message(response: WatchClustersResponse) -> Message<Cluster, ClusterChange> {
        use v1::watch_clusters_response::Update;
        Message {
            token: response.resume_token,
            revision: response.revision,
            news: match response.update {
                Some(Update::Snapshot(page)) => News::Page(page.clusters),
                Some(Update::SnapshotEnd(_)) => News::SnapshotEnd,
                Some(Update::Change(change)) => News::Change(Box::new(change)),
                Some(Update::Heartbeat(_)) | None => News::Nothing,
            },
        }
    }

    fn name(cluster: &Cluster) -> &str {
        &cluster.name
    }

    fn effect(_: &WatchClustersRequest, change: &ClusterChange) -> (String, Option<Cluster>) {
        let cluster = change.cluster.clone().unwrap_or_default();
        let gone = matches!(
            change.r#type(),
            ClusterChangeType::Deleted | ClusterChangeType::Unmatched
        );
        (cluster.name.clone(), (!gone).then_some(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Cluster, ClusterChange, ClusterChangeType, Clusters, Resumable, WatchClustersRequest,
        WatchClustersResponse, v1::watch_clusters_response::Update,
    };
    use crate::{
        client::{
            scripted::{Scripted, Then, replicas, sends},
            watch,
        },
        proto::v1::{ClusterPage, SnapshotEnd},
    };

    fn cluster(name: &str, description: &str) -> Cluster {
        Cluster {
            name: name.into(),
            description: description.into(),
            ..Cluster::default()
        }
    }

    fn change(kind: ClusterChangeType, cluster: Cluster) -> Update {
        Update::Change(ClusterChange {
            r#type: kind.into(),
            cluster: Some(cluster),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_follows_creations_updates_and_deletions() {
        let clusters = vec![cluster("a", "1"), cluster("b", "1")];
        let updates = [
            Update::Snapshot(ClusterPage { clusters }),
            Update::SnapshotEnd(SnapshotEnd {}),
            change(ClusterChangeType::Created, cluster("c", "1")),
            change(ClusterChangeType::Updated, cluster("a", "2")),
            change(ClusterChangeType::Deleted, cluster("b", "1")),
        ];
        let responses = (1..)
            .zip(updates)
            .map(|(revision, update)| WatchClustersResponse {
                resume_token: format!("t{revision}"),
                revision,
                update: Some(update),
            });
        let scripted = Scripted::new([sends(responses, Then::Silence)]);
        let request = WatchClustersRequest::default();
        let mut watch = Resumable::<Clusters>::through(replicas(1), request, scripted.open());
        let mut changes = 0;
        while changes < 3 {
            if let watch::Update::Change(_) = watch.next().await.unwrap() {
                changes += 1;
            }
        }
        let copy = watch.items().values();
        let copy: Vec<_> = copy
            .map(|c| (c.name.as_str(), c.description.as_str()))
            .collect();
        assert_eq!(copy, [("a", "2"), ("c", "1")]);
        assert_eq!(watch.revision(), 5);
    }
}
