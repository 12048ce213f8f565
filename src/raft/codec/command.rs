//! Commands.

use super::{
    Corrupt, condition, gap_reason, group_from_bytes, move_reason, required, rv_from_text, try_all,
};
use crate::{
    domain::{
        cluster::{ClusterSpec, Condition},
        command::{BeginEra, CheckpointEntry, Command, Move},
        id::{ClusterId, Epoch, Era, ReplicaId, Revision, ShardId, StreamId, UnixMillis},
        position::Position,
        request::RequestId,
    },
    proto::store::v1::{self as store, command::Command as Record},
};

impl From<&Command> for store::Command {
    fn from(command: &Command) -> Self {
        let record = match command {
            Command::FoundGroup { group } => Record::FoundGroup(store::FoundGroup {
                group_id: group.0.to_vec().into(),
            }),
            Command::RegisterMember {
                replica,
                name,
                peer_address,
                client_address,
                at,
            } => Record::RegisterMember(store::RegisterMember {
                replica_id: replica.0,
                name: name.clone(),
                peer_address: peer_address.clone(),
                client_address: client_address.clone(),
                at_ms: at.0,
            }),
            Command::RemoveMember { replica } => Record::RemoveMember(store::RemoveMember {
                replica_id: replica.0,
            }),
            Command::DrainMember { replica } => drain_record(*replica),
            Command::ResumeMember { replica } => resume_record(*replica),
            Command::CreateCluster {
                spec,
                request_id,
                at,
            } => create_record(spec, request_id.as_ref(), *at),
            Command::UpdateCluster {
                id,
                expected,
                spec,
                request_id,
                at,
            } => update_record(*id, *expected, spec, request_id.as_ref(), *at),
            Command::DeleteCluster {
                id,
                expected,
                request_id,
                at,
            } => delete_record(*id, *expected, request_id.as_ref(), *at),
            Command::Assign { moves, at } => Record::Assign(store::Assign {
                moves: moves.iter().map(Into::into).collect(),
                at_ms: at.0,
            }),
            Command::BeginEra(begin) => Record::BeginEra(begin.into()),
            Command::AdvanceCheckpoints { entries } => {
                Record::AdvanceCheckpoints(store::AdvanceCheckpoints {
                    entries: entries.iter().map(Into::into).collect(),
                })
            }
            Command::ReportHealth {
                shard,
                epoch,
                condition,
                reason,
                at,
            } => health_record(*shard, *epoch, *condition, reason, *at),
            Command::ConfirmOutage {
                shard,
                epoch,
                reason,
            } => outage_record(*shard, *epoch, reason),
        };
        Self {
            command: Some(record),
        }
    }
}

fn drain_record(replica: ReplicaId) -> Record {
    let replica_id = replica.0;
    Record::DrainMember(store::DrainMember { replica_id })
}

fn resume_record(replica: ReplicaId) -> Record {
    let replica_id = replica.0;
    Record::ResumeMember(store::ResumeMember { replica_id })
}

fn health_record(
    shard: ShardId,
    epoch: Epoch,
    condition: Condition,
    reason: &str,
    at: UnixMillis,
) -> Record {
    Record::ReportHealth(store::ReportHealth {
        shard: Some(shard.into()),
        epoch: epoch.0,
        condition: store::Condition::from(condition).into(),
        reason: reason.to_owned(),
        at_ms: at.0,
    })
}

fn outage_record(shard: ShardId, epoch: Epoch, reason: &str) -> Record {
    Record::ConfirmOutage(store::ConfirmOutage {
        shard: Some(shard.into()),
        epoch: epoch.0,
        reason: reason.to_owned(),
    })
}

fn create_record(spec: &ClusterSpec, request_id: Option<&RequestId>, at: UnixMillis) -> Record {
    Record::CreateCluster(store::CreateCluster {
        spec: Some(spec.into()),
        at_ms: at.0,
        request_id: request_id.map(Into::into),
    })
}

fn update_record(
    id: ClusterId,
    expected: Option<Revision>,
    spec: &ClusterSpec,
    request_id: Option<&RequestId>,
    at: UnixMillis,
) -> Record {
    Record::UpdateCluster(store::UpdateCluster {
        cluster_id: id.0,
        expected_revision: expected.map(|revision| revision.0),
        spec: Some(spec.into()),
        at_ms: at.0,
        request_id: request_id.map(Into::into),
    })
}

fn delete_record(
    id: ClusterId,
    expected: Option<Revision>,
    request_id: Option<&RequestId>,
    at: UnixMillis,
) -> Record {
    Record::DeleteCluster(store::DeleteCluster {
        cluster_id: id.0,
        expected_revision: expected.map(|revision| revision.0),
        at_ms: at.0,
        request_id: request_id.map(Into::into),
    })
}

impl TryFrom<store::Command> for Command {
    type Error = Corrupt;

    fn try_from(record: store::Command) -> Result<Self, Corrupt> {
        Ok(match required(record.command, "the command")? {
            Record::FoundGroup(found) => Self::FoundGroup {
                group: group_from_bytes(&found.group_id)?,
            },
            Record::RegisterMember(member) => Self::RegisterMember {
                replica: ReplicaId(member.replica_id),
                name: member.name,
                peer_address: member.peer_address,
                client_address: member.client_address,
                at: UnixMillis(member.at_ms),
            },
            Record::RemoveMember(member) => Self::RemoveMember {
                replica: ReplicaId(member.replica_id),
            },
            Record::DrainMember(member) => Self::DrainMember {
                replica: ReplicaId(member.replica_id),
            },
            Record::ResumeMember(member) => Self::ResumeMember {
                replica: ReplicaId(member.replica_id),
            },
            Record::CreateCluster(create) => Self::CreateCluster {
                spec: required(create.spec, "the specification")?.try_into()?,
                request_id: create.request_id.map(Into::into),
                at: UnixMillis(create.at_ms),
            },
            Record::UpdateCluster(update) => Self::UpdateCluster {
                id: ClusterId(update.cluster_id),
                expected: update.expected_revision.map(Revision),
                spec: required(update.spec, "the specification")?.try_into()?,
                request_id: update.request_id.map(Into::into),
                at: UnixMillis(update.at_ms),
            },
            Record::DeleteCluster(delete) => Self::DeleteCluster {
                id: ClusterId(delete.cluster_id),
                expected: delete.expected_revision.map(Revision),
                request_id: delete.request_id.map(Into::into),
                at: UnixMillis(delete.at_ms),
            },
            Record::Assign(assign) => Self::Assign {
                moves: try_all(assign.moves)?,
                at: UnixMillis(assign.at_ms),
            },
            Record::BeginEra(begin) => Self::BeginEra(begin.try_into()?),
            Record::AdvanceCheckpoints(advance) => Self::AdvanceCheckpoints {
                entries: try_all(advance.entries)?,
            },
            Record::ReportHealth(report) => Self::ReportHealth {
                shard: required(report.shard, "the shard")?.into(),
                epoch: Epoch(report.epoch),
                condition: condition(report.condition)?,
                reason: report.reason,
                at: UnixMillis(report.at_ms),
            },
            Record::ConfirmOutage(confirm) => Self::ConfirmOutage {
                shard: required(confirm.shard, "the shard")?.into(),
                epoch: Epoch(confirm.epoch),
                reason: confirm.reason,
            },
        })
    }
}

impl From<&RequestId> for store::RequestId {
    fn from(request_id: &RequestId) -> Self {
        Self {
            text: request_id.text().to_owned(),
            content: request_id.content(),
        }
    }
}

impl From<store::RequestId> for RequestId {
    fn from(record: store::RequestId) -> Self {
        Self::restore(&record.text, record.content)
    }
}

impl From<&Move> for store::Move {
    fn from(step: &Move) -> Self {
        Self {
            shard: Some(step.shard.into()),
            epoch: step.epoch.0,
            to: step.to.map(|owner| owner.0),
            reason: store::MoveReason::from(step.reason).into(),
        }
    }
}

impl TryFrom<store::Move> for Move {
    type Error = Corrupt;

    fn try_from(record: store::Move) -> Result<Self, Corrupt> {
        Ok(Self {
            shard: required(record.shard, "a move's shard")?.into(),
            epoch: Epoch(record.epoch),
            to: record.to.map(ReplicaId),
            reason: move_reason(record.reason)?,
        })
    }
}

impl From<&BeginEra> for store::BeginEra {
    fn from(begin: &BeginEra) -> Self {
        Self {
            stream_id: begin.stream.0,
            epoch: begin.epoch.0,
            reason: store::GapReason::from(begin.reason).into(),
            to: begin.to.to_string(),
            repaired: begin.repaired,
            cluster_uid: begin.cluster_uid.clone(),
            at_ms: begin.at.0,
            run: begin.run.0,
            expected_era: begin.expected_era.map(|era| era.0),
            from: begin.from.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<store::BeginEra> for BeginEra {
    type Error = Corrupt;

    fn try_from(record: store::BeginEra) -> Result<Self, Corrupt> {
        Ok(Self {
            stream: StreamId(record.stream_id),
            epoch: Epoch(record.epoch),
            run: Revision(record.run),
            expected_era: record.expected_era.map(Era),
            from: record.from.map(Position::try_from).transpose()?,
            reason: gap_reason(record.reason)?,
            to: rv_from_text(&record.to)?,
            repaired: record.repaired,
            cluster_uid: record.cluster_uid,
            at: UnixMillis(record.at_ms),
        })
    }
}

impl From<&CheckpointEntry> for store::CheckpointEntry {
    fn from(entry: &CheckpointEntry) -> Self {
        Self {
            stream_id: entry.stream.0,
            epoch: entry.epoch.0,
            position: Some((&entry.position).into()),
        }
    }
}

impl TryFrom<store::CheckpointEntry> for CheckpointEntry {
    type Error = Corrupt;

    fn try_from(record: store::CheckpointEntry) -> Result<Self, Corrupt> {
        Ok(Self {
            stream: StreamId(record.stream_id),
            epoch: Epoch(record.epoch),
            position: required(record.position, "a checkpoint's position")?.try_into()?,
        })
    }
}
