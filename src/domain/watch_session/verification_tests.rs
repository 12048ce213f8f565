//! Examples of what is verified, when, and what follows.

use super::{
    Failure, Finding, Input, Listing, OPENED, Output, Outputs, SessionPolicy, WatchSession,
};
use crate::domain::{
    event::{Change, GapReason},
    id::Era,
    position::{Position, ResourceVersion},
    stream::ResumePoint,
};

const GRACE_MS: u64 = 3_000;
const SETTLE_MS: u64 = 5_000;
const QUIET_MS: u64 = 120_000;
const AUDIT_MS: u64 = 300_000;

fn rv(number: u64) -> ResourceVersion {
    number.into()
}

fn probed(at: u64) -> Input<'static> {
    Input::Probed {
        at: rv(at),
        cluster_uid: String::new(),
        is_rewound: false,
    }
}

/// A session, and what it asked for when a list was taken.
struct World {
    session: WatchSession,
    now_ms: u64,
}

impl World {
    /// A session whose watch after `position` is open, probed at `list`.
    fn watching(position: u64, list: u64) -> Self {
        let mut world = Self::start(ResumePoint::At(Position::closed(Era(1), rv(position))));
        world.reopen(position, list);
        world
    }

    /// The same, of a session whose era began there, and whose first watch broke.
    fn reopened(position: u64, list: u64) -> Self {
        let mut world = Self::start(ResumePoint::Fresh);
        world.step(probed(position));
        let from = rv(position);
        assert_eq!(world.step(Input::Granted), [Output::Watch { from }]);
        assert_eq!(world.step(OPENED), []);
        world.step(Input::Failed(Failure::Other {
            retry_after_ms: None,
        }));
        assert_eq!(world.step(Input::Waited), [Output::Probe]);
        world.reopen(position, list);
        world
    }

    fn start(resume: ResumePoint) -> Self {
        let policy = SessionPolicy {
            silence_ms: u64::MAX,
            ..SessionPolicy::default()
        };
        let session = WatchSession::new(resume, None, policy);
        let mut world = Self { session, now_ms: 0 };
        world.step(Input::Start);
        world
    }

    fn step(&mut self, input: Input<'_>) -> Outputs {
        self.session.step(self.now_ms, input)
    }

    fn reopen(&mut self, from: u64, list: u64) {
        let from = rv(from);
        assert_eq!(self.step(probed(list)), [Output::Watch { from }]);
        assert_eq!(self.step(OPENED), []);
    }

    fn event(&mut self, number: u64, change: Change, uid: &str) -> Outputs {
        let rv = rv(number);
        let rv = &rv;
        self.step(Input::Event { rv, change, uid })
    }

    fn deliver(&mut self, number: u64, change: Change, uid: &str) {
        assert_eq!(self.event(number, change, uid), [Output::Deliver]);
    }

    fn pass(&mut self, ms: u64) -> Outputs {
        self.now_ms += ms;
        self.step(Input::Tick)
    }

    /// A list is due after exactly so long.
    fn due_in(&mut self, ms: u64) {
        assert_eq!(self.session.wake_at(), Some(self.now_ms + ms));
        assert_eq!(self.pass(ms - 1), []);
        assert_eq!(self.pass(1), [Output::AskToList]);
    }

    /// The session takes a list now, and gets this one; returns what follows.
    fn list(&mut self, exactly: Option<u64>, objects: &[(&str, u64)], at: u64) -> Outputs {
        let outputs = self.step(Input::MayList);
        self.answer(&outputs, exactly, objects, at)
    }

    fn answer(
        &mut self,
        asked: &Outputs,
        exactly: Option<u64>,
        objects: &[(&str, u64)],
        at: u64,
    ) -> Outputs {
        let [
            Output::List {
                exactly: version,
                above,
            },
        ] = &**asked
        else {
            panic!("{asked:?} instead of a list")
        };
        assert_eq!(*version, exactly.map(rv));
        let mut listing = Listing::new(above.clone());
        for (uid, version) in objects {
            listing.add("n", uid, uid, &rv(*version));
        }
        self.step(Input::Listed {
            listing: listing.taken_at(rv(at)),
            is_rewound: false,
        })
    }

    /// Verified at 9 with `a` and `b`, which a pair of lists has shown to be all.
    fn verified() -> Self {
        let mut world = Self::watching(5, 9);
        world.due_in(SETTLE_MS);
        let objects = [("a", 3), ("b", 4)];
        let outputs = world.list(Some(5), &objects, 5);
        assert_eq!(world.answer(&outputs, None, &objects, 9), []);
        assert_eq!(
            world.pass(GRACE_MS),
            [found(9, Finding::Agrees), Output::Closed(rv(9))]
        );
        world
    }

    /// The watch was given up for another look; it is opened where it was.
    fn looks_again(&mut self, outputs: &Outputs, list: u64, from: u64) {
        assert_eq!(
            *outputs,
            [
                found(list, Finding::Doubtful),
                Output::Abandon,
                Output::Probe
            ]
        );
        self.reopen(from, list);
    }
}

fn found(at: u64, finding: Finding) -> Output {
    Output::Verified {
        at: rv(at),
        finding,
    }
}

#[test]
fn t1_silence_closes_nothing_and_a_pair_of_lists_does() {
    let mut world = World::watching(5, 9);
    assert_eq!(world.pass(GRACE_MS), []);
    assert_eq!(world.session.delivered(), rv(5));
    let world = World::verified();
    assert_eq!(world.session.delivered(), rv(9));
}

#[test]
fn t1_a_quiet_stream_is_verified_with_one_list_from_then_on() {
    let mut world = World::verified();
    for at in [20, 30] {
        world.due_in(QUIET_MS);
        assert_eq!(world.list(None, &[("a", 3), ("b", 4)], at), []);
        assert_eq!(
            world.pass(GRACE_MS),
            [found(at, Finding::Agrees), Output::Closed(rv(at))]
        );
    }
}

#[test]
fn a_fresh_stream_in_silence_is_verified_as_well() {
    let mut session = WatchSession::new(ResumePoint::Fresh, None, SessionPolicy::default());
    session.step(0, Input::Start);
    session.step(0, probed(7));
    session.step(0, Input::Granted);
    session.step(0, OPENED);
    let mut world = World { session, now_ms: 0 };
    world.now_ms = QUIET_MS;
    // Meanwhile the watch was silent for too long.
    assert_eq!(world.step(Input::Tick), [Output::Abandon, Output::Probe]);
    world.reopen(7, 50);
    assert_eq!(world.pass(0), [Output::AskToList]);
}

#[test]
fn an_event_or_a_bookmark_proves_the_position_and_postpones_the_list() {
    let mut world = World::watching(5, 9);
    world.pass(4_000);
    world.deliver(10, Change::Added, "c");
    assert_eq!(world.session.wake_at(), Some(4_000 + QUIET_MS));
    world.pass(20_000);
    assert_eq!(
        world.step(Input::Bookmark(rv(40))),
        [Output::Closed(rv(40))]
    );
    world.due_in(QUIET_MS);
}

#[test]
fn a_watch_that_begins_where_the_present_is_needs_no_list_soon() {
    let world = World::watching(9, 9);
    assert_eq!(world.session.wake_at(), Some(QUIET_MS));
}

#[test]
fn t11_a_busy_stream_is_verified_every_so_often_without_a_word_where_all_is_well() {
    let mut world = World::watching(5, 5);
    for second in 1..AUDIT_MS / 2_000 {
        world.now_ms = second * 1_000;
        world.deliver(250 + second, Change::Modified, "a");
    }
    // The first time after half of the interval.
    world.now_ms = AUDIT_MS / 2;
    assert_eq!(world.step(Input::Tick), [Output::AskToList]);
    // What existed in the beginning is listed once, when it is first needed.
    let outputs = world.list(Some(5), &[("a", 3)], 5);
    assert_eq!(
        world.answer(&outputs, None, &[("a", 399)], 399),
        [found(399, Finding::Agrees), Output::Closed(rv(399))]
    );
    world.deliver(400, Change::Added, "b");
    world.now_ms += AUDIT_MS;
    world.deliver(401, Change::Modified, "a");
    assert_eq!(world.step(Input::Tick), [Output::AskToList]);
    assert_eq!(world.list(None, &[("a", 401), ("b", 400)], 410), []);
    assert_eq!(
        world.event(411, Change::Deleted, "b"),
        [Output::Deliver, found(410, Finding::Agrees)]
    );
}

#[test]
fn t11_what_was_left_out_before_a_later_event_begins_an_era_after_a_second_list() {
    let mut world = World::verified();
    world.deliver(12, Change::Added, "d");
    world.now_ms += AUDIT_MS;
    world.step(Input::Tick);
    // `c` at 11 was never delivered.
    let objects = [("a", 3), ("b", 4), ("c", 11), ("d", 12)];
    assert_eq!(
        world.list(None, &objects, 12),
        [found(12, Finding::Doubtful), Output::AskToList]
    );
    assert_eq!(
        world.list(None, &objects, 12),
        [
            found(12, Finding::Lost { missing: 1 }),
            Output::Abandon,
            Output::Probe
        ]
    );
    assert!(matches!(
        &*world.step(probed(13)),
        [Output::EraNeeded {
            reason: GapReason::UpstreamInconsistent,
            repaired: false,
            ..
        }]
    ));
    world.step(Input::Granted);
    world.step(OPENED);
    assert_eq!(world.session.delivered(), rv(13));
}

#[test]
fn an_event_that_is_on_its_way_is_not_missing() {
    let mut world = World::verified();
    world.due_in(QUIET_MS);
    let objects = [("a", 3), ("b", 4), ("c", 11)];
    assert_eq!(world.list(None, &objects, 12), []);
    world.pass(GRACE_MS - 1);
    world.deliver(11, Change::Added, "c");
    assert_eq!(
        world.pass(GRACE_MS),
        [found(12, Finding::Agrees), Output::Closed(rv(12))]
    );
}

#[test]
fn what_a_watch_keeps_back_comes_with_the_next_one() {
    let mut world = World::verified();
    world.due_in(QUIET_MS);
    let objects = [("a", 3), ("c", 11)];
    assert_eq!(world.list(None, &objects, 12), []);
    let outputs = world.pass(GRACE_MS);
    world.looks_again(&outputs, 12, 9);
    world.deliver(10, Change::Deleted, "b");
    world.deliver(11, Change::Added, "c");
    world.due_in(SETTLE_MS);
    assert_eq!(world.list(None, &objects, 14), []);
    assert_eq!(
        world.pass(GRACE_MS),
        [found(14, Finding::Agrees), Output::Closed(rv(14))]
    );
}

#[test]
fn what_a_quiet_stream_does_not_deliver_is_repaired() {
    let mut world = World::verified();
    world.due_in(QUIET_MS);
    let objects = [("a", 3), ("b", 11)];
    world.list(None, &objects, 12);
    let outputs = world.pass(GRACE_MS);
    world.looks_again(&outputs, 12, 9);
    world.due_in(SETTLE_MS);
    world.list(None, &objects, 13);
    assert_eq!(
        world.pass(GRACE_MS),
        [
            found(13, Finding::Stuck { missing: 1 }),
            Output::Abandon,
            Output::Probe
        ]
    );
    let (from, to) = (rv(9), rv(14));
    assert_eq!(world.step(probed(14)), [Output::CheckRepair { from, to }]);
}

#[test]
fn t4_history_that_is_another_one_begins_an_era() {
    let mut world = World::verified();
    world.deliver(12, Change::Added, "d");
    world.now_ms += AUDIT_MS;
    world.step(Input::Tick);
    world.step(Input::MayList);
    let outputs = world.step(Input::Listed {
        listing: Listing::new(None).taken_at(rv(20)),
        is_rewound: true,
    });
    assert_eq!(
        outputs,
        [found(20, Finding::Rewound), Output::Abandon, Output::Probe]
    );
    assert!(matches!(
        &*world.step(probed(21)),
        [Output::EraNeeded {
            reason: GapReason::HistoryReset,
            ..
        }]
    ));
}

/// A cluster is replaced between the list and the watch, which begins at a version that the new
/// cluster has as well.
#[test]
fn t4_a_bookmark_behind_the_list_proves_nothing_and_a_list_behind_it_has_the_probe_decide() {
    let mut world = World::reopened(1, 77);
    assert_eq!(world.pass(3_000), []);
    assert_eq!(world.step(Input::Bookmark(rv(1))), []);
    world.due_in(SETTLE_MS - 3_000);
    let present = world.list(Some(1), &[], 1);
    let outputs = world.answer(&present, None, &[], 1);
    assert_eq!(outputs, [Output::Abandon, Output::Probe]);
}

#[test]
fn a_bookmark_on_the_way_to_the_list_is_progress() {
    let mut world = World::reopened(1, 77);
    assert_eq!(world.pass(3_000), []);
    assert_eq!(
        world.step(Input::Bookmark(rv(40))),
        [Output::Closed(rv(40))]
    );
    assert_eq!(world.step(Input::Bookmark(rv(40))), []);
    world.due_in(SETTLE_MS);
}

#[test]
fn t4_a_probe_that_finds_another_history_begins_an_era() {
    let mut world = World::watching(5, 9);
    let broken = Failure::Other {
        retry_after_ms: None,
    };
    world.step(Input::Failed(broken));
    world.step(Input::Waited);
    let outputs = world.step(Input::Probed {
        at: rv(50),
        cluster_uid: String::new(),
        is_rewound: true,
    });
    assert!(matches!(
        &*outputs,
        [Output::EraNeeded {
            reason: GapReason::HistoryReset,
            repaired: false,
            ..
        }]
    ));
}

#[test]
fn a_position_whose_exact_list_is_gone_stays_where_it_is() {
    let mut world = World::watching(5, 9);
    world.due_in(SETTLE_MS);
    world.step(Input::MayList);
    let outputs = world.step(Input::ListGone);
    assert_eq!(
        world.answer(&outputs, None, &[("a", 3)], 9),
        [found(9, Finding::Begun)]
    );
    // What follows can still be found missing.
    assert_eq!(world.session.wake_at(), Some(world.now_ms + AUDIT_MS));
    assert_eq!(world.session.delivered(), rv(5));
}

#[test]
fn a_list_that_fails_is_tried_again_after_a_while_and_one_that_was_given_up_is_ignored() {
    let mut world = World::watching(5, 9);
    world.due_in(SETTLE_MS);
    world.step(Input::MayList);
    let failed = Input::ListFailed {
        retry_after_ms: Some(40_000),
    };
    assert_eq!(world.step(failed), []);
    world.due_in(40_000);
    world.step(Input::MayList);
    world.step(Input::Ended);
    assert!(!world.session.is_verifying());
    let listing = Listing::new(None).taken_at(rv(9));
    let late = Input::Listed {
        listing,
        is_rewound: false,
    };
    assert_eq!(world.step(late), []);
}

#[test]
fn nothing_is_verified_regularly_where_that_is_switched_off() {
    let resume = ResumePoint::At(Position::closed(Era(1), rv(5)));
    let policy = SessionPolicy {
        audit_ms: 0,
        ..SessionPolicy::default()
    };
    let mut session = WatchSession::new(resume, None, policy);
    session.step(0, Input::Start);
    session.step(0, probed(5));
    session.step(0, OPENED);
    let mut world = World { session, now_ms: 0 };
    for second in 0..2 * AUDIT_MS / 1_000 {
        world.now_ms = second * 1_000;
        world.deliver(10 + second, Change::Modified, "a");
        assert_eq!(world.step(Input::Tick), []);
    }
}
