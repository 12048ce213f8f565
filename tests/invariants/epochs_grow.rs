//! An epoch is minted once, and the next one is the next number.

use quorumwatch::domain::id::Epoch;

use super::Verdict;

/// `minted`: the epochs of one shard, in the order in which they were agreed on.
pub(crate) fn check(minted: &[Epoch]) -> Verdict {
    for pair in minted.windows(2) {
        let [before, after] = pair else { continue };
        if after.0 != before.0 + 1 {
            return Err(format!("epoch {after} was minted after epoch {before}"));
        }
    }
    Ok(())
}
