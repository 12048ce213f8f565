//! Waiting for a condition, never for time alone.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Interval between two checks of a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks until there is an answer; panics where none comes in time.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        // poll: the condition
        sleep(LOOK_EVERY).await;
    }
}
