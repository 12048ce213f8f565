//! The one way to wait: look again and again, up to a limit.

use std::time::{Duration, Instant};

/// Long enough for a machine that others use as well; every wait ends as soon as what it waits for
/// is there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks: short enough for times to mean something.
const PAUSE: Duration = Duration::from_millis(10);

/// Polls until there is a value; also returns how long it took.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        // A look itself may hang: a frozen replica answers nothing.
        match tokio::time::timeout(within.saturating_sub(start.elapsed()), look()).await {
            Ok(Some(found)) => return (found, start.elapsed()),
            Ok(None) if start.elapsed() < within => {}
            _ => panic!("not within {within:?}: {what}"),
        }
        tokio::time::sleep(PAUSE).await; // poll: between two looks of a bounded wait
    }
}

/// Waits until a condition holds; returns how long it took.
pub(crate) async fn holds(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> bool,
) -> Duration {
    eventually(what, within, async || look().await.then_some(()))
        .await
        .1
}
