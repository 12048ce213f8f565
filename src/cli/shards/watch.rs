//! `quorumwatch shards --watch`: every change of a shard, as it happens.

use std::io::Write as _;

use super::{Moves, none, write_all};
use crate::{
    cli::{
        Error,
        attempts::Attempts,
        interrupt,
        json::Json,
        output::{self, Format, Out},
    },
    client::{
        Client,
        watch::{ShardWatch, Update},
    },
    proto::v1::{
        ShardChange, ShardPage, WatchShardsRequest, WatchShardsResponse, watch_shards_response,
    },
};

pub(super) async fn run(
    client: &Client,
    request: WatchShardsRequest,
    format: Format,
    colours: bool,
) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let is_filtered = !request.clusters.is_empty() || !request.owners.is_empty();
    let mut printer = Printer {
        out: output::open(),
        format,
        moves: Moves::new(colours),
        none: none(is_filtered),
    };
    let mut attempts = Attempts::new(client.endpoints().clone());
    let mut watch = ShardWatch::new(client.endpoints().clone(), request);
    loop {
        let update = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            update = watch.next() => update?,
        };
        match update {
            Update::Connected(_) => attempts.serves(),
            Update::Interrupted { endpoint, why } => {
                attempts.note_failure(&endpoint, &why)?;
            }
            Update::Snapshot => printer.snapshot(&watch)?,
            Update::Change(change) => printer.change(change, watch.revision())?,
        }
        printer.out.flush().map_err(Error::Output)?;
    }
}

struct Printer {
    out: Out,
    format: Format,
    moves: Moves,
    /// The note where there is no shard.
    none: &'static str,
}

impl Printer {
    fn snapshot(&mut self, watch: &ShardWatch) -> Result<(), Error> {
        let shards = watch.shards();
        if self.format == Format::Json {
            let shards = shards.values().cloned().collect();
            let page = watch_shards_response::Update::Snapshot(ShardPage { shards });
            return self.message(page, watch.revision());
        }
        if shards.is_empty() {
            output::note(self.none);
        }
        self.moves.begin(shards.values());
        write_all(&mut self.out, shards.values())
            .and_then(|()| writeln!(self.out))
            .map_err(Error::Output)
    }

    fn change(&mut self, change: ShardChange, revision: u64) -> Result<(), Error> {
        match self.format {
            Format::Table => {
                writeln!(self.out, "{}", self.moves.line(&change)).map_err(Error::Output)
            }
            Format::Json => self.message(watch_shards_response::Update::Change(change), revision),
        }
    }

    fn message(
        &mut self,
        update: watch_shards_response::Update,
        revision: u64,
    ) -> Result<(), Error> {
        let message = WatchShardsResponse {
            revision,
            update: Some(update),
            ..WatchShardsResponse::default()
        };
        output::write_json_line(&mut self.out, &Json::of(&message))
    }
}
