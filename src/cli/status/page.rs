//! The page that `status` shows.

use std::io::{self, Write};

use super::{Cluster, Finding, Seen, wrong::shards_by_owner};
use crate::{
    cli::{
        clusters::condition,
        members,
        table::{Table, or_dash, plain},
        terminal::Tone,
        time::{age, instant, short_or_dash},
    },
    proto::v1::{ClusterCondition, Member, Shard},
};

/// More clusters than this are not all listed: the page is to stay one page.
const CLUSTERS_MAX: usize = 15;

/// Writes the page.
pub(super) fn write(
    out: &mut impl Write,
    seen: &Seen,
    findings: &[Finding],
    colours: bool,
) -> io::Result<()> {
    write_head(out, seen, findings, colours)?;
    let rows: Vec<_> = seen.group.members.iter().map(|m| member(m, seen)).collect();
    writeln!(out)?;
    Table::new(members::HEAD).write(out, &rows)?;
    if !seen.clusters.is_empty() {
        writeln!(out)?;
        write_clusters(out, seen)?;
    }
    for finding in findings {
        let (tone, word) = if finding.is_wrong() {
            (Tone::Bad, "WRONG")
        } else {
            (Tone::Notable, "NOTE")
        };
        let word = tone.paint(&format!("{word:5}"), colours);
        writeln!(out, "\n{word}  {}", plain(&finding.what))?;
        writeln!(
            out,
            "       {}",
            Tone::Faint.paint(&plain(&finding.to_do), colours)
        )?;
    }
    Ok(())
}

/// A replica; without a leader nobody else knows which of them are down.
fn member(member: &Member, seen: &Seen) -> [String; 10] {
    let mut row = members::row(member);
    if seen.silent.contains(&member.name) {
        row[members::HEALTH] = "no answer".into();
    }
    row
}

fn write_head(
    out: &mut impl Write,
    seen: &Seen,
    findings: &[Finding],
    colours: bool,
) -> io::Result<()> {
    let group = &seen.group;
    let wrong = findings.iter().filter(|finding| finding.is_wrong()).count();
    let verdict = match wrong {
        0 => Tone::Good.paint("nothing is wrong", colours),
        1 => Tone::Bad.paint("something is wrong", colours),
        count => Tone::Bad.paint(&format!("{count} things are wrong"), colours),
    };
    let unowned = seen.unowned().count();
    let owners = shards_by_owner(&seen.shards);
    let owners = owners.keys().filter(|owner| !owner.is_empty()).count();
    let without = match unowned {
        0 => String::new(),
        count => format!(", {count} without an owner"),
    };
    writeln!(out, "status    {verdict}")?;
    writeln!(out, "group     {}", or_dash(&group.group_id))?;
    writeln!(
        out,
        "leader    {}   term {}   revision {}   as {} sees it",
        if group.leader.is_empty() {
            "none"
        } else {
            &group.leader
        },
        group.term,
        seen.revision,
        or_dash(&seen.answered_by),
    )?;
    writeln!(
        out,
        "shards    {} on {owners} of {} replicas{without}",
        seen.shards.len(),
        group.members.len()
    )
}

fn write_clusters(out: &mut impl Write, seen: &Seen) -> io::Result<()> {
    let all = seen.clusters.len() <= CLUSTERS_MAX;
    let connected = |cluster: &Cluster| {
        let health = cluster.health.as_ref();
        health.is_some_and(|health| health.condition() == ClusterCondition::Connected)
    };
    let listed: Vec<_> = seen
        .clusters
        .iter()
        .filter(|cluster| all || !connected(cluster))
        .collect();
    let hidden = seen.clusters.len() - listed.len();
    let rows: Vec<_> = listed
        .iter()
        .take(CLUSTERS_MAX)
        .map(|cluster| row(cluster, seen))
        .collect();
    if !rows.is_empty() {
        let head = ["CLUSTER", "HEALTH", "LAG", "OWNER", "SINCE", "REASON"];
        Table::new(head).write(out, &rows)?;
    }
    if hidden > 0 {
        writeln!(
            out,
            "{hidden} clusters are connected and not listed here; `quorumwatch clusters` shows all"
        )?;
    }
    match listed.len().saturating_sub(CLUSTERS_MAX) {
        0 => Ok(()),
        more => writeln!(out, "and {more} more that are not connected"),
    }
}

fn row(cluster: &Cluster, seen: &Seen) -> [String; 6] {
    let of_cluster = |shard: &&Shard| shard.cluster == cluster.name;
    let mut owners: Vec<_> = seen
        .shards
        .iter()
        .filter(of_cluster)
        .map(|shard| or_dash(&shard.owner))
        .collect();
    owners.sort();
    owners.dedup();
    let health = cluster.health.clone().unwrap_or_default();
    let since = health.since_time.as_ref().and_then(instant);
    [
        cluster.name.clone(),
        condition(cluster),
        short_or_dash(cluster.lag.as_ref()),
        or_dash(&owners.join(",")),
        since.map_or_else(|| "-".into(), |at| age(&at)),
        or_dash(&health.reason),
    ]
}
