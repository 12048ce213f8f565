//! What an API server does wrong while it still has the history: no subscriber receives a gap,
//! and each change comes once. Where it only says that the history is gone, whichever way, that is
//! a gap.

use std::time::Duration;

use quorumwatch::{
    client::{Begin, Options, Subscription, Update},
    sim::Fault,
};

use super::{CACHE_RESET, EXPIRED, Expected, NONE, Pair, spring};
use crate::harness::{CONFIGMAPS, EVENTS, Gaps, PATIENCE, Record, Replica, Stage, holds};

/// So often an API server is asked before it does right again.
const ASKED: u64 = 4;

/// An API server answers everything but open watches with this fault for a while.
async fn refuse(name: &str, fault: Fault) {
    let refused = async |stage: &Stage, _: &Pair| {
        stage.faults().set(fault);
        stage.faults().set(Fault::CloseWatches);
        stage.write_unseen();
        stage.is_asked(ASKED).await;
        stage.faults().clear_all();
    };
    spring(name, refused, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_unavailable_for_a_while_loses_and_repeats_nothing() {
    refuse("refuse", Fault::Refuse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_refused_for_a_while_lose_and_repeat_nothing() {
    refuse("unauthorised", Fault::Unauthorised).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_gone_for_a_while_lose_and_repeat_nothing() {
    refuse("forbidden", Fault::Forbidden).await;
    refuse("forbid-watch", Fault::ForbidWatch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_breaks_connections_off_loses_and_repeats_nothing() {
    refuse("unreachable", Fault::Unreachable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_without_watch_lists_is_watched_like_any_other() {
    refuse("no-watch-list", Fault::NoWatchList).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_stands_still_loses_and_repeats_nothing() {
    let stalled = async |stage: &Stage, live: &Pair| {
        stage.faults().set(Fault::Stall);
        stage.write_unseen();
        // poll: longer than a stream that is only quiet is waited for
        tokio::time::sleep(Duration::from_secs(4)).await;
        stage.faults().clear(Fault::Stall);
        live.see(stage, "two").await;
        // And in the middle of what it is asked. Nothing is opened again before that.
        stage.faults().set(Fault::Refuse);
        stage.faults().set(Fault::CloseWatches);
        holds("every watch has ended", PATIENCE, async || {
            stage.cluster.open_watches() == 0
        })
        .await;
        stage.faults().set(Fault::Stall);
        stage.faults().clear(Fault::Refuse);
        stage.write("three");
        stage.is_asked(1).await;
        stage.faults().clear(Fault::Stall);
    };
    spring("stall", stalled, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_before_that_a_new_watch_sends_again_come_once() {
    let replayed = async |stage: &Stage, live: &Pair| {
        stage.write_unseen();
        live.see(stage, "two").await;
        stage.faults().set(Fault::ReplayEvents(5));
        for n in 0..3 {
            stage.reopens_its_watches().await;
            stage.write(&format!("replayed-{n}"));
        }
        stage.faults().clear_all();
    };
    spring("replay", replayed, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_a_watch_sends_twice_come_once() {
    let name = "sent-twice";
    let repeated = async |stage: &Stage, live: &Pair| {
        stage.faults().set(Fault::RepeatEvents);
        stage.write_unseen();
        // Those that share a version are repeated one by one.
        for resource in [EVENTS, CONFIGMAPS] {
            let (resource, together) = (resource.parse().unwrap(), ["changed", "two"]);
            let together = together.map(|object| ("default", object));
            stage.cluster.delete_batch(&resource, &together).unwrap();
        }
        live.have("DELETED two").await;
        stage.faults().clear_all();
        stage.write("then");
        live.see(stage, "then").await;
        expect_no_alarm(stage, name);
    };
    spring(name, repeated, Expected::of_all(NONE)).await;
}

/// The replicas have logged nothing about this cluster that nobody should ever see.
fn expect_no_alarm(stage: &Stage, name: &str) {
    let alarms = stage.group.replicas.iter().flat_map(Replica::alarms);
    let alarms: Vec<_> = alarms.filter(|line| line.contains(name)).collect();
    assert!(alarms.is_empty(), "{alarms:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_api_servers_one_may_lag_behind() {
    let lagging = async |stage: &Stage, live: &Pair| {
        stage.faults().set(Fault::DelayEvents(2));
        stage.write_unseen();
        for n in 0..4 {
            stage.reopens_its_watches().await;
            stage.write(&format!("lagging-{n}"));
        }
        stage.faults().clear_all();
        live.see(stage, "lagging-3").await;
    };
    spring("lagging", lagging, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_errors_that_pass_lose_and_repeat_nothing() {
    let failing = async |stage: &Stage, _: &Pair| {
        stage.faults().set_times(Fault::InternalErrorLine, 2);
        stage.write_unseen();
    };
    spring("internal", failing, Expected::of_all(NONE)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_errors_that_stay_are_passed_by_lists_and_reported_as_a_repaired_gap() {
    let gaps = Gaps {
        events: &[CACHE_RESET],
        configmaps: &[CACHE_RESET],
        repeated: true,
    };
    let failing = async |stage: &Stage, live: &Pair| {
        stage.faults().set(Fault::InternalErrorLine);
        stage.write_unseen();
        live.see(stage, "two").await;
        stage.faults().clear_all();
    };
    spring("internal-stays", failing, Expected::of_all(gaps)).await;
}

/// The API server says in its own way that the history is gone; so often it is asked for a watch
/// of each stream, at most, before the subscribers have what they are to have. Both other replicas
/// may be asked to try as well: the owner could not reach it.
async fn gone(name: &str, fault: Fault, watches_max: usize) {
    let gaps = Gaps {
        events: &[EXPIRED],
        configmaps: &[EXPIRED],
        ..NONE
    };
    let reported = async |stage: &Stage, live: &Pair| {
        stage.faults().set(fault);
        stage
            .while_unreachable(|stage| {
                stage.write_unseen();
                stage.cluster.compact();
            })
            .await;
        let before = stage.cluster.requests().len();
        live.see_gaps(gaps).await;
        let requests = stage.cluster.requests();
        for resource in ["events", "configmaps"] {
            let of_it = format!("/{resource}?");
            let asked = requests[before..].iter().filter(|request| {
                request.target.contains(&of_it) && request.target.contains("watch=true")
            });
            let asked = asked.count();
            assert!(asked <= 3 * watches_max, "{asked} watches: {requests:#?}");
        }
        stage.faults().clear_all();
    };
    spring(name, reported, Expected::of_all(gaps)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_gone_by_http_status_is_a_gap_and_a_snapshot() {
    gone("http-gone", Fault::HttpGone410, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_gone_without_a_word_is_a_gap_and_a_snapshot() {
    // Twice to become suspicious, once after the new beginning.
    gone("silent-gone", Fault::SilentClose410, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_knows_no_exact_lists_is_a_gap_and_a_snapshot() {
    let kine = async |stage: &Stage, _: &Pair| {
        stage.faults().set(Fault::InexactLists);
        stage
            .while_unreachable(|stage| {
                stage.write_unseen();
                stage.cluster.reset_watch_cache();
            })
            .await;
    };
    let gaps = Gaps {
        events: &[],
        configmaps: &[EXPIRED],
        ..NONE
    };
    spring("inexact", kine, Expected::of_all(gaps)).await;
}

/// So many objects go at one version.
const TOGETHER: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_ends_among_deletions_of_one_version_goes_on_among_them() {
    let stage = Stage::open("together").await;
    let names: Vec<_> = (0..TOGETHER).map(|n| format!("together-{n:02}")).collect();
    names.iter().for_each(|name| stage.write(name));
    let options = Options {
        filters: vec![stage.filter()],
        begin: Begin::Snapshot,
        ..Options::default()
    };
    let mut subscription = Subscription::new(stage.group.endpoints_from(0), options);
    let mut record = Record::keeping();
    let mut deleted = false;
    loop {
        let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
        if let Some(Update::Frame(frame)) = next.expect("frames come").unwrap() {
            record.take(*frame);
        }
        if record.is_current && !deleted {
            deleted = true;
            for resource in [EVENTS, CONFIGMAPS] {
                let objects: Vec<_> = names
                    .iter()
                    .map(|name| ("default", name.as_str()))
                    .collect();
                let resource = resource.parse().unwrap();
                stage.cluster.delete_batch(&resource, &objects).unwrap();
            }
        }
        let script = record.kept().script.iter();
        let gone = script.filter(|(_, words)| words.starts_with("DELETED"));
        if gone.count() == TOGETHER / 2 {
            break;
        }
    }
    drop(subscription);
    let back = stage.resume(record, 1);
    stage.write("last");
    stage.sees(&back, "last").await;
    stage.judge("resumed", &back, &Begin::Snapshot, NONE);
    stage.close().await;
}
