//! What is wrong with the monitored clusters.

use super::{Cluster, Finding, LAG_MAX_MS, Seen, UnixMillis};
use crate::{
    cli::time::{instant, milliseconds, short},
    proto::v1::ClusterCondition,
};

/// A cluster of which no owner has reported anything for so long is not merely new.
const UNREPORTED_MAX_MS: u64 = 30_000;

/// One finding for each cluster that is not followed as it should be.
pub(super) fn findings(seen: &Seen) -> impl Iterator<Item = Finding> {
    let clusters = seen.clusters.iter().filter(|cluster| !cluster.paused);
    clusters.filter_map(|cluster| finding(cluster, seen.now))
}

fn finding(cluster: &Cluster, now: UnixMillis) -> Option<Finding> {
    let health = cluster.health.clone().unwrap_or_default();
    let name = &cluster.name;
    let (what, to_do) = match health.condition() {
        ClusterCondition::Unauthenticated => (
            "does not accept our credentials".to_owned(),
            "renew them where its source takes them from, or change the source with `quorumwatch \
             clusters update`; it is retried automatically"
                .to_owned(),
        ),
        ClusterCondition::PermissionDenied => (
            "accepts our credentials, but they lack a permission".to_owned(),
            "allow get, list and watch on what is watched; `quorumwatch check --kubeconfig FILE` \
             prints the RBAC manifest for it; it is retried automatically"
                .to_owned(),
        ),
        ClusterCondition::Duplicate => (
            "is a duplicate, and nothing is watched under its name".to_owned(),
            format!(
                "remove one of the two with `quorumwatch clusters remove`; to watch both: \
                 `quorumwatch clusters update {name} --duplicate-of OTHER`"
            ),
        ),
        ClusterCondition::Unreachable => (
            "cannot be reached".to_owned(),
            "check that its address is right and reachable from the owner; it is retried \
             automatically, and resumes where it stopped while its history lasts"
                .to_owned(),
        ),
        ClusterCondition::Degraded => (
            "is partially watched".to_owned(),
            "see `quorumwatch clusters get` and the owner's log; it is retried automatically"
                .to_owned(),
        ),
        ClusterCondition::Unknown | ClusterCondition::Unspecified => {
            if !is_old(cluster, now) {
                return None;
            }
            (
                "has no report from an owner yet".to_owned(),
                "check that its shard has an owner (`quorumwatch shards`), and the owner's log"
                    .to_owned(),
            )
        }
        ClusterCondition::Connected => (
            format!("has sent nothing for {}", short(too_long(cluster)?)),
            "check that its API server answers; its owner reconnects automatically".to_owned(),
        ),
    };
    let why = match health.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    Some(Finding::wrong(format!("cluster {name} {what}{why}"), to_do))
}

/// The lag in milliseconds, where it is too long.
fn too_long(cluster: &Cluster) -> Option<u64> {
    let lag = u64::try_from(milliseconds(cluster.lag.as_ref()?)).ok()?;
    (lag > LAG_MAX_MS).then_some(lag)
}

fn is_old(cluster: &Cluster, now: UnixMillis) -> bool {
    let created = cluster.create_time.as_ref().and_then(instant);
    created.is_some_and(|created| {
        let created = u64::try_from(created.timestamp_millis()).unwrap_or_default();
        now.0.saturating_sub(created) > UNREPORTED_MAX_MS
    })
}
