//! What a subscriber wants, said twice: as the filters that it asks with, and as the oracle
//! understands them.

use std::collections::BTreeMap;

use quorumwatch::{
    domain::{cluster::Cluster, event::Change},
    pipeline::filter::{Filter, Filters, LabelSelector},
};

use crate::etcd::{Object, Told};

/// What a subscriber wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    All,
    Namespace(&'static str),
    /// Objects with this label: they may gain and lose it.
    Tier(&'static str),
    /// Everything of the clusters with this label: they may gain and lose it.
    Env(&'static str),
    /// Nothing that exists.
    Nobody,
}

/// Whether an event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visible {
    Event,
    Unmatched,
    No,
}

impl Want {
    pub(crate) fn filters(self) -> Filters {
        let labels =
            |key: &str, value: &str| LabelSelector::parse(&format!("{key}={value}")).unwrap();
        let filter = match self {
            Self::All => return Filters::default(),
            Self::Namespace(name) => Filter {
                namespaces: vec![name.to_owned()].into(),
                ..Filter::default()
            },
            Self::Tier(tier) => Filter {
                object_labels: labels("tier", tier),
                ..Filter::default()
            },
            Self::Env(env) => Filter {
                cluster_labels: labels("env", env),
                ..Filter::default()
            },
            Self::Nobody => Filter {
                names: vec!["nobody".to_owned()].into(),
                ..Filter::default()
            },
        };
        Filters::new(vec![filter])
    }

    /// Whether a stream of one namespace, or of all where that is empty, is wanted.
    pub(crate) fn wants_stream(self, cluster: &Cluster, namespace: &str) -> bool {
        let labels: &BTreeMap<String, String> = &cluster.spec.labels;
        match self {
            Self::Namespace(name) => namespace.is_empty() || namespace == name,
            Self::Env(env) => labels.get("env").is_some_and(|value| value == env),
            Self::All | Self::Tier(_) | Self::Nobody => true,
        }
    }

    /// Whether an object as it is now is wanted.
    pub(crate) fn wants_object(self, object: &Object) -> bool {
        match self {
            Self::All | Self::Env(_) => true,
            Self::Namespace(name) => object.namespace == name,
            Self::Tier(tier) => object.tier == tier,
            Self::Nobody => false,
        }
    }

    /// What a log, or a copy, is sent of a change.
    pub(crate) fn visible(self, is_copy: bool, told: &Told) -> Visible {
        if self.wants_object(&told.object) {
            return Visible::Event;
        }
        // Only a label can be gained and lost.
        if !is_copy || !matches!(self, Self::Tier(_)) {
            return Visible::No;
        }
        match told.change {
            Change::Deleted => Visible::Event,
            Change::Added | Change::Modified => Visible::Unmatched,
            Change::Snapshot => Visible::No,
        }
    }
}
