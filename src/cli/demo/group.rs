//! The demo's questions to the group, asked until they are answered as hoped.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{ownership::Ownership, replicas::Replicas};
use crate::{
    cli::{Endpoints, Error, clusters, members, shards},
    proto::v1::{Cluster, MemberHealth},
};

/// How often a question is asked again: often enough for times to mean something.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the group may take to be founded, and to own every shard.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Waits until every replica is a healthy member of one group; tells the leader.
pub(super) async fn founded(
    replicas: &mut Replicas,
    shutdown: &CancellationToken,
) -> Result<String, Error> {
    let count = replicas.iter().count();
    let endpoints: Vec<Endpoints> = replicas
        .iter()
        .map(|replica| replica.endpoint.clone().into())
        .collect();
    hoped(replicas, shutdown, "form one healthy group", async || {
        let mut leader = String::new();
        for endpoints in &endpoints {
            let group = members::get(endpoints).await.ok()?;
            let healthy = |member: &&_| {
                let member: &crate::proto::v1::Member = member;
                member.health() == MemberHealth::Active
            };
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
    endpoints: &Endpoints,
) -> Result<(), Error> {
    for cluster in wanted {
        let created =
            hoped(
                replicas,
                shutdown,
                "accept the clusters",
                async || match clusters::create(endpoints, cluster.clone()).await {
                    Ok(_) => Some(Ok(())),
                    Err(Error::Refused { status, .. }) if status.code() == Code::AlreadyExists => {
                        Some(Ok(()))
                    }
                    Err(Error::Refused { status, .. }) if status.code() == Code::Unavailable => {
                        None
                    }
                    Err(Error::Unanswered { .. }) => None,
                    Err(error) => Some(Err(error)),
                },
            )
            .await?;
        created?;
    }
    Ok(())
}

/// Waits until every shard has an owner that has reached its cluster.
pub(super) async fn owned(
    replicas: &mut Replicas,
    shutdown: &CancellationToken,
    wanted: usize,
    endpoints: &Endpoints,
) -> Result<Ownership, Error> {
    hoped(replicas, shutdown, "watch every cluster", async || {
        let (shards, _) = shards::list(endpoints).await.ok()?;
        let mut streams = shards.iter().flat_map(|shard| &shard.streams);
        let reached = streams.all(|stream| !stream.checkpoint.is_empty());
        let ownership = Ownership::of(&shards);
        (reached && ownership.counts() == (wanted, wanted)).then_some(ownership)
    })
    .await
}

/// The leader's name.
pub(super) async fn leader(endpoints: &Endpoints) -> Result<String, Error> {
    Ok(members::get(endpoints).await?.leader)
}

/// When another than `old` led; `None` where none did before the limit.
pub(super) async fn new_leader(
    endpoints: Endpoints,
    old: String,
    limit: Instant,
) -> Option<Instant> {
    while Instant::now() < limit {
        if let Ok(leader) = leader(&endpoints).await
            && !leader.is_empty()
            && leader != old
        {
            return Some(Instant::now());
        }
        sleep(PAUSE).await;
    }
    None
}

/// Asks again and again, while all replicas run, until there is an answer.
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
        answered = timeout(READY_LIMIT, asking) => answered.unwrap_or_else(|_| {
            Err(Error::Demo(format!("the replicas did not {what} within {READY_LIMIT:?}")))
        }),
    }
}
