//! `ShardService`.

use std::{pin::Pin, sync::Arc};

use tokio::sync::{broadcast, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{convert, status::invalid};
use crate::{
    domain::{command::ShardChange, id::Revision, state::State},
    proto::v1::{
        self, GetShardRequest, GetShardResponse, ListShardsRequest, ListShardsResponse,
        WatchShardsRequest, WatchShardsResponse, shard_service_server::ShardService,
        watch_shards_response::Update,
    },
    raft::{ChangesSince, Raft},
};

/// Most items of one page of a list, and the default.
pub(super) const PAGE_MAX: usize = 1_000;

/// Changes that may wait for a watcher; one that takes none gets a snapshot when it goes on.
const UPDATES_MAX: usize = 64;

/// `ShardService`.
#[derive(Clone)]
pub struct Shards {
    raft: Raft,
    /// Ends every watch.
    stop: tokio_util::sync::CancellationToken,
}

impl Shards {
    /// Answers from what this replica has applied.
    pub fn new(raft: Raft, stop: tokio_util::sync::CancellationToken) -> Self {
        Self { raft, stop }
    }
}

/// One page of `items`, which are in the order of their keys; a page token is the last key.
pub(super) fn page<T>(
    items: Vec<(String, T)>,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<T>, String), Status> {
    let size = usize::try_from(page_size).map_err(|_| invalid("page_size is negative"))?;
    let size = if size == 0 {
        PAGE_MAX
    } else {
        size.min(PAGE_MAX)
    };
    let mut rest = items
        .into_iter()
        .skip_while(|(key, _)| key.as_str() <= page_token)
        .peekable();
    let mut page = Vec::new();
    let mut last = String::new();
    while page.len() < size
        && let Some((key, item)) = rest.next()
    {
        last = key;
        page.push(item);
    }
    let next = if rest.peek().is_some() {
        last
    } else {
        String::new()
    };
    Ok((page, next))
}

fn all_shards(state: &State) -> Vec<(String, v1::Shard)> {
    let shards = state.assignments.values().map(|assignment| {
        (
            state.shard_name(assignment.shard()),
            convert::shard(state, assignment),
        )
    });
    let mut shards: Vec<_> = shards.collect();
    shards.sort_by(|(a, _), (b, _)| a.cmp(b));
    shards
}

#[tonic::async_trait]
impl ShardService for Shards {
    type WatchShardsStream =
        Pin<Box<dyn Stream<Item = Result<WatchShardsResponse, Status>> + Send>>;

    async fn get_shard(
        &self,
        request: Request<GetShardRequest>,
    ) -> Result<Response<GetShardResponse>, Status> {
        let state = self.raft.state();
        let id = convert::shard_id(&state, &request.into_inner().id)?;
        let shard = state
            .assignments
            .get(&id)
            .map(|found| convert::shard(&state, found));
        Ok(Response::new(GetShardResponse {
            shard,
            revision: state.revision.0,
        }))
    }

    async fn list_shards(
        &self,
        request: Request<ListShardsRequest>,
    ) -> Result<Response<ListShardsResponse>, Status> {
        let request = request.into_inner();
        let state = self.raft.state();
        let (shards, next_page_token) =
            page(all_shards(&state), request.page_size, &request.page_token)?;
        let revision = state.revision.0;
        Ok(Response::new(ListShardsResponse {
            shards,
            next_page_token,
            revision,
        }))
    }

    async fn watch_shards(
        &self,
        request: Request<WatchShardsRequest>,
    ) -> Result<Response<Self::WatchShardsStream>, Status> {
        let start = Revision(request.into_inner().start_revision);
        let (sender, receiver) = mpsc::channel(UPDATES_MAX);
        let watch = Watch {
            raft: self.raft.clone(),
            sender,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let sender = watch.sender.clone();
            tokio::select! {
                () = watch.run(start) => {}
                () = sender.closed() => {}
                () = stop.cancelled() => {
                    let status = Status::unavailable("this replica is stopping; watch another one");
                    let _ = sender.try_send(Err(status));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Serves one watcher of shards.
struct Watch {
    raft: Raft,
    sender: mpsc::Sender<Result<WatchShardsResponse, Status>>,
}

impl Watch {
    async fn run(self, start: Revision) {
        let mut revision = start;
        while let Some(next) = self.follow(revision).await {
            revision = next;
        }
    }

    /// Tells what happens after a revision; gives where to go on after falling behind, `None` once
    /// the watcher has left.
    async fn follow(&self, after: Revision) -> Option<Revision> {
        let known = after != Revision(0) && after <= self.raft.state().revision;
        let (past, mut coming, mut revision) = match self.raft.shard_changes_since(after) {
            ChangesSince::Changes(past, coming) if known => (past, coming, after),
            _ => {
                let state = self.raft.state();
                self.tell_snapshot(&state).await?;
                match self.raft.shard_changes_since(state.revision) {
                    ChangesSince::Changes(past, coming) => (past, coming, state.revision),
                    ChangesSince::Forgotten => return Some(Revision(0)),
                }
            }
        };
        for change in past {
            revision = self.tell(change, revision).await?;
        }
        loop {
            match coming.recv().await {
                Ok(change) => revision = self.tell(change, revision).await?,
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(revision),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    async fn tell_snapshot(&self, state: &Arc<State>) -> Option<()> {
        let shards = all_shards(state)
            .into_iter()
            .map(|(_, shard)| shard)
            .collect();
        let update = Some(Update::Snapshot(v1::ShardSnapshot { shards }));
        let response = WatchShardsResponse {
            revision: state.revision.0,
            update,
        };
        self.sender.send(Ok(response)).await.ok()
    }

    async fn tell(&self, change: ShardChange, told: Revision) -> Option<Revision> {
        let revision = change.revision;
        if revision < told {
            return Some(told);
        }
        let update = Some(Update::Change(convert::shard_change(
            &self.raft.state(),
            &change,
        )));
        let response = WatchShardsResponse {
            revision: revision.0,
            update,
        };
        self.sender.send(Ok(response)).await.ok()?;
        Some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn pages_cover_everything_once() {
        let items = || ["a", "b", "c"].map(|key| (key.to_owned(), key)).to_vec();
        let (first, token) = page(items(), 2, "").unwrap();
        let (second, end) = page(items(), 2, &token).unwrap();
        assert_eq!(
            (first, second, end.as_str()),
            (vec!["a", "b"], vec!["c"], "")
        );
        assert!(page(items(), -1, "").is_err());
    }
}
