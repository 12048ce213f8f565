//! Failures of one list in a row: [`Attempts`].

use tokio::sync::mpsc;

use super::{
    HistoryItem, api_error::ApiError, backoff::Backoff, breaker::Breaker, outlet::Stopped,
    stream_watcher::Setting,
};

/// Failures in a row after which a list is given up; the caller may retry.
const LIST_FAILURES_MAX: u32 = 8;

/// Failures in a row, and the wait after each.
pub(super) struct Attempts {
    backoff: Backoff,
    breaker: Breaker,
    failures: u32,
}

impl Attempts {
    pub(super) fn new(setting: &Setting) -> Self {
        Self {
            backoff: Backoff::new(setting.api.policy()),
            breaker: setting.api.breaker().clone(),
            failures: 0,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt, or gives up and returns that.
    pub(super) async fn failed(
        &mut self,
        items: &mpsc::Sender<HistoryItem>,
        error: &ApiError,
    ) -> Result<(), Stopped> {
        self.failures += 1;
        if self.failures >= LIST_FAILURES_MAX {
            let failed = HistoryItem::Failed(error.to_string());
            let _ = items.send(failed).await;
            return Err(Stopped);
        }
        let delay = self
            .backoff
            .next(self.failures == 1, error.retry_after_ms());
        self.breaker.pause(delay).await;
        Ok(())
    }
}
