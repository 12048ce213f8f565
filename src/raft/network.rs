//! Outgoing Raft calls.
//!
//! Every failure on the way is reported to openraft as "unreachable": it then backs off, where
//! for other errors it tries again at once.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use openraft::{
    OptionalSend,
    alias::SnapshotOf,
    base::{BoxFuture, BoxStream},
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{
        Backoff, NetAppend, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote,
        RPCOption, RaftNetworkFactory, stream_append_sequential,
    },
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tokio::sync::{Semaphore, oneshot, watch};
use tonic::transport::Channel;

use super::{
    protocol::{PROTOCOL, VERSION},
    storage::Store,
    types::{Node, TypeConfig, Vote},
    wire,
};
use crate::{
    domain::{id::ReplicaId, state::State},
    net::Channels,
    proto::internal::v1::{
        self as proto, Envelope, InstallSnapshotRequest, SnapshotHeader, StreamAppendRequest,
        raft_service_client::RaftServiceClient,
    },
};

/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 192 * 1024;

/// Timeout for the answer to entries under way. A follower that syncs to a slow disk answers
/// within tens of milliseconds; beyond this, the stream is reopened.
const APPEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout for setting a stream up, which may include connecting.
const STREAM_SETUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Pauses between tries to reach a peer that is down.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// How long a call continues after nobody waits for it any more. A call that is given up is reset,
/// and a peer that was frozen meanwhile finds hundreds of calls that were reset before it saw them:
/// what it takes for an attack, so that it closes the connection. The connection of a peer that
/// does not answer is given up sooner than this, with all that was called on it and without a word.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

type RpcError = RPCError<TypeConfig>;

/// Makes the clients for one target each.
pub(super) struct Factory {
    pub(super) store: Arc<Store>,
    pub(super) channels: Channels,
    pub(super) state: watch::Receiver<Arc<State>>,
    /// Which peers are known to be out of reach; so that only a change is logged.
    pub(super) unreachable: Arc<Mutex<BTreeMap<u64, bool>>>,
}

/// Calls one target.
pub(super) struct Network {
    store: Arc<Store>,
    channels: Channels,
    state: watch::Receiver<Arc<State>>,
    unreachable: Arc<Mutex<BTreeMap<u64, bool>>>,
    target: u64,
    node: Node,
    /// Heartbeats carry one request a stream: for them a single call is cheaper.
    is_pipelined: bool,
    /// One heartbeat is under way at a time: a peer that does not answer is not sent more.
    heartbeat: Arc<Semaphore>,
}

impl Factory {
    fn network(&self, target: u64, node: &Node, is_pipelined: bool) -> Network {
        Network {
            store: Arc::clone(&self.store),
            channels: self.channels.clone(),
            state: self.state.clone(),
            unreachable: Arc::clone(&self.unreachable),
            target,
            node: node.clone(),
            is_pipelined,
            heartbeat: Arc::new(Semaphore::new(1)),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Node) -> Network {
        self.network(target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Network {
        self.network(target, node, false)
    }
}

impl Network {
    /// The address under which the target last registered, else that of the membership.
    fn address(&self) -> String {
        let state = self.state.borrow();
        let member = state.members.get(&ReplicaId(self.target));
        member
            .map_or(&self.node.peer_address, |member| &member.peer_address)
            .clone()
    }

    fn client(&self) -> Result<RaftServiceClient<Channel>, RpcError> {
        let channel = self
            .channels
            .channel(&self.address())
            .map_err(|error| RpcError::Unreachable(Unreachable::new(&error)))?;
        Ok(RaftServiceClient::new(channel).max_decoding_message_size(wire::MESSAGE_BYTES_MAX))
    }

    fn envelope(&self) -> Envelope {
        envelope(&self.store, self.target)
    }

    /// Makes one call, with a timeout.
    async fn call<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, RpcError> {
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(response)) => {
                self.note(None);
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(self.unreachable(status.message())),
            Err(_) => Err(self.unreachable("timeout")),
        }
    }

    fn unreachable(&self, reason: &str) -> RpcError {
        self.note(Some(reason));
        RpcError::Unreachable(Unreachable::from_string(reason))
    }

    fn corrupt(&self, error: &super::codec::Corrupt) -> RpcError {
        self.unreachable(&error.to_string())
    }

    /// Logs when the target begins or ceases to be out of reach. A heartbeat that comes late is no
    /// such sign.
    fn note(&self, reason: Option<&str>) {
        if !self.is_pipelined {
            return;
        }
        let mut unreachable = self
            .unreachable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let was = unreachable.insert(self.target, reason.is_some());
        let (peer, peer_id) = (&self.node.name, self.target);
        match reason {
            Some(reason) if was != Some(true) => {
                tracing::info!(peer, peer_id, reason, "peer unreachable");
            }
            None if was == Some(true) => tracing::info!(peer, peer_id, "peer reachable again"),
            _ => {}
        }
    }

    fn requests<S>(
        &self,
        input: S,
        sent: Arc<AtomicU64>,
    ) -> impl Stream<Item = StreamAppendRequest> + use<S>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    {
        let mut envelope = Some(self.envelope());
        input.map(move |request| {
            sent.fetch_add(1, Ordering::Relaxed);
            StreamAppendRequest {
                envelope: envelope.take(),
                entries: Some(wire::entries_to(&request)),
            }
        })
    }

    /// The next answer, or an error where requests are under way and none comes.
    async fn next_answer(
        &self,
        answers: &mut tonic::Streaming<proto::StreamAppendResponse>,
        sent: &AtomicU64,
        answered: u64,
    ) -> Option<Result<StreamAppendResult<TypeConfig>, RpcError>> {
        loop {
            let waiting_for = sent.load(Ordering::Relaxed);
            match tokio::time::timeout(APPEND_TIMEOUT, answers.message()).await {
                Ok(Ok(Some(answer))) => {
                    let result = wire::appended_from(answer.appended);
                    return Some(result.map_err(|error| self.corrupt(&error)));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(self.unreachable(status.message()))),
                Err(_) if waiting_for > answered => {
                    return Some(Err(self.unreachable("timeout of append-entries")));
                }
                Err(_) => {}
            }
        }
    }
}

/// The requests of a stream: the rest is not asked for before the first is answered.
///
/// After a failure openraft pauses before it makes a request, and stops pausing when it sees an
/// answer. It would make the second request while the first is under way, and so hold back the
/// entries for a peer that has just come back for one more pause, of up to [`BACKOFF_MAX`].
fn first_alone<R, S>(
    first: R,
    answered: oneshot::Receiver<()>,
    rest: S,
) -> impl Stream<Item = R> + use<R, S>
where
    S: Stream<Item = R>,
{
    // Where the stream ends without an answer, there is nobody to send the rest to.
    let rest = stream::once(answered.map(|answered| stream::iter(answered.ok().map(|()| rest))));
    stream::iter([first]).chain(rest.flatten().flatten())
}

/// Makes a call that continues, for [`CALL_TIMEOUT`], also when nobody waits for its answer.
async fn to_its_end<T: Send + 'static>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send + 'static,
) -> Result<tonic::Response<T>, tonic::Status> {
    let call = tokio::spawn(tokio::time::timeout(CALL_TIMEOUT, call));
    // It ends before its time where this process does.
    let ended = call
        .await
        .map_err(|_| tonic::Status::cancelled("this replica is stopping"))?;
    ended.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("timeout")))
}

/// The sender and the target of every call.
pub(super) fn envelope(store: &Store, target: u64) -> Envelope {
    let group = store.group();
    Envelope {
        from: store.replica_id().0,
        to: target,
        group_id: group.map_or_else(Bytes::new, |group| group.0.to_vec().into()),
        protocol: PROTOCOL,
        version: VERSION.to_owned(),
    }
}

impl NetBackoff<TypeConfig> for Network {
    fn backoff(&self) -> Option<Backoff> {
        let pauses = std::iter::successors(Some(BACKOFF_FIRST), |pause| {
            Some((*pause * 2).min(BACKOFF_MAX))
        });
        Some(Backoff::new(pauses))
    }
}

impl NetAppend<TypeConfig> for Network {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let mut client = self.client()?;
        let request = proto::AppendRequest {
            envelope: Some(self.envelope()),
            entries: Some(wire::entries_to(&rpc)),
        };
        let turn = Arc::clone(&self.heartbeat).acquire_owned();
        let Ok(under_way) = tokio::time::timeout(option.soft_ttl(), turn).await else {
            return Err(self.unreachable("the last heartbeat is not answered yet"));
        };
        let appending = async move {
            let answer = client.append(request).await;
            drop(under_way);
            answer
        };
        let answer = self.call(option.soft_ttl(), to_its_end(appending)).await?;
        wire::response_from(answer.appended).map_err(|error| self.corrupt(&error))
    }
}

impl NetStreamAppend<TypeConfig> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if !self.is_pipelined {
            return stream_append_sequential(self, input, option);
        }
        let this = &*self;
        Box::pin(async move {
            let mut input = input;
            // openraft pauses after a failure where it makes the next request, and nowhere else:
            // to call a target that refuses connections before there is a request would be to
            // call it again at once, endlessly.
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(stream::empty());
                return Ok(nothing);
            };
            let mut client = this.client()?;
            let sent = Arc::new(AtomicU64::new(0));
            let (answered, first_answered) = oneshot::channel();
            let requests = first_alone(first, first_answered, input);
            let requests = this.requests(requests, Arc::clone(&sent));
            let answers = this
                .call(STREAM_SETUP_TIMEOUT, client.stream_append(requests))
                .await?;
            let open = Some((answers, 0, Some(answered)));
            let results = stream::unfold(open, move |open| {
                let sent = Arc::clone(&sent);
                async move {
                    let (mut answers, count, mut answered) = open?;
                    // openraft asks for the second answer once it has dealt with the first.
                    if count > 0
                        && let Some(answered) = answered.take()
                    {
                        let _ = answered.send(());
                    }
                    let result = this.next_answer(&mut answers, &sent, count).await?;
                    // After any result but a match the stream is closed.
                    let open =
                        matches!(result, Ok(Ok(_))).then_some((answers, count + 1, answered));
                    Some((result, open))
                }
            });
            let results: BoxStream<'s, _> = Box::pin(results);
            Ok(results)
        })
    }
}

impl NetVote<TypeConfig> for Network {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.client()?;
        let request = wire::vote_request_to(&rpc, self.envelope());
        let voting = async move { client.vote(request).await };
        let answer = self.call(option.soft_ttl(), to_its_end(voting)).await?;
        wire::vote_response_from(answer).map_err(|error| self.corrupt(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.client()?;
        let request = proto::PreVoteRequest {
            vote: Some(wire::vote_request_to(&rpc, self.envelope())),
        };
        let voting = async move { client.pre_vote(request).await };
        let answer = self.call(option.soft_ttl(), to_its_end(voting)).await?;
        let vote = answer.vote.unwrap_or_default();
        wire::vote_response_from(vote).map_err(|error| self.corrupt(&error))
    }
}

impl NetSnapshot<TypeConfig> for Network {
    // tidy: openraft's name
    type SnapshotData = Bytes;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, Bytes>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.client()?;
        let bytes = snapshot.snapshot;
        let header = SnapshotHeader {
            envelope: Some(self.envelope()),
            vote: Some(vote.into()),
            meta: Some((&snapshot.meta).into()),
            length: bytes.len() as u64,
            checksum: crc32c::crc32c(&bytes),
        };
        let first = InstallSnapshotRequest {
            header: Some(header),
            chunk: Bytes::new(),
        };
        let places = (0..bytes.len()).step_by(SNAPSHOT_CHUNK_BYTES);
        let chunks = places.map(move |from| InstallSnapshotRequest {
            header: None,
            chunk: bytes.slice(from..bytes.len().min(from + SNAPSHOT_CHUNK_BYTES)),
        });
        let messages = stream::iter(std::iter::once(first).chain(chunks));
        let sending = self.call(option.soft_ttl(), client.install_snapshot(messages));
        let answer = tokio::select! {
            answer = sending => answer?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let vote = wire::vote(answer.vote).map_err(|error| self.corrupt(&error))?;
        Ok(SnapshotResponse::new(vote))
    }
}

impl NetTransferLeader<TypeConfig> for Network {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let mut client = self.client()?;
        let request = wire::transfer_to(&req, self.envelope());
        let answer = self
            .call(option.soft_ttl(), client.transfer_leader(request))
            .await?;
        wire::transferred_from(answer, &req).map_err(|error| self.corrupt(&error))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, stream};
    use tokio::{
        sync::oneshot,
        time::{sleep, timeout},
    };

    use super::{CALL_TIMEOUT, Duration, first_alone, to_its_end};

    #[test]
    fn only_one_request_is_made_before_the_first_answer() {
        let made = std::cell::Cell::new(0);
        let rest = stream::iter(["second", "third"]).inspect(|_| made.set(made.get() + 1));
        let (answered, first_answered) = oneshot::channel();
        let requests = first_alone("first", first_answered, rest);
        let mut requests = std::pin::pin!(requests);
        assert_eq!(requests.next().now_or_never(), Some(Some("first")));
        assert_eq!(requests.next().now_or_never(), None);
        assert_eq!(made.get(), 0);
        answered.send(()).unwrap();
        let rest: Option<Vec<_>> = requests.collect().now_or_never();
        assert_eq!(rest, Some(vec!["second", "third"]));
    }

    #[test]
    fn no_more_requests_are_made_once_the_answers_have_ended() {
        let (answered, first_answered) = oneshot::channel();
        let requests = first_alone("first", first_answered, stream::iter(["second"]));
        drop(answered);
        let requests: Option<Vec<_>> = requests.collect().now_or_never();
        assert_eq!(requests, Some(vec!["first"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_not_reset_when_nobody_waits_for_it_any_more() {
        let (answered, answer) = oneshot::channel();
        let call = to_its_end(async move {
            sleep(CALL_TIMEOUT / 2).await;
            answered.send(()).unwrap();
            Ok(tonic::Response::new(()))
        });
        assert!(timeout(Duration::from_millis(40), call).await.is_err());
        answer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_answered_ends() {
        let (_held, given_up) = oneshot::channel::<()>();
        let call = to_its_end::<()>(async move {
            drop(given_up.await);
            Err(tonic::Status::cancelled("given up"))
        });
        let status = call.await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
