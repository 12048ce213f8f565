//! Every reason for a `Gap`, sent by a running group: to subscribers that are connected and to some
//! that come back, to logs and to copies. What each of them has then is what exists, and outside of
//! the gaps each change came once.

use quorumwatch::{
    client::Begin,
    proto::v1::{ChangeType, GapReason, ObjectContent},
    sim::{Fault, Manifest},
};

use super::{CACHE_RESET, EXPIRED, Expected, INCONSISTENT, NONE, Pair, REPLACED, RESET, spring};
use crate::harness::{CONFIGMAPS, Gaps, PATIENCE, Record, Recorder, Stage, StageOptions, holds};

#[tokio::test(flavor = "multi_thread")]
async fn history_that_was_compacted_is_a_gap_and_a_snapshot() {
    let compacted = async |stage: &Stage, _: &Pair| {
        stage
            .while_unreachable(|stage| {
                stage.write_unseen();
                stage.cluster.compact();
            })
            .await;
    };
    let gaps = Gaps {
        events: &[EXPIRED],
        configmaps: &[EXPIRED],
        ..NONE
    };
    spring("compacted", compacted, Expected::of_all(gaps)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_older_than_the_history_is_a_gap_of_its_subscriber_alone() {
    let compacted = async |stage: &Stage, live: &Pair| {
        stage.write_unseen();
        stage.write_beyond_rings();
        stage.write("end");
        live.see(stage, "end").await;
        stage.cluster.compact();
    };
    let gaps = Gaps {
        events: &[EXPIRED],
        configmaps: &[EXPIRED],
        ..NONE
    };
    let expected = Expected {
        live: NONE,
        resumed: gaps,
    };
    spring("old-cursor", compacted, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_go_back_are_a_gap_and_a_snapshot() {
    let restored = async |stage: &Stage, live: &Pair| {
        let backup = stage.cluster.current_rv();
        for n in 0..10 {
            stage.write(&format!("lost-{n}"));
        }
        live.see(stage, "lost-9").await;
        stage.cluster.rewind(&backup).unwrap();
        stage.write_unseen();
        stage.faults().set(Fault::CloseWatches);
    };
    let gaps = Gaps {
        events: &[RESET],
        configmaps: &[RESET],
        ..NONE
    };
    spring("restored", restored, Expected::of_all(gaps)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_at_the_address_is_a_gap_and_a_snapshot() {
    let replaced = async |stage: &Stage, _: &Pair| {
        stage.cluster.replace();
        for n in 0..10 {
            stage.write(&format!("other-{n}"));
        }
        stage.write("kept");
    };
    let gaps = Gaps {
        events: &[REPLACED],
        configmaps: &[REPLACED],
        ..NONE
    };
    spring("replaced", replaced, Expected::of_all(gaps)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_cache_that_was_reset_is_a_repaired_gap_and_no_snapshot() {
    let gaps = Gaps {
        events: &[],
        configmaps: &[CACHE_RESET],
        ..NONE
    };
    let restarted = async |stage: &Stage, live: &Pair| {
        stage
            .while_unreachable(|stage| {
                stage.write_unseen();
                stage.cluster.reset_watch_cache();
            })
            .await;
        live.see_gaps(gaps).await;
        live.see(stage, "two").await;
        for (_, recorder) in &live.0 {
            expect_net_changes(&recorder.record());
        }
    };
    spring("restarted", restarted, Expected::of_all(gaps)).await;
}

/// What changed twice comes once, what came and went does not come, and of what is gone only the
/// metadata is sent: that is all there is.
fn expect_net_changes(record: &Record) {
    let script = record.kept().of(CONFIGMAPS);
    let net = [
        "ADDED one",
        "GAP WATCH_CACHE_RESET repaired",
        "MODIFIED changed",
        "DELETED gone",
        "ADDED two",
    ];
    assert!(script.ends_with(&net), "{script:#?}");
    for event in &record.events {
        let is_net_deletion =
            event.resource == CONFIGMAPS && event.change_type() == ChangeType::Deleted;
        let expected = if is_net_deletion {
            ObjectContent::Metadata
        } else {
            ObjectContent::Full
        };
        assert_eq!(event.object_content(), expected, "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_older_than_the_watch_cache_is_a_repaired_gap_of_its_subscriber_alone() {
    let restarted = async |stage: &Stage, live: &Pair| {
        stage.write_unseen();
        stage.write_beyond_rings();
        stage.write("end");
        live.see(stage, "end").await;
        stage.cluster.reset_watch_cache();
    };
    let gaps = Gaps {
        events: &[],
        configmaps: &[CACHE_RESET],
        ..NONE
    };
    let expected = Expected {
        live: NONE,
        resumed: gaps,
    };
    spring("old-cursor-restarted", restarted, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_watch_caches_in_a_row_are_two_repaired_gaps_and_leave_no_ghost() {
    let stage = Stage::open("restarted-twice").await;
    let live = Pair::subscribe(&stage, 0).await;
    let away = Pair::subscribe(&stage, 1).await;
    // A deletion last: the position of who leaves here stays open.
    stage.write("one");
    stage.delete("one");
    for pair in [&live, &away] {
        pair.see(&stage, "one").await;
        pair.have("DELETED one").await;
    }
    let away = away.leave();
    for object in ["changed", "gone"] {
        stage
            .while_unreachable(|stage| {
                stage.delete(object);
                stage.write(&format!("after-{object}"));
                stage.cluster.reset_watch_cache();
            })
            .await;
        live.see(&stage, &format!("after-{object}")).await;
    }
    let back = Pair::resume(&stage, away, 2);
    stage.write("last");
    for pair in [&live, &back] {
        pair.see(&stage, "last").await;
    }
    let gaps = Gaps {
        configmaps: &[CACHE_RESET, CACHE_RESET],
        ..NONE
    };
    live.judge(&stage, "live", gaps);
    for (begin, recorder) in &back.0 {
        let reasons: Vec<_> = {
            let record = recorder.record();
            record.gaps.iter().map(|gap| gap.reason()).collect()
        };
        assert!(!reasons.is_empty(), "{begin:?}");
        let is_reset = |reason: &GapReason| *reason == GapReason::WatchCacheReset;
        assert!(reasons.iter().all(is_reset), "{begin:?}: {reasons:?}");
        stage.judge_but_gaps("resumed", recorder, begin);
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_and_its_api_server_that_die_together_lose_nothing_and_leave_no_ghost() {
    let mut stage = Stage::open_alone("together-dead").await;
    let owner = stage.owner().await;
    let live = Pair::subscribe(&stage, owner + 1).await;
    let away = Pair::subscribe(&stage, owner).await;
    stage.write("one");
    for pair in [&live, &away] {
        pair.see(&stage, "one").await;
    }
    let away = away.leave();
    stage.faults().set(Fault::Unreachable);
    stage.kill(owner);
    stage.write_unseen();
    stage.cluster.reset_watch_cache();
    stage.faults().clear_all();
    live.see(&stage, "two").await;
    stage.write("after");
    live.see(&stage, "after").await;
    let back = Pair::resume(&stage, away, owner + 2);
    stage.write("last");
    for pair in [&live, &back] {
        pair.see(&stage, "last").await;
    }
    let gaps = Gaps {
        configmaps: &[CACHE_RESET],
        ..NONE
    };
    live.judge(&stage, "live", gaps);
    back.judge(&stage, "resumed", gaps);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_cache_that_was_reset_over_compacted_history_is_a_gap_and_a_snapshot() {
    let restarted = async |stage: &Stage, _: &Pair| {
        stage
            .while_unreachable(|stage| {
                stage.write_unseen();
                stage.cluster.reset_watch_cache();
                stage.cluster.compact();
            })
            .await;
    };
    let gaps = Gaps {
        events: &[EXPIRED],
        configmaps: &[EXPIRED],
        ..NONE
    };
    spring("restarted-compacted", restarted, Expected::of_all(gaps)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_come_late_are_a_gap_and_a_snapshot() {
    let late = async |stage: &Stage, _: &Pair| {
        stage.faults().set(Fault::DelayEvents(1));
        stage.faults().set(Fault::EarlyBookmarks);
        stage.write_unseen();
        stage
            .is_closed(CONFIGMAPS, &stage.cluster.current_rv())
            .await;
        stage.faults().clear_all();
    };
    let gaps = Gaps {
        events: &[],
        configmaps: &[INCONSISTENT],
        ..NONE
    };
    spring("late", late, Expected::of_all(gaps)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_go_back_and_then_far_ahead_are_a_gap_and_a_snapshot() {
    let restored = async |stage: &Stage, live: &Pair| {
        let backup = stage.cluster.current_rv();
        for n in 0..10 {
            stage.write(&format!("lost-{n}"));
        }
        live.see(stage, "lost-9").await;
        stage.cluster.restore_ahead(&backup, 1_000_000_000).unwrap();
        stage.write_unseen();
        stage.faults().set(Fault::CloseWatches);
    };
    let gaps = Gaps {
        events: &[EXPIRED],
        configmaps: &[EXPIRED],
        ..NONE
    };
    spring("restored-ahead", restored, Expected::of_all(gaps)).await;
}

/// More than two pages of a list.
const MANY: usize = 1_200;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_expires_between_two_pages_goes_on_as_it_was() {
    let script = list_whose_token_expires("pages", async |_: &Stage| {}, NONE).await;
    let end = script.iter().position(|line| line == "SYNCED").unwrap();
    let snapshots = script[..end].iter();
    let snapshots = snapshots.filter(|line| line.starts_with("SNAPSHOT"));
    assert_eq!(snapshots.count(), MANY + 3, "as it was when it began");
    assert!(script[end..].contains(&"DELETED changed".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_gone_between_two_pages_is_begun_again_and_its_pages_are_not_mixed() {
    let gaps = Gaps {
        configmaps: &[(GapReason::SnapshotRestarted, false)],
        repeated: true,
        ..NONE
    };
    let compact = async |stage: &Stage| {
        stage.write("later");
        // The live watch goes on behind what is compacted.
        let now = stage.cluster.current_rv();
        stage.is_closed(CONFIGMAPS, &now).await;
        stage.cluster.compact();
    };
    let script = list_whose_token_expires("gone", compact, gaps).await;
    assert!(
        script.contains(&"SNAPSHOT changed".to_owned()),
        "it was sent, and is void"
    );
    let restart = script.iter().rposition(|line| line.starts_with("GAP"));
    let restart = restart.expect("it was begun again");
    let rest = &script[restart + 1..];
    let end = rest.iter().position(|line| line == "SYNCED");
    assert_eq!(end, Some(MANY + 3), "every object, and nothing else");
    let snapshots = rest.iter().filter(|line| line.starts_with("SNAPSHOT"));
    assert_eq!(snapshots.count(), MANY + 3);
}

/// What a copy is sent of a list whose token expires after the first page, while an object of that
/// page is deleted and more is done.
async fn list_whose_token_expires(
    name: &str,
    more: impl AsyncFnOnce(&Stage),
    gaps: Gaps<'_>,
) -> Vec<String> {
    let stage = Stage::open_with(name, StageOptions::one(CONFIGMAPS)).await;
    let configmaps = CONFIGMAPS.parse().unwrap();
    for n in 0..MANY {
        let manifest = Manifest::new("default", format!("many-{n}"));
        stage.cluster.create(&configmaps, &manifest).unwrap();
    }
    stage.faults().set(Fault::ExpireContinue);
    let endpoints = stage.group.endpoints_from(0);
    let copy = Recorder::start_keeping(endpoints, stage.filter(), Begin::Snapshot);
    let has_a_page = |record: &Record| record.events.len() > 400;
    copy.sees("a page has come", PATIENCE, has_a_page).await;
    holds("the next page is asked for", PATIENCE, async || {
        let requests = stage.cluster.requests();
        requests.iter().any(|it| it.target.contains("continue="))
    })
    .await;
    // It was on the page that came, and is on none of those that come.
    stage
        .cluster
        .delete(&configmaps, "default", "changed")
        .unwrap();
    more(&stage).await;
    stage.faults().clear_all();
    let is_whole = |record: &Record| record.synced_streams.len() == 1;
    copy.sees("the snapshot is whole", PATIENCE, is_whole).await;
    stage.write("end");
    copy.sees("what follows comes", PATIENCE, |record: &Record| {
        record.kept().of(CONFIGMAPS).contains(&"ADDED end")
    })
    .await;
    stage.judge("copy", &copy, &Begin::Snapshot, gaps);
    let script = copy.record().kept().of(CONFIGMAPS).join("\n");
    stage.close().await;
    script.lines().map(str::to_owned).collect()
}
