//! Longer proofs, for a machine that has minutes: `cargo test --test it -- --ignored rounds`.
//! `ROUNDS` changes how many, `SEED` repeats a run.

use std::{
    env,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quorumwatch::proto::v1::Cluster;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::harness::{PATIENCE, World, expect_no_way_back, holds, member_ids, progress_of};

fn rounds(usual: u32) -> u32 {
    env::var("ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

/// Draws are repeated with the seed; what the processes make of them is not.
fn random() -> SmallRng {
    let drawn = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let seed = env::var("SEED").map_or_else(|_| drawn(), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

async fn pass(time: Duration) {
    let start = Instant::now();
    holds("time passes", PATIENCE, async || start.elapsed() >= time).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_replica_killed_while_it_starts_comes_up_with_everything() {
    let mut random = random();
    let mut world = World::start().await;
    let recorder = world.subscriber(0).await;
    world.begin(100.0);
    world.flows(&recorder, 50).await;
    let members = member_ids(&world.group.client().group().await.unwrap());
    let total = rounds(20);
    for round in 0..total {
        let victim = random.random_range(0..3);
        world.group.replicas[victim].kill();
        // A paused cluster costs nothing and must be there for good once it is acknowledged.
        let name = format!("round-{round}");
        let paused = Cluster {
            name: name.clone(),
            paused: true,
            ..world.described("sim-1")
        };
        let client = world.group.client_besides(victim);
        let (created, _) = crate::harness::eventually("it is created", PATIENCE, async || {
            match client.create(paused.clone()).await {
                Ok(_) => Some(true),
                Err(status) if status.code() == tonic::Code::AlreadyExists => Some(false),
                Err(_) => None,
            }
        })
        .await;
        let shards = client.shards().await.unwrap();
        world.group.launch(victim);
        let after = Duration::from_millis(random.random_range(0..=300));
        pass(after).await;
        world.group.replicas[victim].kill();
        world.group.launch(victim);
        let started = Instant::now();
        world.group.whole().await;
        let client = world.group.replicas[victim].client();
        let told = client.group().await.unwrap();
        assert_eq!(member_ids(&told), members);
        expect_no_way_back(
            &progress_of(&shards),
            &progress_of(&client.shards().await.unwrap()),
        );
        let clusters = client.clusters().await.unwrap();
        for round in 0..=round {
            let name = format!("round-{round}");
            assert!(
                clusters.iter().any(|cluster| cluster.name == name),
                "{name} is gone"
            );
        }
        let name = &world.group.replicas[victim].name;
        let took = started.elapsed();
        eprintln!(
            "round {round}: {name} killed {after:?} after its start, whole after {took:?} (acknowledged: {created})"
        );
    }
    let report = world.expect_exactly_once(&recorder).await;
    eprintln!(
        "{total} rounds: produced {} delivered {}",
        report.produced, report.delivered
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn replicas_killed_at_random_under_load_lose_and_repeat_nothing() {
    let mut random = random();
    let mut world = World::start().await;
    let recorders = [0, 1, 2]
        .map(|seat| crate::harness::Recorder::all_from_now(world.group.endpoints_from(seat)));
    for recorder in &recorders {
        recorder.covers(world.count()).await;
    }
    world.begin(300.0);
    world.flows(&recorders[0], 100).await;
    let mut takeovers = Vec::new();
    let total = rounds(50);
    for round in 0..total {
        pass(Duration::from_millis(random.random_range(0..=1500))).await;
        let victim = random.random_range(0..3);
        let client = world.group.client_besides(victim);
        client.group().await.unwrap();
        let was_leader = world.group.leader().await == victim;
        let before = client.shards().await.unwrap();
        world.group.replicas[victim].kill();
        let count = world.count();
        let took = world
            .group
            .owned_by_the_living(&client, count, PATIENCE)
            .await;
        takeovers.push((was_leader, took));
        expect_no_way_back(
            &progress_of(&before),
            &progress_of(&client.shards().await.unwrap()),
        );
        pass(Duration::from_millis(random.random_range(0..=500))).await;
        world.group.launch(victim);
        world.group.whole().await;
        let name = &world.group.replicas[victim].name;
        eprintln!(
            "round {round}: {name} killed (leader: {was_leader}), owned again after {took:?}"
        );
    }
    for recorder in &recorders {
        let report = world.expect_exactly_once(recorder).await;
        eprintln!(
            "{total} rounds: produced {} delivered {}",
            report.produced, report.delivered
        );
    }
    for leader in [false, true] {
        let of = takeovers
            .iter()
            .filter(|(was_leader, _)| *was_leader == leader);
        let mut of: Vec<_> = of.map(|(_, took)| *took).collect();
        of.sort();
        let at = |share: usize| of.get(of.len() * share / 100);
        eprintln!(
            "takeovers of a {}: n {} p50 {:?} p90 {:?} worst {:?}",
            if leader { "leader" } else { "follower" },
            of.len(),
            at(50),
            at(90),
            of.last()
        );
    }
}
