//! What a watch does not show: what it leaves out, what it holds back, a past that is replaced while
//! it is open, and nothing at all for a long time.

use std::{collections::BTreeSet, time::Duration};

use quorumwatch::sim::{Fault, Manifest};

use super::{Expected, NONE, Pair, RESET, spring};
use crate::harness::{CONFIGMAPS, EVENTS, Gaps, PATIENCE, Record, Stage, holds};

/// Longer than a stream is silent before its API server is checked.
const SILENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_sends_nothing_and_ends_has_sent_nothing() {
    let held = async |stage: &Stage, live: &Pair| {
        stage.faults().set(Fault::DelayEvents(1));
        stage.write_unseen();
        // Each new watch begins after a list that has everything, and sends nothing of it.
        stage.reopens_its_watches().await;
        // poll: longer than a stream that is only quiet is waited for
        tokio::time::sleep(Duration::from_secs(4)).await;
        stage.faults().set(Fault::CloseWatches);
        stage.faults().clear_all();
        live.see(stage, "two").await;
    };
    spring("held", held, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_held_back_and_breaks_has_sent_nothing() {
    let held = async |stage: &Stage, live: &Pair| {
        stage.faults().set(Fault::HoldLines);
        stage.write_unseen();
        // poll: longer than a stream that is only quiet is waited for
        tokio::time::sleep(Duration::from_secs(4)).await;
        // The watches that were held break off.
        stage.faults().clear_all();
        live.see(stage, "two").await;
    };
    spring("broken", held, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: so long until every stream is compared with a list"]
async fn changes_that_a_watch_leaves_out_are_found() {
    let stage = Stage::open("dropped").await;
    let live = Pair::subscribe(&stage, 0).await;
    for resource in [EVENTS, CONFIGMAPS] {
        let resource = resource.parse().unwrap();
        let dropped = async |write: &dyn Fn()| {
            stage.faults().set_times(Fault::DropEvent(1), 1);
            write();
            let what = "the event is dropped";
            holds(what, PATIENCE, async || stage.faults().active().is_empty()).await;
        };
        let manifest = Manifest::new("default", "dropped");
        dropped(&|| drop(stage.cluster.create(&resource, &manifest).unwrap())).await;
        dropped(&|| drop(stage.cluster.delete(&resource, "default", "gone").unwrap())).await;
    }
    stage.write("end");
    live.see(&stage, "end").await;
    for (begin, recorder) in &live.0 {
        let has_all = |record: &Record| stage.has_all_objects(record, begin);
        let what = "what was left out comes";
        recorder.sees(what, Duration::from_secs(400), has_all).await;
    }
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_go_back_and_overtake_what_was_seen_are_a_gap_and_a_snapshot() {
    let restored = async |stage: &Stage, live: &Pair| {
        let backup = stage.cluster.current_rv();
        for n in 0..10 {
            stage.write(&format!("lost-{n}"));
        }
        live.see(stage, "lost-9").await;
        let restore = |stage: &Stage| {
            stage.cluster.rewind(&backup).unwrap();
            for n in 0..30 {
                stage.write(&format!("other-{n}"));
            }
        };
        stage.while_unreachable(restore).await;
    };
    let gaps = Gaps {
        events: &[RESET],
        configmaps: &[RESET],
        ..NONE
    };
    spring("overtaken", restored, Expected::of_all(gaps)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_go_back_under_an_open_watch_and_are_overtaken_are_a_gap_and_a_snapshot() {
    let stage = Stage::open_audited("overtaken-open").await;
    let live = Pair::subscribe(&stage, 0).await;
    let away = Pair::subscribe(&stage, 1).await;
    let backup = stage.cluster.current_rv();
    for n in 0..10 {
        stage.write(&format!("lost-{n}"));
    }
    for pair in [&live, &away] {
        pair.see(&stage, "lost-9").await;
    }
    let away = away.leave();
    // The history is checked whenever a watch is opened. What was delivered by then, and is lost,
    // is what shows that it is another one.
    stage.reopens_its_watches().await;
    stage.write("lost-too");
    live.see(&stage, "lost-too").await;
    stage.cluster.rewind(&backup).unwrap();
    for n in 0..30 {
        stage.write(&format!("other-{n}"));
    }
    let gaps = Gaps {
        events: &[RESET],
        configmaps: &[RESET],
        ..NONE
    };
    live.see_gaps(gaps).await;
    stage.write("after");
    let back = Pair::resume(&stage, away, 2);
    for pair in [&live, &back] {
        pair.see(&stage, "after").await;
        pair.see_gaps(gaps).await;
        expect_reset_in_the_open(&stage, pair).await;
    }
    stage.close().await;
}

/// What a watch that stays open sends of another history comes as if it were the same one, up to
/// the gap: what was received by then is of neither. But nothing comes twice, and in the end they
/// have what exists.
async fn expect_reset_in_the_open(stage: &Stage, pair: &Pair) {
    for (begin, recorder) in &pair.0 {
        let has_all = |record: &Record| stage.has_all_objects(record, begin);
        recorder.sees("it has what exists", PATIENCE, has_all).await;
        let record = recorder.record();
        let script = &record.kept().script;
        assert_eq!(record.not_after, 0, "{begin:?}: {script:#?}");
        let added = script
            .iter()
            .filter(|(_, words)| words.starts_with("ADDED"));
        let distinct: BTreeSet<_> = added.clone().collect();
        assert_eq!(added.count(), distinct.len(), "{begin:?}: {script:#?}");
        for resource in [EVENTS, CONFIGMAPS] {
            let of_it = record.gaps.iter().filter(|gap| gap.resource == resource);
            let reasons: Vec<_> = of_it.map(|gap| (gap.reason(), gap.repaired)).collect();
            assert_eq!(reasons, [RESET], "{begin:?}, {resource}: {script:#?}");
            let of_it = record.kept().of(resource);
            let place = |words: &str| of_it.iter().position(|it| *it == words);
            let (last, gap) = (place("ADDED other-29"), place("GAP HISTORY_RESET"));
            assert!(last.is_some() && last < gap, "{begin:?}: {script:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes more than a minute: so long a stream is silent before it is checked"]
async fn a_quiet_stream_outlives_the_compaction_of_what_others_wrote() {
    let quiet = async |stage: &Stage, live: &Pair| {
        for n in 0..50 {
            stage.write_elsewhere(&format!("elsewhere-{n}"));
        }
        let now = stage.cluster.current_rv();
        stage.is_closed(EVENTS, &now).await;
        let is_told = |record: &Record| {
            let streams = record.kept().table.streams().values();
            let mut positions = streams.map(|stream| stream.position());
            positions.all(|at| {
                at.is_some_and(|at| at.resource_version.parse().is_ok_and(|rv| now <= rv))
            })
        };
        for (_, recorder) in &live.0 {
            let what = "its cursor is moved on";
            recorder.sees(what, SILENCE, is_told).await;
        }
        let left = Pair::subscribe(stage, 2).await.leave();
        stage.cluster.compact();
        stage.faults().set(Fault::CloseWatches);
        stage.write("two");
        live.see(stage, "two").await;
        let back = Pair::resume(stage, left, 0);
        back.see(stage, "two").await;
        for (_, recorder) in &back.0 {
            assert_eq!(recorder.record().gaps, []);
        }
        live.judge(stage, "live", NONE);
    };
    let stage = Stage::open("quiet").await;
    let live = Pair::subscribe(&stage, 0).await;
    quiet(&stage, &live).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_within_a_moment_of_a_quiet_stream_are_no_gap() {
    let restarted = async |stage: &Stage, _: &Pair| {
        for _ in 0..3 {
            let opened = stage.cluster.watch_count();
            stage.faults().set(Fault::CloseWatches);
            let what = "both are opened again";
            holds(what, PATIENCE, async || {
                stage.cluster.watch_count() >= opened + 2
            })
            .await;
        }
    };
    spring("quiet-restarts", restarted, Expected::of_all(NONE)).await;
}
