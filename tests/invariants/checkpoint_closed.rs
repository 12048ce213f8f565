//! A checkpoint is never inside a resource version: of each version at or before it everything or
//! nothing was published.

use quorumwatch::domain::position::Position;

use super::{
    Verdict,
    facts::{Published, number},
};

/// Compares a checkpoint with what owners have published.
pub(crate) fn check(published: Published<'_>, checkpoint: &Position) -> Verdict {
    if !checkpoint.is_closed() {
        return Err(format!("the checkpoint is {checkpoint}, which is open"));
    }
    let upto = number(&checkpoint.rv);
    let changes = published.history.iter().zip(published.changes);
    let relevant =
        changes.filter(|(written, _)| written.rv > published.covered && written.rv <= upto);
    let (out, held): (Vec<_>, Vec<_>) = relevant.partition(|(_, is_out)| **is_out);
    let versions_out: Vec<_> = out.iter().map(|(written, _)| written.rv).collect();
    for (written, _) in held {
        if versions_out.contains(&written.rv) {
            return Err(format!(
                "the checkpoint is {checkpoint}, and version {} was published in part",
                written.rv
            ));
        }
    }
    Ok(())
}
