use std::{sync::Arc, time::Duration};

use tonic::{Code, Status};

use super::{
    Begin, Closing, ClosingAction, Cursor, Error, Failover, Frame, From, Interruption, Options,
    SILENCE_MAX, SubscribeRequest, SubscribeResponse, Subscription, Update,
};
use crate::{
    client::scripted::{Attempt, Script, Scripted, Then, answer, replicas, sends},
    proto::v1::{ClosingReason, Event, Filter, Heartbeat, Progress, Until, View},
};

type Replicas = Arc<Scripted<SubscribeRequest, SubscribeResponse>>;

fn subscribe(
    scripts: impl IntoIterator<Item = Script<SubscribeResponse>>,
    count: usize,
    begin: Begin,
) -> (Replicas, Subscription) {
    let scripted = Scripted::new(scripts);
    let replicas = Failover::new(replicas(count), SILENCE_MAX, scripted.open());
    let options = Options {
        begin,
        ..Options::default()
    };
    (scripted, Subscription::through(replicas, options))
}

fn event(delta: &str) -> SubscribeResponse {
    SubscribeResponse {
        cursor_delta: delta.into(),
        frame: Some(Frame::Event(Event::default())),
        ..SubscribeResponse::default()
    }
}

fn progress(cursor: &str) -> SubscribeResponse {
    SubscribeResponse {
        cursor: cursor.into(),
        frame: Some(Frame::Progress(Progress::default())),
        ..SubscribeResponse::default()
    }
}

fn heartbeat() -> SubscribeResponse {
    SubscribeResponse {
        frame: Some(Frame::Heartbeat(Heartbeat::default())),
        ..SubscribeResponse::default()
    }
}

fn closing(action: ClosingAction, delay: Option<i64>, cursor: &str) -> SubscribeResponse {
    let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
    SubscribeResponse {
        cursor: cursor.into(),
        frame: Some(Frame::Closing(Closing {
            reason: ClosingReason::ReplicaStopping.into(),
            action: action.into(),
            retry_delay: delay.map(seconds),
            message: "this replica is stopping".into(),
        })),
        ..SubscribeResponse::default()
    }
}

/// What the requests resume from.
fn cursors(attempts: &[Attempt<SubscribeRequest>]) -> Vec<Vec<String>> {
    let cursors = |attempt: &Attempt<SubscribeRequest>| match &attempt.request.from {
        Some(From::Resume(from)) => from.cursors.clone(),
        _ => Vec::new(),
    };
    attempts.iter().map(cursors).collect()
}

fn whole_seconds(attempts: &[Attempt<SubscribeRequest>]) -> Vec<(&str, u64)> {
    let attempts = attempts.iter();
    attempts
        .map(|attempt| (attempt.endpoint.as_str(), attempt.after.as_secs()))
        .collect()
}

/// Takes frames until there are so many; returns why replicas were left meanwhile.
async fn take(subscription: &mut Subscription, mut count: usize) -> Vec<Interruption> {
    let mut interruptions = Vec::new();
    while count > 0 {
        match subscription.next().await.unwrap() {
            Some(Update::Frame(_)) => count -= 1,
            Some(Update::Interrupted { why, .. }) => interruptions.push(why),
            Some(Update::Connected(_)) => {}
            None => panic!("the subscription is over, {count} frames too soon"),
        }
    }
    interruptions
}

async fn error(subscription: &mut Subscription) -> Error {
    loop {
        match subscription.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the subscription is over, without an error"),
            Err(error) => return error,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_resumes_at_another_replica_with_the_whole_cursor_and_the_deltas_after_it() {
    let first = [
        progress("old"),
        event("gone"),
        progress("w"),
        event("d1"),
        event("d2"),
    ];
    let lost = Then::Fails(Status::unavailable("the connection is lost"));
    let scripts = [sends(first, lost), sends([event("d3")], Then::Silence)];
    let (replicas, mut subscription) = subscribe(scripts, 2, Begin::Snapshot);
    take(&mut subscription, 6).await;
    let attempts = replicas.attempts();
    assert_eq!(cursors(&attempts), [&[][..], &["w", "d1", "d2"]]);
    assert!(matches!(attempts[0].request.from, Some(From::Snapshot(_))));
    assert_eq!(whole_seconds(&attempts), [("a:1", 0), ("b:1", 0)]);
    assert_eq!(subscription.cursor().parts(), ["w", "d1", "d2", "d3"]);
}

#[tokio::test(start_paused = true)]
async fn before_a_whole_cursor_was_received_it_begins_as_the_first_time() {
    let scripts = [
        sends([event("")], Then::Ends),
        sends([progress("w")], Then::Silence),
    ];
    let (replicas, mut subscription) = subscribe(scripts, 1, Begin::Snapshot);
    take(&mut subscription, 2).await;
    let attempts = replicas.attempts();
    let begins_anew = |attempt: &Attempt<SubscribeRequest>| {
        matches!(attempt.request.from, Some(From::Snapshot(_)))
    };
    assert!(attempts.len() == 2 && attempts.iter().all(begins_anew));
}

#[tokio::test(start_paused = true)]
async fn a_saved_cursor_is_resumed_from_and_kept_until_there_is_a_newer_one() {
    let scripts = [
        sends([event("")], Then::Ends),
        sends([event("d")], Then::Ends),
        sends([progress("w2")], Then::Silence),
    ];
    let saved = Cursor::from_parts(vec!["w".into(), "a".into()]);
    let (replicas, mut subscription) = subscribe(scripts, 1, Begin::After(saved.clone()));
    assert_eq!(subscription.cursor(), &saved);
    take(&mut subscription, 3).await;
    let attempts = replicas.attempts();
    let expected = [&["w", "a"][..], &["w", "a"], &["w", "a", "d"]];
    assert_eq!(cursors(&attempts), expected);
    assert_eq!(subscription.cursor().parts(), ["w2"]);
}

#[tokio::test(start_paused = true)]
async fn every_option_is_in_every_request() {
    let scripted = Scripted::new([
        sends([progress("w")], Then::Ends),
        sends([progress("w")], Then::Silence),
    ]);
    let options = Options {
        filters: vec![Filter::default(), Filter::default()],
        view: View::Metadata,
        until: Until::UpToDate,
        silence: None,
        client_name: "test".into(),
        begin: Begin::Now,
    };
    let failover = Failover::new(replicas(1), SILENCE_MAX, scripted.open());
    take(&mut Subscription::through(failover, options), 2).await;
    for Attempt { request, .. } in scripted.attempts() {
        assert_eq!((request.filters.len(), request.view()), (2, View::Metadata));
        assert_eq!(request.until(), Until::UpToDate);
        assert_eq!(request.client_name, "test");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_closes_with_resume_elsewhere_is_left_at_once() {
    let last = closing(ClosingAction::ResumeElsewhere, Some(9), "c");
    let scripts = [
        sends([progress("w"), event("d"), last], Then::Silence),
        sends([event("e")], Then::Silence),
    ];
    let (replicas, mut subscription) = subscribe(scripts, 2, Begin::Now);
    let interruptions = take(&mut subscription, 4).await;
    match &interruptions[..] {
        [why @ Interruption::Closing(_)] => {
            assert_eq!(why.to_string(), "this replica is stopping");
        }
        other => panic!("{other:?}"),
    }
    let attempts = replicas.attempts();
    assert_eq!(whole_seconds(&attempts), [("a:1", 0), ("b:1", 0)]);
    assert_eq!(cursors(&attempts), [&[][..], &["c"]]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_closes_with_resume_is_resumed_from_after_the_delay() {
    let last = closing(ClosingAction::Resume, Some(3), "c");
    let scripts = [
        sends([progress("w"), last], Then::Silence),
        sends([event("e")], Then::Silence),
    ];
    let (replicas, mut subscription) = subscribe(scripts, 1, Begin::Now);
    take(&mut subscription, 3).await;
    let attempts = replicas.attempts();
    assert_eq!(whole_seconds(&attempts), [("a:1", 0), ("a:1", 3)]);
    assert_eq!(cursors(&attempts)[1], ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_complete_ends_and_is_not_tried_again() {
    let last = closing(ClosingAction::Stop, None, "c");
    let scripts = [sends([progress("w"), last], Then::Ends)];
    let (replicas, mut subscription) = subscribe(scripts, 2, Begin::Snapshot);
    take(&mut subscription, 2).await;
    for _ in 0..2 {
        assert!(subscription.next().await.unwrap().is_none());
    }
    assert_eq!(replicas.attempts().len(), 1);
    assert_eq!(subscription.cursor().parts(), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_an_error_is_that_error() {
    let last = closing(ClosingAction::Stop, None, "c");
    let refusal = answer(Code::FailedPrecondition, "REFUSED", None);
    let scripts = [sends([last], Then::Fails(refusal))];
    let (_, mut subscription) = subscribe(scripts, 2, Begin::Now);
    let error = error(&mut subscription).await;
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    assert!(subscription.next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_a_heartbeat_is_left_and_the_cursor_goes_on_elsewhere() {
    let within = |milliseconds, frame| (Duration::from_millis(milliseconds), frame);
    let mut frames = vec![within(0, progress("w1"))];
    // For as long as heartbeats come it is not left.
    frames.extend((0..20).map(|_| within(500, heartbeat())));
    frames.push(within(200, event("d1")));
    let scripts = [
        Script::Sends(frames, Then::Silence),
        sends([progress("w2")], Then::Silence),
    ];
    let (replicas, mut subscription) = subscribe(scripts, 2, Begin::Now);
    let interruptions = take(&mut subscription, 3).await;
    assert!(matches!(&interruptions[..], [Interruption::Silent(span)] if *span == SILENCE_MAX));
    let attempts = replicas.attempts();
    let left_at = Duration::from_millis(10_200) + SILENCE_MAX;
    assert_eq!(
        attempts.iter().map(|it| it.after).collect::<Vec<_>>(),
        [Duration::ZERO, left_at]
    );
    assert_eq!(cursors(&attempts)[1], ["w1", "d1"]);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_restart_one_after_the_other_are_no_failures() {
    let restart = Duration::from_millis(400);
    let stops = closing(ClosingAction::ResumeElsewhere, None, "");
    let serves = |cursor| {
        let frames = vec![(Duration::ZERO, progress(cursor)), (restart, stops.clone())];
        Script::Sends(frames, Then::Ends)
    };
    let scripts = ["w1", "w2", "w3"].map(serves);
    let last = sends([progress("w4")], Then::Silence);
    let (replicas, mut subscription) = subscribe(scripts.into_iter().chain([last]), 3, Begin::Now);
    take(&mut subscription, 7).await;
    let after: Vec<_> = replicas.attempts().iter().map(|it| it.after).collect();
    assert_eq!(after, [0, 1, 2, 3].map(|served| served * restart));
}

#[tokio::test(start_paused = true)]
async fn what_was_received_while_the_caller_was_busy_is_no_silence() {
    let frames = [progress("w1"), progress("w2")];
    let scripts = [sends(frames, Then::Silence)];
    let (_, mut subscription) = subscribe(scripts, 1, Begin::Now);
    take(&mut subscription, 1).await;
    tokio::time::advance(2 * SILENCE_MAX).await;
    assert!(take(&mut subscription, 1).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_answers_nothing_or_sends_nothing_is_passed_over() {
    let scripts = [
        Script::Unreachable,
        Script::Hangs,
        sends([], Then::Silence),
        sends([progress("w")], Then::Silence),
    ];
    let (replicas, mut subscription) = subscribe(scripts, 4, Begin::Now);
    let interruptions = take(&mut subscription, 1).await;
    assert!(
        matches!(
            &interruptions[..],
            [
                Interruption::Unreachable(_),
                Interruption::Silent(_),
                Interruption::Silent(_)
            ]
        ),
        "{interruptions:?}"
    );
    let attempts = replicas.attempts();
    let expected = [("a:1", 0), ("b:1", 0), ("c:1", 10), ("d:1", 20)];
    assert_eq!(whole_seconds(&attempts), expected);
}

#[tokio::test(start_paused = true)]
async fn all_are_tried_at_once_and_then_after_pauses_that_grow() {
    let (replicas, mut subscription) = subscribe([], 3, Begin::Now);
    for _ in 0..24 {
        subscription.next().await.unwrap();
    }
    let attempts = replicas.attempts();
    assert!(attempts[2].after.is_zero());
    let pause = |n: usize| attempts[n].after - attempts[n - 1].after;
    for (n, most) in [(3, 50), (6, 100), (9, 200), (21, 2000)] {
        let (least, most) = (Duration::from_millis(most / 2), Duration::from_millis(most));
        // Timers have a millisecond's resolution.
        let slack = Duration::from_millis(1);
        assert!(
            (least..=most + slack).contains(&pause(n)),
            "{n}: {:?}",
            pause(n)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_that_accept_and_end_at_once_are_not_asked_without_a_pause() {
    let scripts = (0..40).map(|_| sends([progress("w")], Then::Ends));
    let (replicas, mut subscription) = subscribe(scripts, 2, Begin::Now);
    take(&mut subscription, 30).await;
    let attempts = replicas.attempts();
    assert!(attempts[29].after > Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_lasted_is_resumed_at_once() {
    const LASTS: Duration = Duration::from_millis(1200);
    let lasts = || {
        let later = (LASTS, progress("w"));
        Script::Sends(vec![(Duration::ZERO, progress("w")), later], Then::Ends)
    };
    let scripts = [Script::Unreachable, Script::Unreachable, lasts(), lasts()];
    let (replicas, mut subscription) = subscribe(scripts, 2, Begin::Now);
    take(&mut subscription, 4).await;
    let attempts = replicas.attempts();
    let pause = attempts[3].after - attempts[2].after;
    assert_eq!(pause, LASTS);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_asks_for_time_is_asked_again_only_after_it() {
    let behind = || {
        let delay = Some(Duration::from_secs(5));
        Script::Refuses(answer(Code::Unavailable, "REPLICA_BEHIND", delay))
    };
    let scripts = [
        behind(),
        Script::Unreachable,
        Script::Unreachable,
        behind(),
        sends([progress("w")], Then::Silence),
    ];
    let (replicas, mut subscription) = subscribe(scripts, 2, Begin::Now);
    let interruptions = take(&mut subscription, 1).await;
    let text = interruptions[0].to_string();
    assert_eq!(text, "because of REPLICA_BEHIND");
    let attempts = replicas.attempts();
    let asked = whole_seconds(&attempts);
    let expected = [("a:1", 0), ("b:1", 0), ("b:1", 0), ("b:1", 0), ("a:1", 5)];
    assert_eq!(asked, expected);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_at_fault_is_not_repeated() {
    for refusal in [
        answer(Code::InvalidArgument, "CURSOR_FOREIGN", None),
        answer(Code::ResourceExhausted, "LIMIT_REACHED", None),
        Status::permission_denied("not yours"),
    ] {
        let code = refusal.code();
        let scripts = [Script::Refuses(refusal)];
        let saved = Cursor::from_parts(vec!["w".into()]);
        let (replicas, mut subscription) = subscribe(scripts, 3, Begin::After(saved));
        let error = error(&mut subscription).await;
        assert_eq!((error.code(), error.is_final()), (Some(code), true));
        assert_eq!(replicas.attempts().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_reason_decides_and_not_the_code() {
    let slow = answer(Code::ResourceExhausted, "SUBSCRIBER_TOO_SLOW", None);
    let new = answer(Code::FailedPrecondition, "CURSOR_TOO_NEW", None);
    let scripts = [
        sends([progress("w")], Then::Fails(slow)),
        Script::Refuses(new),
        sends([progress("w")], Then::Silence),
    ];
    let (_, mut subscription) = subscribe(scripts, 3, Begin::Now);
    assert_eq!(take(&mut subscription, 2).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn something_that_is_no_replica_is_named() {
    let scripts = [Script::Refuses(Status::unimplemented("no such service"))];
    let (_, mut subscription) = subscribe(scripts, 1, Begin::Now);
    let error = error(&mut subscription).await;
    assert!(matches!(error, Error::NotAReplica(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_where_next_is_dropped_while_it_waits() {
    let frames = (0..50).map(|n| event(&n.to_string()));
    let frames = frames.map(|frame| (Duration::from_millis(7), frame));
    let scripts = [Script::Sends(frames.collect(), Then::Silence)];
    let (_, mut subscription) = subscribe(scripts, 1, Begin::Now);
    let mut seen = Vec::new();
    while seen.len() < 50 {
        let next = tokio::time::timeout(Duration::from_millis(2), subscription.next()).await;
        if let Ok(Ok(Some(Update::Frame(frame)))) = next {
            seen.push(frame.cursor_delta);
        }
    }
    let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
}
