//! How the group looks from the command line while replicas die.

use super::{Cli, Ran};
use crate::harness::{PATIENCE, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_death_is_reported_by_status_shards_and_events() {
    let mut world = World::start().await;
    let victim = world.group.owner_besides_leader().await;
    let name = world.group.replicas[victim].name.clone();
    let cli = Cli::of(&world.group, world.group.leader().await);
    let healthy = status(&cli, |ran| ran.code == 0).await;
    assert!(
        healthy.stdout.starts_with("status    nothing is wrong"),
        "{healthy:?}"
    );
    world.begin(50.0);
    let mut shards = cli.start("shards --watch");
    let mut events = cli.start("events");
    shards.line_with(&["sim-6/0"]).await;
    // The head, and the first event.
    events.line().await;
    events.line().await;

    world.group.replicas[victim].kill();
    let old = format!(" {name} -> ");
    shards.line_with(&[&old, "takeover", "epoch "]).await;
    let old = format!(" {name} -> ");
    events.line_with(&["OWNER", "takeover", &old]).await;
    assert_eq!(shards.interrupt().await.code, 0);
    assert_eq!(events.interrupt().await.code, 0);
    let one_down = status(&cli, |ran| ran.stdout.contains("is unavailable")).await;
    assert_eq!(one_down.code, 3, "{one_down:?}");
    assert!(one_down.stderr.is_empty(), "{one_down:?}");
    let said = format!("replica {name} is unavailable");
    assert!(one_down.stdout.contains(&said), "{one_down:?}");
    assert!(
        one_down.stdout.contains("losing one more stops the group"),
        "{one_down:?}"
    );

    // Without a quorum, the one that is left reports what it knows, and who is missing.
    let leader = world.group.leader().await;
    world.group.replicas[leader].kill();
    let no_leader = status(&cli, |ran| ran.stdout.contains("leader    none")).await;
    assert_eq!(no_leader.code, 3, "{no_leader:?}");
    for said in [
        "the group has no leader",
        "1 of 3 voters answer here, 2 are needed",
        "no answer",
        "sim-6",
    ] {
        assert!(
            no_leader.stdout.contains(said),
            "{said}: {}",
            no_leader.stdout
        );
    }
    let told = cli.run("status -o json").await;
    assert_eq!(told.code, 3, "{told:?}");
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(
        (&told["healthy"], told["group"].get("leader")),
        (&false.into(), None)
    );
    assert_eq!(told["findings"][0]["severity"], "wrong", "{told}");
    assert_eq!(told["clusters"].as_array().unwrap().len(), 6);

    let last = (0..3).find(|index| ![victim, leader].contains(index));
    world.group.replicas[last.unwrap()].kill();
    cli.run("status").await.failed(1, "no replica answers");
}

/// Asks until it is as wanted.
async fn status(cli: &Cli, wanted: impl Fn(&Ran) -> bool) -> Ran {
    let (ran, _) = eventually("the status is as it should be", PATIENCE, async || {
        let ran = cli.run("status").await;
        wanted(&ran).then_some(ran)
    })
    .await;
    ran
}
