//! A subscription that survives the replica that serves it.

use std::{fmt, mem, time::Duration};

use futures::FutureExt as _;

use super::{
    Cursor, Endpoint, Endpoints, Error, Interruption,
    failover::{Failover, Step, by_call},
};
use crate::proto::v1::{
    Closing, ClosingAction, Filter, FromCursor, FromNow, FromSnapshot, SubscribeRequest,
    SubscribeResponse, Until, View, subscribe_request::From, subscribe_response::Frame,
};

/// How long a replica may send nothing, by default: three heartbeats. A frozen or partitioned one
/// is not noticed otherwise; what comes of a mistake is that the subscription resumes at another
/// replica.
pub const SILENCE_MAX: Duration = Duration::from_millis(1500);

/// What to subscribe to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which events: those that match at least one of the filters; everything where there are none.
    pub filters: Vec<Filter>,
    /// How much of each object.
    pub view: View,
    /// Where to begin.
    pub begin: Begin,
    /// When the server ends the subscription.
    pub until: Until,
    /// A replica that sends nothing for longer is left; [`SILENCE_MAX`] where it is not given. A
    /// heartbeat comes every half a second.
    pub silence: Option<Duration>,
    /// The name of the client, for the replicas' logs and statistics.
    pub client_name: String,
}

impl Options {
    /// Everything, after a cursor that was saved as these parts; from now on where there are none.
    pub fn after(parts: Vec<String>) -> Self {
        Self {
            begin: Begin::After(Cursor::from_parts(parts)),
            ..Self::default()
        }
    }
}

/// Where a subscription begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// With what happens from now on.
    #[default]
    Now,
    /// With what exists now.
    Snapshot,
    /// After a cursor; from now on where that is empty.
    After(Cursor),
}

/// What [`Subscription::next`] returns.
#[derive(Debug)]
pub enum Update {
    /// A replica serves the subscription.
    Connected(Endpoint),
    /// The subscription leaves the replica that served it, or that was asked, and resumes at
    /// another.
    Interrupted {
        /// The replica that served until now.
        endpoint: Endpoint,
        /// The reason of the disconnection.
        why: Interruption,
    },
    /// A frame; its change of the cursor is already saved. Closing is passed on as well.
    Frame(Box<SubscribeResponse>),
}

/// Most frames of a batch.
pub const BATCH_FRAMES_MAX: usize = 1024;

/// A subscription that survives the replica that serves it.
pub struct Subscription {
    options: Options,
    cursor: Cursor,
    replicas: Failover<SubscribeRequest, SubscribeResponse>,
    /// The closing frame of the replica that serves, before it is acted upon.
    closing: Option<Closing>,
    /// Whether the server has ended the subscription for good.
    is_over: bool,
}

impl Subscription {
    /// Nothing is sent before the first call of [`Self::next`].
    pub fn new(endpoints: Endpoints, options: Options) -> Self {
        let open =
            by_call(
                |connection, request| async move { connection.events().subscribe(request).await },
            );
        let silence = options.silence.unwrap_or(SILENCE_MAX);
        Self::through(Failover::new(endpoints, silence, open), options)
    }

    fn through(
        replicas: Failover<SubscribeRequest, SubscribeResponse>,
        mut options: Options,
    ) -> Self {
        let cursor = match &mut options.begin {
            Begin::After(cursor) => mem::take(cursor),
            Begin::Now | Begin::Snapshot => Cursor::default(),
        };
        Self {
            options,
            cursor,
            replicas,
            closing: None,
            is_over: false,
        }
    }

    /// The cursor after everything that [`Self::next`] has returned; empty before the first whole
    /// cursor of a subscription that did not begin with one.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// As many frames as have arrived, at least one, at most [`BATCH_FRAMES_MAX`]; `None` at the
    /// end. One transaction for each batch is fast under load, and prompt without it. Which replica
    /// serves is only logged.
    pub async fn batch(&mut self) -> Result<Option<Vec<SubscribeResponse>>, Error> {
        let mut frames = Vec::new();
        let mut next = self.next().await?;
        loop {
            match next {
                None => return Ok(Some(frames).filter(|frames| !frames.is_empty())),
                Some(Update::Frame(frame)) => frames.push(*frame),
                Some(Update::Connected(endpoint)) => tracing::info!("following at {endpoint}"),
                Some(Update::Interrupted { endpoint, why }) => {
                    tracing::info!("left {endpoint}: {why}");
                }
            }
            next = if frames.is_empty() {
                self.next().await?
            } else if frames.len() == BATCH_FRAMES_MAX {
                return Ok(Some(frames));
            } else {
                match self.next().now_or_never() {
                    Some(next) => next?,
                    None => return Ok(Some(frames)),
                }
            };
        }
    }

    /// Waits for what comes next; `None` once the server has ended the subscription for good: all
    /// that was asked for has been sent. It may be dropped and called again at any time; nothing is
    /// lost.
    ///
    /// It fails where the request itself is at fault: no other replica would accept it either.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        if self.is_over {
            return Ok(None);
        }
        if self.closing.as_ref().is_some_and(is_stop) {
            return self.end().await;
        }
        if let Some(closing) = self.closing.take() {
            return Ok(self.leave(closing));
        }
        let (options, cursor) = (&self.options, &self.cursor);
        let step = loop {
            match self.replicas.step(|| request(options, cursor)).await? {
                // It has been heard, and that is all that it is for.
                Step::Message(response) if is_heartbeat(&response) => {}
                step => break step,
            }
        };
        let update = match step {
            Step::Connected(endpoint) => Update::Connected(endpoint),
            Step::Interrupted(endpoint, why) => Update::Interrupted { endpoint, why },
            Step::Message(response) => {
                self.cursor.take(&response);
                if let Some(Frame::Closing(closing)) = &response.frame {
                    self.closing = Some(closing.clone());
                }
                Update::Frame(Box::new(response))
            }
        };
        Ok(Some(update))
    }

    /// Leaves a replica that has announced the end of the subscription.
    fn leave(&mut self, closing: Closing) -> Option<Update> {
        let endpoint = self.replicas.endpoint()?.clone();
        let delay = closing.retry_delay.as_ref().and_then(span);
        self.replicas.leave(match closing.action() {
            ClosingAction::ResumeElsewhere => None,
            // An action of a later version: patience is never wrong.
            _ => delay,
        });
        let why = Interruption::Closing(closing);
        Some(Update::Interrupted { endpoint, why })
    }

    /// Waits for the status of the call, which repeats why the server has ended the subscription.
    async fn end(&mut self) -> Result<Option<Update>, Error> {
        let (options, cursor) = (&self.options, &self.cursor);
        let step = self.replicas.step(|| request(options, cursor)).await;
        match step {
            // What follows the last frame is not for this version.
            Ok(Step::Message(_) | Step::Connected(_)) => return Ok(None),
            Ok(Step::Interrupted(_, Interruption::Refused(error))) | Err(error) => {
                self.is_over = true;
                return Err(error);
            }
            Ok(Step::Interrupted(..)) => {}
        }
        self.is_over = true;
        Ok(None)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("options", &self.options)
            .field("endpoint", &self.replicas.endpoint())
            .finish_non_exhaustive()
    }
}

fn is_heartbeat(response: &SubscribeResponse) -> bool {
    matches!(response.frame, Some(Frame::Heartbeat(_)))
}

fn is_stop(closing: &Closing) -> bool {
    closing.action() == ClosingAction::Stop
}

/// What continues after everything that was received.
fn request(options: &Options, cursor: &Cursor) -> SubscribeRequest {
    let from = if cursor.is_empty() {
        match options.begin {
            Begin::Snapshot => From::Snapshot(FromSnapshot {}),
            Begin::Now | Begin::After(_) => From::Now(FromNow {}),
        }
    } else {
        From::Resume(FromCursor {
            cursors: cursor.parts().to_vec(),
        })
    };
    SubscribeRequest {
        filters: options.filters.clone(),
        view: options.view.into(),
        until: options.until.into(),
        client_name: options.client_name.clone(),
        from: Some(from),
    }
}

fn span(delay: &prost_types::Duration) -> Option<Duration> {
    Duration::try_from(*delay).ok()
}

#[cfg(test)]
mod tests;
