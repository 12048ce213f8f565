//! Which cluster has answered, by what the answer says of itself: [`FlowSchemas`].

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use http::HeaderMap;

/// The UID of the flow schema (API Priority and Fairness) that a request was counted under. Every API
/// server names it in each answer, unless that feature is switched off.
const HEADER: &str = "x-kubernetes-pf-flowschema-uid";

/// Most that are remembered of one cluster: a user's requests come under one or two of them.
const KNOWN_MAX: usize = 8;

/// The flow schemas that are known to be of a cluster. Flow schemas are objects of the cluster, with
/// UIDs that no other cluster has: an answer that names one is of that cluster, without a further
/// request.
#[derive(Debug, Default)]
pub(super) struct FlowSchemas(Mutex<VecDeque<Known>>);

#[derive(Debug)]
struct Known {
    flow_schema: String,
    cluster_uid: String,
}

impl FlowSchemas {
    /// The cluster whose answer has these headers, where that is known.
    pub(super) fn cluster_of(&self, headers: &HeaderMap) -> Option<String> {
        let flow_schema = named(headers)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.iter().find(|known| known.flow_schema == flow_schema);
        known.map(|known| known.cluster_uid.clone())
    }

    /// An answer with these headers is known to be of this cluster.
    pub(super) fn learn(&self, headers: &HeaderMap, cluster_uid: &str) {
        let Some(flow_schema) = named(headers) else {
            return;
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.flow_schema != flow_schema);
        known.truncate(KNOWN_MAX - 1);
        known.push_front(Known {
            flow_schema: flow_schema.to_owned(),
            cluster_uid: cluster_uid.to_owned(),
        });
    }
}

fn named(headers: &HeaderMap) -> Option<&str> {
    headers.get(HEADER)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::{FlowSchemas, HEADER, HeaderMap, KNOWN_MAX};

    fn headers(flow_schema: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, flow_schema.parse().unwrap());
        headers
    }

    #[test]
    fn an_answer_is_of_the_cluster_whose_flow_schema_it_names() {
        let schemas = FlowSchemas::default();
        assert_eq!(schemas.cluster_of(&headers("a")), None);
        schemas.learn(&headers("a"), "one");
        schemas.learn(&headers("b"), "one");
        schemas.learn(&headers("c"), "other");
        schemas.learn(&HeaderMap::new(), "nothing is learned of it");
        assert_eq!(schemas.cluster_of(&headers("b")).as_deref(), Some("one"));
        assert_eq!(schemas.cluster_of(&headers("c")).as_deref(), Some("other"));
        assert_eq!(schemas.cluster_of(&HeaderMap::new()), None);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let schemas = FlowSchemas::default();
        for number in 0..=KNOWN_MAX {
            schemas.learn(&headers(&number.to_string()), "uid");
        }
        assert_eq!(schemas.cluster_of(&headers("0")), None);
        assert!(schemas.cluster_of(&headers("1")).is_some());
    }
}
