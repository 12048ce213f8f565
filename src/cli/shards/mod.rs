//! `quorumwatch shards`: the owner of each shard.

mod moves;
mod watch;

use std::io::Write;

use super::{
    Error,
    clusters::NO_CLUSTERS,
    connection::Connection,
    json::{Json, word},
    output::{self, Format, Output},
    position,
    table::{Table, or_dash},
    terminal::Colour,
    time::{age, instant},
};
use crate::proto::v1::{ListShardsRequest, MoveShardRequest, Shard, WatchShardsRequest};
use moves::Moves;
pub(super) use moves::reason;

/// Show which replica owns each shard, and every change; or move a shard.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  quorumwatch shards                  who owns what
  quorumwatch shards prod-eu          one of them, with its streams and checkpoints
  quorumwatch shards --owner a        what a owns
  quorumwatch shards --unowned        shards without an owner
  quorumwatch shards --watch          every change of ownership, as it happens
  quorumwatch shards move prod-eu --to b"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
    /// Only this shard: "cluster/slice", or the cluster's name.
    #[arg(
        value_name = "SHARD",
        conflicts_with_all = ["watch", "clusters", "owners", "unowned"]
    )]
    name: Option<String>,
    /// Only shards of these clusters, separated by ','; may be repeated.
    #[arg(long = "cluster", value_name = "NAME", value_delimiter = ',')]
    clusters: Vec<String>,
    /// Only shards of these owners, separated by ','; may be repeated. With --watch: also those that
    /// they owned before a change.
    #[arg(long = "owner", value_name = "NAME", value_delimiter = ',')]
    owners: Vec<String>,
    /// Only shards without an owner; combined with --owner, those as well.
    #[arg(long)]
    unowned: bool,
    /// Then show each change of ownership, until Ctrl-C. With -o json: one line per message.
    #[arg(short = 'w', long)]
    watch: bool,
    /// When colours are used.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
}

#[derive(Debug, clap::Subcommand)]
enum Change {
    /// Move a shard to a replica, once that one has opened its watches
    Move {
        /// Which one: "cluster/slice", or the cluster's name
        #[arg(value_name = "SHARD")]
        name: String,
        /// The replica that is to own it
        #[arg(long, value_name = "REPLICA")]
        to: String,
        /// Only see whether the replica can watch the cluster: the shard does not move
        #[arg(long, visible_alias = "dry-run")]
        validate_only: bool,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}

/// Moves a shard.
async fn change(change: Change) -> Result<(), Error> {
    let Change::Move {
        name,
        to,
        validate_only,
        connection,
        output,
    } = change;
    let request = MoveShardRequest {
        name,
        to: to.clone(),
        validate_only,
    };
    let answer = connection.client()?.move_shard(request).await?;
    let shard = answer.shard.unwrap_or_default();
    match output.format {
        Format::Json => output::write_json(&mut output::open(), &Json::of(&shard))?,
        Format::Table if validate_only && shard.owner != to => {
            output::note(&format!("{to} can watch {}; it was not moved", shard.name));
        }
        Format::Table => {
            let Shard { name, epoch, .. } = &shard;
            output::note(&format!(
                "{name} is owned by {}, epoch {epoch}",
                or_dash(&shard.owner)
            ));
        }
    }
    Ok(())
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    if let Some(wanted) = arguments.change {
        return change(wanted).await;
    }
    let client = arguments.connection.client()?;
    let format = arguments.output.format;
    let mut out = output::open();
    if let Some(name) = arguments.name {
        let shard = client.get_shard(&name).await?.shard.unwrap_or_default();
        return match format {
            Format::Json => output::write_json(&mut out, &Json::of(&shard)),
            Format::Table => write_one(&mut out, &shard).map_err(Error::Output),
        };
    }
    let mut owners = arguments.owners;
    // In the API, the owner of a shard without one has an empty name.
    owners.extend(arguments.unowned.then(String::new));
    let clusters = arguments.clusters;
    if arguments.watch {
        let request = WatchShardsRequest {
            clusters,
            owners,
            ..WatchShardsRequest::default()
        };
        return watch::run(&client, request, format, arguments.color.on_stdout()).await;
    }
    let is_filtered = !clusters.is_empty() || !owners.is_empty();
    let request = ListShardsRequest {
        clusters,
        owners,
        ..ListShardsRequest::default()
    };
    let all = client.list_shards(request).await?;
    match format {
        Format::Json => output::write_json(&mut out, &Json::of(&all)),
        Format::Table if all.shards.is_empty() => {
            output::note(none(is_filtered));
            Ok(())
        }
        Format::Table => write_all(&mut out, &all.shards).map_err(Error::Output),
    }
}

/// What is shown where there is no shard.
fn none(is_filtered: bool) -> &'static str {
    if is_filtered {
        "no shard matches"
    } else {
        NO_CLUSTERS
    }
}

fn write_all<'a>(
    out: &mut impl Write,
    shards: impl IntoIterator<Item = &'a Shard>,
) -> std::io::Result<()> {
    let rows: Vec<_> = shards.into_iter().map(row).collect();
    let head = [
        "SHARD", "OWNER", "EPOCH", "PHASE", "REASON", "SINCE", "STREAMS",
    ];
    Table::new(head).write(out, &rows)?;
    out.flush()
}

fn row(shard: &Shard) -> [String; 7] {
    let since = shard.since_time.as_ref().and_then(instant);
    [
        shard.name.clone(),
        or_dash(&shard.owner),
        shard.epoch.to_string(),
        word(shard.phase().as_str_name(), "SHARD_PHASE_"),
        reason(shard.reason()),
        since.map_or_else(|| "-".into(), |since| age(&since)),
        shard.streams.len().to_string(),
    ]
}

fn write_one(out: &mut impl Write, shard: &Shard) -> std::io::Result<()> {
    write_all(out, [shard])?;
    writeln!(out)?;
    let rows: Vec<_> = shard
        .streams
        .iter()
        .map(|stream| {
            [
                stream.stream.clone(),
                stream.resource.clone(),
                or_dash(&stream.namespace),
                or_dash(&stream.label_selector),
                or_dash(&stream.field_selector),
                position::shown_or_dash(stream.checkpoint.as_ref()),
            ]
        })
        .collect();
    let head = [
        "STREAM",
        "RESOURCE",
        "NAMESPACE",
        "LABELS",
        "FIELDS",
        "CHECKPOINT",
    ];
    Table::new(head).write(out, &rows)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::{Shard, write_one};
    use crate::proto::v1::{Position, Stream};

    #[test]
    fn a_shard_is_shown_with_the_identity_and_the_checkpoint_of_each_stream() {
        let shard = Shard {
            name: "a/0".into(),
            streams: vec![Stream {
                stream: "7".into(),
                resource: "v1/events".into(),
                namespace: "shop".into(),
                checkpoint: Some(Position {
                    era: 2,
                    resource_version: "55".into(),
                    ordinal: None,
                }),
                ..Stream::default()
            }],
            ..Shard::default()
        };
        let mut out = Vec::new();
        write_one(&mut out, &shard).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("7        v1/events   shop        -        -        2/55\n"),
            "{text}"
        );
    }
}
