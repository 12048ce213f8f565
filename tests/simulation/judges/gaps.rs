//! Gaps have their causes: each was sent, and each era began, after something that explains it was
//! done to the API server in question.

use quorumwatch::{domain::event, proto::v1::GapReason};

use super::{
    Record,
    agreement::{Agreement, Began},
    delivery::SeenGap,
};
use crate::faults::Cause;

/// What nothing explains of what a subscriber was sent, in words.
pub(super) fn unexplained(record: &Record, causes: &[Cause]) -> Vec<String> {
    let gaps = &record.gaps;
    let unexplained = gaps.iter().enumerate().filter(|(index, gap)| {
        let explaining = causes.iter().filter(|cause| explains(cause, gap)).count();
        let same = |earlier: &&SeenGap| earlier.reason == gap.reason && earlier.place == gap.place;
        let count = gaps[..=*index].iter().filter(same).count();
        explaining == 0 || is_sent_once(gap.reason) && count > explaining
    });
    unexplained
        .map(|(_, gap)| format!("nothing explains {gap:?}"))
        .collect()
}

fn explains(cause: &Cause, gap: &SeenGap) -> bool {
    cause.cluster == gap.place.0 && cause.at <= gap.at && cause.explains(gap.reason)
}

/// Whether one cause makes no more than one such gap for each stream of a subscriber: the past is
/// cut once, and a subscriber behind the cut is sent one gap for it, however many eras it spans.
fn is_sent_once(reason: GapReason) -> bool {
    matches!(reason, GapReason::HistoryReset | GapReason::ClusterReplaced)
}

/// The eras that nothing explains, in words.
pub(super) fn unexplained_eras(agreement: &Agreement, causes: &[Cause]) -> Vec<String> {
    let eras = agreement.eras().filter(|era| {
        let reason = public(era.reason);
        let explains = |cause: &Cause| {
            let is_before = cause.cluster == era.cluster && cause.at <= era.at;
            is_before && reason.is_some_and(|reason| cause.explains(reason))
        };
        reason.is_some() && !causes.iter().any(explains)
    });
    eras.map(Began::words).collect()
}

/// The reason as subscribers are sent it; none where it is no gap.
fn public(reason: event::GapReason) -> Option<GapReason> {
    match reason {
        event::GapReason::StreamCreated => None,
        event::GapReason::HistoryExpired => Some(GapReason::HistoryExpired),
        event::GapReason::HistoryReset => Some(GapReason::HistoryReset),
        event::GapReason::ClusterReplaced => Some(GapReason::ClusterReplaced),
        event::GapReason::WatchCacheReset => Some(GapReason::WatchCacheReset),
        event::GapReason::UpstreamInconsistent => Some(GapReason::UpstreamInconsistent),
    }
}
