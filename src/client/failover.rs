//! A stream of messages from any replica, opened again at the next one where it ends.
//!
//! What is common to subscriptions and watches. What the messages mean, and from where the next
//! replica continues, is theirs.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future::BoxFuture};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Response, Status, Streaming};

use super::{
    Connection, Endpoint, Endpoints, Error, Interruption,
    endpoint::ANSWER_TIMEOUT,
    error::{Reaction, cause, chain, is_foreign, reaction, refused, retry_delay, why_broken},
    turns::Turns,
};

/// How long listening must be undisturbed for silence to count.
const LISTEN: Duration = Duration::from_millis(100);

/// A stream that ends sooner counts as an attempt that failed: replicas that accept everything and
/// end it at once are left alone for longer and longer, too. Replicas that restart one after the
/// other serve for longer than this, and a client that they send on must not wait.
const STABLE_AFTER: Duration = Duration::from_millis(250);

/// Messages of one replica.
pub(super) type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Opens a stream at a replica.
pub(super) type Open<Q, M> =
    Arc<dyn Fn(Endpoint, Q) -> BoxFuture<'static, Result<Messages<M>, Broken>> + Send + Sync>;

/// Why a stream could not be opened, or broke.
#[derive(Debug)]
pub(super) enum Broken {
    /// No connection came about.
    Unreachable(String),
    /// An answer, or what the library made of a broken connection.
    Status(Box<Status>),
    /// Nothing came for so long.
    Silent(Duration),
    /// The end, without an error.
    Ended,
}

/// What [`Failover::step`] returns.
#[derive(Debug)]
pub(super) enum Step<M> {
    /// A replica serves: its first message follows.
    Connected(Endpoint),
    /// A replica is left; the next step tries another.
    Interrupted(Endpoint, Interruption),
    /// A message.
    Message(M),
}

/// A stream of messages from any replica.
pub(super) struct Failover<Q, M> {
    endpoints: Endpoints,
    open: Open<Q, M>,
    /// A replica that sends nothing for longer is left.
    silence: Duration,
    turns: Turns,
    state: State<M>,
    /// Whether a replica has ever served.
    was_served: bool,
}

enum State<M> {
    Idle,
    /// Up to the first message.
    Opening(usize, BoxFuture<'static, Result<Served<M>, Broken>>),
    Open(usize, Box<Served<M>>),
}

/// A stream that is open.
struct Served<M> {
    messages: Messages<M>,
    /// Not passed on yet.
    first: Option<M>,
    since: Instant,
    last: Instant,
}

impl<Q: Send + 'static, M: Send + 'static> Failover<Q, M> {
    pub(super) fn new(endpoints: Endpoints, silence: Duration, open: Open<Q, M>) -> Self {
        Self {
            turns: Turns::new(endpoints.len()),
            endpoints,
            open,
            silence,
            state: State::Idle,
            was_served: false,
        }
    }

    /// Waits for what comes next; `request` continues after the last message. It may be dropped and
    /// called again at any time; nothing is lost.
    ///
    /// It fails where the request itself is at fault; the next step then tries once more.
    pub(super) async fn step(&mut self, request: impl FnOnce() -> Q) -> Result<Step<M>, Error> {
        if matches!(self.state, State::Idle) {
            let turn = self.turns.take(Instant::now(), rand::random());
            let endpoint = self.endpoints.at_turn(turn.index).clone();
            let opening = (self.open)(endpoint, request());
            let opening = Box::pin(opened(turn.pause, opening));
            self.state = State::Opening(turn.index, opening);
        }
        match &mut self.state {
            State::Idle => Err(self.endpoints.no_answer(Vec::new())),
            State::Opening(index, opening) => {
                let (index, opened) = (*index, opening.await);
                match opened {
                    Ok(served) => {
                        self.was_served = true;
                        self.state = State::Open(index, Box::new(served));
                        Ok(Step::Connected(self.endpoints.at_turn(index).clone()))
                    }
                    Err(broken) => self.broken(index, broken),
                }
            }
            State::Open(index, served) => {
                let index = *index;
                match served.next(self.silence).await {
                    Ok(message) => Ok(Step::Message(message)),
                    Err(broken) => self.broken(index, broken),
                }
            }
        }
    }

    /// Leaves the replica that serves; the next step tries another, after a delay where one is
    /// given.
    pub(super) fn leave(&mut self, delay: Option<Duration>) {
        let now = Instant::now();
        if let State::Open(index, _) = self.state {
            self.failed(index, None);
        }
        self.state = State::Idle;
        if let Some(delay) = delay {
            self.turns.wait(delay, now);
        }
    }

    /// The replica that serves, or that is being asked.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        match self.state {
            State::Idle => None,
            State::Opening(index, _) | State::Open(index, _) => Some(self.endpoints.at_turn(index)),
        }
    }

    fn broken(&mut self, index: usize, broken: Broken) -> Result<Step<M>, Error> {
        let endpoint = self.endpoints.at_turn(index).clone();
        let delay = match &broken {
            Broken::Status(status) => retry_delay(status),
            _ => None,
        };
        self.failed(index, delay);
        let was_open = matches!(self.state, State::Open(..));
        self.state = State::Idle;
        let why = match broken {
            Broken::Unreachable(why) => Interruption::Unreachable(why),
            Broken::Silent(span) => Interruption::Silent(span),
            Broken::Ended => Interruption::Ended,
            Broken::Status(status) => {
                if is_foreign(&status) && !self.was_served {
                    return Err(refused(endpoint, status));
                }
                match cause(&status) {
                    Some(why) if was_open => Interruption::Broken(why_broken(&why).into()),
                    Some(why) => Interruption::Unreachable(why),
                    None => match reaction(&status) {
                        Reaction::Fix | Reaction::Read => return Err(refused(endpoint, status)),
                        Reaction::Elsewhere | Reaction::Repeat => {
                            Interruption::Refused(refused(endpoint.clone(), status))
                        }
                    },
                }
            }
        };
        Ok(Step::Interrupted(endpoint, why))
    }

    fn failed(&mut self, index: usize, delay: Option<Duration>) {
        let now = Instant::now();
        if let State::Open(_, served) = &self.state
            && now.duration_since(served.since) >= STABLE_AFTER
        {
            self.turns.succeeded();
        }
        self.turns.failed(index, delay, now);
    }
}

impl<M> Served<M> {
    async fn next(&mut self, silence: Duration) -> Result<M, Broken> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let listened = loop {
            // A message that is there already counts, however late the caller comes for it.
            let until = (self.last + silence).max(Instant::now() + LISTEN);
            let listened = timeout_at(until, self.messages.next()).await;
            // Woken much later, this process stood still, and what came meanwhile is still unread.
            if listened.is_ok() || until.elapsed() < LISTEN {
                break listened;
            }
        };
        match listened {
            Err(_) => Err(Broken::Silent(silence)),
            Ok(None) => Err(Broken::Ended),
            Ok(Some(Err(status))) => Err(Broken::Status(Box::new(status))),
            Ok(Some(Ok(message))) => {
                self.last = Instant::now();
                Ok(message)
            }
        }
    }
}

/// Opens a stream, and waits for its first message: a replica that only accepts does not serve.
async fn opened<M>(
    pause: Duration,
    opening: BoxFuture<'static, Result<Messages<M>, Broken>>,
) -> Result<Served<M>, Broken> {
    sleep(pause).await;
    let first = async {
        let mut messages = opening.await?;
        match messages.next().await {
            None => Err(Broken::Ended),
            Some(Err(status)) => Err(Broken::Status(Box::new(status))),
            Some(Ok(first)) => Ok((messages, first)),
        }
    };
    let (messages, first) = timeout(ANSWER_TIMEOUT, first)
        .await
        .unwrap_or(Err(Broken::Silent(ANSWER_TIMEOUT)))?;
    let now = Instant::now();
    Ok(Served {
        messages,
        first: Some(first),
        since: now,
        last: now,
    })
}

/// Opens a stream by a call.
pub(super) fn by_call<Q, M, A>(call: fn(Connection, Q) -> A) -> Open<Q, M>
where
    Q: Send + 'static,
    M: Send + 'static,
    A: Future<Output = Result<Response<Streaming<M>>, Status>> + Send + 'static,
{
    Arc::new(move |endpoint, request| {
        Box::pin(async move {
            let connection = endpoint.connect().await;
            let connection = connection.map_err(|error| Broken::Unreachable(chain(&error)))?;
            let answer = call(connection, request).await;
            let answer = answer.map_err(|status| Broken::Status(Box::new(status)))?;
            Ok(answer.into_inner().boxed())
        })
    })
}
