//! The replica's one lease, shared between the heartbeat that renews it and the streams that may
//! publish only under it.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use crate::domain::lease::Lease;

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
    /// leader that has a majority. Counts from now where there was no lease yet.
    pub async fn lost_for(&self, grace: Duration) {
        let begun = self.started.elapsed();
        let mut lease = self.lease.subscribe();
        loop {
            let until = lease.borrow_and_update().until().max(begun);
            let lost_at = self.started + until + grace;
            tokio::select! {
                () = tokio::time::sleep_until(lost_at) => return,
                changed = lease.changed() => if changed.is_err() {
                    // `self` holds the sender.
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    /// Waits until the replica may publish.
    pub async fn wait(&self) {
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
