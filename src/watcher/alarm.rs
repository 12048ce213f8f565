//! A timer that is put off again and again: [`Alarm`].

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep};

/// A timer whose time is put off with each chunk. It is set again when it has fired too early, and
/// not for each of them: that would cost as much as reading one.
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// One that is first due after so long.
    pub(super) fn new(first: Duration) -> Self {
        Self(Box::pin(sleep(first)))
    }

    /// Waits until then.
    pub(super) async fn reached(&mut self, until: Instant) {
        if self.0.is_elapsed() || self.0.deadline() > until {
            self.0.as_mut().reset(until);
        }
        loop {
            self.0.as_mut().await;
            if Instant::now() >= until {
                return;
            }
            self.0.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Alarm, Duration, Instant};

    #[tokio::test(start_paused = true)]
    async fn it_is_reached_at_the_last_time_that_was_named_and_not_before() {
        let begun = Instant::now();
        let ms = |ms| begun + Duration::from_millis(ms);
        let mut alarm = Alarm::new(Duration::from_secs(100));
        // Sooner than it is set, later, and sooner again.
        for (named, until) in [(50, 10), (80, 20), (60, 30)] {
            let given_up = tokio::time::timeout_at(ms(until), alarm.reached(ms(named)));
            assert!(given_up.await.is_err());
        }
        alarm.reached(ms(70)).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(70));
        alarm.reached(ms(90)).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(90));
    }
}
