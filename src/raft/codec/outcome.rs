//! Outcomes and rejections. They travel between replicas and are never stored.

use super::{Corrupt, required};
use crate::{
    domain::{
        cluster::InvalidSpec,
        command::{Outcome, Rejection},
        id::{ClusterId, Epoch, Era, ReplicaId, Revision},
    },
    proto::store::v1::{self as store, invalid_spec, outcome, rejection},
};

impl From<&Outcome> for store::Outcome {
    fn from(outcome: &Outcome) -> Self {
        let record = match outcome {
            Outcome::Done => outcome::Outcome::Done(store::Done {}),
            Outcome::Cluster(id) => outcome::Outcome::ClusterId(id.0),
            Outcome::Era(era) => outcome::Outcome::Era(era.0),
            Outcome::Rejected(rejection) => outcome::Outcome::Rejected(rejection.into()),
        };
        Self {
            outcome: Some(record),
        }
    }
}

impl TryFrom<store::Outcome> for Outcome {
    type Error = Corrupt;

    fn try_from(record: store::Outcome) -> Result<Self, Corrupt> {
        Ok(match required(record.outcome, "the outcome")? {
            outcome::Outcome::Done(store::Done {}) => Self::Done,
            outcome::Outcome::ClusterId(id) => Self::Cluster(ClusterId(id)),
            outcome::Outcome::Era(era) => Self::Era(Era(era)),
            outcome::Outcome::Rejected(rejection) => Self::Rejected(rejection.try_into()?),
        })
    }
}

impl From<&Rejection> for store::Rejection {
    fn from(rejection: &Rejection) -> Self {
        use rejection::Rejection as Record;
        let record = match rejection {
            Rejection::NameTaken(name) => Record::NameTaken(name.clone()),
            Rejection::NoSuchCluster => Record::NoSuchCluster(store::Done {}),
            Rejection::Renamed => Record::Renamed(store::Done {}),
            Rejection::RevisionMismatch(revision) => Record::RevisionMismatch(revision.0),
            Rejection::InvalidSpec(fault) => Record::InvalidSpec(fault.into()),
            Rejection::StaleEpoch(epoch) => Record::StaleEpoch(epoch.0),
            Rejection::NoSuchStream => Record::NoSuchStream(store::Done {}),
            Rejection::MemberNameTaken(name, replica) => {
                Record::MemberNameTaken(store::MemberNameTaken {
                    name: name.clone(),
                    replica_id: replica.0,
                })
            }
            Rejection::Full(limit) => Record::Full((*limit).to_owned()),
        };
        Self {
            rejection: Some(record),
        }
    }
}

impl TryFrom<store::Rejection> for Rejection {
    type Error = Corrupt;

    fn try_from(record: store::Rejection) -> Result<Self, Corrupt> {
        use rejection::Rejection as Record;
        Ok(match required(record.rejection, "the rejection")? {
            Record::NameTaken(name) => Self::NameTaken(name),
            Record::NoSuchCluster(store::Done {}) => Self::NoSuchCluster,
            Record::Renamed(store::Done {}) => Self::Renamed,
            Record::RevisionMismatch(revision) => Self::RevisionMismatch(Revision(revision)),
            Record::InvalidSpec(fault) => Self::InvalidSpec(fault.try_into()?),
            Record::StaleEpoch(epoch) => Self::StaleEpoch(Epoch(epoch)),
            Record::NoSuchStream(store::Done {}) => Self::NoSuchStream,
            Record::MemberNameTaken(taken) => {
                Self::MemberNameTaken(taken.name, ReplicaId(taken.replica_id))
            }
            Record::Full(limit) => Self::Full(known_text(&limit)),
        })
    }
}

impl From<&InvalidSpec> for store::InvalidSpec {
    fn from(fault: &InvalidSpec) -> Self {
        use invalid_spec::Fault as Record;
        let record = match fault {
            InvalidSpec::Name(name) => Record::Name(name.clone()),
            InvalidSpec::NoResources(cluster) => Record::NoResources(cluster.clone()),
            InvalidSpec::Repeated(cluster, resource) => Record::Repeated(store::RepeatedResource {
                cluster: cluster.clone(),
                resource: Some(resource.into()),
            }),
            InvalidSpec::EventsTwice(cluster) => Record::EventsTwice(cluster.clone()),
            InvalidSpec::TooMany(cluster, count) => Record::TooMany(store::TooManyResources {
                cluster: cluster.clone(),
                count: *count as u64,
            }),
            InvalidSpec::TooLong(cluster, what, bytes_max) => Record::TooLong(store::TooLongText {
                cluster: cluster.clone(),
                what: (*what).to_owned(),
                bytes_max: *bytes_max as u64,
            }),
        };
        Self {
            fault: Some(record),
        }
    }
}

impl TryFrom<store::InvalidSpec> for InvalidSpec {
    type Error = Corrupt;

    fn try_from(record: store::InvalidSpec) -> Result<Self, Corrupt> {
        use invalid_spec::Fault as Record;
        Ok(match required(record.fault, "the specification's fault")? {
            Record::Name(name) => Self::Name(name),
            Record::NoResources(cluster) => Self::NoResources(cluster),
            Record::Repeated(repeated) => Self::Repeated(
                repeated.cluster,
                required(repeated.resource, "the repeated resource")?.into(),
            ),
            Record::EventsTwice(cluster) => Self::EventsTwice(cluster),
            Record::TooMany(many) => Self::TooMany(many.cluster, count(many.count)),
            Record::TooLong(long) => {
                Self::TooLong(long.cluster, known_text(&long.what), count(long.bytes_max))
            }
        })
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Texts that `domain` writes as constants. One that a newer replica sends and this one does not
/// know is told in general words: these texts are for people.
fn known_text(text: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "10,000 clusters",
        "a label key",
        "a label value",
        "a namespace",
        "a label selector",
        "a field selector",
        "the kubeconfig path",
        "the context",
        "the inline kubeconfig",
        "the source name",
    ];
    KNOWN
        .iter()
        .find(|known| **known == text)
        .copied()
        .unwrap_or("something that the leader limits")
}
