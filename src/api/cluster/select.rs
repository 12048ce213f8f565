//! Which clusters a request is about: [`Clusters`].

use std::collections::BTreeMap;

use tonic::Status;

use crate::{
    api::{
        convert,
        observed::Observation,
        status::invalid_fields,
        watch::{Update, Watched},
    },
    changes::ClusterChanged,
    domain::{
        cluster::{Cluster, ClusterSpec},
        id::ClusterId,
        state::State,
    },
    pipeline::filter::LabelSelector,
    proto::v1::{self, WatchClustersResponse, watch_clusters_response},
};

/// Clusters whose labels match a selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clusters(LabelSelector);

impl Clusters {
    /// Reads `cluster_selector`.
    pub(super) fn new(cluster_selector: &str) -> Result<Self, Status> {
        let selector = LabelSelector::parse(cluster_selector).map_err(|errors| {
            let field = || "cluster_selector".to_owned();
            let errors = errors.into_iter();
            invalid_fields(errors.map(|error| (field(), error.to_string())).collect())
        })?;
        Ok(Self(selector))
    }

    fn matches(&self, spec: &ClusterSpec) -> bool {
        self.0
            .matches(|key| spec.labels.get(key).map(String::as_str))
    }

    /// Them, in the order of their names.
    pub(super) fn sorted<'s>(&self, state: &'s State) -> Vec<&'s Cluster> {
        let all = state.clusters.values();
        let mut clusters: Vec<_> = all.filter(|cluster| self.matches(&cluster.spec)).collect();
        clusters.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        clusters
    }
}

/// The lag of each cluster: the largest of its streams, in milliseconds. None where nobody reports
/// them.
pub(super) fn lags(state: &State, observation: &Observation) -> BTreeMap<ClusterId, u64> {
    let mut lags = BTreeMap::new();
    for (stream, lag_ms) in &observation.lag_ms {
        if let Some(stream) = state.streams.get(stream) {
            let lag: &mut u64 = lags.entry(stream.shard.cluster).or_default();
            *lag = (*lag).max(*lag_ms);
        }
    }
    lags
}

impl Watched for Clusters {
    type Key = ClusterId;
    type Item = v1::Cluster;
    type Kept = ClusterChanged;
    type Change = v1::ClusterChange;
    type Response = WatchClustersResponse;

    fn keys(&self, state: &State) -> Vec<ClusterId> {
        let clusters = self.sorted(state).into_iter();
        clusters.map(|cluster| cluster.id).collect()
    }

    fn item(&self, state: &State, key: &ClusterId) -> Option<v1::Cluster> {
        let cluster = state.clusters.get(key)?;
        Some(convert::cluster(cluster, None))
    }

    fn change(&self, _: &State, kept: &ClusterChanged) -> Option<v1::ClusterChange> {
        let mut change = convert::cluster_change(&kept.change);
        if !self.matches(&kept.change.cluster.spec) {
            kept.before.as_ref().filter(|before| self.matches(before))?;
            if change.r#type() == v1::ClusterChangeType::Updated {
                change.r#type = v1::ClusterChangeType::Unmatched.into();
            }
        }
        Some(change)
    }

    fn response(
        resume_token: String,
        revision: u64,
        update: Update<v1::Cluster, v1::ClusterChange>,
    ) -> WatchClustersResponse {
        use watch_clusters_response::Update as Out;
        let update = match update {
            Update::Snapshot(clusters) => Out::Snapshot(v1::ClusterPage { clusters }),
            Update::SnapshotEnd => Out::SnapshotEnd(v1::SnapshotEnd {}),
            Update::Change(change) => Out::Change(change),
            Update::Heartbeat(time) => Out::Heartbeat(v1::Heartbeat { time: Some(time) }),
        };
        WatchClustersResponse {
            resume_token,
            revision,
            update: Some(update),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use tonic_types::StatusExt as _;

    use super::{ClusterChanged, Clusters, Observation, State, Watched as _, lags, v1};
    use crate::domain::{
        cluster::ClusterSpec,
        command::Command,
        fixtures,
        id::{ClusterId, Revision, UnixMillis},
    };

    fn spec(name: &str, env: &str) -> ClusterSpec {
        ClusterSpec {
            labels: [("env".to_owned(), env.to_owned())].into(),
            ..fixtures::spec(name, &["v1/pods", "v1/secrets"])
        }
    }

    fn state(clusters: &[(&str, &str)]) -> State {
        let mut state = State::default();
        for (name, env) in clusters {
            state.apply(Revision(1), &fixtures::create(spec(name, env)));
        }
        state
    }

    #[test]
    fn clusters_are_selected_by_label_and_in_the_order_of_their_names() {
        let state = state(&[("b", "prod"), ("c", "test"), ("a", "prod")]);
        let names = |selector: &str| {
            let clusters = Clusters::new(selector).unwrap().sorted(&state).into_iter();
            let names: Vec<_> = clusters.map(|c| c.spec.name.clone()).collect();
            names.join(",")
        };
        assert_eq!(names(""), "a,b,c");
        assert_eq!(names("env=prod"), "a,b");
        let status = Clusters::new("env=,=").unwrap_err();
        let request = status.get_details_bad_request().unwrap();
        assert_eq!(request.field_violations[0].field, "cluster_selector");
    }

    #[test]
    fn a_cluster_that_ceases_to_match_is_sent_once_more() {
        let mut state = state(&[("a", "prod")]);
        let cluster = state.cluster_named("a").unwrap().clone();
        let mut change = |env: &str| {
            let before = Arc::clone(&state.cluster_named("a").unwrap().spec);
            let command = Command::UpdateCluster {
                id: cluster.id,
                expected: None,
                spec: spec("a", env),
                request_id: None,
                at: UnixMillis(0),
            };
            let applied = state.apply(Revision(2), &command);
            let change = applied.changes.clusters.into_iter().next().unwrap();
            ClusterChanged {
                change,
                before: Some(before),
            }
        };
        let (leaves, stays_out, enters) = (change("test"), change("dev"), change("prod"));
        let prod = Clusters::new("env=prod").unwrap();
        let sent = |change| {
            let change = prod.change(&State::default(), change)?;
            Some(change.r#type())
        };
        assert_eq!(sent(&leaves), Some(v1::ClusterChangeType::Unmatched));
        assert_eq!(sent(&stays_out), None);
        assert_eq!(sent(&enters), Some(v1::ClusterChangeType::Updated));
    }

    #[test]
    fn the_lag_of_a_cluster_is_the_largest_of_its_streams() {
        let state = state(&[("a", "x"), ("b", "x")]);
        let a = state.cluster_named("a").unwrap().id;
        let of_a = state.streams.values().filter(|s| s.shard.cluster == a);
        let lag_ms: BTreeMap<_, _> = of_a.map(|stream| stream.id).zip([30, 70]).collect();
        assert_eq!(lag_ms.len(), 2);
        let observation = Observation {
            lag_ms,
            ..Observation::default()
        };
        let expected: BTreeMap<ClusterId, u64> = [(a, 70)].into();
        assert_eq!(lags(&state, &observation), expected);
    }
}
