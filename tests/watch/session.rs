//! The live watch: each trap that a scripted server can set.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use quorumwatch::{
    domain::{
        cluster::Condition,
        event::{Change, GapReason},
        id::StreamId,
        stream::ResumePoint,
    },
    watcher::{StreamStart, WatchPolicy},
};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    api::{Api, Open, PATIENCE, status},
    harness::{closed, object, policy, seen, selector, start, start_all, start_with},
};

#[tokio::test]
async fn a_watch_resumes_at_its_checkpoint_and_keeps_objects_byte_for_byte() {
    let mut api = Api::start().await;
    api.set(|world| world.put(5, &[]));
    let mut watched = start(&api.address, closed(5));
    let asked = api.watch().await;
    assert_eq!(asked.from(), 5);
    assert_eq!(asked.path, "/api/v1/configmaps");
    assert_eq!(asked.query["allowWatchBookmarks"], "true");
    let seconds: u32 = asked.query["timeoutSeconds"].parse().unwrap();
    assert!((240..=300).contains(&seconds));
    assert_eq!(asked.headers["accept-encoding"], "identity");
    assert_eq!(asked.headers["authorization"], "Bearer secret-token");
    let open = asked.open();
    let (old, a, b) = (
        object("o", "0", 5),
        object("a", "1", 6),
        object("b", "2", 7),
    );
    open.event("ADDED", &old).await;
    open.event("ADDED", &a).await;
    open.line(&format!(r#"{{"object":{b} ,"type":"MODIFIED"}}"#))
        .await;
    let events = watched.events(2).await;
    assert_eq!(
        seen(&events),
        [
            (Change::Added, "a", a.as_str()),
            (Change::Modified, "b", b.as_str())
        ]
    );
    assert_eq!(watched.condition(Condition::Connected).await, "");
    watched.watcher.stop().await;
    open.abandoned().await;
}

#[tokio::test]
async fn a_fresh_stream_waits_for_its_first_era() {
    let mut api = Api::start().await;
    api.set(|world| world.put(9, &[]));
    let mut watched = start(&api.address, ResumePoint::Fresh);
    let granted = watched.era(GapReason::StreamCreated, 9, false).await;
    assert!(api.is_quiet(Duration::from_millis(50)).await);
    granted.send(()).unwrap();
    api.open(9).await;
}

#[tokio::test]
async fn a_refused_era_ends_the_stream() {
    let api = Api::start().await;
    let mut watched = start(&api.address, ResumePoint::Fresh);
    drop(watched.era(GapReason::StreamCreated, 1, false).await);
    assert!(watched.signals.recv().await.is_none());
}

#[tokio::test]
async fn t4_a_list_behind_the_checkpoint_is_a_reset_history() {
    let mut api = Api::start().await;
    api.set(|world| world.put(4, &[]));
    let mut watched = start(&api.address, closed(5));
    watched.grant(GapReason::HistoryReset, 4, false).await;
    api.open(4).await;
}

#[tokio::test]
async fn t6_another_cluster_at_the_same_address_is_noticed() {
    let mut api = Api::start().await;
    api.set(|world| {
        world.put(500, &[]);
        world.uid = "uid-2".into();
    });
    let mut watched = start(&api.address, closed(5));
    watched.grant(GapReason::ClusterReplaced, 500, false).await;
    api.open(500).await;
}

/// The cluster is replaced after the list was taken, and before the watch is open: what the watch
/// sends is of another cluster.
async fn replaced_before_the_watch_is_open(names_flow_schemas: bool) {
    let mut api = Api::start().await;
    api.set(|world| {
        world.names_flow_schemas = names_flow_schemas;
        world.put(5, &[]);
    });
    let mut watched = start(&api.address, closed(5));
    let asked = api.watch().await;
    api.set(|world| {
        world.put(500, &[]);
        world.uid = "uid-2".into();
    });
    let open = asked.open();
    // Perhaps it is abandoned before that is sent.
    let line = format!(r#"{{"type":"ADDED","object":{}}}"#, object("a", "1", 6));
    open.try_line(&line).await;
    watched.grant(GapReason::ClusterReplaced, 500, false).await;
    open.abandoned().await;
    let open = api.open(500).await;
    open.event("ADDED", &object("b", "2", 501)).await;
    assert_eq!(watched.events(1).await[0].name(), "b");
}

#[tokio::test]
async fn t6_a_cluster_that_is_replaced_before_the_watch_is_open_is_noticed() {
    replaced_before_the_watch_is_open(true).await;
}

#[tokio::test]
async fn t6_the_same_where_answers_name_no_flow_schema() {
    replaced_before_the_watch_is_open(false).await;
}

#[tokio::test]
async fn t6_a_watch_that_names_a_known_flow_schema_costs_no_other_request() {
    for (names_flow_schemas, identified) in [(true, 1), (false, 2)] {
        let mut api = Api::start().await;
        api.set(|world| {
            world.names_flow_schemas = names_flow_schemas;
            world.put(5, &[]);
        });
        let mut watched = start(&api.address, closed(5));
        let open = api.open(5).await;
        open.event("ADDED", &object("a", "1", 6)).await;
        watched.events(1).await;
        api.set(|world| assert_eq!(world.identified, identified));
    }
}

#[tokio::test]
async fn t7_deletions_that_share_a_version_come_once_across_a_broken_watch() {
    let mut api = Api::start().await;
    api.set(|world| world.put(9, &[]));
    let mut watched = start(&api.address, closed(5));
    let deletions = async |open: &Open, count: usize| {
        for name in ["x", "y", "z"].iter().take(count) {
            open.event("DELETED", &object(name, name, 8)).await;
        }
    };
    let open = api.open(5).await;
    deletions(&open, 2).await;
    let events = watched.events(2).await;
    open.break_off().await;
    let open = api.open(7).await;
    deletions(&open, 3).await;
    let more = watched.events(1).await;
    let names: Vec<_> = events
        .iter()
        .chain(&more)
        .map(|event| event.name())
        .collect();
    assert_eq!(names, ["x", "y", "z"]);
}

#[tokio::test]
async fn t14_a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let mut api = Api::start().await;
    let _watched = start(&api.address, closed(1));
    let asked = api.watch().await;
    let refused = Instant::now();
    asked.refuse_for(429, 1);
    api.open(1).await;
    assert!(refused.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn bookmarks_close_versions() {
    let mut api = Api::start().await;
    let mut watched = start(&api.address, closed(1));
    let open = api.open(1).await;
    open.event("ADDED", &object("a", "1", 3)).await;
    open.event("BOOKMARK", r#"{"metadata":{"resourceVersion":"8"}}"#)
        .await;
    watched.events(1).await;
    watched.closed(8).await;
    open.break_off().await;
    // The list's own version, 1, has gone back behind the bookmark.
    watched.grant(GapReason::HistoryReset, 1, false).await;
}

#[tokio::test]
async fn t1_a_silent_watch_is_verified_by_lists_and_what_comes_late_begins_an_era() {
    let mut api = Api::start().await;
    api.set(|world| world.put(9, &[]));
    let mut watched = start(&api.address, closed(5));
    let open = api.open(5).await;
    watched.closed(9).await;
    api.set(|world| world.version = 12);
    // Created and deleted in between, so that no list could show it.
    open.event("ADDED", &object("late", "1", 8)).await;
    watched
        .grant(GapReason::UpstreamInconsistent, 12, false)
        .await;
    api.open(12).await;
}

#[tokio::test]
async fn t1_a_list_that_shows_what_did_not_come_closes_nothing() {
    let mut api = Api::start().await;
    let late = object("late", "1", 8);
    api.set(|world| {
        world.put(5, &[]);
        world.put(8, &[&late]);
        world.version = 9;
    });
    let mut watched = start(&api.address, closed(5));
    let silent = api.open(5).await;
    // It is given up for another one, at the same place.
    let open = api.open(5).await;
    silent.abandoned().await;
    open.event("ADDED", &late).await;
    assert_eq!(
        seen(&watched.events(1).await),
        [(Change::Added, "late", late.as_str())]
    );
    watched.closed(9).await;
}

#[tokio::test]
async fn t1_what_a_quiet_watch_never_delivers_is_repaired() {
    let mut api = Api::start().await;
    let (a, b) = (object("a", "1", 4), object("b", "2", 8));
    api.set(|world| {
        world.put(5, &[&a]);
        world.put(9, &[&b]);
    });
    let mut watched = start(&api.address, closed(5));
    let _first = api.open(5).await;
    let _second = api.open(5).await;
    watched.closed(5).await;
    watched.grant(GapReason::WatchCacheReset, 9, true).await;
    let events = watched.repaired(9).await;
    assert_eq!(
        seen(&events),
        [
            (Change::Deleted, "a", a.as_str()),
            (Change::Added, "b", b.as_str())
        ]
    );
    api.open(9).await;
    let counted = watched.watcher.verifications();
    assert_eq!((counted.doubtful, counted.stuck, counted.lost), (1, 1, 0));
    assert!(counted.bytes > 0 && counted.requests >= 3, "{counted:?}");
}

#[tokio::test]
async fn t11_what_the_api_server_leaves_out_begins_an_era() {
    let mut api = Api::start().await;
    let (a, b) = (object("a", "1", 6), object("b", "2", 7));
    api.set(|world| {
        world.put(5, &[]);
        world.put(6, &[&a]);
        world.put(7, &[&a, &b]);
    });
    let mut policy = policy();
    policy.session.audit_ms = 100;
    let mut watched = start_with(&api.address, closed(5), policy);
    let open = api.open(5).await;
    open.event("ADDED", &b).await;
    watched.events(1).await;
    watched
        .grant(GapReason::UpstreamInconsistent, 7, false)
        .await;
    api.open(7).await;
    assert_eq!(watched.watcher.verifications().lost, 1);
}

#[tokio::test]
async fn t4_a_history_that_was_rewound_and_overtaken_is_noticed_when_a_watch_is_opened() {
    let mut api = Api::start().await;
    let (old, new) = (object("old", "1", 8), object("new", "2", 8));
    api.set(|world| {
        world.put(5, &[]);
        world.put(8, &[&old]);
    });
    let mut watched = start(&api.address, closed(5));
    let open = api.open(5).await;
    open.event("ADDED", &old).await;
    watched.events(1).await;
    // The same version, reached again on another way, and more.
    api.set(|world| {
        world.put(8, &[&new]);
        world.version = 20;
    });
    open.break_off().await;
    watched.grant(GapReason::HistoryReset, 20, false).await;
    api.open(20).await;
}

#[tokio::test]
async fn an_event_that_comes_slowly_is_not_silence() {
    let mut api = Api::start().await;
    let slow = object("slow", "1", 8);
    api.set(|world| {
        world.put(5, &[]);
        world.put(8, &[&slow]);
        world.version = 9;
    });
    let mut watched = start(&api.address, closed(5));
    let open = api.open(5).await;
    let line = format!(r#"{{"type":"ADDED","object":{slow}}}"#);
    let (head, tail) = line.split_at(40);
    open.bytes(head).await;
    let nothing = timeout(Duration::from_millis(900), watched.next()).await;
    assert!(nothing.is_err(), "{nothing:?} within a line");
    open.line(tail).await;
    watched.events(1).await;
    watched.closed(9).await;
}

#[tokio::test]
async fn what_lies_unread_while_the_receiver_is_behind_is_not_silence() {
    let mut api = Api::start().await;
    let state = |rv| format!(r#"{{"metadata":{{"name":"a","resourceVersion":"{rv}"}}}}"#);
    api.set(|world| {
        world.put(5, &[&state(5)]);
        for rv in 10..150 {
            world.put(rv, &[&state(rv)]);
        }
        world.version = 500;
    });
    let mut watched = start(&api.address, closed(5));
    let open = api.open(5).await;
    let (sent, progress) = watch::channel(10);
    let send = send_much(&open, 10..150, &sent);
    let receive = async {
        // Longer than the grace, with the channel full and bytes in the socket.
        assert!(stalled(progress).await < 149);
        watched.events(140).await;
        watched.closed(500).await;
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn t1_long_silence_opens_another_watch_where_the_list_was() {
    let mut api = Api::start().await;
    api.set(|world| world.put(9, &[]));
    let mut policy = policy();
    policy.session.silence_ms = 2_000;
    let mut watched = start_with(&api.address, closed(5), policy);
    let first = api.open(5).await;
    watched.closed(9).await;
    api.set(|world| world.version = 20);
    let _second = api.open(9).await;
    first.abandoned().await;
}

#[tokio::test]
async fn an_unreachable_cluster_is_reported_and_watched_once_it_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut watched = start(&format!("http://{address}"), closed(1));
    let reason = watched.condition(Condition::Unreachable).await;
    assert!(reason.contains("v1/configmaps"), "{reason}");
    let mut api = Api::serve(TcpListener::bind(address).await.unwrap());
    let _open = api.open(1).await;
    watched.condition(Condition::Connected).await;
}

#[tokio::test]
async fn a_refusal_is_reported_by_its_kind_and_without_the_credentials() {
    for (code, condition) in [
        (401, Condition::Unauthenticated),
        (403, Condition::PermissionDenied),
    ] {
        let mut api = Api::start().await;
        api.set(|world| world.refuses = Some(code));
        let mut watched = start(&api.address, closed(1));
        let reason = watched.condition(condition).await;
        assert!(
            reason.contains(&code.to_string()) && !reason.contains("secret"),
            "{reason}"
        );
        api.set(|world| world.refuses = None);
        api.open(1).await;
        watched.condition(Condition::Connected).await;
    }
}

#[tokio::test]
async fn one_resource_that_is_not_served_degrades_the_cluster_and_stops_no_other() {
    let mut api = Api::start().await;
    let stream = |id, resource| StreamStart {
        stream: StreamId(id),
        selector: selector(resource),
        resume: closed(1),
        cluster_uid: None,
    };
    let streams = vec![stream(1, "v1/pods"), stream(2, "acme.io/v1/widgets")];
    let (watcher, _signals, mut health) = start_all(&api.address, streams, policy());
    let mut open = None;
    for _ in 0..2 {
        let asked = api.watch().await;
        if asked.path == "/apis/acme.io/v1/widgets" {
            asked.refuse(status(404));
        } else {
            open = Some(asked.open());
        }
    }
    let health = health
        .wait_for(|health| health.condition == Condition::Degraded)
        .await
        .unwrap()
        .clone();
    assert!(
        health.reason.contains("acme.io/v1/widgets"),
        "{}",
        health.reason
    );
    drop(watcher);
    open.unwrap().abandoned().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let policy = WatchPolicy {
        response_timeout: Duration::from_millis(200),
        ..policy()
    };
    let mut watched = start_with(&format!("http://{address}"), closed(1), policy);
    let reason = watched.condition(Condition::Unreachable).await;
    assert!(reason.contains("did not answer"), "{reason}");
    drop(listener);
}

#[tokio::test]
async fn nonsense_in_a_watch_is_reported_and_the_watch_opened_again() {
    let mut api = Api::start().await;
    let mut watched = start(&api.address, closed(1));
    let nonsense = [
        "nonsense",
        r#"{"type":"ADDED"}"#,
        r#"{"type":"NEW","object":{}}"#,
        r#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"x"}}}"#,
    ];
    for line in nonsense {
        let open = api.open(1).await;
        open.line(line).await;
        open.abandoned().await;
    }
    let open = api.open(1).await;
    open.event("ADDED", &object("a", "1", 2)).await;
    watched.events(1).await;
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_reported_and_asked_for_again_until_it_is_compacted() {
    let mut api = Api::start().await;
    let mut watched = start(&api.address, closed(1));
    let padding = "x".repeat(8 * 1024 * 1024);
    let too_long = format!(r#"{{"type":"ADDED","object":{{"padding":"{padding}"}}}}"#);
    let not_decimal = r#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"0x1"}}}"#;
    for (line, reason) in [
        (&*too_long, "a watch line is longer than 8388608 bytes"),
        (
            not_decimal,
            "resource version \"0x1\" is not a decimal number: this API does not follow",
        ),
    ] {
        let open = api.open(1).await;
        open.line(line).await;
        let reported = watched.health.wait_for(|health| {
            health.condition == Condition::Degraded && health.reason.contains(reason)
        });
        let reported = timeout(PATIENCE, reported).await;
        reported.expect("the reason is reported").unwrap();
        open.abandoned().await;
    }
    api.set(|world| {
        world.put(5, &[]);
        world.compacted = 5;
    });
    api.open(1).await.error(410).await;
    watched.grant(GapReason::HistoryExpired, 5, false).await;
    api.open(5).await;
}

#[tokio::test]
async fn a_receiver_that_is_behind_stops_the_reading() {
    let mut api = Api::start().await;
    let mut watched = start(&api.address, closed(1));
    let open = api.open(1).await;
    let (sent, progress) = watch::channel(10);
    let send = send_much(&open, 10..210, &sent);
    let receive = async {
        let before = stalled(progress).await;
        assert!(before < 160, "everything up to {before} was taken in");
        let events = watched.events(200).await;
        assert_eq!(events.last().unwrap().rv, 209.into());
    };
    tokio::join!(send, receive);
}

/// Sends large events, and publishes the version of the last one that was taken.
async fn send_much(open: &Open, versions: Range<u64>, sent: &watch::Sender<u64>) {
    let padding = "x".repeat(256 * 1024);
    for rv in versions {
        let metadata = format!(r#"{{"name":"a","resourceVersion":"{rv}"}}"#);
        let object = format!(r#"{{"metadata":{metadata},"p":"{padding}"}}"#);
        open.event("MODIFIED", &object).await;
        sent.send_replace(rv);
    }
}

/// Waits until nothing is taken in any more; returns the last version that was.
async fn stalled(mut progress: watch::Receiver<u64>) -> u64 {
    while timeout(Duration::from_secs(1), progress.changed())
        .await
        .is_ok()
    {}
    *progress.borrow()
}

#[tokio::test]
async fn events_that_were_held_back_until_the_watch_broke_come_with_the_next_one() {
    let mut api = Api::start().await;
    let late = object("late", "1", 8);
    api.set(|world| {
        world.put(5, &[]);
        world.put(8, &[&late]);
        world.version = 9;
    });
    let mut policy = policy();
    policy.session.settle_ms = 60_000;
    let mut watched = start_with(&api.address, closed(5), policy);
    let open = api.open(5).await;
    let nothing = timeout(Duration::from_millis(400), watched.next()).await;
    assert!(nothing.is_err(), "{nothing:?} out of silence");
    open.break_off().await;
    let open = api.open(5).await;
    open.event("ADDED", &late).await;
    watched.events(1).await;
}
