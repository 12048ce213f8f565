//! What a group rejects, and how it is reported.

use std::fs;

use quorumwatch::domain::{
    cursor::{Cursor, CursorCodec},
    id::GroupId,
};

use super::Cli;
use crate::{
    harness::{World, WorldOptions},
    subscribe::{future, torn},
};

async fn world() -> World {
    World::start_empty(WorldOptions {
        clusters: 1,
        replicas: 1,
        ..WorldOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_with_what_is_right() {
    let world = world().await;
    let cli = Cli::of(&world.group, 0);
    for (line, code, said) in [
        (
            "events --field-selector bogus=1",
            2,
            "\"bogus\" is not a field that can be selected by",
        ),
        (
            "events --field-selector type",
            2,
            "is not a requirement on a field: write one of field=value, field!=value",
        ),
        ("events -l env=(", 2, "is not a requirement on a label"),
        (
            "events --resource events",
            2,
            "is not a resource: write version/plural",
        ),
        ("clusters get nobody", 1, "no cluster \"nobody\""),
        ("clusters pause nobody", 1, "no cluster \"nobody\""),
        ("shards nobody", 1, "no shard \"nobody\""),
        ("members remove nobody", 1, "no member \"nobody\""),
    ] {
        cli.run(line).await.failed(code, said);
    }
    let peer_port = world.group.replicas[0].peer_port;
    for command in ["status", "events"] {
        let line = format!("{command} --endpoints 127.0.0.1:{peer_port}");
        let ran = cli.run(&line).await;
        ran.failed(1, "is not where a replica answers clients");
    }
    // Nothing is monitored: a note reports it, the output stays empty.
    for line in ["clusters", "shards"] {
        let ran = cli.run(line).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{line}");
        assert!(
            ran.stderr.contains("no clusters yet; add one with"),
            "{ran:?}"
        );
    }
    let ran = cli.run("events --duration 300ms").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = "no cluster and resource of the group matches";
    assert!(ran.stderr.contains(said), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_file_that_cannot_be_used_is_named_and_left_as_it_is() {
    let world = world().await;
    world.monitor("sim-1").await;
    world.group.owned(1).await;
    let cli = Cli::of(&world.group, 0);
    let mut cursors = cli.start("events -o cursor");
    let whole = cursors.line().await;
    assert_eq!(cursors.interrupt().await.code, 0);
    let foreign = CursorCodec::new(GroupId([9; 16])).whole(&Cursor::default());
    for (text, said) in [
        (whole[..whole.len() - 3].to_owned(), "the cursor is damaged"),
        (torn(&whole), "checksum mismatch"),
        (foreign, "the cursor belongs to another group"),
        (
            "my notes\n".into(),
            "it holds something other than a cursor",
        ),
    ] {
        let path = cli.home().join("seen");
        fs::write(&path, &text).unwrap();
        let ran = cli.run("events --cursor-file seen --limit 1").await;
        ran.failed(2, said);
        assert!(
            ran.stderr.contains("seen cannot be resumed from: "),
            "{ran:?}"
        );
        assert!(ran.stderr.contains("The file is left as it is"), "{ran:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // Another replica may know the format, once all are upgraded: it is tried until one does.
    fs::write(cli.home().join("seen"), future(&whole)).unwrap();
    let ran = cli.run("events --cursor-file seen --duration 1s").await;
    assert!(
        ran.stderr.contains("this replica knows formats up to"),
        "{ran:?}"
    );
    // As it was printed, it is taken.
    fs::write(cli.home().join("seen"), &whole).unwrap();
    let ran = cli.run("events --cursor-file seen --duration 200ms").await;
    assert_eq!(ran.code, 0, "{ran:?}");
}
