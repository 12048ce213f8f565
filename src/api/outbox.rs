//! Responses of one subscription that wait for the transport, and its last frame.
//!
//! A queue of its own and not a channel, because the end of a subscription has rules: its last
//! frame is never lost for want of room, it carries the cursor of what was sent before it, and what
//! waits for a subscriber that has stopped reading is thrown away, since it follows again.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_stream::Stream;
use tonic::Status;

use super::encoded::Encoded;
use crate::{domain::cursor::Cursor, pipeline::output::CursorStep};

/// Responses that may wait for the transport. What does not fit waits in rings, where it costs
/// nothing more.
const RESPONSES_MAX: usize = 256;

/// One response, and what it changes in the cursor.
pub(super) type Response = (Encoded, CursorStep);

/// The sending half.
pub(super) struct Outbox {
    shared: Arc<Shared>,
}

/// The half that the transport reads.
pub(super) struct Outgoing {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is room, or the reader has left.
    room: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Response>,
    /// What the responses that were taken changed in the cursor, not yet applied.
    taken: Vec<CursorStep>,
    taken_total: u64,
    /// After every response that was taken.
    cursor: Cursor,
    reader: Option<Waker>,
    reader_left: bool,
    end: Option<End>,
}

/// A batch for which there is no room, and how many responses have been taken so far.
struct Refused {
    batch: Vec<Response>,
    taken: u64,
}

/// What follows when nothing waits any more.
struct End {
    last: Option<Encoded>,
    status: Option<Status>,
}

/// What becomes of the responses that wait when a subscription ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// They are sent first.
    Keep,
    /// They are thrown away.
    Drop,
}

/// Why nothing more can be put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The reader has left.
    ReaderLeft,
    /// The reader took nothing for too long.
    Slow,
}

/// In how many parts the patience with a slow reader is counted: it ends at most one part late.
const PARTS: u32 = 8;

/// Both halves. Nothing has been sent yet: the subscriber stands at `cursor`.
pub(super) fn outbox(cursor: Cursor) -> (Outbox, Outgoing) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            cursor,
            ..Queue::default()
        }),
        room: Notify::new(),
    });
    let outgoing = Outgoing {
        shared: shared.clone(),
    };
    (Outbox { shared }, outgoing)
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change of a queue is whole before anything could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// Waits until there is room, and puts a batch in; not for longer than `slow_after` without
    /// anything being taken. A batch may be larger than the room: it is bounded by whoever makes it.
    pub(super) async fn push(
        &self,
        mut batch: Vec<Response>,
        slow_after: Duration,
    ) -> Result<(), Full> {
        let mut taken_before = 0;
        let mut parts_without = 0;
        loop {
            // Asked for before the look, so that no change between the two is missed.
            let room = self.shared.room.notified();
            let taken = match self.try_push(batch)? {
                Ok(()) => return Ok(()),
                Err(refused) => {
                    batch = refused.batch;
                    refused.taken
                }
            };
            if taken != taken_before {
                (taken_before, parts_without) = (taken, 0);
            }
            if tokio::time::timeout(slow_after / PARTS, room)
                .await
                .is_err()
            {
                parts_without += 1;
                if parts_without > PARTS {
                    return Err(Full::Slow);
                }
            }
        }
    }

    fn try_push(&self, batch: Vec<Response>) -> Result<Result<(), Refused>, Full> {
        let mut queue = self.shared.queue();
        if queue.reader_left {
            return Err(Full::ReaderLeft);
        }
        if queue.waiting.len() >= RESPONSES_MAX {
            let taken = queue.taken_total;
            return Ok(Err(Refused { batch, taken }));
        }
        queue.waiting.extend(batch);
        queue.apply_taken();
        queue.wake_reader();
        Ok(Ok(()))
    }

    /// Waits until the reader has left.
    pub(super) async fn reader_left(&self) {
        loop {
            let room = self.shared.room.notified();
            if self.shared.queue().reader_left {
                return;
            }
            room.await;
        }
    }

    /// Ends the subscription: `last` makes the last frame and the status from the cursor that
    /// stands before it. Only the first call counts.
    pub(super) fn end(
        &self,
        waiting: Waiting,
        last: impl FnOnce(&Cursor) -> (Encoded, Option<Status>),
    ) {
        let mut queue = self.shared.queue();
        if queue.end.is_some() {
            return;
        }
        queue.apply_taken();
        if waiting == Waiting::Drop {
            queue.waiting.clear();
        }
        let mut cursor = queue.cursor.clone();
        for (_, step) in &queue.waiting {
            step.clone().apply(&mut cursor);
        }
        let (last, status) = last(&cursor);
        queue.end = Some(End {
            last: Some(last),
            status,
        });
        queue.wake_reader();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.end.get_or_insert(End {
            last: None,
            status: None,
        });
        queue.wake_reader();
    }
}

impl Queue {
    fn apply_taken(&mut self) {
        for step in std::mem::take(&mut self.taken) {
            step.apply(&mut self.cursor);
        }
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn next(&mut self) -> Option<Option<Result<Encoded, Status>>> {
        if let Some((response, step)) = self.waiting.pop_front() {
            self.taken.push(step);
            self.taken_total += 1;
            return Some(Some(Ok(response)));
        }
        let end = self.end.as_mut()?;
        if let Some(last) = end.last.take() {
            return Some(Some(Ok(last)));
        }
        Some(end.status.take().map(Err))
    }
}

impl Stream for Outgoing {
    type Item = Result<Encoded, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.shared.queue();
        let had_no_room = queue.waiting.len() >= RESPONSES_MAX;
        let next = queue.next();
        let has_room = queue.waiting.len() < RESPONSES_MAX;
        if next.is_none() {
            queue.reader = Some(context.waker().clone());
        }
        drop(queue);
        if had_no_room && has_room {
            self.shared.room.notify_waiters();
        }
        next.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.reader_left = true;
        queue.waiting.clear();
        drop(queue);
        self.shared.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_stream::StreamExt as _;

    use super::{Encoded, Full, Outgoing, RESPONSES_MAX, Response, Status, Waiting, outbox};
    use crate::{
        domain::{
            cursor::Cursor,
            id::{Era, StreamId},
            position::Position,
        },
        pipeline::output::CursorStep,
        proto::v1::SubscribeResponse,
    };

    const SLOW_AFTER: Duration = Duration::from_secs(8);

    fn response(text: &str) -> Encoded {
        Encoded::Other(Box::new(SubscribeResponse {
            cursor: text.to_owned(),
            ..SubscribeResponse::default()
        }))
    }

    fn moved(rv: u64) -> Response {
        let position = Position::closed(Era(1), rv.into());
        let step = CursorStep::Moved(StreamId(1), position);
        (response(&rv.to_string()), step)
    }

    fn last(cursor: &Cursor) -> (Encoded, Option<Status>) {
        let position = cursor.positions.get(&StreamId(1));
        let text = position.map(ToString::to_string).unwrap_or_default();
        (response(&text), Some(Status::unavailable("over")))
    }

    async fn rest(outgoing: Outgoing) -> Vec<String> {
        let texts = outgoing.map(|response| match response {
            Ok(Encoded::Other(response)) => response.cursor,
            Ok(Encoded::Event(_)) => "event".into(),
            Err(status) => status.message().to_owned(),
        });
        texts.collect().await
    }

    #[tokio::test]
    async fn the_last_frame_follows_what_waits_and_has_the_cursor_after_it() {
        let (outbox, outgoing) = outbox(Cursor::default());
        outbox
            .push(vec![moved(1), moved(2)], SLOW_AFTER)
            .await
            .unwrap();
        outbox.end(Waiting::Keep, last);
        assert_eq!(rest(outgoing).await, ["1", "2", "1/2", "over"]);
    }

    #[tokio::test]
    async fn what_a_slow_reader_has_not_taken_is_dropped_and_not_in_the_last_cursor() {
        let (outbox, mut outgoing) = outbox(Cursor::default());
        outbox
            .push(vec![moved(1), moved(2)], SLOW_AFTER)
            .await
            .unwrap();
        outgoing.next().await.unwrap().unwrap();
        outbox.end(Waiting::Drop, last);
        assert_eq!(rest(outgoing).await, ["1/1", "over"]);
    }

    fn full() -> Vec<Response> {
        (0..RESPONSES_MAX as u64).map(moved).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_outbox_takes_no_more_until_something_is_read() {
        let (outbox, mut outgoing) = outbox(Cursor::default());
        outbox.push(full(), SLOW_AFTER).await.unwrap();
        let more = outbox.push(vec![moved(999)], SLOW_AFTER);
        tokio::pin!(more);
        let waits = tokio::time::timeout(SLOW_AFTER / 2, more.as_mut()).await;
        assert!(waits.is_err());
        outgoing.next().await.unwrap().unwrap();
        assert_eq!(more.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_slow_and_who_takes_little_is_not() {
        let (outbox, mut outgoing) = outbox(Cursor::default());
        outbox.push(full(), SLOW_AFTER).await.unwrap();
        outbox.push(Vec::new(), SLOW_AFTER).await.unwrap_err();
        // More than fits: room comes only after many were taken, one at a time.
        let (outbox, mut slow) = super::outbox(Cursor::default());
        let twice = (0..2 * RESPONSES_MAX as u64).map(moved).collect();
        outbox.push(twice, SLOW_AFTER).await.unwrap();
        let reading = async {
            for _ in 0..=RESPONSES_MAX {
                tokio::time::sleep(SLOW_AFTER / 2).await;
                slow.next().await.unwrap().unwrap();
            }
        };
        let (pushed, ()) = tokio::join!(outbox.push(vec![moved(1)], SLOW_AFTER), reading);
        assert_eq!(pushed, Ok(()));
        outgoing.next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_leaves_is_noticed_by_whoever_waits() {
        let (outbox, outgoing) = outbox(Cursor::default());
        outbox.push(full(), SLOW_AFTER).await.unwrap();
        drop(outgoing);
        outbox.reader_left().await;
        assert_eq!(
            outbox.push(vec![moved(1)], SLOW_AFTER).await,
            Err(Full::ReaderLeft)
        );
    }

    #[tokio::test]
    async fn an_outbox_that_is_dropped_ends_the_stream() {
        let (outbox, outgoing) = outbox(Cursor::default());
        outbox.push(vec![moved(1)], SLOW_AFTER).await.unwrap();
        drop(outbox);
        assert_eq!(rest(outgoing).await, ["1"]);
    }
}
