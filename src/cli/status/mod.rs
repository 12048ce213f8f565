//! `quorumwatch status`: the group on one page, with its problems.

mod page;
mod wrong;

use std::{
    io::{IsTerminal as _, Write},
    time::Duration,
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Endpoint, Error, chain, clusters,
    connection::Connection,
    interrupt,
    json::Json,
    output::{self, CLEAR, Format, Out, Output},
    terminal::Colour,
};
use crate::{
    client::{self, Client},
    clock,
    proto::v1::{Cluster, Group, ListShardsRequest, Shard},
};
pub(super) use wrong::LAG_MAX_MS;
use wrong::{Finding, Seen};

/// How often `--watch` refreshes.
const REFRESH: Duration = Duration::from_secs(2);
/// A replica that takes longer to accept a connection is shown as not answering.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Replicas beyond this many are not probed: no group has so many voters.
const PROBES_MAX: usize = 16;

/// Show the group's status on one page, and its problems.
///
/// Shows what the answering replica knows, even if the group has no leader.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
    /// Refresh every two seconds, until Ctrl-C. With -o json: one line each time.
    #[arg(short = 'w', long)]
    watch: bool,
    /// When colours are used.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
}

const AFTER_HELP: &str = "\
Examples:
  quorumwatch status
  quorumwatch status --watch
  quorumwatch status --endpoints 10.0.0.10:7400,10.0.0.11:7400,10.0.0.12:7400
  quorumwatch status -o json | jq -r '.findings[] | select(.severity == \"wrong\") | .what'

Exit codes:
  0  nothing is wrong (notes are not counted)
  1  no replica answers
  2  wrong usage
  3  the group answers, and something is wrong";

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let client = arguments.connection.client()?;
    let mut out = output::open();
    let format = arguments.output.format;
    let colours = arguments.color.on_stdout();
    if arguments.watch {
        let shutdown = interrupt::token()?;
        return watch(&client, &mut out, format, colours, &shutdown).await;
    }
    let seen = look(&client).await?;
    let findings = wrong::findings(&seen);
    match format {
        Format::Json => output::write_json(&mut out, &document(&seen, &findings))?,
        Format::Table => page::write(&mut out, &seen, &findings, colours)
            .and_then(|()| out.flush())
            .map_err(Error::Output)?,
    }
    if findings.iter().any(Finding::is_wrong) {
        return Err(Error::Unhealthy);
    }
    Ok(())
}

async fn watch(
    client: &Client,
    out: &mut Out,
    format: Format,
    colours: bool,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let mut tick = tokio::time::interval(REFRESH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let redraws = format == Format::Table && std::io::stdout().is_terminal();
    loop {
        let seen = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            seen = async { tick.tick().await; look(client).await } => seen,
        };
        match (seen, format) {
            (Ok(seen), Format::Json) => {
                let findings = wrong::findings(&seen);
                output::write_json_line(out, &document(&seen, &findings))?;
            }
            (Ok(seen), Format::Table) => {
                let findings = wrong::findings(&seen);
                let clear = if redraws { CLEAR } else { "" };
                write!(out, "{clear}")
                    .and_then(|()| page::write(out, &seen, &findings, colours))
                    .and_then(|()| writeln!(out))
                    .map_err(Error::Output)?;
            }
            // It may come back: that is what one watches for.
            (Err(Error::Client(error @ client::Error::NoAnswer { .. })), _) => {
                output::note(&chain(&error));
            }
            (Err(error), _) => return Err(error),
        }
        out.flush().map_err(Error::Output)?;
    }
}

/// Asks for everything that the page shows.
async fn look(client: &Client) -> Result<Seen, Error> {
    let (answer, shards, clusters) = tokio::join!(
        client.get_group(),
        client.list_shards(ListShardsRequest::default()),
        clusters::list(client),
    );
    let answer = answer?;
    let group = answer.group.unwrap_or_default();
    let silent = if group.leader.is_empty() {
        silent_members(&group).await
    } else {
        Vec::new()
    };
    Ok(Seen {
        group,
        answered_by: answer.answered_by,
        revision: answer.revision,
        shards: shards?.shards,
        clusters: clusters?,
        silent,
        now: clock::unix_now(),
    })
}

/// The members that accept no connection. Without a leader nobody else knows.
async fn silent_members(group: &Group) -> Vec<String> {
    let members = group.members.iter().take(PROBES_MAX);
    let probes = members.map(|member| async move {
        let endpoint: Endpoint = member.client_address.parse().ok()?;
        let answer = tokio::time::timeout(PROBE_TIMEOUT, endpoint.connect()).await;
        let answers = matches!(answer, Ok(Ok(_)));
        (!answers).then(|| member.name.clone())
    });
    let silent = futures::future::join_all(probes).await;
    silent.into_iter().flatten().collect()
}

/// What `-o json` prints: the findings first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    healthy: bool,
    findings: Vec<FindingRow<'a>>,
    group: Json,
    answered_by: &'a str,
    /// As text, like every 64-bit number of the API.
    revision: String,
    shards: ShardCounts<'a>,
    clusters: Vec<Json>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingRow<'a> {
    severity: &'static str,
    what: &'a str,
    to_do: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardCounts<'a> {
    count: usize,
    unowned: Vec<&'a str>,
}

fn document<'a>(seen: &'a Seen, findings: &'a [Finding]) -> Document<'a> {
    let row = |finding: &'a Finding| FindingRow {
        severity: if finding.is_wrong() { "wrong" } else { "note" },
        what: &finding.what,
        to_do: &finding.to_do,
    };
    Document {
        healthy: !findings.iter().any(Finding::is_wrong),
        findings: findings.iter().map(row).collect(),
        group: Json::of(&seen.group),
        answered_by: &seen.answered_by,
        revision: seen.revision.to_string(),
        shards: ShardCounts {
            count: seen.shards.len(),
            unowned: seen.unowned().map(|shard| shard.name.as_str()).collect(),
        },
        clusters: seen.clusters.iter().map(without_source).collect(),
    }
}

/// A cluster without its source: a whole kubeconfig would hide the condition.
fn without_source(cluster: &Cluster) -> Json {
    Json::of(&Cluster {
        source: None,
        ..cluster.clone()
    })
}
