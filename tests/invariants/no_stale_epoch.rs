//! A log takes nothing from the owner of an older epoch once it has taken something from the owner
//! of a newer one.

use quorumwatch::domain::id::Epoch;

use super::Verdict;

/// `sources`: the epochs of the owners that one log has taken items from, in order.
pub(crate) fn check(sources: &[Epoch]) -> Verdict {
    for pair in sources.windows(2) {
        let [before, after] = pair else { continue };
        if after < before {
            return Err(format!(
                "items of epoch {after} were taken after those of epoch {before}"
            ));
        }
    }
    Ok(())
}
