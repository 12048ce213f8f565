//! A checkpoint is never ahead of what was published: of each version at or before it at least
//! something was.

use quorumwatch::domain::position::Position;

use super::{
    Verdict,
    facts::{Published, number},
};

/// Compares a checkpoint with what owners have published.
pub(crate) fn check(published: Published<'_>, checkpoint: &Position) -> Verdict {
    let upto = number(&checkpoint.rv);
    for written in published.history {
        if written.rv <= published.covered || written.rv > upto {
            continue;
        }
        let mut of_version = published.history.iter().zip(published.changes);
        let is_begun = of_version.any(|(other, is_out)| other.rv == written.rv && *is_out);
        if !is_begun {
            return Err(format!(
                "the checkpoint is {checkpoint}, and version {} was not published",
                written.rv
            ));
        }
    }
    Ok(())
}
