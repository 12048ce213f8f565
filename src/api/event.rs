//! `EventService`.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    convert::{self, millis, timestamp},
    encoded::{Encoded, EventService, encoded},
    status::{invalid, invalid_cursor},
};
use crate::{
    clock::unix_now,
    domain::{
        cursor::{Cursor, CursorCodec, InvalidCursor},
        position::Position,
        state::State,
    },
    pipeline::{
        filter::Filter,
        hub::Hub,
        item::{Gap, Published},
        subscription::{Body, Output, Start, StreamName, StreamProgress, Subscription},
    },
    proto::v1::{self, SubscribeRequest, SubscribeResponse, subscribe_response::Frame},
    raft::Raft,
};

/// Responses that may wait for the transport. What does not fit waits in rings, where it costs
/// nothing more.
const RESPONSES_MAX: usize = 256;

/// How long a cursor that is ahead of this replica may wait for it to catch up with the group.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(2);

/// The namespace of event ids; a UUID drawn once, for good.
const EVENT_IDS: Uuid = Uuid::from_u128(0x9c1d_58a1_7c0f_4d0e_8f55_51a5_3cf0_6d2b);

/// `EventService`.
#[derive(Clone)]
pub struct Events {
    hub: Hub,
    raft: Raft,
    slow_after: Duration,
    /// Whether this replica is in contact with a majority of the group.
    contact: watch::Receiver<bool>,
    /// Ends every subscription.
    stop: tokio_util::sync::CancellationToken,
}

impl Events {
    /// Serves from a hub. A subscriber that takes nothing for `slow_after` is disconnected.
    pub fn new(
        hub: Hub,
        raft: Raft,
        slow_after: Duration,
        contact: watch::Receiver<bool>,
        stop: tokio_util::sync::CancellationToken,
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
        group.map(CursorCodec::new).ok_or_else(|| {
            Status::unavailable("the group is not formed yet: see `quorumwatch members`; try again")
        })
    }

    async fn open(&self, filter: Filter, start: Start) -> Result<Subscription, Status> {
        match Subscription::open(self.hub.clone(), filter.clone(), start.clone()) {
            Err(InvalidCursor::Ahead(_)) => {}
            opened => return opened.map_err(|error| invalid_cursor(&error)),
        }
        // The cursor may come from a replica that has applied more than this one.
        let caught_up = |state: &std::sync::Arc<State>| match &start {
            Start::Cursor(cursor) => !is_ahead(cursor, state),
            Start::Now | Start::Snapshot => true,
        };
        let mut states = self.raft.watch_state();
        let _ = tokio::time::timeout(CATCH_UP_WITHIN, states.wait_for(caught_up)).await;
        Subscription::open(self.hub.clone(), filter, start).map_err(|error| invalid_cursor(&error))
    }
}

fn is_ahead(cursor: &Cursor, state: &State) -> bool {
    cursor
        .positions
        .iter()
        .any(|(id, position)| id.0 > state.last_id || position.era.0 > state.last_id)
}

fn start(request: &SubscribeRequest, codec: CursorCodec) -> Result<Start, Status> {
    let named = v1::Start::try_from(request.start)
        .map_err(|_| invalid(format!("start {} is not known", request.start)))?;
    if !request.cursor.is_empty() {
        if named != v1::Start::Unspecified {
            return Err(invalid("give either a cursor or a start, not both"));
        }
        let cursor = codec
            .read(&request.cursor)
            .map_err(|error| invalid_cursor(&error))?;
        return Ok(Start::Cursor(cursor));
    }
    Ok(match named {
        v1::Start::Unspecified | v1::Start::Now => Start::Now,
        v1::Start::Snapshot => Start::Snapshot,
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
        let codec = self.codec()?;
        let start = start(&request, codec)?;
        let filter = convert::filter(request.filter)?;
        if !*self.contact.borrow() {
            return Err(cut_off());
        }
        let subscription = self.open(filter, start).await?;
        let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
        let serve = Serve {
            subscription,
            codec,
            sender,
            slow_after: self.slow_after,
        };
        let stop = self.stop.clone();
        let mut contact = self.contact.clone();
        tokio::spawn(async move {
            let sender = serve.sender.clone();
            tokio::select! {
                () = serve.run() => {}
                () = sender.closed() => {}
                Ok(_) = contact.wait_for(|contact| !contact) => {
                    // A subscriber that does not read learns it from the silence.
                    let _ = sender.try_send(Err(cut_off()));
                }
                () = stop.cancelled() => {
                    let status = Status::unavailable(
                        "this replica is stopping; resume at another one with the cursor",
                    );
                    // A subscriber that does not read learns it from the closed connection.
                    let _ = sender.try_send(Err(status));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Nothing new can reach a subscriber here, and others may be better off.
fn cut_off() -> Status {
    Status::unavailable(
        "this replica has no contact with a majority of the group, so nothing new reaches it; \
         resume at another one with the cursor. `quorumwatch members` says who is missing",
    )
}

/// Serves one subscriber.
struct Serve {
    subscription: Subscription,
    codec: CursorCodec,
    sender: mpsc::Sender<Result<Encoded, Status>>,
    slow_after: Duration,
}

impl Serve {
    async fn run(mut self) {
        let mut sent = self.subscription.cursor();
        loop {
            for output in self.subscription.next().await {
                let resume = output.resume.clone();
                let response = self.response(output);
                let permit = tokio::time::timeout(self.slow_after, self.sender.reserve());
                match permit.await {
                    Ok(Ok(permit)) => permit.send(Ok(response)),
                    Ok(Err(_)) => return,
                    Err(_) => return self.disconnect_slow(&sent).await,
                }
                if let Some((stream, position)) = resume {
                    sent.positions.insert(stream, position);
                }
            }
        }
    }

    /// Tells a subscriber that takes nothing where it may resume. It reads that when it reads.
    async fn disconnect_slow(&self, sent: &Cursor) {
        let mut status = Status::resource_exhausted(format!(
            "the subscriber took nothing for {} ms; resume with the cursor in the metadata \
             \"quorumwatch-cursor\", or with its own",
            self.slow_after.as_millis()
        ));
        if let Ok(value) = self.codec.whole(sent).parse() {
            status.metadata_mut().insert("quorumwatch-cursor", value);
        }
        // Waits until the subscriber reads, or its connection is gone.
        let _ = self.sender.send(Err(status)).await;
    }

    fn response(&self, output: Output) -> Encoded {
        let delta = || {
            let resume = output.resume.as_ref();
            resume.map_or_else(String::new, |(stream, position)| {
                self.codec.delta(*stream, position)
            })
        };
        let (cursor, frame) = match output.body {
            Body::Event(name, published) => {
                let render = || (delta(), event(&name, &published));
                return encoded(&published, timestamp(unix_now()), render);
            }
            Body::Synced(name, position) => (delta(), Frame::Synced(synced(&name, &position))),
            Body::Gap(name, gap) => (delta(), Frame::Gap(gap_frame(&name, &gap))),
            Body::SnapshotRestarted(name) => (delta(), Frame::Gap(snapshot_restarted(&name))),
            Body::Progress { cursor, streams } => {
                let streams = streams.iter().map(stream_progress).collect();
                (
                    self.codec.whole(&cursor),
                    Frame::Progress(v1::Progress { streams }),
                )
            }
        };
        let frame = Some(frame);
        Encoded::Other(Box::new(SubscribeResponse { cursor, frame }))
    }
}

fn gap_frame(name: &StreamName, gap: &Gap) -> v1::Gap {
    let (reason, message) = convert::gap_reason(gap.reason);
    v1::Gap {
        cluster: name.cluster.clone(),
        resource: name.resource.to_string(),
        from: gap
            .from
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        to: gap.to.to_string(),
        reason: reason.into(),
        repaired: gap.repaired,
        message: message.to_owned(),
    }
}

fn snapshot_restarted(name: &StreamName) -> v1::Gap {
    v1::Gap {
        cluster: name.cluster.clone(),
        resource: name.resource.to_string(),
        reason: v1::GapReason::SnapshotRestarted.into(),
        message: "the snapshot was interrupted and begins again".to_owned(),
        ..v1::Gap::default()
    }
}

/// The same at every replica and at every try.
fn event_id(name: &StreamName, position: &Position) -> String {
    let text = format!("{}/{}/{position}", name.cluster_uid, name.id);
    Uuid::new_v5(&EVENT_IDS, text.as_bytes()).to_string()
}

fn event(name: &StreamName, published: &Published) -> v1::Event {
    let frame = &published.frame;
    v1::Event {
        id: event_id(name, &published.position),
        cluster: name.cluster.clone(),
        resource: name.resource.to_string(),
        r#type: convert::event_type(frame.change).into(),
        position: published.position.to_string(),
        epoch: published.epoch.0,
        object: Some(v1::ObjectMeta {
            namespace: frame.namespace.to_string(),
            name: frame.name.to_string(),
            uid: frame.uid.to_string(),
            resource_version: frame.rv.to_string(),
        }),
        // The object and the time of sending are added when the event is sent.
        object_json: Bytes::new(),
        seen_time: Some(timestamp(frame.seen)),
        sent_time: None,
    }
}

fn synced(name: &StreamName, position: &Position) -> v1::Synced {
    v1::Synced {
        cluster: name.cluster.clone(),
        resource: name.resource.to_string(),
        position: position.to_string(),
    }
}

fn stream_progress(progress: &StreamProgress) -> v1::StreamProgress {
    v1::StreamProgress {
        cluster: progress.name.cluster.clone(),
        resource: progress.name.resource.to_string(),
        position: progress
            .position
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        lag_ms: millis(progress.lag),
        catching_up: progress.catching_up,
    }
}
