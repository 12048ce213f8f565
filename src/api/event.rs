//! `EventService`.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    admission::Admitted,
    connection::Client,
    encoded::{Encoded, EventService},
    filter::{self, client_name},
    frames::{EventIds, Frames},
    outbox::{Full, Outbox, Waiting, outbox},
    status,
    view::View,
};
use crate::{
    clock::unix_now,
    domain::{
        cursor::{CursorCodec, InvalidCursor, Mode},
        id::{GroupId, StreamId},
        lifecycle::Lifecycle,
        state::State,
    },
    memory::Budget,
    pipeline::{
        hub::Hub,
        output::{Body, Output, StreamName},
        subscription::{self, Start, Subscription},
    },
    proto::v1::{self, SubscribeRequest, subscribe_request::From},
    raft::Raft,
};

/// How long a cursor that is ahead of this replica may wait for it to catch up with the group.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a subscriber that was too slow waits before it resumes, at least.
const SLOW_RETRY_DELAY: Duration = Duration::from_secs(1);

/// What a filter takes in memory, by its length on the wire: measured with short names, where each
/// has a place in a set and an allocation of its own.
const FILTER_COST: usize = 5;

/// What each stream takes in a subscription and its cursor.
const STREAM_COST_BYTES: usize = 768;

/// How often in a row a snapshot may restart before the subscription ends with the reason.
const SNAPSHOT_RESTARTS_MAX: u32 = 5;

/// `EventService`.
#[derive(Clone)]
pub struct Events {
    hub: Hub,
    raft: Raft,
    slow_after: Duration,
    unread_after: Duration,
    /// Memory of all responses that wait.
    responses: Budget,
    /// Whether this replica is in contact with a majority of the group.
    lifecycle: watch::Receiver<Lifecycle>,
    /// Ends every subscription.
    stop: CancellationToken,
}

impl Events {
    /// Serves from a hub. The subscription of one who takes nothing for `slow_after` is ended; where
    /// its end is not taken for `unread_after` either, its connection is closed.
    pub fn new(
        hub: Hub,
        raft: Raft,
        [slow_after, unread_after]: [Duration; 2],
        responses: Budget,
        lifecycle: watch::Receiver<Lifecycle>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            hub,
            raft,
            slow_after,
            unread_after,
            responses,
            lifecycle,
            stop,
        }
    }

    fn group_id(&self) -> Result<GroupId, Status> {
        self.hub.state().group.ok_or_else(status::not_formed)
    }

    async fn open(&self, request: subscription::Request) -> Result<Subscription, Status> {
        match Subscription::open(self.hub.clone(), request.clone()) {
            Err(InvalidCursor::Ahead(_)) => {}
            opened => return opened.map_err(|error| status::invalid_cursor(&error)),
        }
        // The cursor may come from a replica that has applied more than this one.
        let caught_up = |state: &Arc<State>| match &request.start {
            Start::Cursor(cursor) => subscription::refuse_ahead(cursor, state).is_ok(),
            Start::Now | Start::Snapshot => true,
        };
        let mut states = self.raft.watch_topology();
        let _ = tokio::time::timeout(CATCH_UP_TIMEOUT, states.wait_for(caught_up)).await;
        Subscription::open(self.hub.clone(), request).map_err(|error| self.refused(&error))
    }

    /// A replica that is merely behind does not refuse a cursor for good: only a leader that a
    /// majority acknowledges knows that nobody is ahead of it.
    fn refused(&self, error: &InvalidCursor) -> Status {
        match error {
            InvalidCursor::Ahead(_) if self.raft.leads_a_quorum() => {
                status::cursor_from_lost_state()
            }
            InvalidCursor::Ahead(_) => status::replica_behind(
                "this replica has not applied what the cursor needs; resume at another one",
            ),
            other => status::invalid_cursor(other),
        }
    }
}

/// A request that was checked.
struct Checked {
    request: subscription::Request,
    view: View,
    until_up_to_date: bool,
}

/// Checks everything, and names all that is wrong at once.
fn check(request: SubscribeRequest, codec: CursorCodec) -> Result<Checked, Status> {
    let start = match request.from {
        None | Some(From::Now(_)) => Start::Now,
        Some(From::Snapshot(_)) => Start::Snapshot,
        Some(From::Resume(resume)) => {
            let cursor = codec.read(&resume.cursors);
            Start::Cursor(cursor.map_err(|error| status::invalid_cursor(&error))?)
        }
    };
    let mut wrong = Vec::new();
    let filters = filter::filters(request.filters).unwrap_or_else(|violations| {
        wrong.extend(violations);
        Default::default()
    });
    let keeps_a_copy = match &start {
        Start::Now => false,
        Start::Snapshot => true,
        Start::Cursor(cursor) => cursor.mode == Mode::Copy,
    };
    if keeps_a_copy && filters.asks_for_change_types() {
        wrong.push((
            "filters.change_types".into(),
            "a subscription that begins with a snapshot needs every change: leave change_types \
             empty, or begin with `now`"
                .into(),
        ));
    }
    let view = View::from_request(request.view).unwrap_or_else(|violation| {
        wrong.push(violation);
        View::Full
    });
    let until = v1::Until::try_from(request.until).unwrap_or_else(|_| {
        wrong.push((
            "until".into(),
            format!(
                "{} is not known; leave it out, or give UNTIL_UP_TO_DATE",
                request.until
            ),
        ));
        v1::Until::Unspecified
    });
    if let Err(violation) = client_name(&request.client_name) {
        wrong.push(violation);
    }
    if !wrong.is_empty() {
        return Err(status::invalid_fields(wrong));
    }
    // What a copy holds depends on the view as well.
    let digest = filters.digest().rotate_left(8) ^ view as u64;
    Ok(Checked {
        request: subscription::Request {
            filters,
            digest,
            start,
        },
        view,
        until_up_to_date: until == v1::Until::UpToDate,
    })
}

#[tonic::async_trait]
impl EventService for Events {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let admitted = request.extensions().get::<Arc<Admitted>>().cloned();
        let connection = request.extensions().get::<Client>().cloned();
        let request = request.into_inner();
        let client = request.client_name.clone();
        let group = self.group_id()?;
        let codec = CursorCodec::new(group);
        let filters: usize = request
            .filters
            .iter()
            .map(|filter| filter.encoded_len())
            .sum();
        grow(admitted.as_deref(), filters * FILTER_COST)?;
        let checked = check(request, codec)?;
        if !self.lifecycle.borrow().is_in_contact() {
            return Err(status::cut_off());
        }
        let subscription = self.open(checked.request).await?;
        let cursor = subscription.cursor();
        grow(
            admitted.as_deref(),
            (cursor.places.len() + cursor.left.len()) * STREAM_COST_BYTES,
        )?;
        let (outbox, outgoing) = outbox(cursor, self.responses.clone());
        tracing::debug!(client, "subscription opened");
        let serve = Serve {
            subscription,
            frames: Frames {
                codec,
                ids: EventIds::new(group),
                view: checked.view,
            },
            outbox,
            slow_after: self.slow_after,
            unread_after: self.unread_after,
            until_up_to_date: checked.until_up_to_date,
            connection,
            _admitted: admitted,
        };
        tokio::spawn(serve.run(self.lifecycle.clone(), self.stop.clone()));
        let in_flight = outgoing.in_flight();
        let mut response: Response<Self::SubscribeStream> = Response::new(Box::pin(outgoing));
        response.extensions_mut().insert(in_flight);
        Ok(response)
    }
}

/// Counts what a subscription takes, if it is counted.
fn grow(admitted: Option<&Admitted>, bytes: usize) -> Result<(), Status> {
    let grown = admitted.map_or(Ok(()), |admitted| admitted.grow(bytes));
    grown.map_err(|reached| reached.status())
}

/// The message of a subscription that ends because it has nothing left to do.
const COMPLETE: &str = "everything that was asked for has been sent";

/// Serves one subscriber.
struct Serve {
    subscription: Subscription,
    frames: Frames,
    outbox: Outbox,
    slow_after: Duration,
    unread_after: Duration,
    until_up_to_date: bool,
    connection: Option<Client>,
    /// Counted until it ends.
    _admitted: Option<Arc<Admitted>>,
}

/// Why a subscription ends.
enum End {
    ReaderLeft,
    Slow,
    /// A snapshot of this resource of this cluster was interrupted too often.
    SnapshotInterrupted(Arc<StreamName>),
    Complete,
    NoQuorum,
    Stopping,
}

impl Serve {
    async fn run(mut self, mut lifecycle: watch::Receiver<Lifecycle>, stop: CancellationToken) {
        let outbox = &self.outbox;
        let serving = serve(
            &mut self.subscription,
            outbox,
            self.frames,
            self.slow_after,
            self.until_up_to_date,
        );
        let end = tokio::select! {
            end = serving => end,
            () = outbox.reader_left() => End::ReaderLeft,
            Ok(_) = lifecycle.wait_for(|now| !now.is_in_contact()) => End::NoQuorum,
            () = stop.cancelled() => End::Stopping,
        };
        self.close(&end);
        // What lies in the transport for one who does not read comes out with the connection alone.
        let left = tokio::time::timeout(self.unread_after, self.outbox.reader_left());
        if left.await.is_err()
            && let Some(connection) = &self.connection
        {
            tracing::debug!(
                "connection closed: a subscription ended and its last frames were not read"
            );
            connection.disconnect();
        }
    }

    fn close(&self, end: &End) {
        use v1::{ClosingAction as Action, ClosingReason as Reason};
        let (reason, action, status) = match end {
            End::ReaderLeft => return,
            End::SnapshotInterrupted(name) => {
                let status = status::too_slow(format!(
                    "the snapshot of {} of cluster {} was interrupted {SNAPSHOT_RESTARTS_MAX} \
                     times before it was complete. A list that does not fit in memory and is read \
                     too slowly expires at its API server: read faster, narrow the filter, or \
                     raise memory.snapshots",
                    name.selector.resource, name.cluster
                ));
                (Reason::SubscriberTooSlow, Action::Resume, Some(status))
            }
            End::Slow => {
                let status = status::too_slow(format!(
                    "the subscriber read nothing for {} ms; nothing is lost, but it will happen \
                     again after a resume: read faster, or request less",
                    self.slow_after.as_millis()
                ));
                (Reason::SubscriberTooSlow, Action::Resume, Some(status))
            }
            End::Complete => (Reason::Complete, Action::Stop, None),
            End::NoQuorum => {
                let status = status::cut_off();
                (Reason::NoQuorum, Action::ResumeElsewhere, Some(status))
            }
            End::Stopping => {
                let status = status::stopping();
                (
                    Reason::ReplicaStopping,
                    Action::ResumeElsewhere,
                    Some(status),
                )
            }
        };
        let message = status.as_ref().map_or(COMPLETE, Status::message).to_owned();
        // What waits for a subscriber that has stopped reading would only take memory.
        let waiting = match end {
            End::Slow | End::SnapshotInterrupted(_) => Waiting::Drop,
            _ => Waiting::Keep,
        };
        let retry_delay = matches!(end, End::Slow | End::SnapshotInterrupted(_))
            .then(|| prost_types::Duration::try_from(SLOW_RETRY_DELAY).ok())
            .flatten();
        self.outbox.end(waiting, |cursor| {
            let closing = v1::Closing {
                reason: reason.into(),
                action: action.into(),
                retry_delay,
                message,
            };
            (self.frames.closing(cursor, closing), status)
        });
    }
}

async fn serve(
    subscription: &mut Subscription,
    outbox: &Outbox,
    frames: Frames,
    slow_after: Duration,
    until_up_to_date: bool,
) -> End {
    let mut snapshots = Restarts::default();
    loop {
        let outputs = subscription.next().await;
        if let Some(name) = snapshots.too_many(&outputs) {
            return End::SnapshotInterrupted(name);
        }
        let complete = until_up_to_date && subscription.is_exhausted();
        let now = unix_now();
        let responses = outputs.into_iter().map(|output| frames.frame(output, now));
        match outbox.push(responses.collect(), slow_after).await {
            Ok(()) if complete => return End::Complete,
            Ok(()) => {}
            Err(Full::ReaderLeft) => return End::ReaderLeft,
            Err(Full::Slow) => return End::Slow,
        }
    }
}

/// How often in a row the snapshot of each stream has begun again.
#[derive(Default)]
struct Restarts(BTreeMap<StreamId, u32>);

impl Restarts {
    /// The stream whose snapshot has begun again too often.
    fn too_many(&mut self, outputs: &[Output]) -> Option<Arc<StreamName>> {
        for output in outputs {
            match &output.body {
                Body::Synced(name, _) => {
                    self.0.remove(&name.id);
                }
                Body::SnapshotRestarted(name) => {
                    let count = self.0.entry(name.id).or_default();
                    *count += 1;
                    if *count >= SNAPSHOT_RESTARTS_MAX {
                        return Some(name.clone());
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Body, Output, Restarts, SNAPSHOT_RESTARTS_MAX, StreamId, StreamName};
    use crate::{
        domain::{cluster::StreamSelector, id::ClusterId, id::Era, position::Position},
        pipeline::output::CursorStep,
    };

    fn output(body: Body) -> Output {
        let step = CursorStep::None;
        Output { step, body }
    }

    #[test]
    fn a_snapshot_that_begins_again_too_often_ends_the_subscription() {
        let name = Arc::new(StreamName {
            id: StreamId(7),
            cluster_id: ClusterId(1),
            cluster: "c".into(),
            cluster_uid: String::new(),
            selector: StreamSelector::all("v1/events".parse().unwrap()),
        });
        let again = || [output(Body::SnapshotRestarted(name.clone()))];
        let mut restarts = Restarts::default();
        for _ in 1..SNAPSHOT_RESTARTS_MAX {
            assert_eq!(restarts.too_many(&again()), None);
        }
        // One that was complete counts for nothing any more.
        let position = Position::closed(Era(1), 5.into());
        let synced = [output(Body::Synced(name.clone(), position))];
        assert_eq!(restarts.too_many(&synced), None);
        for _ in 1..SNAPSHOT_RESTARTS_MAX {
            assert_eq!(restarts.too_many(&again()), None);
        }
        assert_eq!(restarts.too_many(&again()), Some(name.clone()));
    }
}
