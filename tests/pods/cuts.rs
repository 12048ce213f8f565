//! Cuts of the network between running pods: a replica that is alone must not publish, and nothing
//! is lost.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{can_run, network::Cut, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_loses_its_shards_and_no_event_is_lost() {
    if !can_run("cuts of the network") {
        return;
    }
    let mut world = World::start().await;
    let leader = world.leader(0).await;
    let other = (leader + 1) % 3;
    // It is served by the leader, which will go on reading its clusters without any follower.
    let recorder = world.subscriber(leader).await;
    world.begin();
    world.flows(&recorder, 100).await;

    // Nothing passes between the leader and its peers; everything else does.
    let cuts = between(&world, &[leader], &others(leader));
    apply(&world, &cuts);
    let moved = world.without(leader, other).await;
    world
        .probes(leader, "readinessProbe", ServingStatus::NotServing)
        .await;
    world
        .probes(leader, "livenessProbe", ServingStatus::Serving)
        .await;
    let heard = world.catches_up(&recorder).await;
    eprintln!(
        "a leader was cut off from its peers: shards moved after {moved:?}, {heard:?} until heard"
    );
    let says_why = |reason: &String| {
        reason.contains("this replica has no contact with a majority of the group")
    };
    let interruptions = recorder.record().interruptions.clone();
    assert!(interruptions.iter().any(says_why), "{interruptions:?}");
    heal(&world, &cuts);
    world.ready().await;
    world.catches_up(&recorder).await;

    // The whole cable of the new leader.
    let leader = world.leader(other).await;
    let other = (leader + 1) % 3;
    world.network.set_cable(leader, false);
    let moved = world.without(leader, other).await;
    let heard = world.catches_up(&recorder).await;
    eprintln!("a leader's cable was pulled: shards moved after {moved:?}, {heard:?} until heard");
    world.network.set_cable(leader, true);
    world.ready().await;
    let delivered = world.expect_exactly_once(&recorder).await;
    eprintln!("{delivered} events, none lost, none twice, no gap");
}

/// For how long the long test cuts.
const LONG: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes of random cuts: run it by name, SEED replays"]
async fn random_cuts_lose_nothing() {
    if !can_run("random cuts of the network") {
        return;
    }
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::start().await;
    let recorder = world.subscriber(0).await;
    world.begin();
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < LONG {
        let what = cut_at_random(&world, &mut random).await;
        let whole = world.ready().await;
        let heard = world.catches_up(&recorder).await;
        eprintln!("{what}: whole after {whole:?}, all heard {heard:?} later");
        rounds += 1;
    }
    let delivered = world.expect_exactly_once(&recorder).await;
    eprintln!("{rounds} rounds, {delivered} events, none lost, none twice, no gap");
}

/// Cuts something for a while, and heals it.
async fn cut_at_random(world: &World, random: &mut SmallRng) -> String {
    let pod = random.random_range(0..3);
    let [one, two] = others(pod);
    let pause = Duration::from_millis(random.random_range(100..6_000));
    let kinds = ["alone", "pair", "deaf", "mute", "cable", "flapping"];
    let kind = *kinds.choose(random).unwrap();
    let cuts = match kind {
        "alone" => between(world, &[pod], &[one, two]),
        "pair" => between(world, &[one], &[two]),
        "deaf" => one_way(world, &[one, two], &[pod]),
        "mute" => one_way(world, &[pod], &[one, two]),
        _ => Vec::new(),
    };
    apply(world, &cuts);
    match kind {
        "cable" => {
            world.network.set_cable(pod, false);
            wait(pause).await;
            world.network.set_cable(pod, true);
        }
        // Packets are lost in bursts: most of the time it works.
        "flapping" => {
            for _ in 0..10 {
                world.network.set_cable(pod, false);
                wait(Duration::from_millis(random.random_range(5..300))).await;
                world.network.set_cable(pod, true);
                wait(Duration::from_millis(random.random_range(50..600))).await;
            }
        }
        _ => wait(pause).await,
    }
    heal(world, &cuts);
    format!("pod {pod} {kind} {pause:?}")
}

async fn wait(pause: Duration) {
    // poll: nothing; the length of the cut is what is tested
    tokio::time::sleep(pause).await;
}

fn others(pod: usize) -> [usize; 2] {
    [(pod + 1) % 3, (pod + 2) % 3]
}

fn one_way(world: &World, from: &[usize], to: &[usize]) -> Vec<Cut> {
    let address = |pod: usize| -> IpAddr { world.pods[pod].address };
    let pairs = from
        .iter()
        .flat_map(|from| to.iter().map(move |to| (*from, *to)));
    pairs
        .map(|(from, to)| Cut {
            from,
            to: address(to),
        })
        .collect()
}

fn between(world: &World, one: &[usize], other: &[usize]) -> Vec<Cut> {
    let mut cuts = one_way(world, one, other);
    cuts.extend(one_way(world, other, one));
    cuts
}

fn apply(world: &World, cuts: &[Cut]) {
    for cut in cuts {
        world.network.cut(*cut);
    }
}

fn heal(world: &World, cuts: &[Cut]) {
    for cut in cuts {
        world.network.heal(*cut);
    }
}
