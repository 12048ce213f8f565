//! What must hold of the delivery of changes whatever happens: plain functions over [`facts`].
//!
//! They know neither how the facts came about nor any code of the service: a model and a simulation
//! can call the same ones. Each file is one invariant, and its `check` says what violates it.

pub(crate) mod facts;

pub(crate) mod checkpoint_closed;
pub(crate) mod checkpoint_published;
pub(crate) mod epochs_grow;
pub(crate) mod era_at_rest;
pub(crate) mod exactly_once;
pub(crate) mod gap_before_snapshot;
pub(crate) mod gaps_justified;
pub(crate) mod holes_declared;
pub(crate) mod no_stale_epoch;
pub(crate) mod one_lease;
pub(crate) mod one_source;
pub(crate) mod positions_grow;

/// Whether an invariant holds; if not, what violates it.
pub(crate) type Verdict = Result<(), String>;
