//! Signals on their way from a session to its stream's owner, bounded in number and in bytes:
//! [`Signals`].

use tokio::sync::mpsc;

use super::Signal;
use crate::memory::{Allowance, Budget, Hold};

/// Most bytes of one message, a single larger event apart.
pub(super) const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Messages that a receiver may be behind before its session stops reading. Their bytes are
/// bounded over all streams.
const MESSAGES_MAX: usize = 32;

/// The receiver is gone, or has ended the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// The sending half.
#[derive(Debug)]
pub(super) struct Queue {
    messages: mpsc::Sender<Queued>,
    allowance: Allowance,
}

/// What a stream's session reports to its owner, in order.
#[derive(Debug)]
pub struct Signals {
    messages: mpsc::Receiver<Queued>,
    /// For what was taken last, and is being worked on.
    taken: Option<Hold>,
}

/// A signal, and the memory for its events.
#[derive(Debug)]
pub(super) struct Queued {
    signal: Signal,
    hold: Option<Hold>,
}

/// Both halves, for one stream.
pub(super) fn queue(budget: &Budget) -> (Queue, Signals) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let queue = Queue {
        messages: sender,
        // A batch has one event more than fits.
        allowance: Allowance::new(budget, 2 * BATCH_BYTES_MAX),
    };
    let signals = Signals {
        messages: receiver,
        taken: None,
    };
    (queue, signals)
}

impl Queue {
    /// For tasks that need to know when the receiver is gone.
    pub(super) fn sender(&self) -> mpsc::Sender<Queued> {
        self.messages.clone()
    }

    /// Waits for room. `bytes` is what the signal's events take.
    pub(super) async fn send(&self, signal: Signal, bytes: usize) -> Result<(), Stopped> {
        let hold = match bytes {
            0 => None,
            bytes => Some(self.allowance.take(bytes).await),
        };
        let queued = Queued { signal, hold };
        self.messages.send(queued).await.map_err(|_| Stopped)
    }

    /// Sends a signal without events where there is room.
    pub(super) fn try_send(&self, signal: Signal) -> bool {
        let queued = Queued { signal, hold: None };
        self.messages.try_send(queued).is_ok()
    }
}

impl Signals {
    /// The next signal; none after the end of the session. The memory of the one before is free
    /// for others from here on.
    pub async fn recv(&mut self) -> Option<Signal> {
        self.taken = None;
        let Queued { signal, hold } = self.messages.recv().await?;
        self.taken = hold;
        Some(signal)
    }
}
