//! The replica's one lease, shared between the heartbeat that renews it and the streams that may
//! publish only under it.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use crate::domain::lease::Lease;

/// A timer that fires later than this shows that this process was not running: what the leader has
/// answered meanwhile may still wait to be read.
const LATE_MAX: Duration = Duration::from_millis(100);

/// The lease as seen by everything that publishes. A cheap clone.
#[derive(Clone)]
pub struct LeaseClock {
    /// The origin of the numbers that `domain::lease` reckons with.
    started: Instant,
    lease: Arc<watch::Sender<Lease>>,
}

impl Default for LeaseClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            lease: Arc::new(watch::Sender::default()),
        }
    }
}

impl LeaseClock {
    /// Takes in a grant for a heartbeat sent at `sent_at`.
    pub fn granted(&self, sent_at: Instant, duration: Duration) {
        let sent_at = sent_at.duration_since(self.started);
        self.lease
            .send_modify(|lease| lease.granted(sent_at, duration));
    }

    /// Whether the replica may publish now.
    pub fn holds(&self) -> bool {
        self.lease.borrow().holds(self.started.elapsed())
    }

    /// Waits until the lease has been over for `grace`: the replica has had no contact with a
    /// leader that has a majority. Counts from now where there was no lease yet, and again where
    /// this process was frozen or had no processor time: its own absence is nobody's silence.
    pub async fn lost_for(&self, grace: Duration) {
        let mut begun = self.started.elapsed();
        let mut lease = self.lease.subscribe();
        loop {
            let until = lease.borrow_and_update().until().max(begun);
            let lost_at = self.started + until + grace;
            tokio::select! {
                () = tokio::time::sleep_until(lost_at) => {
                    if lost_at.elapsed() <= LATE_MAX {
                        return;
                    }
                    begun = self.started.elapsed();
                }
                changed = lease.changed() => if changed.is_err() {
                    // `self` holds the sender.
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    /// Waits until the replica may publish.
    pub async fn wait(&self) {
        // The usual case, for each batch of events.
        if self.holds() {
            return;
        }
        let mut lease = self.lease.subscribe();
        let holds = |lease: &Lease| lease.holds(self.started.elapsed());
        if lease.wait_for(holds).await.is_err() {
            // `self` holds the sender.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, LeaseClock};

    #[tokio::test(start_paused = true)]
    async fn an_absence_of_this_process_is_no_lost_contact() {
        let clock = LeaseClock::default();
        let grace = Duration::from_millis(500);
        let lost = clock.lost_for(grace);
        tokio::pin!(lost);
        assert!(futures::poll!(lost.as_mut()).is_pending());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(futures::poll!(lost.as_mut()).is_pending());
        let back = Instant::now();
        lost.await;
        assert_eq!(back.elapsed(), grace);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_counts_from_the_sending_of_its_heartbeat() {
        let clock = LeaseClock::default();
        assert!(!clock.holds());
        let sent_at = Instant::now();
        tokio::time::advance(Duration::from_millis(400)).await;
        clock.granted(sent_at, Duration::from_secs(1));
        clock.wait().await;
        tokio::time::advance(Duration::from_millis(599)).await;
        assert!(clock.holds());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!clock.holds());
    }
}
