//! A replica keeps connections ready for the shards that it may take over next.

use std::{collections::BTreeSet, net::SocketAddr};

use quorumwatch::sim::{SeenRequest, SimCluster};

use crate::harness::{PATIENCE, World, holds};

fn is_readiness(request: &SeenRequest) -> bool {
    request.target.ends_with("/readyz")
}

fn clients<'a>(requests: impl IntoIterator<Item = &'a SeenRequest>) -> BTreeSet<SocketAddr> {
    let requests = requests.into_iter();
    requests.filter_map(|request| request.client).collect()
}

/// How many connections are kept for those who may take the cluster over.
fn kept(cluster: &SimCluster) -> usize {
    let requests = cluster.requests();
    clients(requests.iter().filter(|it| is_readiness(it))).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_opens_no_connection() {
    let mut world = World::start().await;
    let leader = world.group.leader().await;
    let client = world.group.client_besides(leader);
    let name = world.group.replicas[leader].name.clone();
    let shards = client.shards().await.unwrap();
    let led = shards.iter().filter(|shard| shard.owner == name);
    let led: Vec<SimCluster> = led.map(|shard| world.cluster(&shard.cluster)).collect();
    assert!(!led.is_empty(), "{shards:?}");
    // Either of the others may lead next, and begins with itself. A stream begins with two requests
    // at a time.
    let are_ready = async || led.iter().all(|cluster| kept(cluster) >= 4);
    holds("connections are ready", PATIENCE, are_ready).await;
    let before: Vec<Vec<SeenRequest>> = led.iter().map(SimCluster::requests).collect();
    world.group.replicas[leader].kill();
    world
        .group
        .owned_by_the_living(&client, world.count(), PATIENCE)
        .await;
    for (cluster, before) in led.iter().zip(&before) {
        let watched = async || cluster.open_watches() > 0;
        holds("the cluster is watched again", PATIENCE, watched).await;
        let after = cluster.requests().split_off(before.len());
        // The replica that may take it over next opens its connections meanwhile.
        let serving: Vec<_> = after.iter().filter(|it| !is_readiness(it)).collect();
        assert!(serving.iter().any(|it| it.target.contains("watch=true")));
        let known = clients(before);
        for request in serving {
            assert!(known.contains(&request.client.unwrap()), "{request:?}");
        }
    }
}
