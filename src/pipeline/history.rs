//! What a stream's past is read through: [`History`].

use tokio::sync::mpsc;

use crate::domain::{delivery::feed::Look, history::HistoryItem};

/// Looks into a stream's past, at its API server.
pub trait History: Send + Sync {
    /// Looks. Work ends when the receiver is dropped.
    fn look(&self, look: Look) -> mpsc::Receiver<HistoryItem>;
}
