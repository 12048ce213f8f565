use super::{GapReason, Reader, Way, way};
use crate::domain::delivery::fixtures::{owner, place, position};

#[test]
fn the_table_for_a_subscriber() {
    let gap = || Way::Gap(GapReason::HistoryReset);
    let repair = |from: &str, to: &str| Way::Repair {
        from: position(from),
        to: position(to),
    };
    let rows = [
        // Where it stands, whether the log has what comes next there, how it is served.
        ("3/40", Some(7), Way::Log(7)),
        ("3/25", None, Way::Watch),
        ("3/25/1", None, Way::Watch),
        ("4/5", None, Way::Ahead),
        ("2/10", Some(7), Way::Log(7)),
        ("2/10", None, repair("2/10", "3/20")),
        ("2/8", None, repair("2/8", "3/20")),
        ("2/12", None, repair("2/12", "3/20")),
        ("2/12/0", None, Way::CloseVersion(position("2/12/0"))),
        ("2/20/3", None, Way::CloseVersion(position("2/20/3"))),
        ("2/20", None, Way::Enter(position("3/20"))),
        ("2/25", None, Way::Enter(position("3/25"))),
        ("2/25/1", None, Way::Enter(position("3/25/1"))),
        ("1/8", None, gap()),
        ("1/25", None, gap()),
        ("snapshot", None, Way::Snapshot),
        ("snapshot 3/25+4", None, Way::Snapshot),
        ("snapshot 4/25+4", None, Way::Ahead),
        ("repair 2/10>3/20+4", Some(7), Way::Log(7)),
        ("repair 2/10>3/20+4", None, repair("2/10", "3/20")),
        // Counted from elsewhere than those in the log.
        ("repair 2/8>3/20+4", Some(7), repair("2/8", "3/20")),
        ("repair 3/22>3/28+4", None, repair("3/22", "3/28")),
        ("repair 1/8>2/9+4", None, gap()),
        ("repair 3/8>4/9+4", None, Way::Ahead),
    ];
    for (at, next, expected) in rows {
        let found = way(&place(at), Reader::Subscriber, &owner(next), true);
        assert_eq!(found, expected, "{at} {next:?}");
    }
    let refused = way(&place("3/25"), Reader::Subscriber, &owner(None), false);
    assert_eq!(
        refused,
        repair("3/25", "3/20"),
        "never asked for by a session"
    );
}

#[test]
fn the_table_for_a_log() {
    let skip = || Way::Skip(position("3/30"));
    for (at, next, watchable, expected) in [
        ("3/40", Some(7), true, Way::Log(7)),
        ("3/25", None, true, Way::Watch),
        ("3/25", None, false, skip()),
        ("2/10", None, true, skip()),
        ("1/10", None, true, skip()),
        ("4/1", None, true, Way::Ahead),
        ("repair 2/10>3/20+4", Some(7), true, Way::Log(7)),
        ("repair 2/8>3/20+4", Some(7), true, Way::Log(7)),
        ("repair 2/10>3/20+4", None, true, skip()),
    ] {
        let found = way(&place(at), Reader::Log, &owner(next), watchable);
        assert_eq!(found, expected, "{at} {next:?}");
    }
}
