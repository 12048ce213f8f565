//! Responses of one subscription that wait for the transport, and its last frame.
//!
//! A queue of its own and not a channel, because the end of a subscription has rules: its last
//! frame is never lost for want of room, it carries the cursor of what was sent before it, and what
//! waits for a subscriber that has stopped reading is thrown away, since it follows again.
//!
//! Where nothing waits for a while, the transport gets a heartbeat. It is made where responses are
//! taken, so that it never waits in a queue, and delays none.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};
use tokio_stream::Stream;
use tonic::Status;

use super::{admission::OWN_BYTES, convert::timestamp, encoded::Encoded, gate::InFlight};
use crate::{
    clock::unix_now,
    domain::cursor::Cursor,
    memory::{Budget, Reservation},
    pipeline::output::CursorStep,
};

/// A subscriber that was sent nothing for so long is sent a heartbeat: it leaves a replica that is
/// silent for three of them, and is to resume elsewhere within 2 s. Where nothing happens these are
/// all that a subscriber costs, some 40 bytes each.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);

/// Responses that may wait for the transport. What does not fit waits in rings, where it costs
/// nothing more.
const RESPONSES_MAX: usize = 256;

/// So few that the producer is notified of each one that is taken.
const RESPONSES_FEW: usize = 8;

/// Bytes of them from which on no more are put in.
const RESPONSES_BYTES_MAX: usize = 1024 * 1024;

/// Bytes for which memory is taken at once, a single larger response apart.
const PART_BYTES: usize = 256 * 1024;

/// Beyond what it had when it was empty, an outbox may take so small a part of the memory that is
/// free: many who do not read never take all of it.
const FREE_PART: usize = 8;

/// What an entry of a cursor takes.
const ENTRY_BYTES: usize = 96;

/// One response, and what it changes in the cursor.
pub(super) type Response = (Encoded, CursorStep);

/// The sending half.
pub(super) struct Outbox {
    shared: Arc<Shared>,
    /// Memory of all responses that wait for anybody.
    memory: Budget,
    /// The part of the memory that belongs to this subscription only.
    own: Budget,
}

/// The half that the transport reads.
pub(super) struct Outgoing {
    shared: Arc<Shared>,
    /// Where the memory of a response goes that the transport takes.
    in_flight: InFlight,
    heartbeat: Heartbeat,
}

/// When a heartbeat is due.
struct Heartbeat {
    /// The last response was taken; `None` before the first, which shows that a replica serves.
    taken_at: Option<Instant>,
    /// Fires no later than a heartbeat is due. It is set again where it fires and not with each
    /// response, of which there are thousands a second.
    timer: Pin<Box<Sleep>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is room, or the reader has left.
    room: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Queued>,
    /// Their total size in bytes.
    bytes: usize,
    /// What the responses that were taken changed in the cursor, not yet applied.
    taken: Vec<CursorStep>,
    taken_total: u64,
    /// After every response that was taken.
    cursor: Cursor,
    reader: Option<Waker>,
    reader_left: bool,
    end: Option<End>,
}

/// A response that waits.
struct Queued {
    response: Encoded,
    step: CursorStep,
    bytes: usize,
    /// Its part of the memory.
    held: Reservation,
}

/// Some responses, and what they take.
struct Part {
    responses: Vec<Response>,
    bytes: usize,
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

/// In how many parts the timeout of a slow reader is counted: it expires at most one part late.
const PARTS: u32 = 8;

/// Both halves. Nothing has been sent yet: the subscriber stands at `cursor`.
pub(super) fn outbox(cursor: Cursor, memory: Budget) -> (Outbox, Outgoing) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            cursor,
            ..Queue::default()
        }),
        room: Notify::new(),
    });
    let outgoing = Outgoing {
        shared: shared.clone(),
        in_flight: InFlight::default(),
        heartbeat: Heartbeat::new(),
    };
    let own = Budget::new(memory.key(), OWN_BYTES);
    let outbox = Outbox {
        shared,
        memory,
        own,
    };
    (outbox, outgoing)
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change of a queue is whole before anything could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    /// Waits until there is room and memory, and puts a batch in; not for longer than `slow_after`
    /// without anything being taken.
    pub(super) async fn push(
        &self,
        batch: Vec<Response>,
        slow_after: Duration,
    ) -> Result<(), Full> {
        for part in parts(batch) {
            self.push_part(part, slow_after).await?;
        }
        Ok(())
    }

    async fn push_part(&self, mut part: Part, slow_after: Duration) -> Result<(), Full> {
        // Its place in the queue for memory is kept until it has some.
        let memory = self.memory.reserve(part.bytes);
        tokio::pin!(memory);
        let mut held = None;
        let mut taken_before = 0;
        let mut parts_without = 0;
        loop {
            // Asked for before the look, so that no change between the two is missed.
            let room = self.shared.room.notified();
            if held.is_none() && part.bytes <= OWN_BYTES {
                held = self.own.try_reserve(part.bytes);
            }
            part = match self.try_push(part, &mut held)? {
                Ok(()) => return Ok(()),
                Err(part) => part,
            };
            let (taken, is_empty) = {
                let queue = self.shared.queue();
                (queue.taken_total, queue.waiting.is_empty())
            };
            // Who has taken everything is not slow: others have the memory.
            if taken != taken_before || is_empty {
                (taken_before, parts_without) = (taken, 0);
            }
            let waited = tokio::time::timeout(slow_after / PARTS, async {
                tokio::select! {
                    // Only one who has taken everything waits for what others hold.
                    reservation = &mut memory, if held.is_none() && is_empty => {
                        held = Some(reservation);
                    }
                    () = room => {}
                }
            });
            if waited.await.is_err() {
                parts_without += 1;
                if parts_without > PARTS {
                    return Err(Full::Slow);
                }
            }
        }
    }

    /// Puts a part in where there is room, for which it has memory or gets some.
    fn try_push(
        &self,
        part: Part,
        held: &mut Option<Reservation>,
    ) -> Result<Result<(), Part>, Full> {
        let mut queue = self.shared.queue();
        if queue.reader_left {
            return Err(Full::ReaderLeft);
        }
        if !queue.has_room() {
            return Ok(Err(part));
        }
        let free = self.memory.limit() - self.memory.used();
        let is_modest = queue.waiting.is_empty() || queue.bytes + part.bytes <= free / FREE_PART;
        if held.is_none() && is_modest {
            *held = self.memory.try_reserve(part.bytes);
        }
        let Some(held) = held else {
            return Ok(Err(part));
        };
        queue.bytes += part.bytes;
        for (response, step) in part.responses {
            let bytes = cost_bytes(&response, &step);
            let held = held.split(bytes);
            queue.waiting.push_back(Queued {
                response,
                step,
                bytes,
                held,
            });
        }
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
            queue.clear();
        }
        let mut cursor = queue.cursor.clone();
        for queued in &queue.waiting {
            queued.step.clone().apply(&mut cursor);
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

/// What a response takes, with what it changes in the cursor.
fn cost_bytes(response: &Encoded, step: &CursorStep) -> usize {
    let entries = match step {
        CursorStep::None | CursorStep::Moved(..) => 1,
        CursorStep::AllMoved(entries) => entries.len(),
        CursorStep::Whole(cursor) => cursor.places.len() + cursor.left.len(),
    };
    size_of::<Queued>() + response.cost_bytes() + entries * ENTRY_BYTES
}

/// A batch in parts for which memory can be taken.
fn parts(batch: Vec<Response>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (response, step) in batch {
        let bytes = cost_bytes(&response, &step);
        match parts.last_mut() {
            Some(part) if part.bytes + bytes <= PART_BYTES => {
                part.bytes += bytes;
                part.responses.push((response, step));
            }
            _ => parts.push(Part {
                responses: vec![(response, step)],
                bytes,
            }),
        }
    }
    parts
}

impl Queue {
    fn has_room(&self) -> bool {
        self.waiting.len() < RESPONSES_MAX && self.bytes < RESPONSES_BYTES_MAX
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }

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

    fn next(&mut self, in_flight: &InFlight) -> Option<Option<Result<Encoded, Status>>> {
        if let Some(queued) = self.waiting.pop_front() {
            self.bytes -= queued.bytes;
            self.taken.push(queued.step);
            self.taken_total += 1;
            in_flight.add(queued.held);
            return Some(Some(Ok(queued.response)));
        }
        let end = self.end.as_mut()?;
        if let Some(last) = end.last.take() {
            return Some(Some(Ok(last)));
        }
        Some(end.status.take().map(Err))
    }
}

impl Heartbeat {
    fn new() -> Self {
        Self {
            taken_at: None,
            timer: Box::pin(sleep(HEARTBEAT_EVERY)),
        }
    }

    /// The transport has taken a response.
    fn taken(&mut self) {
        self.taken_at = Some(Instant::now());
    }

    /// Ready when nothing was taken for too long.
    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let since = self.taken_at.unwrap_or(now);
            if since + HEARTBEAT_EVERY <= now {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(since + HEARTBEAT_EVERY);
        }
        Poll::Pending
    }
}

impl Outgoing {
    /// The memory of what was taken: its sender holds it until it is sent.
    pub(super) fn in_flight(&self) -> InFlight {
        self.in_flight.clone()
    }
}

impl Stream for Outgoing {
    type Item = Result<Encoded, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.shared.queue();
        let had_room = queue.has_room();
        let next = queue.next(&self.in_flight);
        // A producer that waits for memory, and not for room, may get some when less is queued
        // here. What the transport has asked for next it has sent, and its memory is free.
        let is_new = !had_room && queue.has_room() || queue.waiting.len() < RESPONSES_FEW;
        if next.is_none() {
            queue.reader = Some(context.waker().clone());
        }
        drop(queue);
        if is_new {
            self.shared.room.notify_waiters();
        }
        let next = match next {
            Some(next) => next,
            None => match self.heartbeat.poll_due(context) {
                Poll::Ready(()) => Some(Ok(Encoded::heartbeat(timestamp(unix_now())))),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.heartbeat.taken();
        Poll::Ready(next)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.reader_left = true;
        queue.clear();
        drop(queue);
        self.shared.room.notify_waiters();
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
