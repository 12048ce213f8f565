//! `quorumwatch shards`: who owns what.

use std::{io::Write, time::Duration};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::{
    Endpoints, Error,
    connection::{Connection, MESSAGE_BYTES_MAX},
    interrupt,
    json::{self, word},
    output::{self, Format, Out, Output},
    table::{Table, or_dash},
    time::{age, instant, rfc3339},
};
use crate::proto::v1::{
    GetShardRequest, ListShardsRequest, Shard, ShardChange, WatchShardsRequest,
    WatchShardsResponse, shard_service_client::ShardServiceClient, watch_shards_response::Update,
};

/// The pause between two attempts to watch when no replica answers.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// One shard with its streams, or all of them.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
    /// Only this one: "cluster/slice", or the cluster's name.
    #[arg(value_name = "SHARD", conflicts_with = "watch")]
    id: Option<String>,
    /// Then tell every change of ownership. With -o json: one line per change.
    #[arg(short = 'w', long)]
    watch: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let endpoints = arguments.connection.endpoints();
    let format = arguments.output.format;
    let mut out = output::open();
    if arguments.watch {
        let shutdown = interrupt::token()?;
        return watch(&endpoints, &mut out, format, &shutdown).await;
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

/// Opens the watch at the first replica that grants it.
pub(super) async fn open_watch(
    endpoints: &Endpoints,
    start_revision: u64,
) -> Result<Streaming<WatchShardsResponse>, Error> {
    endpoints
        .ask(|channel| async move {
            ShardServiceClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .watch_shards(WatchShardsRequest { start_revision })
                .await
        })
        .await
}

async fn watch(
    endpoints: &Endpoints,
    out: &mut Out,
    format: Format,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let mut revision = 0;
    // Only the first attempt may fail: later the group is known to be there.
    let mut updates = open_watch(endpoints, revision).await?;
    loop {
        let update = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            update = updates.message() => update,
        };
        match update {
            Ok(Some(update)) => {
                revision = update.revision;
                write_update(out, format, &update)?;
                out.flush().map_err(Error::Output)?;
            }
            ended => {
                let reason = ended.err().map(|status| format!(" ({})", status.message()));
                let reason = reason.unwrap_or_default();
                output::note(&format!("the watch ended{reason}; resuming"));
                let reopened = tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    reopened = reopen(endpoints, revision) => reopened,
                };
                updates = reopened?;
            }
        }
    }
}

/// Tries until a replica grants the watch, or refuses it.
async fn reopen(
    endpoints: &Endpoints,
    revision: u64,
) -> Result<Streaming<WatchShardsResponse>, Error> {
    loop {
        match open_watch(endpoints, revision).await {
            Err(Error::NoAnswer(_)) => tokio::time::sleep(RETRY_PAUSE).await,
            Err(Error::Refused { status, .. }) if status.code() == tonic::Code::Unavailable => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

fn write_update(
    out: &mut Out,
    format: Format,
    response: &WatchShardsResponse,
) -> Result<(), Error> {
    match (&response.update, format) {
        (None, _) => Ok(()),
        (Some(Update::Snapshot(snapshot)), Format::Table) => {
            write_all(out, &snapshot.shards).map_err(Error::Output)
        }
        (Some(Update::Change(change)), Format::Table) => {
            writeln!(out, "{}", change_line(change)).map_err(Error::Output)
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

/// A change of ownership in one line: `10:00:00.123 prod-eu/0  a -> b  epoch 4  takeover`.
pub(super) fn change_line(change: &ShardChange) -> String {
    let at = change.time.as_ref().and_then(instant);
    let at = at.map_or_else(|| "-".into(), |at| rfc3339(&at));
    let reason = word(change.reason().as_str_name(), "MOVE_REASON_");
    let (old, new) = (or_dash(&change.old_owner), or_dash(&change.new_owner));
    format!(
        "{at}   {}   {old} -> {new}   epoch {}   {reason}",
        change.id, change.epoch
    )
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
        word(shard.reason().as_str_name(), "MOVE_REASON_"),
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
