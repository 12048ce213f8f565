use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::{Begin, Endpoint, Endpoints, Error, Subscription, Update};
use crate::proto::v1::{
    Event, Filter, Progress, Start, SubscribeRequest, SubscribeResponse,
    event_service_server::{EventService, EventServiceServer},
    subscribe_response::Frame,
};

/// A replica that answers each subscription with the next script.
#[derive(Clone, Default)]
struct Scripted {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    requests: Arc<Mutex<Vec<SubscribeRequest>>>,
}

/// Frames, then an end, an error, or silence.
struct Script {
    frames: Vec<SubscribeResponse>,
    then: Then,
}

enum Then {
    End,
    Fail(Status),
    Silence,
}

#[tonic::async_trait]
impl EventService for Scripted {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.requests.lock().unwrap().push(request.into_inner());
        let script = self.scripts.lock().unwrap().pop_front();
        let script = script.ok_or_else(|| Status::unavailable("no script is left"))?;
        let frames = stream::iter(script.frames).map(Ok);
        Ok(Response::new(match script.then {
            Then::End => Box::pin(frames),
            Then::Fail(status) => Box::pin(frames.chain(stream::iter([Err(status)]))),
            Then::Silence => Box::pin(frames.chain(stream::pending())),
        }))
    }
}

impl Scripted {
    async fn start(scripts: impl IntoIterator<Item = Script>) -> (Self, Endpoint) {
        let scripted = Self::default();
        scripted.scripts.lock().unwrap().extend(scripts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let service = EventServiceServer::new(scripted.clone());
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        (scripted, endpoint.parse().unwrap())
    }

    fn cursors(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .map(|request| request.cursor.clone())
            .collect()
    }
}

fn event(cursor: &str) -> SubscribeResponse {
    SubscribeResponse {
        cursor: cursor.into(),
        frame: Some(Frame::Event(Event::default())),
    }
}

fn progress(cursor: &str) -> SubscribeResponse {
    SubscribeResponse {
        cursor: cursor.into(),
        frame: Some(Frame::Progress(Progress::default())),
    }
}

fn script(frames: Vec<SubscribeResponse>, then: Then) -> Script {
    Script { frames, then }
}

/// Takes frames until there are so many, through whatever interruptions.
async fn take(subscription: &mut Subscription, count: usize) -> Vec<SubscribeResponse> {
    let mut frames = Vec::new();
    while frames.len() < count {
        if let Update::Frame(frame) = subscription.next().await.unwrap() {
            frames.push(*frame);
        }
    }
    frames
}

#[tokio::test]
async fn it_resumes_at_another_replica_with_the_whole_cursor_and_the_deltas_after_it() {
    let first = script(
        vec![
            progress("old"),
            event("lost"),
            progress("w"),
            event("d1"),
            event("d2"),
        ],
        Then::Fail(Status::unavailable("the replica is going away")),
    );
    let (first, one) = Scripted::start([first]).await;
    let second = script(vec![event("d3")], Then::Silence);
    let (second, two) = Scripted::start([second]).await;
    let endpoints = Endpoints::new(one, [two]);
    let mut subscription = Subscription::new(endpoints, Filter::default(), Begin::Snapshot);
    take(&mut subscription, 6).await;
    assert_eq!(first.cursors(), [""]);
    assert_eq!(first.requests.lock().unwrap()[0].start(), Start::Snapshot);
    assert_eq!(second.cursors(), ["w,d1,d2"]);
    assert_eq!(
        second.requests.lock().unwrap()[0].start(),
        Start::Unspecified
    );
    assert_eq!(subscription.cursor(), Some("w,d1,d2,d3"));
}

#[tokio::test]
async fn a_stream_that_ends_is_resumed_at_the_same_replica_where_there_is_no_other() {
    let (replica, endpoint) = Scripted::start([
        script(vec![progress("w1")], Then::End),
        script(vec![progress("w2")], Then::Silence),
    ])
    .await;
    let begin = Begin::After("w0".into());
    let mut subscription = Subscription::new(endpoint.into(), Filter::default(), begin);
    take(&mut subscription, 2).await;
    assert_eq!(replica.cursors(), ["w0", "w1"]);
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_passed_over() {
    let (_, alive) = Scripted::start([script(vec![progress("w")], Then::Silence)]).await;
    let dead: Endpoint = "127.0.0.1:1".parse().unwrap();
    let endpoints = Endpoints::new(dead.clone(), [alive.clone()]);
    let mut subscription = Subscription::new(endpoints, Filter::default(), Begin::Now);
    match subscription.next().await.unwrap() {
        Update::Interrupted { endpoint, .. } => assert_eq!(endpoint, dead),
        other => panic!("{other:?}"),
    }
    match subscription.next().await.unwrap() {
        Update::Connected(endpoint) => assert_eq!(endpoint, alive),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_that_is_at_fault_itself_is_not_repeated() {
    let refusal = Then::Fail(Status::invalid_argument("the cursor is damaged"));
    let (replica, endpoint) = Scripted::start([script(vec![], refusal)]).await;
    let begin = Begin::After("nonsense".into());
    let mut subscription = Subscription::new(endpoint.into(), Filter::default(), begin);
    let error = loop {
        match subscription.next().await {
            Ok(Update::Connected(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(replica.cursors().len(), 1);
}

#[tokio::test]
async fn nothing_is_lost_where_next_is_dropped_while_it_waits() {
    let frames = (0..50).map(|n| event(&n.to_string())).collect();
    let (_, endpoint) = Scripted::start([script(frames, Then::Silence)]).await;
    let mut subscription = Subscription::new(endpoint.into(), Filter::default(), Begin::Now);
    let mut seen = Vec::new();
    while seen.len() < 50 {
        tokio::select! {
            biased;
            update = subscription.next() => {
                if let Update::Frame(frame) = update.unwrap() {
                    seen.push(frame.cursor);
                }
            }
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(
        seen.iter()
            .enumerate()
            .all(|(n, cursor)| n.to_string() == *cursor)
    );
}
