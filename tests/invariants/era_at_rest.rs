//! Once nothing is on its way, the owner of a stream publishes in the era that is agreed on.

use quorumwatch::domain::id::Era;

use super::Verdict;

/// `run`: the era that the owner publishes in; none where it publishes nothing. `agreed`: that of
/// the state. Only to be called at rest.
pub(crate) fn check(run: Option<Era>, agreed: Option<Era>) -> Verdict {
    if run == agreed {
        return Ok(());
    }
    let shown = |era: Option<Era>| era.map_or_else(|| "none".to_owned(), |era| era.to_string());
    Err(format!(
        "the owner publishes in era {}, and era {} is agreed on",
        shown(run),
        shown(agreed)
    ))
}
