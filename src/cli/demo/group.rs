//! Polls the group until it is formed, has the clusters and owns every shard.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{ownership::Ownership, replicas::Replicas};
use crate::{
    cli::Error,
    client::Client,
    proto::v1::{
        Cluster, CreateClusterRequest, ErrorReason, ListShardsRequest, Member, MemberHealth,
    },
};

/// Polling interval, short enough for the printed times to be meaningful.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the group may take to form, and to own every shard.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until every replica is a healthy member of one group; returns the leader.
pub(super) async fn founded(
    replicas: &mut Replicas,
    shutdown: &CancellationToken,
) -> Result<String, Error> {
    let count = replicas.iter().count();
    let clients: Vec<Client> = replicas
        .iter()
        .map(|replica| Client::new(replica.endpoint.clone()))
        .collect();
    hoped(replicas, shutdown, "form one healthy group", async || {
        let mut leader = String::new();
        for client in &clients {
            let group = client.get_group().await.ok()?.group?;
            let healthy = |member: &&Member| member.health() == MemberHealth::Active;
            if group.leader.is_empty() || group.members.iter().filter(healthy).count() < count {
                return None;
            }
            leader = group.leader;
        }
        Some(leader)
    })
    .await
}

/// Creates the clusters that are not there yet.
pub(super) async fn create(
    replicas: &mut Replicas,
    shutdown: &CancellationToken,
    wanted: &[Cluster],
    client: &Client,
) -> Result<(), Error> {
    for cluster in wanted {
        let request = CreateClusterRequest {
            cluster: Some(cluster.clone()),
            ..CreateClusterRequest::default()
        };
        let created = hoped(
            replicas,
            shutdown,
            "accept the clusters",
            async || match client.create_cluster(request.clone()).await {
                Ok(_) => Some(Ok(())),
                Err(error) if error.reason() == Some(ErrorReason::ClusterExists) => Some(Ok(())),
                Err(error) if error.is_final() => Some(Err(error)),
                Err(_) => None,
            },
        );
        created.await??;
    }
    Ok(())
}

/// Waits until every shard has an owner that has reached its cluster.
pub(super) async fn owned(
    replicas: &mut Replicas,
    shutdown: &CancellationToken,
    wanted: usize,
    client: &Client,
) -> Result<Ownership, Error> {
    hoped(replicas, shutdown, "watch every cluster", async || {
        let all = client
            .list_shards(ListShardsRequest::default())
            .await
            .ok()?;
        let mut streams = all.shards.iter().flat_map(|shard| &shard.streams);
        let reached = streams.all(|stream| stream.checkpoint.is_some());
        let ownership = Ownership::of(&all.shards);
        (reached && ownership.counts() == (wanted, wanted)).then_some(ownership)
    })
    .await
}

/// The leader's name; empty where there is none.
pub(super) async fn leader(client: &Client) -> Result<String, Error> {
    let group = client.get_group().await?.group;
    Ok(group.unwrap_or_default().leader)
}

/// When another than `old` led; `None` where none did before the limit.
pub(super) async fn new_leader(client: Client, old: String, limit: Instant) -> Option<Instant> {
    while Instant::now() < limit {
        if let Ok(leader) = leader(&client).await
            && !leader.is_empty()
            && leader != old
        {
            return Some(Instant::now());
        }
        sleep(PAUSE).await;
    }
    None
}

/// Polls until there is an answer; fails if a replica exits.
async fn hoped<T>(
    replicas: &mut Replicas,
    shutdown: &CancellationToken,
    what: &str,
    ask: impl AsyncFn() -> Option<T>,
) -> Result<T, Error> {
    let asking = async {
        loop {
            replicas.check()?;
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Err(Error::Interrupted),
        answered = timeout(READY_TIMEOUT, asking) => answered.unwrap_or_else(|_| {
            Err(Error::Demo(format!("the replicas did not {what} within {READY_TIMEOUT:?}")))
        }),
    }
}
