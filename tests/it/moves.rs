//! Moves and drains that users ask for: nobody notices, and what cannot be done says why.

use std::{collections::BTreeMap, fs};

use quorumwatch::{
    proto::v1::{Cluster, ClusterSource, MoveReason, Shard, cluster_source::Source},
    sim::{Fleet, FleetOptions},
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::harness::{Client, Group, Options, PATIENCE, World, WorldOptions, holds};

/// Verification lists objects by itself.
const CONFIG: &str = "[watch]\naudit = false\n";

async fn world() -> World {
    let config = CONFIG.to_owned();
    World::start_with(WorldOptions {
        group: Options { config },
        ..WorldOptions::default()
    })
    .await
}

/// How often the objects of a cluster have been listed. A list of one object asks for its version.
fn lists(world: &World, cluster: &str) -> usize {
    let requests = world.cluster(cluster).requests();
    let lists = requests.iter().filter(|request| {
        let (path, query) = request.target.split_once('?').unwrap_or_default();
        let has = |wanted: &str| query.split('&').any(|given| given == wanted);
        path.ends_with("/events") && !has("watch=true") && !has("limit=1")
    });
    lists.count()
}

async fn owned(client: &Client) -> BTreeMap<String, Vec<String>> {
    let mut owned = BTreeMap::<_, Vec<_>>::new();
    for shard in client.shards().await.unwrap() {
        owned.entry(shard.owner).or_default().push(shard.name);
    }
    owned
}

async fn owns_so_many(client: &Client, name: &str, count: usize) {
    holds(&format!("{name} owns {count}"), PATIENCE, async || {
        owned(client).await.get(name).map_or(0, Vec::len) == count
    })
    .await;
}

fn expect_refusal(refused: &Status, reason: &str, said: &str) {
    let info = refused.get_details_error_info();
    let found = info.map(|info| info.reason);
    assert_eq!(found.as_deref(), Some(reason), "{refused}");
    assert!(refused.message().contains(said), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_moved_on_request_under_load_and_nobody_notices() {
    let mut world = world().await;
    let recorder = world.subscriber(0).await;
    world.begin(200.0);
    world.flows(&recorder, 100).await;
    let client = world.group.client();
    let mut shard = client.shard("sim-1").await.unwrap();
    let before = lists(&world, "sim-1");
    let owner = world.group.index_of(&shard.owner);
    for step in 1..=3 {
        let to = &world.group.replicas[(owner + step) % 3];
        // Each replica is asked once; what it answers, it has applied.
        let moved = to
            .client()
            .move_shard("sim-1", &to.name, false)
            .await
            .unwrap();
        assert_eq!((&moved.owner, moved.epoch), (&to.name, shard.epoch + 1));
        assert_eq!(moved.reason(), MoveReason::Requested);
        let seen = to.client().shard("sim-1").await.unwrap();
        assert_eq!(seen.epoch, moved.epoch);
        shard = moved;
        world.flows(&recorder, 100).await;
    }
    assert_eq!(
        lists(&world, "sim-1"),
        before,
        "no objects are listed for a move"
    );
    // Others even the load, and it stays: with counts that are even, nothing more is planned.
    for replica in &world.group.replicas {
        owns_so_many(&client, &replica.name, 2).await;
    }
    let now = client.shard("sim-1").await.unwrap();
    assert_eq!((&now.owner, now.epoch), (&shard.owner, shard.epoch));
    let again = client
        .move_shard("sim-1/0", &shard.owner, false)
        .await
        .unwrap();
    assert_eq!(again.epoch, shard.epoch, "it is there already");
    let report = world.expect_exactly_once(&recorder).await;
    eprintln!(
        "produced {} delivered {}",
        report.produced, report.delivered
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_drained_and_resumed_under_load_and_nobody_notices() {
    let mut world = world().await;
    let drained = world.group.owner_besides_leader().await;
    let name = world.group.replicas[drained].name.clone();
    let recorder = world.subscriber((drained + 1) % 3).await;
    world.begin(200.0);
    world.flows(&recorder, 100).await;
    let clusters = world.fleet.cluster_names();
    let listed = |world: &World| -> usize { clusters.iter().map(|name| lists(world, name)).sum() };
    let before = listed(&world);
    let client = world.group.client();
    let member = client.drain(&name).await.unwrap();
    assert!(member.draining, "{member:?}");
    owns_so_many(&client, &name, 0).await;
    let moved = client.shards().await.unwrap();
    let of_it = |shard: &&Shard| shard.reason() == MoveReason::Drained;
    assert_eq!(moved.iter().filter(of_it).count(), 2, "{moved:?}");
    world.flows(&recorder, 100).await;
    assert_eq!(listed(&world), before, "no objects are listed for a move");
    // It stays so when the leader changes, and when the replica itself is started again.
    let leader = world.group.leader().await;
    for victim in [leader, drained] {
        let exit = world.group.replicas[victim].terminate(PATIENCE).await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.log);
        world.group.launch(victim);
        world.group.whole().await;
        world.flows(&recorder, 50).await;
    }
    let client = world.group.client();
    owns_so_many(&client, &world.group.replicas[leader].name, 3).await;
    assert_eq!(owned(&client).await.get(&name), None);
    let refused = client.move_shard("sim-1", &name, false).await.unwrap_err();
    expect_refusal(&refused, "MEMBER_TAKES_NONE", "is drained");
    let member = client.resume(&name).await.unwrap();
    assert!(!member.draining, "{member:?}");
    for replica in &world.group.replicas {
        owns_so_many(&client, &replica.name, 2).await;
    }
    world.flows(&recorder, 100).await;
    let report = world.expect_exactly_once(&recorder).await;
    eprintln!(
        "produced {} delivered {}",
        report.produced, report.delivered
    );
}

/// Three replicas, of which the last has no credentials for the cluster `far`.
pub(crate) async fn unequal() -> (Group, Fleet) {
    let options = FleetOptions {
        clusters: vec!["far".into()],
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(options).await.unwrap();
    let mut group = Group::prepare(3, &Options::default()).await;
    for index in 0..3 {
        if index < 2 {
            let kubeconfig = fleet.kubeconfig("far");
            let config =
                format!("[sources.far]\ncontext = 'far'\nkubeconfig = '''\n{kubeconfig}'''\n");
            fs::write(group.replicas[index].folder.join("config.toml"), config).unwrap();
        }
        group.launch(index);
    }
    group.whole().await;
    let registered = Cluster {
        name: "far".into(),
        source: Some(ClusterSource {
            source: Some(Source::Configured("far".into())),
        }),
        ..Cluster::default()
    };
    group.client().create(registered).await.unwrap();
    let shards = group.owned(1).await;
    assert_ne!(shards[0].owner, "c", "it has no credentials");
    (group, fleet)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_stays_and_the_answer_says_why() {
    let (group, fleet) = unequal().await;
    let client = group.replicas[1].client();
    let before = client.shard("far").await.unwrap();
    let other = if before.owner == "a" { "b" } else { "a" };
    let unfit = "replica \"c\" cannot watch the cluster: ";
    for (shard, to, reason, said) in [
        ("nothing", other, "SHARD_NOT_FOUND", "no shard \"nothing\""),
        ("far", "nobody", "MEMBER_NOT_FOUND", "no member \"nobody\""),
        ("far", "", "INVALID_REQUEST", "the name of the replica"),
        ("far", "c", "CLUSTER_OUT_OF_REACH", unfit),
    ] {
        for validate_only in [true, false] {
            let refused = client.move_shard(shard, to, validate_only).await;
            let refused = refused.unwrap_err();
            expect_refusal(&refused, reason, said);
            assert!(reason != "CLUSTER_OUT_OF_REACH" || refused.message().contains("kubeconfig"));
        }
    }
    // A trial moves nothing either where it succeeds.
    let tried = client.move_shard("far", other, true).await.unwrap();
    let after = client.shard("far").await.unwrap();
    for shard in [tried, after] {
        assert_eq!((&shard.owner, shard.epoch), (&before.owner, before.epoch));
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_drained_or_dead_takes_nothing() {
    let (mut group, fleet) = unequal().await;
    let client = group.replicas[1].client();
    let before = client.shard("far").await.unwrap();
    let other = if before.owner == "a" { "b" } else { "a" };
    // Neither of the two that can watch it has anybody to give it to.
    for name in [other, &before.owner] {
        client.drain(name).await.unwrap();
    }
    let refused = client.move_shard("far", other, false).await.unwrap_err();
    expect_refusal(&refused, "MEMBER_TAKES_NONE", "is drained");
    let stays = client.shard("far").await.unwrap();
    assert_eq!((&stays.owner, stays.epoch), (&before.owner, before.epoch));
    client.resume(other).await.unwrap();
    holds(
        "it moves to the one that is resumed",
        PATIENCE,
        async || client.shard("far").await.unwrap().owner == other,
    )
    .await;
    group.replicas[2].kill();
    holds("the dead one takes nothing", PATIENCE, async || {
        let refused = client.move_shard("far", "c", false).await.unwrap_err();
        refused.message().contains("is not active")
    })
    .await;
    fleet.stop().await;
}
