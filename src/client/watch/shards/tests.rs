use std::{sync::Arc, time::Duration};

use super::{
    Message, News, Resumable, Shard, ShardChange, ShardChangeType, Shards, Update,
    WatchShardsRequest, WatchShardsResponse, Watched as _, v1::watch_shards_response,
};
use crate::{
    client::{
        Interruption,
        scripted::{Script, Scripted, Then, replicas, sends},
    },
    proto::v1::{Heartbeat, ShardPage, SnapshotEnd},
};

type Replicas = Arc<Scripted<WatchShardsRequest, WatchShardsResponse>>;

fn watch(
    scripts: impl IntoIterator<Item = Script<WatchShardsResponse>>,
    request: WatchShardsRequest,
) -> (Replicas, Resumable<Shards>) {
    let scripted = Scripted::new(scripts);
    let watch = Resumable::through(replicas(2), request, scripted.open());
    (scripted, watch)
}

fn shard(name: &str, owner: &str) -> Shard {
    Shard {
        name: name.into(),
        owner: owner.into(),
        ..Shard::default()
    }
}

fn response(revision: u64, update: watch_shards_response::Update) -> WatchShardsResponse {
    WatchShardsResponse {
        resume_token: String::new(),
        revision,
        update: Some(update),
    }
}

fn page(revision: u64, shards: impl IntoIterator<Item = Shard>) -> WatchShardsResponse {
    let shards = shards.into_iter().collect();
    response(
        revision,
        watch_shards_response::Update::Snapshot(ShardPage { shards }),
    )
}

fn end(revision: u64) -> WatchShardsResponse {
    let end = watch_shards_response::Update::SnapshotEnd(SnapshotEnd {});
    WatchShardsResponse {
        resume_token: format!("t{revision}"),
        ..response(revision, end)
    }
}

fn change(revision: u64, kind: ShardChangeType, shard: Shard) -> WatchShardsResponse {
    let change = watch_shards_response::Update::Change(ShardChange {
        r#type: kind.into(),
        shard: Some(shard),
        ..ShardChange::default()
    });
    WatchShardsResponse {
        resume_token: format!("t{revision}"),
        ..response(revision, change)
    }
}

fn heartbeat(revision: u64) -> WatchShardsResponse {
    let beat = watch_shards_response::Update::Heartbeat(Heartbeat::default());
    response(revision, beat)
}

/// Goes on until there were so many snapshots and changes; returns why replicas were left.
async fn take(watch: &mut Resumable<Shards>, mut count: usize) -> Vec<Interruption> {
    let mut interruptions = Vec::new();
    while count > 0 {
        match watch.next().await.unwrap() {
            Update::Connected(_) => {}
            Update::Interrupted { why, .. } => interruptions.push(why),
            Update::Snapshot | Update::Change(_) => count -= 1,
        }
    }
    interruptions
}

fn owners(watch: &Resumable<Shards>) -> Vec<(&str, &str)> {
    let shards = watch.items().iter();
    shards
        .map(|(name, shard)| (name.as_str(), shard.owner.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_replaced_by_a_whole_snapshot_and_follows_changes() {
    let messages = [
        page(5, [shard("a/0", "x")]),
        heartbeat(5),
        page(5, [shard("b/0", "x")]),
        end(5),
        heartbeat(6),
        change(7, ShardChangeType::Moved, shard("a/0", "y")),
        change(8, ShardChangeType::Deleted, shard("b/0", "")),
    ];
    let (_, mut watch) = watch([sends(messages, Then::Silence)], Default::default());
    take(&mut watch, 1).await;
    assert_eq!(owners(&watch), [("a/0", "x"), ("b/0", "x")]);
    take(&mut watch, 1).await;
    assert_eq!(owners(&watch), [("a/0", "y"), ("b/0", "x")]);
    take(&mut watch, 1).await;
    assert_eq!((owners(&watch), watch.revision()), (vec![("a/0", "y")], 8));
}

#[tokio::test(start_paused = true)]
async fn it_resumes_elsewhere_with_the_last_token_and_not_behind_what_was_seen() {
    let known = [
        page(5, [shard("a/0", "x")]),
        end(5),
        change(7, ShardChangeType::Moved, shard("a/0", "y")),
        heartbeat(9),
    ];
    let later = change(10, ShardChangeType::Created, shard("b/0", ""));
    let scripts = [sends(known, Then::Silence), sends([later], Then::Silence)];
    let (replicas, mut watch) = watch(scripts, Default::default());
    let interruptions = take(&mut watch, 3).await;
    let three = Duration::from_secs(3);
    assert!(matches!(&interruptions[..], [Interruption::Silent(span)] if *span == three));
    assert_eq!(owners(&watch), [("a/0", "y"), ("b/0", "")]);
    let attempts = replicas.attempts();
    let resumed = &attempts[1].request;
    assert_eq!(
        (resumed.resume_token.as_str(), resumed.min_revision),
        ("t7", 9)
    );
    assert_eq!(attempts[1].after, three);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_breaks_off_leaves_the_copy_as_it_was() {
    let scripts = [
        sends([page(5, [shard("a/0", "x")]), end(5)], Then::Ends),
        sends([page(6, [shard("b/0", "x")])], Then::Ends),
        sends([page(7, [shard("c/0", "x")]), end(7)], Then::Silence),
    ];
    let (_, mut watch) = watch(scripts, Default::default());
    take(&mut watch, 1).await;
    let mut left = 0;
    while left < 2 {
        if let Update::Interrupted { .. } = watch.next().await.unwrap() {
            left += 1;
        }
    }
    assert_eq!((owners(&watch), watch.revision()), (vec![("a/0", "x")], 5));
    take(&mut watch, 1).await;
    assert_eq!(owners(&watch), [("c/0", "x")]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_quiet_lives_by_its_heartbeats() {
    let beat = |n| (Duration::from_secs(1), heartbeat(n));
    let mut messages = vec![(Duration::ZERO, end(1))];
    messages.extend((2..60).map(beat));
    let moved = change(60, ShardChangeType::Moved, shard("a/0", "x"));
    messages.push((Duration::ZERO, moved));
    let (replicas, mut watch) = watch([Script::Sends(messages, Then::Silence)], Default::default());
    assert!(take(&mut watch, 2).await.is_empty());
    assert_eq!(replicas.attempts().len(), 1);
}

#[test]
fn a_shard_that_moves_away_from_the_owners_that_are_asked_for_leaves_the_copy() {
    let request = WatchShardsRequest {
        owners: vec!["x".into(), String::new()],
        ..WatchShardsRequest::default()
    };
    for (owner, stays) in [("x", true), ("", true), ("y", false)] {
        let moved = change(7, ShardChangeType::Moved, shard("a/0", owner));
        let Message { news, .. } = Shards::message(moved);
        let News::Change(moved) = news else {
            panic!("no change");
        };
        let (name, kept) = Shards::effect(&request, &moved);
        assert_eq!((name.as_str(), kept.is_some()), ("a/0", stays), "{owner}");
    }
}
