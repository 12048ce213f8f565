//! `EventService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    encoded::{Encoded, EventService},
    filter::{self, client_name},
    frames::Frames,
    outbox::{Full, Outbox, Waiting, outbox},
    status,
    view::View,
};
use crate::{
    clock::unix_now,
    domain::{
        cursor::{CursorCodec, InvalidCursor, Mode},
        state::State,
    },
    pipeline::{
        hub::Hub,
        subscription::{self, Start, Subscription},
    },
    proto::v1::{self, SubscribeRequest, subscribe_request::From},
    raft::Raft,
};

/// How long a cursor that is ahead of this replica may wait for it to catch up with the group.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a subscriber that was too slow waits before it resumes, at least.
const SLOW_RETRY_DELAY: Duration = Duration::from_secs(1);

/// `EventService`.
#[derive(Clone)]
pub struct Events {
    hub: Hub,
    raft: Raft,
    slow_after: Duration,
    /// Whether this replica is in contact with a majority of the group.
    contact: watch::Receiver<bool>,
    /// Ends every subscription.
    stop: CancellationToken,
}

impl Events {
    /// Serves from a hub. A subscriber that takes nothing for `slow_after` is disconnected.
    pub fn new(
        hub: Hub,
        raft: Raft,
        slow_after: Duration,
        contact: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            hub,
            raft,
            slow_after,
            contact,
            stop,
        }
    }

    fn codec(&self) -> Result<CursorCodec, Status> {
        let group = self.hub.state().borrow().group;
        group.map(CursorCodec::new).ok_or_else(status::not_formed)
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
        let mut states = self.raft.watch_state();
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
                "this replica has not applied what the cursor refers to; resume at another one",
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
        let request = request.into_inner();
        let client = request.client_name.clone();
        let codec = self.codec()?;
        let checked = check(request, codec)?;
        if !*self.contact.borrow() {
            return Err(status::no_quorum(NO_QUORUM));
        }
        let subscription = self.open(checked.request).await?;
        let (outbox, outgoing) = outbox(subscription.cursor());
        tracing::debug!(client, "subscription opened");
        let serve = Serve {
            subscription,
            frames: Frames {
                codec,
                view: checked.view,
            },
            outbox,
            slow_after: self.slow_after,
            until_up_to_date: checked.until_up_to_date,
        };
        tokio::spawn(serve.run(self.contact.clone(), self.stop.clone()));
        Ok(Response::new(Box::pin(outgoing)))
    }
}

/// Nothing new can reach a subscriber here, and others may be better off.
const NO_QUORUM: &str = "this replica has no contact with a majority of the group, so nothing new \
    reaches it; resume at another one with the cursor. `quorumwatch members` says who is missing";

const STOPPING: &str = "this replica is stopping; resume at another one with the cursor";

/// Serves one subscriber.
struct Serve {
    subscription: Subscription,
    frames: Frames,
    outbox: Outbox,
    slow_after: Duration,
    until_up_to_date: bool,
}

/// Why a subscription ends.
enum End {
    ReaderLeft,
    Slow,
    Complete,
    NoQuorum,
    Stopping,
}

impl Serve {
    async fn run(mut self, mut contact: watch::Receiver<bool>, stop: CancellationToken) {
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
            Ok(_) = contact.wait_for(|contact| !contact) => End::NoQuorum,
            () = stop.cancelled() => End::Stopping,
        };
        self.close(&end);
    }

    fn close(&self, end: &End) {
        use v1::{ClosingAction as Action, ClosingReason as Reason};
        let slow = format!(
            "the subscriber took nothing for {} ms; nothing is lost, but the same follows again: \
             read faster, or ask for less",
            self.slow_after.as_millis()
        );
        let (reason, action, message) = match end {
            End::ReaderLeft => return,
            End::Slow => (Reason::SubscriberTooSlow, Action::Resume, slow.as_str()),
            End::Complete => (
                Reason::Complete,
                Action::Stop,
                "everything that was asked for has been sent",
            ),
            End::NoQuorum => (Reason::NoQuorum, Action::ResumeElsewhere, NO_QUORUM),
            End::Stopping => (Reason::ReplicaStopping, Action::ResumeElsewhere, STOPPING),
        };
        let status = match end {
            End::ReaderLeft | End::Complete => None,
            End::Slow => Some(status::too_slow(message)),
            End::NoQuorum => Some(status::no_quorum(message)),
            End::Stopping => Some(status::stopping()),
        };
        // What waits for a subscriber that has stopped reading would only take memory.
        let waiting = match end {
            End::Slow => Waiting::Drop,
            _ => Waiting::Keep,
        };
        let retry_delay = matches!(end, End::Slow)
            .then(|| prost_types::Duration::try_from(SLOW_RETRY_DELAY).ok())
            .flatten();
        self.outbox.end(waiting, |cursor| {
            let closing = v1::Closing {
                reason: reason.into(),
                action: action.into(),
                retry_delay,
                message: message.to_owned(),
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
    loop {
        let outputs = subscription.next().await;
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
