//! A gap has its reason: no subscriber gets one whose API server has kept what follows, and no
//! era begins without a loss.

use quorumwatch::domain::{event::GapReason, position::Position, stream::EraStart};

use super::{
    Verdict,
    facts::{Frame, Losses, Received, number},
};

/// Compares each gap that was received with what was lost.
pub(crate) fn check(losses: Losses<'_>, received: Received<'_>) -> Verdict {
    // Net changes that were begun need the list at which they began.
    let mut repairing: Option<&Position> = None;
    for frame in received.frames {
        let Frame::Gap {
            from,
            reason,
            repaired,
            ..
        } = frame
        else {
            continue;
        };
        let needed = [from.as_ref(), repairing];
        let is_lost = needed.into_iter().flatten().any(|position| {
            is_lost(losses, *reason, position) || is_agreed(losses.eras, *reason, position)
        });
        if !is_lost && from.is_some() {
            return Err(format!("{reason:?} after {from:?}, where nothing was lost"));
        }
        repairing = from.as_ref().filter(|_| *repaired);
    }
    Ok(())
}

/// Compares the beginning of each era with what was lost.
pub(crate) fn check_eras(losses: Losses<'_>) -> Verdict {
    for era in losses.eras {
        let is_first = era.reason == GapReason::StreamCreated;
        let from = era.from.as_ref();
        if !is_first && !from.is_some_and(|from| is_lost(losses, era.reason, from)) {
            return Err(format!("era {} began, and nothing was lost", era.era));
        }
    }
    Ok(())
}

/// Whether what follows this position is gone for this reason.
fn is_lost(losses: Losses<'_>, reason: GapReason, position: &Position) -> bool {
    let needed = number(&position.resume_rv());
    match reason {
        GapReason::HistoryExpired => needed < losses.compacted,
        GapReason::WatchCacheReset => needed < losses.watchable.max(losses.compacted),
        _ => false,
    }
}

/// Whether an era began after this position for this reason: its gap reaches everybody.
fn is_agreed(eras: &[EraStart], reason: GapReason, position: &Position) -> bool {
    eras.iter()
        .any(|era| era.era > position.era && era.reason == reason)
}
