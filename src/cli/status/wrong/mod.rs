//! What is wrong with a group: decided from what a replica answered, and explained in plain
//! sentences.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};

use super::{Cluster, Group, Shard};
use crate::{
    cli::time::{milliseconds, short},
    domain::id::UnixMillis,
    proto::v1::{Member, MemberHealth, MemberRole, MoveReason},
};

/// An API server is heard at least once a minute, by its bookmarks. One that has been silent for
/// twice as long is no longer followed.
pub(in crate::cli) const LAG_MAX_MS: u64 = 120_000;
/// Clocks that are so far apart are worth a correction.
const CLOCK_OFFSET_MAX_MS: u64 = 2_000;
/// Names that a sentence lists; of more it gives the number.
const NAMES_MAX: usize = 5;

/// What a replica answered, and what was seen from here.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) group: Group,
    /// The replica that answered, and the revision of its answer.
    pub(super) answered_by: String,
    pub(super) revision: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) clusters: Vec<Cluster>,
    /// Members that accept no connection from here; looked for only where there is no leader.
    pub(super) silent: Vec<String>,
    pub(super) now: UnixMillis,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    severity: Severity,
    /// What is the case.
    pub(super) what: String,
    /// What to do about it.
    pub(super) to_do: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Something does not work, or soon may not.
    Wrong,
    /// Works, and could be better.
    Note,
}

impl Finding {
    fn wrong(what: String, to_do: impl Into<String>) -> Self {
        Self {
            severity: Severity::Wrong,
            what,
            to_do: to_do.into(),
        }
    }

    fn note(what: String, to_do: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            what,
            to_do: to_do.into(),
        }
    }

    /// Whether it makes the group unhealthy.
    pub(super) fn is_wrong(&self) -> bool {
        self.severity == Severity::Wrong
    }
}

impl Seen {
    /// Shards without an owner that should have one.
    pub(super) fn unowned(&self) -> impl Iterator<Item = &Shard> {
        let unowned = self.shards.iter().filter(|shard| shard.owner.is_empty());
        unowned.filter(|shard| shard.reason() != MoveReason::Paused)
    }

    fn voters(&self) -> Vec<&Member> {
        let votes =
            |member: &&Member| matches!(member.role(), MemberRole::Voter | MemberRole::Leader);
        self.group.members.iter().filter(votes).collect()
    }
}

/// Everything that a person should know, the worst first.
pub(super) fn findings(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.group.group_id.is_empty() {
        findings.push(Finding::wrong(
            "the group is not formed yet".into(),
            "start every replica in --peers; one of them bootstraps the group once all answer and \
             have no data",
        ));
    } else if seen.group.leader.is_empty() {
        findings.push(without_leader(seen));
    } else {
        findings.extend(opinions_missing(seen));
        findings.extend(seen.group.members.iter().filter_map(member));
        findings.extend(drained(seen));
        findings.extend(seen.group.members.iter().filter_map(clock));
        findings.extend(margin(seen));
    }
    findings.extend(versions(seen));
    findings.extend(number_of_voters(seen));
    findings.extend(unowned(seen));
    findings.extend(cluster::findings(seen));
    if seen.clusters.is_empty() && !seen.group.group_id.is_empty() {
        findings.push(Finding::note(
            "no cluster is monitored yet".into(),
            "add one with `quorumwatch clusters add`",
        ));
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// What a group without a quorum does.
const STANDS_STILL: &str = "no shard moves, no cluster can be added or changed, and owners stop \
                            publishing when their leases end; nothing is lost, progress stops";

fn without_leader(seen: &Seen) -> Finding {
    let voters = seen.voters();
    let quorum = voters.len() / 2 + 1;
    let silent = |member: &&&Member| seen.silent.contains(&member.name);
    let down: Vec<_> = voters.iter().filter(silent).map(|m| &m.name).collect();
    let answering = voters.len() - down.len();
    if answering < quorum {
        return Finding::wrong(
            format!(
                "the group has no leader: {STANDS_STILL}. {answering} of {} voters answer here, \
                 {quorum} are needed",
                voters.len()
            ),
            format!("start {} again", listed(down.into_iter())),
        );
    }
    Finding::wrong(
        format!("the group has no leader: {STANDS_STILL}"),
        "an election takes about a second, so check again; if it lasts, check that the replicas \
         reach each other at their peer addresses, and read their logs",
    )
}

/// A leader that this replica cannot ask.
fn opinions_missing(seen: &Seen) -> Option<Finding> {
    let members = &seen.group.members;
    let unknown = |member: &Member| member.health() == MemberHealth::Unknown;
    (!members.is_empty() && members.iter().all(unknown)).then(|| {
        let (leader, asked) = (&seen.group.leader, &seen.answered_by);
        Finding::wrong(
            format!("{asked} cannot ask the leader {leader}, so health and lag are not known"),
            format!(
                "check again; if it lasts, check that {asked} reaches {leader} at its peer address"
            ),
        )
    })
}

fn member(member: &Member) -> Option<Finding> {
    let name = &member.name;
    let silence = member
        .silence
        .as_ref()
        .map(|span| milliseconds(span).unsigned_abs());
    let silent = silence.map_or_else(String::new, |ms| format!(", silent for {}", short(ms)));
    let shards = match member.shards {
        0 => String::new(),
        1 => "; a shard of it waits for another owner".to_owned(),
        count => format!("; {count} shards of it wait for another owner"),
    };
    match member.health() {
        MemberHealth::Unavailable => Some(Finding::wrong(
            format!("replica {name} is unavailable{silent}{shards}"),
            format!(
                "start it again with its data; if it is gone for good: \
                 `quorumwatch members remove {name}`"
            ),
        )),
        MemberHealth::Suspect => Some(Finding::note(
            format!("replica {name} has not sent this leader a heartbeat yet"),
            "check again in a second",
        )),
        _ if member.role() == MemberRole::Registered => Some(Finding::note(
            format!("replica {name} is not yet part of the group's membership"),
            "it joins automatically while it runs; if it does not, its log has the reason",
        )),
        _ => None,
    }
}

/// Replicas that take no shards because they are drained.
fn drained(seen: &Seen) -> Option<Finding> {
    let drained = || seen.group.members.iter().filter(|member| member.draining);
    let takes = |member: &Member| member.health() == MemberHealth::Active && !member.draining;
    let names: Vec<_> = drained().map(|member| &member.name).collect();
    let first = names.first()?;
    let listed = listed(names.iter().copied());
    let to_do = format!(
        "`quorumwatch members resume {first}` lets it take shards again, when what it was drained \
         for is done"
    );
    if !seen.group.members.iter().any(takes) {
        let what = format!(
            "no replica takes shards ({listed} drained): each keeps what it has, and what is new or \
             loses its owner is not watched"
        );
        return Some(Finding::wrong(what, to_do));
    }
    let left: u32 = drained().map(|member| member.shards).sum();
    let what = match left {
        0 => format!("drained, and owning nothing: {listed}"),
        left => format!(
            "being drained: {listed}, {left} shards are still to move. What no other replica can \
             watch stays"
        ),
    };
    Some(Finding::note(what, to_do))
}

/// A leader without a quorum, or one with nothing to spare.
fn margin(seen: &Seen) -> Option<Finding> {
    let voters = seen.voters();
    let down = |member: &&&Member| member.health() == MemberHealth::Unavailable;
    let down: Vec<_> = voters.iter().filter(down).map(|m| &m.name).collect();
    let quorum = voters.len() / 2 + 1;
    let up = voters.len() - down.len();
    if up < quorum || !seen.group.has_quorum {
        return Some(Finding::wrong(
            format!(
                "the group has no quorum: {STANDS_STILL}. {up} of {} voters are up, {quorum} are \
                 needed",
                voters.len()
            ),
            if down.is_empty() {
                "check that the replicas reach each other at their peer addresses".into()
            } else {
                format!("start {} again", listed(down.into_iter()))
            },
        ));
    }
    (!down.is_empty() && up == quorum).then(|| {
        Finding::wrong(
            format!(
                "{up} of {} voters are up, and {quorum} are needed: losing one more stops the group",
                voters.len()
            ),
            "restore the failed replicas before changing anything else",
        )
    })
}

fn number_of_voters(seen: &Seen) -> Option<Finding> {
    match seen.voters().len() {
        0 => None,
        1 => Some(Finding::note(
            "the group has one voter: no fault tolerance".into(),
            "fine for trying it out; run three replicas otherwise",
        )),
        2 => Some(Finding::note(
            "the group has two voters: losing either stops it".into(),
            "run three replicas",
        )),
        voters if voters % 2 == 0 => Some(Finding::note(
            format!(
                "{voters} voters tolerate no more failures than {}",
                voters - 1
            ),
            "run an odd number of replicas",
        )),
        _ => None,
    }
}

fn unowned(seen: &Seen) -> Option<Finding> {
    let names: Vec<_> = seen.unowned().map(|shard| &shard.name).collect();
    let what = match names.as_slice() {
        [] => return None,
        [name] => format!("shard {name} has no owner: it is not being watched"),
        names => format!(
            "{} shards have no owner ({}): they are not being watched",
            names.len(),
            listed(names.iter().copied())
        ),
    };
    Some(Finding::wrong(
        what,
        "the leader assigns them to active replicas that are not drained within a second; if there \
         is none, start or resume one. They resume where they stopped",
    ))
}

/// `a, b and 3 more`.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let count = names.len();
    let shown: Vec<_> = names.take(NAMES_MAX).map(String::as_str).collect();
    let mut text = shown.join(", ");
    if count > NAMES_MAX {
        text.push_str(&format!(" and {} more", count - NAMES_MAX));
    }
    text
}

/// Replicas of different versions: right during an upgrade, and no longer.
fn versions(seen: &Seen) -> Option<Finding> {
    let versions = seen.group.members.iter().map(|member| &member.version);
    let versions: BTreeSet<_> = versions.filter(|version| !version.is_empty()).collect();
    (versions.len() > 1).then(|| {
        Finding::note(
            format!(
                "the replicas run different versions: {}",
                listed(versions.into_iter())
            ),
            "finish the upgrade; `quorumwatch members` shows the versions",
        )
    })
}

/// Clocks that are far from the leader's.
fn clock(member: &Member) -> Option<Finding> {
    let offset = milliseconds(member.clock_offset.as_ref()?);
    (offset.unsigned_abs() > CLOCK_OFFSET_MAX_MS).then(|| {
        let (name, far) = (&member.name, short(offset.unsigned_abs()));
        let side = if offset < 0 { "behind" } else { "ahead of" };
        Finding::wrong(
            format!("the clock of replica {name} is {far} {side} the leader's"),
            "correct it (NTP): the times it displays are wrong, and certificates and tokens may \
             seem expired. Leases do not depend on it",
        )
    })
}

/// How many shards each replica owns; `""` for those without an owner.
pub(super) fn shards_by_owner(shards: &[Shard]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for shard in shards {
        *counts.entry(shard.owner.as_str()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
