//! Repairs whose net changes have left the log of their owner before all others have read them.

use super::{
    fixtures::{FIRST, World, events},
    subscription::Start,
};
use crate::domain::{delivery::feed::Look, event::GapReason, history::HistoryItem};

/// A ring that keeps what completes a repair, and no event with it.
const SMALL: usize = 600;

/// Where the repair leads.
const TO: u64 = 20;

#[tokio::test(start_paused = true)]
async fn a_repair_that_has_left_the_log_is_completed_where_nothing_follows_it() {
    let mut world = World::new(SMALL, &["v1/events"]);
    let mut owners = world.begin_at(0);
    let owner = &mut owners[0];
    let mut subscriber = world.subscribe(1, Start::Now);
    world.begin_era(&owner.stream, GapReason::WatchCacheReset, TO);
    // The log at its replica is inside of the repair by now, as it is itself.
    subscriber.until(|it| it.gaps == 1).await;
    owner.stream.publish_repair(events([15, TO]));
    owner.stream.close(&TO.into());
    let looked = tokio::select! {
        looked = owner.look() => looked,
        () = subscriber.until(|_| false) => unreachable!(),
    };
    let (from, to) = (FIRST.into(), TO.into());
    assert_eq!(looked.look, Look::NetChanges { from, to });
    let changes = HistoryItem::Repaired {
        to: TO.into(),
        events: events([15, TO]),
        last: true,
    };
    looked.items.send(changes).await.unwrap();
    subscriber.until(|it| it.events.len() == 2).await;
    owner.stream.publish(events([TO + 1]));
    subscriber.until(|it| it.events.len() == 3).await;
    assert_eq!(subscriber.gaps, 1);
}
