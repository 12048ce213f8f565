//! `quorumwatch shards`: who owns what.

mod moves;

use std::io::Write;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Endpoints, Error,
    clusters::NO_CLUSTERS,
    connection::{Connection, MESSAGE_BYTES_MAX},
    interrupt,
    json::{self, word},
    output::{self, Format, Out, Output},
    shard_watch::{ShardWatch, Told},
    table::{Table, or_dash},
    terminal::Colour,
    time::{age, instant},
};
use crate::proto::v1::{
    GetShardRequest, ListShardsRequest, Shard, WatchShardsResponse,
    shard_service_client::ShardServiceClient, watch_shards_response::Update,
};
use moves::Moves;
pub(super) use moves::reason;

/// Show who owns what, and every change of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorumwatch shards                  who owns what
  quorumwatch shards prod-eu          one of them, with its streams and checkpoints
  quorumwatch shards --watch          every change of ownership, as it happens")]
pub(super) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
    /// Only this one: "cluster/slice", or the cluster's name.
    #[arg(value_name = "SHARD", conflicts_with = "watch")]
    id: Option<String>,
    /// Then tell every change of ownership, until Ctrl-C. With -o json: one line per change.
    #[arg(short = 'w', long)]
    watch: bool,
    /// When colours are used.
    #[arg(long, value_enum, default_value = "auto")]
    color: Colour,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let endpoints = arguments.connection.endpoints()?;
    let format = arguments.output.format;
    let mut out = output::open();
    if arguments.watch {
        let shutdown = interrupt::token()?;
        let moves = Moves::new(arguments.color.on_stdout());
        return watch(endpoints, &mut out, format, moves, &shutdown).await;
    }
    if let Some(id) = arguments.id {
        let shard = get(&endpoints, id).await?;
        return match format {
            Format::Json => output::write_json(&mut out, &json::shard(&shard)),
            Format::Table => write_one(&mut out, &shard).map_err(Error::Output),
        };
    }
    let (shards, revision) = list(&endpoints).await?;
    match format {
        Format::Json => {
            let shards: Vec<_> = shards.iter().map(json::shard).collect();
            output::write_json(&mut out, &json!({ "shards": shards, "revision": revision }))
        }
        Format::Table if shards.is_empty() => {
            output::note(NO_CLUSTERS);
            Ok(())
        }
        Format::Table => write_all(&mut out, &shards).map_err(Error::Output),
    }
}

async fn get(endpoints: &Endpoints, id: String) -> Result<Shard, Error> {
    let request = GetShardRequest { id };
    let answer = endpoints
        .ask(|channel| {
            let request = request.clone();
            async move { ShardServiceClient::new(channel).get_shard(request).await }
        })
        .await?;
    Ok(answer.shard.unwrap_or_default())
}

/// All shards, page by page, and the revision of the last page.
pub(super) async fn list(endpoints: &Endpoints) -> Result<(Vec<Shard>, u64), Error> {
    let mut shards = Vec::new();
    let mut request = ListShardsRequest::default();
    loop {
        let page = endpoints
            .ask(|channel| {
                let request = request.clone();
                async move {
                    ShardServiceClient::new(channel)
                        .max_decoding_message_size(MESSAGE_BYTES_MAX)
                        .list_shards(request)
                        .await
                }
            })
            .await?;
        shards.extend(page.shards);
        if page.next_page_token.is_empty() {
            return Ok((shards, page.revision));
        }
        request.page_token = page.next_page_token;
    }
}

async fn watch(
    endpoints: Endpoints,
    out: &mut Out,
    format: Format,
    mut moves: Moves,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let mut watch = ShardWatch::open(endpoints).await?;
    loop {
        let told = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            told = watch.next() => told?,
        };
        match told {
            Told::Update(update) => {
                write_update(out, format, &mut moves, &update)?;
                out.flush().map_err(Error::Output)?;
            }
            Told::Interrupted(reason) => {
                output::note(&format!("the watch of shards ended ({reason}); resuming"));
            }
        }
    }
}

fn write_update(
    out: &mut Out,
    format: Format,
    moves: &mut Moves,
    response: &WatchShardsResponse,
) -> Result<(), Error> {
    match (&response.update, format) {
        (None, _) => Ok(()),
        (Some(Update::Snapshot(snapshot)), Format::Table) => {
            if snapshot.shards.is_empty() {
                output::note(NO_CLUSTERS);
            }
            moves.begin(&snapshot.shards);
            write_all(out, &snapshot.shards)
                .and_then(|()| writeln!(out))
                .map_err(Error::Output)
        }
        (Some(Update::Change(change)), Format::Table) => {
            writeln!(out, "{}", moves.line(change)).map_err(Error::Output)
        }
        (Some(Update::Snapshot(snapshot)), Format::Json) => {
            let shards: Vec<_> = snapshot.shards.iter().map(json::shard).collect();
            let line = json!({ "snapshot": shards, "revision": response.revision });
            output::write_json_line(out, &line)
        }
        (Some(Update::Change(change)), Format::Json) => {
            let change = json::shard_change(change);
            output::write_json_line(
                out,
                &json!({ "change": change, "revision": response.revision }),
            )
        }
    }
}

fn write_all(out: &mut Out, shards: &[Shard]) -> std::io::Result<()> {
    let rows: Vec<_> = shards.iter().map(row).collect();
    let head = [
        "SHARD", "OWNER", "EPOCH", "PHASE", "REASON", "SINCE", "STREAMS",
    ];
    Table::new(head).write(out, &rows)?;
    out.flush()
}

fn row(shard: &Shard) -> [String; 7] {
    let since = shard.since_time.as_ref().and_then(instant);
    [
        shard.id.clone(),
        or_dash(&shard.owner),
        shard.epoch.to_string(),
        word(shard.phase().as_str_name(), "SHARD_PHASE_"),
        reason(shard.reason()),
        since.map_or_else(|| "-".into(), |since| age(&since)),
        shard.streams.len().to_string(),
    ]
}

fn write_one(out: &mut Out, shard: &Shard) -> std::io::Result<()> {
    write_all(out, std::slice::from_ref(shard))?;
    writeln!(out)?;
    let rows: Vec<_> = shard
        .streams
        .iter()
        .map(|stream| {
            [
                stream.resource.clone(),
                or_dash(&stream.namespace),
                or_dash(&stream.label_selector),
                or_dash(&stream.field_selector),
                stream.era.to_string(),
                or_dash(&stream.checkpoint),
            ]
        })
        .collect();
    let head = [
        "STREAM",
        "NAMESPACE",
        "LABELS",
        "FIELDS",
        "ERA",
        "CHECKPOINT",
    ];
    Table::new(head).write(out, &rows)?;
    out.flush()
}
