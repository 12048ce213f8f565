//! The traps of Kubernetes' list and watch, sprung on a running group: `src/docs/traps.md` has a
//! row for each.

mod faults;
mod gaps;
mod requests;
mod streams;
mod unseen;
mod walk;

use quorumwatch::{client::Begin, proto::v1::GapReason};

use crate::harness::{CONFIGMAPS, EVENTS, Gaps, PATIENCE, Record, Recorder, Stage};

const EXPIRED: (GapReason, bool) = (GapReason::HistoryExpired, false);
const RESET: (GapReason, bool) = (GapReason::HistoryReset, false);
const REPLACED: (GapReason, bool) = (GapReason::ClusterReplaced, false);
const CACHE_RESET: (GapReason, bool) = (GapReason::WatchCacheReset, true);
const INCONSISTENT: (GapReason, bool) = (GapReason::UpstreamInconsistent, false);

const NONE: Gaps<'static> = Gaps {
    events: &[],
    configmaps: &[],
    repeated: false,
};

/// A log and a copy.
struct Pair([(Begin, Recorder); 2]);

impl Pair {
    async fn subscribe(stage: &Stage, seat: usize) -> Self {
        let log = stage.subscribe(seat, Begin::Now).await;
        let copy = stage.subscribe(seat + 1, Begin::Snapshot).await;
        Self([(Begin::Now, log), (Begin::Snapshot, copy)])
    }

    fn leave(self) -> [(Begin, Record); 2] {
        self.0.map(|(begin, recorder)| (begin, recorder.leave()))
    }

    fn resume(stage: &Stage, left: [(Begin, Record); 2], seat: usize) -> Self {
        Self(left.map(|(begin, record)| (begin, stage.resume(record, seat))))
    }

    async fn see(&self, stage: &Stage, name: &str) {
        for (_, recorder) in &self.0 {
            stage.sees(recorder, name).await;
        }
    }

    /// Waits until the last that they received of each resource is this.
    async fn have(&self, words: &str) {
        let last = |record: &Record| {
            [EVENTS, CONFIGMAPS]
                .iter()
                .all(|resource| record.kept().of(resource).last() == Some(&words))
        };
        self.both_see(words, last).await;
    }

    async fn both_see(&self, what: &str, look: impl Fn(&Record) -> bool) {
        for (_, recorder) in &self.0 {
            recorder.sees(what, PATIENCE, &look).await;
        }
    }

    /// Waits until the snapshots that have begun are complete: what was awaited may have come in
    /// one.
    async fn complete(&self) {
        let is_complete = |record: &Record| record.kept().table.is_complete();
        self.both_see("snapshots are complete", is_complete).await;
    }

    /// Waits until they have received so many gaps, and what follows.
    async fn see_gaps(&self, gaps: Gaps<'_>) {
        let count = gaps.events.len() + gaps.configmaps.len();
        let received = |record: &Record| {
            record.gaps.len() >= count && record.kept().table.is_complete() && record.is_current
        };
        self.both_see("the gaps come", received).await;
    }

    fn judge(&self, stage: &Stage, who: &str, gaps: Gaps<'_>) {
        for (begin, recorder) in &self.0 {
            stage.judge(&format!("{who}, {begin:?}"), recorder, begin, gaps);
        }
    }
}

/// What those who stay and those who come back must receive.
struct Expected {
    live: Gaps<'static>,
    resumed: Gaps<'static>,
}

impl Expected {
    fn of_all(gaps: Gaps<'static>) -> Self {
        Self {
            live: gaps,
            resumed: gaps,
        }
    }
}

/// Two subscribers stay and two leave; something happens to the API server; the two come back.
async fn spring(name: &str, trap: impl AsyncFnOnce(&Stage, &Pair), expected: Expected) {
    let stage = Stage::open(name).await;
    let live = Pair::subscribe(&stage, 0).await;
    let away = Pair::subscribe(&stage, 1).await;
    stage.write("one");
    live.see(&stage, "one").await;
    away.see(&stage, "one").await;
    let away = away.leave();
    trap(&stage, &live).await;
    live.see_gaps(expected.live).await;
    stage.write("after");
    live.see(&stage, "after").await;
    let back = Pair::resume(&stage, away, 2);
    back.see(&stage, "after").await;
    back.see_gaps(expected.resumed).await;
    stage.change("after");
    stage.write("last");
    for pair in [&live, &back] {
        pair.see(&stage, "last").await;
    }
    live.judge(&stage, "live", expected.live);
    back.judge(&stage, "resumed", expected.resumed);
    stage.close().await;
}
