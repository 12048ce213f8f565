//! Replicas that answer from scripts, without a network, so that time may be paused.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, future, stream};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    Endpoint, Endpoints,
    failover::{Broken, Messages, Open},
};

/// What one attempt meets.
pub(super) enum Script<M> {
    /// No connection.
    Unreachable,
    /// A connection, and no answer to the call.
    Hangs,
    /// An error instead of a stream.
    Refuses(Status),
    /// Messages, each after a delay, then an end.
    Sends(Vec<(Duration, M)>, Then),
}

/// How a stream ends.
pub(super) enum Then {
    Ends,
    Fails(Status),
    Silence,
}

/// Messages without delays.
pub(super) fn sends<M>(messages: impl IntoIterator<Item = M>, then: Then) -> Script<M> {
    let messages = messages.into_iter();
    let messages = messages.map(|message| (Duration::ZERO, message));
    Script::Sends(messages.collect(), then)
}

/// An answer as a replica gives it.
pub(super) fn answer(code: Code, reason: &str, delay: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "quorumwatch.dev", []);
    if delay.is_some() {
        details.set_retry_info(delay);
    }
    Status::with_error_details(code, format!("because of {reason}"), details)
}

/// An attempt that was made: when, at which replica, and with which request.
pub(super) struct Attempt<Q> {
    pub(super) after: Duration,
    pub(super) endpoint: String,
    pub(super) request: Q,
}

/// Replicas that meet attempts with scripts, in order, whichever of them is asked.
pub(super) struct Scripted<Q, M> {
    scripts: Mutex<VecDeque<Script<M>>>,
    attempts: Mutex<Vec<Attempt<Q>>>,
    start: Instant,
}

impl<Q: Send + 'static, M: Send + 'static> Scripted<Q, M> {
    pub(super) fn new(scripts: impl IntoIterator<Item = Script<M>>) -> Arc<Self> {
        Arc::new(Self {
            scripts: Mutex::new(scripts.into_iter().collect()),
            attempts: Mutex::default(),
            start: Instant::now(),
        })
    }

    /// Takes the attempts made so far.
    pub(super) fn attempts(&self) -> Vec<Attempt<Q>> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut attempts)
    }

    pub(super) fn open(self: &Arc<Self>) -> Open<Q, M> {
        let this = Arc::clone(self);
        Arc::new(move |endpoint, request| {
            let this = Arc::clone(&this);
            Box::pin(async move { this.meet(&endpoint, request).await })
        })
    }

    async fn meet(&self, endpoint: &Endpoint, request: Q) -> Result<Messages<M>, Broken> {
        self.attempts.lock().unwrap().push(Attempt {
            after: self.start.elapsed(),
            endpoint: endpoint.to_string(),
            request,
        });
        let script = self.scripts.lock().unwrap().pop_front();
        match script.unwrap_or(Script::Unreachable) {
            Script::Unreachable => Err(Broken::Unreachable("connection refused".into())),
            Script::Hangs => future::pending().await,
            Script::Refuses(status) => Err(Broken::Status(Box::new(status))),
            Script::Sends(messages, then) => {
                let messages = stream::iter(messages).then(|(delay, message)| async move {
                    sleep_until(Instant::now() + delay).await;
                    Ok(message)
                });
                Ok(match then {
                    Then::Ends => messages.boxed(),
                    Then::Fails(status) => messages.chain(stream::iter([Err(status)])).boxed(),
                    Then::Silence => messages.chain(stream::pending()).boxed(),
                })
            }
        }
    }
}

/// So many replicas: a:1, b:1 and so on.
pub(super) fn replicas(count: usize) -> Endpoints {
    let names = ["a:1", "b:1", "c:1", "d:1"];
    let mut endpoints = names.iter().take(count).map(|name| name.parse().unwrap());
    let first = endpoints.next().unwrap();
    Endpoints::new(first, endpoints)
}
