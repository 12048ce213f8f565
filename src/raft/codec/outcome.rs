//! Outcomes and rejections. They travel between replicas; of what is stored, only users' writes that
//! took effect have an outcome.

use super::{Corrupt, required};
use crate::{
    domain::{
        cluster::InvalidSpec,
        command::{Outcome, Rejection},
        id::{ClusterId, Epoch, Era, ReplicaId, Revision},
    },
    proto::store::v1::{self as store, outcome, rejection},
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
            Rejection::InvalidSpec(fault) => Record::InvalidSpec(store::InvalidSpec {
                field: fault.field.clone(),
                message: fault.message.clone(),
            }),
            Rejection::StaleEpoch(epoch) => Record::StaleEpoch(epoch.0),
            Rejection::NoSuchStream => Record::NoSuchStream(store::Done {}),
            Rejection::MemberNameTaken(name, replica) => {
                Record::MemberNameTaken(store::MemberNameTaken {
                    name: name.clone(),
                    replica_id: replica.0,
                })
            }
            Rejection::NoSuchMember => Record::NoSuchMember(store::Done {}),
            Rejection::RequestIdReused => Record::RequestIdReused(store::Done {}),
            Rejection::DuplicateCluster { of } => Record::DuplicateCluster(of.clone()),
            Rejection::StaleRun(revision) => Record::StaleRun(revision.0),
            Rejection::StaleEra(era) => Record::StaleEra(store::StaleEra {
                era: era.map(|era| era.0),
            }),
            Rejection::StaleCheckpoint => Record::StaleCheckpoint(store::Done {}),
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
            Record::InvalidSpec(fault) => Self::InvalidSpec(InvalidSpec {
                field: fault.field,
                message: fault.message,
            }),
            Record::StaleEpoch(epoch) => Self::StaleEpoch(Epoch(epoch)),
            Record::NoSuchStream(store::Done {}) => Self::NoSuchStream,
            Record::MemberNameTaken(taken) => {
                Self::MemberNameTaken(taken.name, ReplicaId(taken.replica_id))
            }
            Record::Full(limit) => Self::Full(known_text(&limit)),
            Record::NoSuchMember(store::Done {}) => Self::NoSuchMember,
            Record::RequestIdReused(store::Done {}) => Self::RequestIdReused,
            Record::DuplicateCluster(of) => Self::DuplicateCluster { of },
            Record::StaleRun(revision) => Self::StaleRun(Revision(revision)),
            Record::StaleCheckpoint(store::Done {}) => Self::StaleCheckpoint,
            Record::StaleEra(stale) => Self::StaleEra(stale.era.map(Era)),
        })
    }
}

/// Texts that `domain` writes as constants. One that a newer replica sends and this one does not
/// know is given in general words: these texts are for display.
fn known_text(text: &str) -> &'static str {
    const KNOWN: &[&str] = &["10,000 clusters"];
    KNOWN
        .iter()
        .find(|known| **known == text)
        .copied()
        .unwrap_or("something that the leader limits")
}
