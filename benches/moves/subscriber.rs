//! A subscriber that prefers its own replica: the shipped client, with its cursor.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use quorumwatch::{
    client::{Begin, Cursor, Endpoint, Endpoints, Options, Subscription, Update},
    proto::v1::{Event, StreamChangeType, SubscribeResponse, subscribe_response::Frame},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{clock, silence::Arrival};

/// What one stream received since it was last checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) arrivals: Vec<Arrival>,
    /// The last version that arrived.
    pub(crate) reached: u64,
    /// Whether there was a gap among them: what arrived after it is incomplete and unordered.
    pub(crate) had_gap: bool,
}

/// What a subscriber has received.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The replica that serves the subscription.
    pub(crate) serves: Option<Endpoint>,
    /// By cluster and resource.
    streams: BTreeMap<(String, String), Received>,
    /// How many streams are covered.
    pub(crate) covered: usize,
    pub(crate) is_current: bool,
    cursor: Cursor,
    pub(crate) gaps: u64,
    /// When and why it was disconnected, each time.
    pub(crate) left: Vec<(u64, String)>,
    /// Why the subscription ended permanently.
    pub(crate) refusal: Option<String>,
}

/// A subscriber. Dropping it ends it.
pub(crate) struct Subscriber {
    /// The index of its own replica, which it tries first.
    pub(crate) home: usize,
    endpoints: Endpoints,
    seen: Arc<Mutex<Seen>>,
    task: AbortOnDropHandle<()>,
}

impl Subscriber {
    /// Subscribes to everything from now on; its own replica is the first of the endpoints.
    pub(crate) fn start(home: usize, endpoints: Endpoints) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let task = follow_from(&endpoints, &seen);
        Self {
            home,
            endpoints,
            seen,
            task,
        }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while it is held")
    }

    /// Whether its own replica serves it, and it is up to date.
    pub(crate) fn is_home(&self) -> bool {
        let seen = self.seen();
        seen.is_current && seen.serves.as_ref() == self.endpoints.iter().next()
    }

    /// Returns to its own replica, with its cursor.
    pub(crate) async fn go_home(&mut self) {
        if !self.is_home() {
            self.task.abort();
            // It ends immediately, or has ended.
            let _ = (&mut self.task).await;
            self.seen().is_current = false;
            self.task = follow_from(&self.endpoints, &self.seen);
        }
    }
}

impl Seen {
    /// What has arrived of a stream since the last call.
    pub(crate) fn take(&mut self, cluster: &str, resource: &str) -> Received {
        let key = (cluster.to_owned(), resource.to_owned());
        let stream = self.streams.entry(key).or_default();
        let empty = Received {
            reached: stream.reached,
            ..Received::default()
        };
        std::mem::replace(stream, empty)
    }

    /// The last version that arrived.
    pub(crate) fn reached(&self, cluster: &str, resource: &str) -> u64 {
        let stream = self.streams.get(&(cluster.to_owned(), resource.to_owned()));
        stream.map_or(0, |stream| stream.reached)
    }

    fn frame(&mut self, response: &SubscribeResponse, at: u64) {
        self.cursor.take(response);
        match &response.frame {
            Some(Frame::Event(event)) => self.event(event, at),
            Some(Frame::Gap(gap)) => {
                self.gaps += 1;
                let key = (gap.cluster.clone(), gap.resource.clone());
                self.streams.entry(key).or_default().had_gap = true;
            }
            Some(Frame::Progress(progress)) => self.is_current = progress.up_to_date,
            Some(Frame::StreamChange(change)) => match change.r#type() {
                StreamChangeType::Added => self.covered += 1,
                StreamChangeType::Removed => self.covered = self.covered.saturating_sub(1),
                _ => {}
            },
            _ => {}
        }
    }

    fn event(&mut self, event: &Event, at: u64) {
        let object = event.object.as_ref();
        let version = object.and_then(|object| object.resource_version.parse().ok());
        let read = event.seen_time.as_ref().map_or(0, |time| {
            let nanos = i64::from(time.nanos);
            u64::try_from(time.seconds * 1_000_000 + nanos / 1_000).unwrap_or(0)
        });
        let arrival = Arrival {
            at,
            version: version.unwrap_or(0),
            epoch: event.epoch,
            read_unix: read,
        };
        let key = (event.cluster.clone(), event.resource.clone());
        let stream = self.streams.entry(key).or_default();
        stream.reached = stream.reached.max(arrival.version);
        stream.arrivals.push(arrival);
    }
}

fn follow_from(endpoints: &Endpoints, seen: &Arc<Mutex<Seen>>) -> AbortOnDropHandle<()> {
    let begin = {
        let mut seen = seen.lock().expect("nobody panics while it is held");
        seen.covered = 0;
        seen.serves = None;
        if seen.cursor.is_empty() {
            Begin::Now
        } else {
            Begin::After(seen.cursor.clone())
        }
    };
    let options = Options {
        begin,
        client_name: "moves".into(),
        ..Options::default()
    };
    let subscription = Subscription::new(endpoints.clone(), options);
    AbortOnDropHandle::new(tokio::spawn(follow(subscription, Arc::clone(seen))))
}

async fn follow(mut subscription: Subscription, seen: Arc<Mutex<Seen>>) {
    loop {
        let update = subscription.next().await;
        let at = clock::now();
        let mut seen = seen.lock().expect("nobody panics while it is held");
        match update {
            Ok(Some(Update::Frame(response))) => seen.frame(&response, at),
            Ok(Some(Update::Connected(endpoint))) => {
                seen.covered = 0;
                seen.serves = Some(endpoint);
            }
            Ok(Some(Update::Interrupted { endpoint, why })) => {
                seen.is_current = false;
                seen.serves = None;
                seen.left.push((at, format!("{endpoint}: {why}")));
            }
            Ok(None) => return,
            Err(error) => {
                seen.refusal = Some(error.to_string());
                return;
            }
        }
    }
}
