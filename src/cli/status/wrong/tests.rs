use prost_types::{Duration, Timestamp};

use super::{
    Cluster, Finding, Group, LAG_MAX_MS, Member, MemberHealth, MemberRole, MoveReason, Seen, Shard,
    UnixMillis, findings,
};
use crate::proto::v1::{ClusterCondition, ClusterHealth};

const NOW: UnixMillis = UnixMillis(1_000_000_000);

/// A healthy group of so many voters, the first of which leads and answers.
fn group(voters: usize) -> Group {
    let member = |index: usize| Member {
        name: name(index),
        role: match index {
            0 => MemberRole::Leader.into(),
            _ => MemberRole::Voter.into(),
        },
        health: MemberHealth::Active.into(),
        ..Member::default()
    };
    Group {
        group_id: "g".into(),
        leader: "a".into(),
        has_quorum: true,
        members: (0..voters).map(member).collect(),
        ..Group::default()
    }
}

fn name(index: usize) -> String {
    ["a", "b", "c", "d", "e"][index].to_owned()
}

fn cluster(condition: ClusterCondition) -> Cluster {
    Cluster {
        name: "prod".into(),
        health: Some(ClusterHealth {
            condition: condition.into(),
            reason: "because".into(),
            ..ClusterHealth::default()
        }),
        ..Cluster::default()
    }
}

fn shard(owner: &str, reason: MoveReason) -> Shard {
    Shard {
        name: "prod/0".into(),
        cluster: "prod".into(),
        owner: owner.into(),
        reason: reason.into(),
        ..Shard::default()
    }
}

fn healthy() -> Seen {
    Seen {
        group: group(3),
        answered_by: "a".into(),
        revision: 7,
        shards: vec![shard("a", MoveReason::Placed)],
        clusters: vec![cluster(ClusterCondition::Connected)],
        silent: Vec::new(),
        now: NOW,
    }
}

fn span(milliseconds: i64) -> Duration {
    let nanos = i32::try_from(milliseconds % 1000).unwrap() * 1_000_000;
    Duration {
        seconds: milliseconds / 1000,
        nanos,
    }
}

/// What is wrong, and what is merely noted.
fn said(seen: &Seen) -> (Vec<String>, Vec<String>) {
    let (wrong, notes): (Vec<_>, Vec<_>) = findings(seen).into_iter().partition(Finding::is_wrong);
    let what = |findings: Vec<Finding>| {
        assert!(findings.iter().all(|finding| !finding.to_do.is_empty()));
        findings.into_iter().map(|finding| finding.what).collect()
    };
    (what(wrong), what(notes))
}

/// The one thing that is wrong.
fn only(seen: &Seen) -> String {
    let (mut wrong, _) = said(seen);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    wrong.remove(0)
}

#[test]
fn nothing_is_said_of_a_healthy_group() {
    assert_eq!(said(&healthy()), (vec![], vec![]));
}

#[test]
fn a_group_without_a_leader_names_who_is_down_and_how_many_are_needed() {
    let mut seen = healthy();
    seen.group.leader.clear();
    for member in &mut seen.group.members {
        member.health = MemberHealth::Unknown.into();
        member.role = MemberRole::Voter.into();
    }
    seen.silent = vec!["b".into(), "c".into()];
    let wrong = only(&seen);
    assert!(wrong.contains("no leader"), "{wrong}");
    assert!(
        wrong.contains("1 of 3 voters answer here, 2 are needed"),
        "{wrong}"
    );
    assert_eq!(findings(&seen)[0].to_do, "start b, c again");
    // A quorum is there: an election is due.
    seen.silent.pop();
    assert!(findings(&seen)[0].to_do.contains("election"));
}

#[test]
fn a_group_that_is_not_formed_says_so_and_nothing_else() {
    let seen = Seen::default();
    assert_eq!(said(&seen).0, ["the group is not formed yet"]);
    assert_eq!(said(&seen).1.len(), 0);
}

#[test]
fn a_dead_member_is_wrong_and_the_last_spare_voter_too() {
    let mut seen = healthy();
    let dead = &mut seen.group.members[2];
    dead.health = MemberHealth::Unavailable.into();
    dead.silence = Some(span(12_345));
    dead.shards = 2;
    let (wrong, _) = said(&seen);
    assert_eq!(
        wrong[0],
        "replica c is unavailable, silent for 12s; 2 shards of it wait for another owner"
    );
    assert!(
        wrong[1].contains("losing one more stops the group"),
        "{wrong:?}"
    );
    // A leader may not know yet that it leads nobody.
    seen.group.members[1].health = MemberHealth::Unavailable.into();
    let (wrong, _) = said(&seen);
    let quorum = wrong
        .iter()
        .find(|what| what.contains("no quorum"))
        .unwrap();
    assert!(
        quorum.contains("1 of 3 voters are up, 2 are needed"),
        "{quorum}"
    );
    // Of five, one may be missed.
    seen.group = group(5);
    seen.group.members[2].health = MemberHealth::Unavailable.into();
    assert!(only(&seen).contains("replica c"));
}

#[test]
fn a_leader_that_cannot_be_asked_is_reported_once() {
    let mut seen = healthy();
    for member in &mut seen.group.members {
        member.health = MemberHealth::Unknown.into();
    }
    assert!(only(&seen).contains("cannot ask the leader a"));
}

#[test]
fn numbers_of_voters_that_are_no_good_are_noted() {
    for (voters, expected) in [
        (1, Some("no fault tolerance")),
        (2, Some("either stops it")),
        (3, None),
        (4, Some("no more failures than 3")),
        (5, None),
    ] {
        let mut seen = healthy();
        seen.group = group(voters);
        let (wrong, notes) = said(&seen);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(
            notes.len(),
            usize::from(expected.is_some()),
            "{voters}: {notes:?}"
        );
        assert!(
            notes
                .iter()
                .all(|note| note.contains(expected.unwrap_or_default()))
        );
    }
}

#[test]
fn a_shard_without_an_owner_is_wrong_unless_its_cluster_is_paused() {
    let mut seen = healthy();
    seen.shards = vec![shard("", MoveReason::NoReplica)];
    assert!(only(&seen).contains("shard prod/0 has no owner"));
    seen.shards = vec![shard("", MoveReason::NoReplica); 7];
    assert!(only(&seen).contains("7 shards have no owner"));
    assert!(only(&seen).contains("and 2 more"));
    seen.shards = vec![shard("", MoveReason::Paused)];
    assert_eq!(said(&seen).0.len(), 0);
}

#[test]
fn a_cluster_that_is_not_followed_is_wrong_with_its_reason() {
    for (condition, expected) in [
        (
            ClusterCondition::Unauthenticated,
            "cluster prod does not accept our credentials: because",
        ),
        (
            ClusterCondition::PermissionDenied,
            "cluster prod accepts our credentials, but they lack a permission: because",
        ),
        (
            ClusterCondition::Unreachable,
            "cluster prod cannot be reached: because",
        ),
        (
            ClusterCondition::Degraded,
            "cluster prod is partially watched: because",
        ),
    ] {
        let mut seen = healthy();
        seen.clusters = vec![cluster(condition)];
        assert!(only(&seen).contains(expected), "{}", only(&seen));
        seen.clusters[0].paused = true;
        assert_eq!(said(&seen).0.len(), 0);
    }
}

#[test]
fn a_duplicate_is_wrong_and_both_remedies_are_named() {
    let mut seen = healthy();
    seen.clusters = vec![cluster(ClusterCondition::Duplicate)];
    assert!(only(&seen).starts_with("cluster prod is a duplicate"));
    let to_do = &findings(&seen)[0].to_do;
    assert!(to_do.contains("clusters remove"), "{to_do}");
    assert!(
        to_do.contains("clusters update prod --duplicate-of"),
        "{to_do}"
    );
}

#[test]
fn a_cluster_that_has_been_silent_for_too_long_is_wrong() {
    let mut seen = healthy();
    let most = i64::try_from(LAG_MAX_MS).unwrap();
    seen.clusters[0].lag = Some(span(most));
    assert_eq!(said(&seen).0.len(), 0);
    seen.clusters[0].lag = Some(span(most + 60_000));
    assert!(only(&seen).contains("has sent nothing for 3m"));
}

#[test]
fn a_new_cluster_has_a_moment_to_be_reported_on() {
    let mut seen = healthy();
    seen.clusters = vec![cluster(ClusterCondition::Unknown)];
    let created = |ago: i64| Timestamp {
        seconds: 1_000_000 - ago,
        nanos: 0,
    };
    seen.clusters[0].create_time = Some(created(5));
    assert_eq!(said(&seen).0.len(), 0);
    seen.clusters[0].create_time = Some(created(60));
    assert!(only(&seen).contains("has no report from an owner"));
}

#[test]
fn no_cluster_at_all_is_noted() {
    let mut seen = healthy();
    seen.clusters.clear();
    seen.shards.clear();
    assert_eq!(said(&seen).1, ["no cluster is monitored yet"]);
}

#[test]
fn clocks_and_versions_that_differ_are_reported() {
    let mut seen = healthy();
    seen.group.members[1].clock_offset = Some(span(-90_000));
    seen.group.members[2].clock_offset = Some(span(900));
    let expected = "the clock of replica b is 90s behind the leader's";
    assert_eq!(only(&seen), expected);
    let mut seen = healthy();
    seen.group.members[0].version = "0.1.0".into();
    seen.group.members[1].version = "0.2.0".into();
    let found = said(&seen);
    assert_eq!(found.0.len(), 0);
    assert_eq!(
        found.1,
        ["the replicas run different versions: 0.1.0, 0.2.0"]
    );
}

#[test]
fn a_leader_that_reaches_nobody_has_no_quorum() {
    let mut seen = healthy();
    seen.group.has_quorum = false;
    assert!(only(&seen).contains("the group has no quorum"));
}

#[test]
fn drained_replicas_are_a_note_and_wrong_where_nobody_else_takes_shards() {
    let mut seen = healthy();
    let drain = |seen: &mut Seen, index: usize, shards| {
        let member = &mut seen.group.members[index];
        (member.draining, member.shards) = (true, shards);
    };
    drain(&mut seen, 1, 0);
    let note = findings(&seen).remove(0);
    assert!(!note.is_wrong());
    assert_eq!(note.what, "drained, and owning nothing: b");
    assert!(
        note.to_do.starts_with("`quorumwatch members resume b`"),
        "{note:?}"
    );
    drain(&mut seen, 2, 3);
    let note = findings(&seen).remove(0);
    assert!(!note.is_wrong());
    assert!(
        note.what.starts_with("being drained: b, c, 3 shards"),
        "{note:?}"
    );
    seen.group.members[0].health = MemberHealth::Unavailable.into();
    let found = findings(&seen);
    let wrong = found
        .iter()
        .find(|finding| finding.what.starts_with("no replica takes"));
    assert!(wrong.is_some_and(Finding::is_wrong), "{found:?}");
}
