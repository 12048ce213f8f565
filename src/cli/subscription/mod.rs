//! A subscription that survives the replica that serves it: it keeps the cursor, and resumes at
//! another replica where one goes away.

use std::{fmt, pin::Pin, time::Duration};

use tonic::{Code, Streaming};

use super::{
    Endpoint, Endpoints, Error, chain,
    connection::{MESSAGE_BYTES_MAX, cause, is_foreign, refused, why_ended},
};
use crate::proto::v1::{
    Filter, Start, SubscribeRequest, SubscribeResponse, event_service_client::EventServiceClient,
    subscribe_response::Frame,
};

/// The pause after every replica has been tried in vain, at first and at most: short at first,
/// because a takeover is short; never long, because history waits for nobody.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what happens from now on.
    Now,
    /// With what exists now.
    Snapshot,
    /// After a cursor.
    After(String),
}

/// What [`Subscription::next`] tells.
#[derive(Debug)]
pub enum Update {
    /// A replica serves the subscription.
    Connected(Endpoint),
    /// The replica that served it is gone, or one that was asked did not answer. The
    /// subscription goes on elsewhere.
    Interrupted {
        /// Which replica.
        endpoint: Endpoint,
        /// What it died of.
        reason: String,
    },
    /// A frame, its cursor already kept.
    Frame(Box<SubscribeResponse>),
}

/// A subscription that survives the replica that serves it.
pub struct Subscription {
    endpoints: Endpoints,
    filter: Filter,
    begin: Begin,
    cursor: KeptCursor,
    /// How many attempts were made: whose turn it is.
    turn: usize,
    /// How many attempts failed since a frame was last received.
    failed: usize,
    state: State,
}

type Opening = Pin<Box<dyn Future<Output = Result<Streaming<SubscribeResponse>, Broken>> + Send>>;

enum State {
    Idle,
    Opening(Endpoint, Opening),
    Open(Endpoint, Box<Streaming<SubscribeResponse>>),
}

/// Why an attempt came to nothing.
enum Broken {
    Unreachable(tonic::transport::Error),
    Status(Box<tonic::Status>),
}

impl Subscription {
    /// Nothing is sent before the first call of [`Self::next`].
    pub fn new(endpoints: Endpoints, filter: Filter, begin: Begin) -> Self {
        Self {
            endpoints,
            filter,
            begin,
            cursor: KeptCursor::default(),
            turn: 0,
            failed: 0,
            state: State::Idle,
        }
    }

    /// The cursor after everything that [`Self::next`] has told; `None` before the first progress.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.get()
    }

    /// Waits for what comes next. It may be dropped and called again at any time; nothing is lost.
    ///
    /// It fails where a replica refuses the request itself: then no other would take it either.
    pub async fn next(&mut self) -> Result<Update, Error> {
        loop {
            match &mut self.state {
                State::Idle => {
                    let endpoint = self.endpoints.at_turn(self.turn).clone();
                    self.turn += 1;
                    let opening = Box::pin(open(endpoint.clone(), self.request(), self.pause()));
                    self.state = State::Opening(endpoint, opening);
                }
                State::Opening(endpoint, opening) => {
                    let endpoint = endpoint.clone();
                    match opening.await {
                        Ok(stream) => {
                            self.state = State::Open(endpoint.clone(), Box::new(stream));
                            return Ok(Update::Connected(endpoint));
                        }
                        Err(broken) => return self.interrupted(endpoint, broken),
                    }
                }
                State::Open(endpoint, stream) => {
                    let endpoint = endpoint.clone();
                    match stream.message().await {
                        Ok(Some(response)) => {
                            self.failed = 0;
                            self.cursor.keep(&response);
                            return Ok(Update::Frame(Box::new(response)));
                        }
                        Ok(None) => {
                            let ended = tonic::Status::unavailable("the replica ended the stream");
                            return self.interrupted(endpoint, Broken::Status(Box::new(ended)));
                        }
                        Err(status) => return self.interrupted(endpoint, broken(status)),
                    }
                }
            }
        }
    }

    fn interrupted(&mut self, endpoint: Endpoint, broken: Broken) -> Result<Update, Error> {
        self.state = State::Idle;
        self.failed += 1;
        match broken {
            Broken::Status(status) if is_final(status.code()) => Err(refused(endpoint, status)),
            // Whatever it is, it was no replica all along.
            Broken::Status(status) if self.cursor.get().is_none() && is_foreign(&status) => {
                Err(refused(endpoint, status))
            }
            broken => Ok(Update::Interrupted {
                endpoint,
                reason: broken.to_string(),
            }),
        }
    }

    fn request(&self) -> SubscribeRequest {
        let (cursor, start) = match (self.cursor.get(), &self.begin) {
            (Some(cursor), _) => (cursor.to_owned(), Start::Unspecified),
            (None, Begin::After(cursor)) => (cursor.clone(), Start::Unspecified),
            (None, Begin::Now) => (String::new(), Start::Now),
            (None, Begin::Snapshot) => (String::new(), Start::Snapshot),
        };
        SubscribeRequest {
            filter: Some(self.filter.clone()),
            cursor,
            start: start.into(),
        }
    }

    /// Every replica is tried at once; then comes a pause that doubles round by round.
    fn pause(&self) -> Duration {
        match (self.failed / self.endpoints.len()).checked_sub(1) {
            None => Duration::ZERO,
            Some(rounds) => {
                // At 2^6 the pause has reached its most.
                let doubled = u32::try_from(rounds.min(6)).map_or(1, |n| 1 << n);
                (PAUSE_MIN * doubled).min(PAUSE_MAX)
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("endpoints", &self.endpoints)
            .field("filter", &self.filter)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => f.write_str(&chain(error)),
            Self::Status(status) => match cause(status) {
                Some(cause) => f.write_str(&cause),
                None => f.write_str(status.message()),
            },
        }
    }
}

async fn open(
    endpoint: Endpoint,
    request: SubscribeRequest,
    pause: Duration,
) -> Result<Streaming<SubscribeResponse>, Broken> {
    tokio::time::sleep(pause).await;
    let channel = endpoint.connect().await.map_err(Broken::Unreachable)?;
    let mut client = EventServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let response = client.subscribe(request).await;
    let stream = response.map_err(|status| Broken::Status(Box::new(status)))?;
    Ok(stream.into_inner())
}

/// The end of a stream that was open.
fn broken(status: tonic::Status) -> Broken {
    if cause(&status).is_none() {
        return Broken::Status(Box::new(status));
    }
    let told = tonic::Status::new(status.code(), why_ended(&status));
    Broken::Status(Box::new(told))
}

/// Whether the request itself is at fault. Everything else is worth another try elsewhere.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::DataLoss
    )
}

/// The whole cursor of the last progress, with what the frames after it changed.
#[derive(Clone, Debug, Default)]
struct KeptCursor(String);

impl KeptCursor {
    fn get(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|cursor| !cursor.is_empty())
    }

    fn keep(&mut self, response: &SubscribeResponse) {
        if matches!(response.frame, Some(Frame::Progress(_))) {
            self.0.clone_from(&response.cursor);
        } else if !self.0.is_empty() && !response.cursor.is_empty() {
            self.0.push(',');
            self.0.push_str(&response.cursor);
        }
    }
}

#[cfg(test)]
mod tests;
