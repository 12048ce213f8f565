//! A watch of ownership that survives the replica that serves it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Streaming};

use super::{
    Endpoints, Error,
    connection::{MESSAGE_BYTES_MAX, why_ended},
};
use crate::proto::v1::{
    WatchShardsRequest, WatchShardsResponse, shard_service_client::ShardServiceClient,
};

/// The pause between two rounds in which no replica granted the watch.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Updates that wait for a slow reader; then the replica waits too.
const QUEUE: usize = 64;

/// What a [`ShardWatch`] tells.
pub(super) enum Told {
    /// A snapshot or a change.
    Update(WatchShardsResponse),
    /// The replica that served the watch is gone; it goes on elsewhere.
    Interrupted(String),
}

/// A watch of ownership that survives the replica that serves it.
pub(super) struct ShardWatch {
    told: mpsc::Receiver<Result<Told, Error>>,
    _task: AbortOnDropHandle<()>,
}

impl ShardWatch {
    /// Opens the watch at the first replica that grants it, with a snapshot first.
    pub(super) async fn open(endpoints: Endpoints) -> Result<Self, Error> {
        let stream = open(&endpoints, 0).await?;
        let (sender, told) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move {
            if let Err(error) = follow(&endpoints, stream, &sender).await {
                // Nobody listens any more where this fails.
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(Self {
            told,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Waits for what comes next. It may be dropped and called again at any time.
    pub(super) async fn next(&mut self) -> Result<Told, Error> {
        let next = self.told.recv().await;
        next.unwrap_or_else(|| Err(Error::Interrupted))
    }
}

/// Returns when nobody listens, or with the error that no other replica would mend.
async fn follow(
    endpoints: &Endpoints,
    mut stream: Streaming<WatchShardsResponse>,
    told: &mpsc::Sender<Result<Told, Error>>,
) -> Result<(), Error> {
    let mut revision = 0;
    loop {
        let next = match stream.message().await {
            Ok(Some(update)) => {
                revision = update.revision;
                Told::Update(update)
            }
            Ok(None) => Told::Interrupted("the replica ended the stream".into()),
            Err(status) => Told::Interrupted(why_ended(&status).to_owned()),
        };
        let interrupted = matches!(next, Told::Interrupted(_));
        if told.send(Ok(next)).await.is_err() {
            return Ok(());
        }
        if interrupted {
            stream = reopen(endpoints, revision).await?;
        }
    }
}

async fn open(
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

/// Tries until a replica grants the watch, or refuses it.
async fn reopen(
    endpoints: &Endpoints,
    revision: u64,
) -> Result<Streaming<WatchShardsResponse>, Error> {
    loop {
        match open(endpoints, revision).await {
            Err(Error::NoAnswer { .. }) => {}
            Err(Error::Refused { status, .. }) if status.code() == Code::Unavailable => {}
            answer => return answer,
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}
