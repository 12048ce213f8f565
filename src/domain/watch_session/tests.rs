//! Examples for each trap.

use super::{Failure, Input, OPENED, Output, Outputs, SessionPolicy, WatchSession};
use crate::domain::{
    event::{Change, GapReason},
    id::Era,
    position::{Position, ResourceVersion},
    stream::ResumePoint,
};

fn rv(number: u64) -> ResourceVersion {
    number.into()
}

fn probed(at: u64) -> Input<'static> {
    Input::Probed {
        at: rv(at),
        cluster_uid: "uid".into(),
        is_rewound: false,
    }
}

/// An event of the object that has this version's number as its UID.
fn event(number: u64, change: Change) -> Input<'static> {
    event_of(number, change, &number.to_string())
}

fn event_of(number: u64, change: Change, uid: &str) -> Input<'static> {
    Input::Event {
        rv: Box::leak(Box::new(rv(number))),
        change,
        uid: Box::leak(uid.into()),
    }
}

fn watch(from: u64) -> Output {
    Output::Watch { from: rv(from) }
}

fn era(reason: GapReason, to: u64, repaired: bool) -> Output {
    Output::EraNeeded {
        reason,
        to: rv(to),
        repaired,
        cluster_uid: "uid".into(),
    }
}

const BROKEN: Input<'static> = Input::Failed(Failure::Other {
    retry_after_ms: None,
});
const GONE: Input<'static> = Input::Failed(Failure::Gone);
const INTERNAL: Input<'static> = Input::Failed(Failure::Internal);

fn session_at(number: u64) -> WatchSession {
    let resume = ResumePoint::At(Position::closed(Era(1), rv(number)));
    WatchSession::new(resume, Some("uid".into()), SessionPolicy::default())
}

/// A session whose watch after `position` is open, probed at `list`.
fn watching(position: u64, list: u64) -> WatchSession {
    let mut session = session_at(position);
    assert_eq!(session.step(0, Input::Start), [Output::Probe]);
    assert_eq!(session.step(0, probed(list)), [watch(position)]);
    assert_eq!(session.step(0, OPENED), []);
    session
}

fn is_wait(outputs: &[Output]) -> bool {
    matches!(outputs, [.., Output::Wait { .. }])
}

#[test]
fn a_fresh_stream_begins_an_era_at_a_list_and_watches_from_there() {
    let mut session = WatchSession::new(ResumePoint::Fresh, None, SessionPolicy::default());
    assert_eq!(session.step(0, Input::Start), [Output::Probe]);
    assert_eq!(
        session.step(0, probed(7)),
        [era(GapReason::StreamCreated, 7, false)]
    );
    assert_eq!(session.step(1, Input::Granted), [watch(7)]);
}

#[test]
fn a_grant_that_took_long_is_followed_by_another_probe() {
    let mut session = WatchSession::new(ResumePoint::Fresh, None, SessionPolicy::default());
    session.step(0, Input::Start);
    session.step(0, probed(7));
    assert_eq!(session.step(60_000, Input::Granted), [Output::Probe]);
}

#[test]
fn t2_gone_in_either_form_is_repaired_while_exact_lists_answer() {
    for opened in [false, true] {
        let mut session = session_at(5);
        session.step(0, Input::Start);
        session.step(0, probed(9));
        if opened {
            session.step(0, OPENED);
        }
        let outputs = session.step(10, GONE);
        assert_eq!(outputs.last(), Some(&Output::Probe));
        let (from, to) = (rv(5), rv(11));
        assert_eq!(
            session.step(20, probed(11)),
            [Output::CheckRepair { from, to }]
        );
        assert_eq!(
            session.step(30, Input::Repairable),
            [
                Output::Closed(rv(5)),
                era(GapReason::WatchCacheReset, 11, true)
            ]
        );
        let (from, to) = (rv(5), rv(11));
        assert_eq!(
            session.step(40, Input::Granted),
            [Output::Repair { from, to }]
        );
        assert_eq!(
            session.step(50, Input::Repaired),
            [Output::Closed(rv(11)), watch(11)]
        );
    }
}

#[test]
fn t2_gone_for_good_begins_an_era_at_the_list() {
    let mut session = watching(5, 9);
    session.step(10, GONE);
    session.step(20, probed(11));
    assert_eq!(
        session.step(30, Input::Irreparable),
        [era(GapReason::HistoryExpired, 11, false)]
    );
    assert_eq!(session.step(40, Input::Granted), [watch(11)]);
    // The same answer straight away does not lead from era to era without a pause.
    assert!(is_wait(&session.step(50, GONE)));
}

#[test]
fn a_watch_that_came_on_before_it_was_gone_is_tried_again() {
    let mut session = watching(5, 9);
    session.step(1, event(8, Change::Added));
    assert!(is_wait(&session.step(2, GONE)));
    session.step(3, Input::Waited);
    assert_eq!(session.step(4, probed(11)), [watch(8)]);
    assert_eq!(session.step(5, GONE), [Output::Probe]);
}

/// The open watch closes in silence, and so does the one that follows; what comes of the list after
/// that.
fn closes_twice(session: &mut WatchSession, position: u64, list: u64) -> Outputs {
    assert!(is_wait(&session.step(10, Input::Ended)));
    assert_eq!(session.step(20, Input::Waited), [Output::Probe]);
    assert_eq!(session.step(20, probed(list)), [watch(position)]);
    session.step(20, OPENED);
    assert!(is_wait(&session.step(30, Input::Ended)));
    assert_eq!(session.step(40, Input::Waited), [Output::Probe]);
    session.step(40, probed(list))
}

fn check_history(from: u64, top: u64, to: u64) -> Output {
    Output::CheckHistory {
        from: rv(from),
        top: rv(top),
        to: rv(to),
    }
}

#[test]
fn t3_two_silent_closes_in_a_row_lead_to_an_era_where_history_is_gone_or_goes_on() {
    let mut session = watching(5, 9);
    assert_eq!(closes_twice(&mut session, 5, 9), [check_history(5, 5, 9)]);
    assert_eq!(
        session.clone().step(50, Input::Irreparable),
        [era(GapReason::HistoryExpired, 9, false)]
    );
    assert_eq!(
        session.step(50, Input::Repairable),
        [
            Output::Closed(rv(5)),
            era(GapReason::WatchCacheReset, 9, true)
        ]
    );
}

#[test]
fn t3_where_nothing_has_changed_silent_closes_are_no_lost_history() {
    let mut session = watching(5, 9);
    for _ in 0..3 {
        closes_twice(&mut session, 5, 9);
        assert_eq!(session.step(50, Input::Unchanged), [watch(5)]);
        session.step(50, OPENED);
    }
    assert_eq!(session.delivered(), rv(5));
}

#[test]
fn t3_at_the_version_of_the_list_there_is_nothing_that_could_be_gone() {
    let mut session = watching(5, 5);
    assert_eq!(closes_twice(&mut session, 5, 5), [watch(5)]);
}

#[test]
fn t3_deletions_that_were_delivered_have_not_changed_anything_since() {
    let mut session = watching(5, 9);
    session.step(1, event(8, Change::Deleted));
    assert!(is_wait(&session.step(2, BROKEN)));
    session.step(3, Input::Waited);
    session.step(4, probed(9));
    session.step(5, OPENED);
    assert_eq!(closes_twice(&mut session, 7, 9), [check_history(7, 8, 9)]);
    assert_eq!(session.step(50, Input::Unchanged), [watch(7)]);
}

#[test]
fn t3_a_history_that_cannot_be_looked_at_is_looked_at_later() {
    let mut session = watching(5, 9);
    closes_twice(&mut session, 5, 9);
    assert!(is_wait(&session.step(50, BROKEN)));
    assert_eq!(session.step(60, Input::Waited), [Output::Probe]);
    assert_eq!(session.step(60, probed(9)), [check_history(5, 5, 9)]);
}

#[test]
fn t3_a_close_after_an_event_or_a_while_is_nothing_special() {
    let mut session = watching(5, 9);
    for round in 0..10 {
        let begin = round * 100_000;
        session.step(begin + 2_000, Input::Ended);
        session.step(begin + 2_001, Input::Waited);
        assert_eq!(session.step(begin + 2_001, probed(9)), [watch(5)]);
        session.step(begin + 100_000, OPENED);
    }
}

#[test]
fn t4_a_list_behind_the_position_is_a_reset_history() {
    let mut session = session_at(50);
    session.step(0, Input::Start);
    assert_eq!(
        session.step(0, probed(49)),
        [era(GapReason::HistoryReset, 49, false)]
    );
    assert_eq!(session.step(0, Input::Granted), [watch(49)]);
}

#[test]
fn t6_another_identity_is_another_cluster_even_ahead_of_the_position() {
    let mut session = session_at(50);
    session.step(0, Input::Start);
    let outputs = session.step(
        0,
        Input::Probed {
            at: rv(60),
            cluster_uid: "other".into(),
            is_rewound: false,
        },
    );
    assert!(matches!(
        &*outputs,
        [Output::EraNeeded { reason: GapReason::ClusterReplaced, repaired: false, cluster_uid, .. }]
            if cluster_uid == "other"
    ));
    session.step(0, Input::Granted);
    session.step(0, OPENED);
    session.step(1, BROKEN);
    session.step(2, Input::Waited);
    let again = Input::Probed {
        at: rv(61),
        cluster_uid: "other".into(),
        is_rewound: false,
    };
    assert_eq!(session.step(3, again), [watch(60)]);
}

#[test]
fn t6_a_watch_that_another_cluster_answers_is_abandoned_unread() {
    let mut session = session_at(50);
    session.step(0, Input::Start);
    assert_eq!(session.step(0, probed(60)), [watch(50)]);
    let elsewhere = Input::Opened {
        cluster_uid: "other".into(),
    };
    let outputs = session.step(0, elsewhere);
    assert!(matches!(&*outputs, [Output::Abandon, Output::Wait { .. }]));
    assert_eq!(session.step(0, event(61, Change::Added)), []);
    assert_eq!(session.step(1, Input::Waited), [Output::Probe]);
    assert_eq!(session.cluster_uid(), Some("uid"));
}

#[test]
fn t7_deletions_that_share_a_version_are_resumed_inside_it() {
    let mut session = watching(5, 9);
    let deletion = |uid| event_of(8, Change::Deleted, uid);
    assert_eq!(session.step(1, deletion("a")), [Output::Deliver]);
    assert_eq!(session.step(1, deletion("b")), [Output::Deliver]);
    session.step(2, BROKEN);
    session.step(3, Input::Waited);
    assert_eq!(session.step(3, probed(9)), [watch(7)]);
    session.step(3, OPENED);
    assert_eq!(session.step(4, deletion("a")), [Output::Skip]);
    assert_eq!(session.step(4, deletion("b")), [Output::Skip]);
    assert_eq!(session.step(4, deletion("c")), [Output::Deliver]);
    assert_eq!(session.step(5, event(9, Change::Added)), [Output::Deliver]);
}

#[test]
fn t10_what_a_lagging_server_repeats_is_dropped() {
    let mut session = watching(5, 9);
    assert_eq!(session.step(1, event(4, Change::Added)), [Output::Skip]);
    assert_eq!(session.step(1, event(5, Change::Added)), [Output::Skip]);
    assert_eq!(session.step(1, event(6, Change::Added)), [Output::Deliver]);
    assert_eq!(
        session.step(1, event(7, Change::Modified)),
        [Output::Deliver]
    );
    // Only deletions share a version: this is the last event once more.
    assert_eq!(session.step(1, event(7, Change::Modified)), [Output::Skip]);
    let outputs = session.step(2, event(6, Change::Added));
    assert_eq!(outputs[..2], [Output::Skip, Output::Abandon]);
    assert!(is_wait(&outputs));
}

#[test]
fn t10_a_deletion_that_is_repeated_by_the_same_watch_is_dropped() {
    let mut session = watching(5, 9);
    let deleted = |uid| event_of(7, Change::Deleted, uid);
    assert_eq!(session.step(1, deleted("a")), [Output::Deliver]);
    assert_eq!(session.step(1, deleted("b")), [Output::Deliver]);
    assert_eq!(session.step(2, deleted("a")), [Output::Skip]);
    assert_eq!(session.step(2, deleted("b")), [Output::Skip]);
    assert_eq!(session.step(3, deleted("c")), [Output::Deliver]);
}

#[test]
fn t10_what_is_repeated_after_its_version_was_closed_or_resumed_is_not_late() {
    let went_back =
        |outputs: &[Output]| outputs[..2] == [Output::Skip, Output::Abandon] && is_wait(outputs);
    let mut session = watching(5, 9);
    session.step(1, event(9, Change::Added));
    session.step(1, Input::Bookmark(rv(9)));
    assert!(went_back(&session.step(2, event(9, Change::Added))));

    let mut session = watching(5, 9);
    session.step(1, event(8, Change::Deleted));
    session.step(2, BROKEN);
    session.step(3, Input::Waited);
    assert_eq!(session.step(3, probed(9)), [watch(7)]);
    session.step(3, OPENED);
    assert_eq!(session.step(4, event(8, Change::Deleted)), [Output::Skip]);
    assert_eq!(session.step(4, event(9, Change::Added)), [Output::Deliver]);
    assert!(went_back(&session.step(5, event(8, Change::Deleted))));
}

#[test]
fn t11_what_comes_after_its_version_was_closed_is_never_dropped_in_silence() {
    let mut session = watching(5, 9);
    session.step(1, Input::Bookmark(rv(9)));
    let outputs = session.step(3_001, event(9, Change::Added));
    assert_eq!(outputs, [Output::Skip, Output::Abandon, Output::Probe]);
    assert_eq!(
        session.step(3_002, probed(12)),
        [era(GapReason::UpstreamInconsistent, 12, false)]
    );
}

#[test]
fn t12_three_internal_errors_at_one_version_repair() {
    let mut session = watching(5, 9);
    for round in 0..2 {
        assert!(is_wait(&session.step(round, INTERNAL)));
        session.step(round, Input::Waited);
        assert_eq!(session.step(round, probed(9)), [watch(5)]);
        session.step(round, OPENED);
    }
    assert!(is_wait(&session.step(10, INTERNAL)));
    session.step(11, Input::Waited);
    assert!(matches!(
        &*session.step(11, probed(9)),
        [Output::CheckRepair { .. }]
    ));
}

#[test]
fn t14_the_servers_wish_to_wait_is_passed_on_and_health_renews_the_backoff() {
    let mut session = session_at(5);
    session.step(0, Input::Start);
    let busy = |retry_after_ms| Input::Failed(Failure::Other { retry_after_ms });
    let wait = |retry_after_ms, fresh| Output::Wait {
        retry_after_ms,
        fresh,
    };
    assert_eq!(
        session.step(0, busy(Some(1_000))),
        [wait(Some(1_000), true)]
    );
    session.step(1_000, Input::Waited);
    assert_eq!(session.step(1_000, busy(None)), [wait(None, false)]);
    session.step(2_000, Input::Waited);
    session.step(2_000, probed(9));
    session.step(2_000, OPENED);
    assert_eq!(
        session.step(12_000, BROKEN),
        [Output::Abandon, wait(None, true)]
    );
}

#[test]
fn a_bookmark_closes_its_version() {
    let mut session = watching(5, 9);
    session.step(1, event(6, Change::Deleted));
    assert_eq!(
        session.step(2, Input::Bookmark(rv(6))),
        [Output::Closed(rv(6))]
    );
    assert_eq!(session.step(2, Input::Bookmark(rv(6))), []);
    assert_eq!(session.step(2, Input::Bookmark(rv(4))), []);
    assert_eq!(
        session.step(3, Input::Bookmark(rv(8))),
        [Output::Closed(rv(8))]
    );
}

#[test]
fn t29_a_repair_that_a_predecessor_began_is_published_without_another_era() {
    let resume = ResumePoint::Repair {
        era: Era(4),
        from: rv(5),
        to: rv(11),
    };
    let mut session = WatchSession::new(resume, Some("uid".into()), SessionPolicy::default());
    session.step(0, Input::Start);
    let repair = Output::Repair {
        from: rv(5),
        to: rv(11),
    };
    assert_eq!(*session.step(0, probed(20)), *std::slice::from_ref(&repair));
    // A list that fails half-way is tried again.
    assert!(is_wait(&session.step(1, BROKEN)));
    session.step(2, Input::Waited);
    assert_eq!(session.step(2, probed(21)), [repair]);
    let mut gone = session.clone();
    assert_eq!(gone.step(3, Input::Irreparable), [Output::Probe]);
    assert_eq!(
        gone.step(3, probed(22)),
        [era(GapReason::HistoryExpired, 22, false)]
    );
    assert_eq!(
        session.step(3, Input::Repaired),
        [Output::Closed(rv(11)), watch(11)]
    );
}

#[test]
fn a_watch_that_breaks_in_silence_begins_again_where_it_began() {
    let mut session = watching(5, 9);
    assert_eq!(session.step(3_000, Input::Tick), []);
    assert!(is_wait(&session.step(5_000, BROKEN)));
    assert_eq!(session.step(5_001, Input::Waited), [Output::Probe]);
    assert_eq!(session.step(5_001, probed(12)), [watch(5)]);
}
