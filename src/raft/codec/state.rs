//! The state: what a snapshot holds.

use std::sync::Arc;

use super::{
    Corrupt, condition, gap_reason, group_from_bytes, move_reason, required, rv_from_text, try_all,
};
use crate::{
    domain::{
        answered::Answered,
        assignment::Assignment,
        cluster::{Cluster, ClusterSpec, Health},
        command::Outcome,
        id::{
            ClusterId, Epoch, Era, Incarnation, ReplicaId, Revision, ShardId, StreamId, UnixMillis,
        },
        member::Member,
        position::Position,
        state::State,
        stream::{EraStart, Stream},
    },
    proto::store::v1 as store,
};

impl From<&State> for store::State {
    fn from(state: &State) -> Self {
        Self {
            revision: state.revision.0,
            group_id: state
                .group
                .map(|group| group.0.to_vec().into())
                .unwrap_or_default(),
            last_id: state.last_id,
            clusters: state.clusters.values().map(Into::into).collect(),
            members: state.members.values().map(Into::into).collect(),
            assignments: state.assignments.values().map(Into::into).collect(),
            streams: state.streams.values().map(Into::into).collect(),
            requests: state.requests.iter().map(Into::into).collect(),
            topology: state.topology.0,
        }
    }
}

impl TryFrom<store::State> for State {
    type Error = Corrupt;

    fn try_from(record: store::State) -> Result<Self, Corrupt> {
        let group = match record.group_id.as_ref() {
            [] => None,
            bytes => Some(group_from_bytes(bytes)?),
        };
        let clusters: Vec<Cluster> = try_all(record.clusters)?;
        let assignments: Vec<Assignment> = try_all(record.assignments)?;
        let streams: Vec<Stream> = try_all(record.streams)?;
        let requests: Vec<Answered> = try_all(record.requests)?;
        Ok(Self {
            revision: Revision(record.revision),
            group,
            last_id: record.last_id,
            clusters: clusters.into_iter().map(|c| (c.id, c)).collect(),
            members: record
                .members
                .into_iter()
                .map(Member::from)
                .map(|member| (member.id, member))
                .collect(),
            assignments: assignments.into_iter().map(|a| (a.shard(), a)).collect(),
            streams: streams.into_iter().map(|s| (s.id, s)).collect(),
            requests: requests.into_iter().collect(),
            topology: Revision(record.topology),
        })
    }
}

impl From<&Cluster> for store::Cluster {
    fn from(cluster: &Cluster) -> Self {
        Self {
            cluster_id: cluster.id.0,
            spec: Some((&*cluster.spec).into()),
            uid: cluster.uid.clone(),
            created_ms: cluster.created.0,
            revision: cluster.revision.0,
            health: Some((&cluster.health).into()),
            health_epoch: cluster.health_epoch.0,
            updated_ms: cluster.updated.0,
            watch_revision: cluster.watch_revision.0,
        }
    }
}

impl TryFrom<store::Cluster> for Cluster {
    type Error = Corrupt;

    fn try_from(record: store::Cluster) -> Result<Self, Corrupt> {
        let spec: ClusterSpec = required(record.spec, "a cluster's specification")?.try_into()?;
        Ok(Self {
            id: ClusterId(record.cluster_id),
            spec: Arc::new(spec),
            uid: record.uid,
            created: UnixMillis(record.created_ms),
            updated: UnixMillis(record.updated_ms),
            revision: Revision(record.revision),
            watch_revision: Revision(record.watch_revision),
            health: required(record.health, "a cluster's health")?.try_into()?,
            health_epoch: Epoch(record.health_epoch),
        })
    }
}

impl From<&Answered> for store::Answered {
    fn from(answered: &Answered) -> Self {
        Self {
            request_id: Some((&answered.request_id).into()),
            revision: answered.revision.0,
            outcome: Some((&answered.outcome).into()),
        }
    }
}

impl TryFrom<store::Answered> for Answered {
    type Error = Corrupt;

    fn try_from(record: store::Answered) -> Result<Self, Corrupt> {
        let outcome = required(record.outcome, "a request's outcome")?.try_into()?;
        if matches!(outcome, Outcome::Rejected(_)) {
            return Err(Corrupt("a request that was rejected".into()));
        }
        Ok(Self {
            request_id: required(record.request_id, "a request's id")?.into(),
            revision: Revision(record.revision),
            outcome,
        })
    }
}

impl From<&Health> for store::Health {
    fn from(health: &Health) -> Self {
        Self {
            condition: store::Condition::from(health.condition).into(),
            reason: health.reason.clone(),
            since_ms: health.since.0,
        }
    }
}

impl TryFrom<store::Health> for Health {
    type Error = Corrupt;

    fn try_from(record: store::Health) -> Result<Self, Corrupt> {
        Ok(Self {
            condition: condition(record.condition)?,
            reason: record.reason,
            since: UnixMillis(record.since_ms),
        })
    }
}

impl From<&Member> for store::Member {
    fn from(member: &Member) -> Self {
        Self {
            replica_id: member.id.0,
            name: member.name.clone(),
            peer_address: member.peer_address.clone(),
            client_address: member.client_address.clone(),
            incarnation: member.incarnation.0,
            started_ms: member.started.0,
            drained: member.drained,
        }
    }
}

impl From<store::Member> for Member {
    fn from(record: store::Member) -> Self {
        Self {
            id: ReplicaId(record.replica_id),
            name: record.name,
            peer_address: record.peer_address,
            client_address: record.client_address,
            incarnation: Incarnation(record.incarnation),
            started: UnixMillis(record.started_ms),
            drained: record.drained,
        }
    }
}

impl From<&Assignment> for store::Assignment {
    fn from(assignment: &Assignment) -> Self {
        Self {
            shard: Some(assignment.shard().into()),
            owner: assignment.owner().map(|owner| owner.0),
            epoch: assignment.epoch().0,
            reason: store::MoveReason::from(assignment.reason()).into(),
            since_ms: assignment.since().0,
        }
    }
}

impl TryFrom<store::Assignment> for Assignment {
    type Error = Corrupt;

    fn try_from(record: store::Assignment) -> Result<Self, Corrupt> {
        Ok(Self::restore(
            required(record.shard, "an assignment's shard")?.into(),
            record.owner.map(ReplicaId),
            Epoch(record.epoch),
            move_reason(record.reason)?,
            UnixMillis(record.since_ms),
        ))
    }
}

impl From<&Stream> for store::Stream {
    fn from(stream: &Stream) -> Self {
        Self {
            stream_id: stream.id.0,
            shard: Some(stream.shard.into()),
            selector: Some((&stream.selector).into()),
            era: stream.era.as_ref().map(Into::into),
            checkpoint: stream.checkpoint.as_ref().map(Into::into),
            cluster_uid: stream.cluster_uid.clone(),
            first: stream.first.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<store::Stream> for Stream {
    type Error = Corrupt;

    fn try_from(record: store::Stream) -> Result<Self, Corrupt> {
        let shard: ShardId = required(record.shard, "a stream's shard")?.into();
        Ok(Self {
            id: StreamId(record.stream_id),
            shard,
            selector: required(record.selector, "a stream's selector")?.try_into()?,
            era: record.era.map(EraStart::try_from).transpose()?,
            first: record.first.map(Position::try_from).transpose()?,
            checkpoint: record.checkpoint.map(Position::try_from).transpose()?,
            cluster_uid: record.cluster_uid,
        })
    }
}

impl From<&EraStart> for store::EraStart {
    fn from(start: &EraStart) -> Self {
        Self {
            era: start.era.0,
            reason: store::GapReason::from(start.reason).into(),
            from: start.from.as_ref().map(Into::into),
            to: start.to.to_string(),
            repaired: start.repaired,
            at_ms: start.at.0,
            unbroken_since: (start.unbroken_since != start.era).then(|| store::EraBreak {
                era: start.unbroken_since.0,
                reason: store::GapReason::from(start.broken_by).into(),
            }),
        }
    }
}

impl TryFrom<store::EraStart> for EraStart {
    type Error = Corrupt;

    fn try_from(record: store::EraStart) -> Result<Self, Corrupt> {
        let (era, reason) = (Era(record.era), gap_reason(record.reason)?);
        let (unbroken_since, broken_by) = match record.unbroken_since {
            Some(first) => (Era(first.era), gap_reason(first.reason)?),
            None => (era, reason),
        };
        Ok(Self {
            era,
            reason,
            unbroken_since,
            broken_by,
            from: record.from.map(Position::try_from).transpose()?,
            to: rv_from_text(&record.to)?,
            repaired: record.repaired,
            at: UnixMillis(record.at_ms),
        })
    }
}
