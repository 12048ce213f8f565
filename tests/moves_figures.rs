//! How `benches/moves` makes figures of what subscribers received.

#[path = "../benches/moves/asked.rs"]
mod asked;
#[path = "../benches/moves/silence.rs"]
#[allow(dead_code, reason = "shared, and not all of it is needed here")]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are not exact"
)]
mod silence;

use asked::{Asked, is_list, is_watch};
use silence::{Arrival, Check, Commit, Commits, Pair, percentile, silence};

const fn arrival(version: u64, at: u64) -> Arrival {
    Arrival {
        at,
        version,
        epoch: 1,
        read_unix: 0,
    }
}

fn pair(committed: u64, at: u64) -> Pair {
    Pair {
        arrival: arrival(committed, at),
        committed,
    }
}

/// Versions 10, 20, … of a stream, each committed at its own number.
fn commits(count: u64) -> Commits {
    let mut commits = Commits::default();
    for number in 1..=count {
        let version = number * 10;
        commits.push(Commit {
            at: version,
            version,
        });
    }
    commits
}

fn check(commits: &Commits, versions: &[u64]) -> Check {
    let mut check = Check::default();
    for version in versions {
        check.take(arrival(*version, 0), commits);
    }
    check
}

#[test]
fn what_is_passed_over_is_lost_and_what_comes_again_is_a_duplicate() {
    let commits = commits(5);
    let whole = check(&commits, &[10, 20, 30, 40, 50]);
    assert_eq!((whole.lost, whole.duplicated, whole.unknown), (0, 0, 0));
    assert_eq!(whole.next, commits.count());
    let holes = check(&commits, &[10, 40, 50]);
    assert_eq!((holes.lost, holes.duplicated, holes.unknown), (2, 0, 0));
    let twice = check(&commits, &[10, 20, 20, 10, 30]);
    assert_eq!((twice.lost, twice.duplicated, twice.unknown), (0, 2, 0));
    let foreign = check(&commits, &[10, 25, 60]);
    assert_eq!((foreign.duplicated, foreign.unknown), (0, 2));
}

#[test]
fn a_duplicate_of_what_is_no_longer_kept_is_one_all_the_same() {
    let mut commits = commits(5);
    let mut check = check(&commits, &[10, 20, 30]);
    commits.drop_before(3);
    assert_eq!(commits.count(), 5);
    check.take(arrival(20, 0), &commits);
    assert_eq!((check.duplicated, check.unknown), (1, 0));
    assert_eq!(
        commits.at(check.next).map(|commit| commit.version),
        Some(40)
    );
    check.take(arrival(40, 0), &commits);
    assert_eq!((check.lost, check.next), (0, 4));
}

#[test]
fn the_time_between_two_commits_is_no_silence() {
    // One every 10; the third comes 300 late, the fourth with it.
    let pairs = [pair(10, 11), pair(20, 21), pair(30, 331), pair(40, 331)];
    let seen = silence(&pairs, 25, 400, None);
    assert_eq!((seen.longest, seen.latest, seen.is_open), (300, 301, false));
    assert_eq!(seen.first, 331 - 25);
    // A writer that pauses itself is no silence either.
    let pairs = [pair(10, 11), pair(2_000, 2_001)];
    assert_eq!(silence(&pairs, 12, 3_000, None).longest, 0);
}

#[test]
fn a_silence_that_ended_before_the_disturbance_is_none_of_it() {
    let pairs = [pair(10, 11), pair(20, 521), pair(530, 531), pair(540, 541)];
    assert_eq!(silence(&pairs, 525, 600, None).longest, 0);
    assert_eq!(silence(&pairs, 521, 600, None).longest, 500);
}

#[test]
fn a_silence_that_has_not_ended_counts_as_long_as_it_was() {
    let pairs = [pair(10, 11), pair(20, 21)];
    let seen = silence(&pairs, 25, 900_030, Some(30));
    assert_eq!((seen.longest, seen.is_open), (900_000, true));
    assert_eq!(seen.first, 900_030 - 25);
    // What was committed just now is under way.
    let seen = silence(&pairs, 25, 40_030, Some(30));
    assert_eq!((seen.longest, seen.is_open), (0, false));
}

#[test]
fn a_percentile_is_one_of_the_values() {
    let values: Vec<_> = (1..=100).map(f64::from).collect();
    let of = |share| percentile(&values, share);
    assert_eq!([of(0.5), of(0.99), of(1.0)], [50.0, 99.0, 100.0]);
    assert_eq!(percentile(&[7.0], 0.5), 7.0);
    assert!(percentile(&[], 0.5).is_nan());
}

#[test]
fn a_list_is_what_returns_objects() {
    for (target, list, watch) in [
        ("/clusters/sim-0/api/v1/events?limit=500", true, false),
        ("/clusters/sim-0/api/v1/events", true, false),
        ("/clusters/sim-0/api/v1/events?limit=1", false, false),
        (
            "/clusters/sim-0/api/v1/configmaps?limit=100&continue=x",
            true,
            false,
        ),
        (
            "/clusters/sim-0/api/v1/events?watch=true&resourceVersion=5",
            false,
            true,
        ),
        (
            "/clusters/sim-0/api/v1/configmaps?watch=true&sendInitialEvents=true",
            true,
            true,
        ),
        (
            "/clusters/sim-0/api/v1/namespaces/kube-system",
            false,
            false,
        ),
        ("/clusters/sim-0/api/v1", false, false),
    ] {
        assert_eq!(
            (is_list(target), is_watch(target)),
            (list, watch),
            "{target}"
        );
    }
}

#[test]
fn the_busiest_second_is_the_busiest_of_all() {
    let asked = |requests, lists, busiest_second| Asked {
        requests,
        lists,
        busiest_second,
    };
    let mut sum = asked(5, 1, 4);
    sum.add(asked(3, 2, 3));
    assert_eq!(sum, asked(8, 3, 4));
}

#[test]
fn what_a_gap_leaves_out_is_declared_and_what_comes_twice_is_not() {
    let mut commits = Commits::default();
    for version in 1..=6 {
        commits.push(Commit {
            at: version * 10,
            version,
        });
    }
    let mut check = Check::default();
    assert!(check.take(arrival(1, 11), &commits).is_some());
    // By object: the later version first; 3 is of an object that has 5.
    let left = [5, 2, 4].map(|version| arrival(version, 70));
    assert_eq!(check.take_with_gap(&left, &commits).len(), 3);
    assert_eq!((check.next, check.coalesced, check.lost), (5, 1, 0));
    let again = [6, 6, 4, 9].map(|version| arrival(version, 80));
    assert_eq!(check.take_with_gap(&again, &commits).len(), 1);
    assert_eq!((check.next, check.duplicated, check.unknown), (6, 2, 1));
}
