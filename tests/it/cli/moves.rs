//! Moves and drains, as people ask for them.

use serde_json::Value;

use super::Cli;
use crate::{harness::World, moves::unequal};

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_moved_and_a_replica_drained_and_resumed() {
    let world = World::start().await;
    let cli = Cli::of(&world.group, 0);
    let drained = world.group.owner_besides_leader().await;
    let name = &world.group.replicas[drained].name;
    let ran = cli.run(&format!("shards move sim-1 --to {name}")).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr
            .starts_with(&format!("# sim-1/0 is owned by {name}, epoch ")),
        "{ran:?}"
    );
    let ran = cli
        .run(&format!("shards move sim-1 --to {name} -o json"))
        .await;
    let shard: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        [&shard["name"], &shard["owner"]],
        ["sim-1/0", name.as_str()]
    );

    let ran = cli.run(&format!("members drain {name}")).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = format!("# {name} is drained: it owns nothing, and takes nothing");
    assert!(ran.stderr.contains(&said), "{ran:?}");
    let ran = cli.run("members").await;
    assert!(ran.stdout.contains("active, drained"), "{ran:?}");
    let ran = cli.run("status").await;
    let note = format!("NOTE   drained, and owning nothing: {name}");
    assert!(ran.code == 0 && ran.stdout.contains(&note), "{ran:?}");
    let refused = cli.run(&format!("shards move sim-1 --to {name}")).await;
    refused.failed(1, "is drained: it takes no shards");

    let ran = cli.run(&format!("members resume {name} -o json")).await;
    let member: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(member["name"], *name);
    assert_eq!(member.get("draining"), None, "false is left out");
    for (line, said) in [
        ("members drain nobody", "no member \"nobody\""),
        ("members resume nobody", "no member \"nobody\""),
        ("shards move nothing --to a", "no shard \"nothing\""),
    ] {
        cli.run(line).await.failed(1, said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_cannot_end_is_waited_for_until_ctrl_c_and_stays_in_force() {
    let (group, fleet) = unequal().await;
    let cli = Cli::of(&group, 0);
    let owner = group.client().shard("far").await.unwrap().owner;
    let other = if owner == "a" { "b" } else { "a" };
    let ran = cli.run(&format!("members drain {other} --no-wait")).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut draining = cli.start(&format!("members drain {owner}"));
    draining
        .says("is being drained: 1 shard still to move", |line| {
            panic!("{line}")
        })
        .await;
    let ran = draining.interrupt().await;
    ran.failed(
        1,
        &format!("{owner} still owns 1 shard. The drain stays in force"),
    );
    let ran = cli.run("members").await;
    assert!(ran.stdout.contains("active, draining"), "{ran:?}");
    let shard = group.client().shard("far").await.unwrap();
    assert_eq!(shard.owner, owner, "nobody else can watch it");
    fleet.stop().await;
}
