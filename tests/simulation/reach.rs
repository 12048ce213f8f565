//! What a sweep over many seeds has to reach: each fault, each reason for a gap, each state of a
//! circuit breaker, and each way in which a reader is served. What is never reached is not tested.

use std::collections::BTreeMap;

use quorumwatch::{domain::breaker::State, proto::v1::GapReason};

use crate::faults;

/// As many seeds must have reached everything.
pub(crate) const SEEDS_ENOUGH: u64 = 100;

/// The rows of the table `quorumwatch::domain::delivery::way`, as its `Display` names them. Not `Ahead`:
/// a replica takes no cursor whose eras it has not applied, and answers for no shard before it has
/// applied that it owns it, so only the table's own tests get there.
const WAYS: [&str; 8] = [
    "Log",
    "Watch",
    "Enter",
    "CloseVersion",
    "Repair",
    "Snapshot",
    "Gap",
    "Skip",
];

const BREAKER: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

/// What else must happen, because judges or faults rely on it.
const ELSE: [&str; 9] = [
    "closing SubscriberTooSlow",
    "disk full: a replica has ended",
    "disk full: a replica has ended again",
    "disk full: others have taken over",
    "filter: a change that no longer matches",
    "left inside a snapshot",
    "resumed",
    "snapshot",
    "stream Removed, Unmatched",
];

/// What was never reached.
pub(crate) fn missing(reached: &BTreeMap<String, u64>) -> Vec<String> {
    let needed = faults::names()
        .into_iter()
        .chain(reasons().map(|reason| format!("gap {reason:?}")))
        .chain(BREAKER.iter().map(|state| format!("breaker {state}")))
        .chain(WAYS.iter().map(|way| format!("way {way}")))
        .chain(ELSE.iter().map(|what| (*what).to_owned()));
    needed.filter(|name| !is_reached(reached, name)).collect()
}

/// Every reason that a replica may give, also those of later versions of the API.
fn reasons() -> impl Iterator<Item = GapReason> {
    (1..).map_while(|number| GapReason::try_from(number).ok())
}

/// Whether this was counted, whatever is said about it after a comma.
fn is_reached(reached: &BTreeMap<String, u64>, name: &str) -> bool {
    reached.keys().any(|known| {
        let rest = known.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
    })
}
