//! One of everything that is written.

use std::{collections::BTreeMap, sync::Arc};

use openraft::vote::RaftLeaderId as _;

use crate::{
    domain::{
        answered::{Answered, Requests},
        assignment::{Assignment, MoveReason},
        cluster::{
            Cluster, ClusterSpec, Condition, Health, InvalidSpec, Resource, ResourceSelector,
            Source, StreamSelector,
        },
        command::{BeginEra, CheckpointEntry, Command, Move, Outcome, Rejection},
        event::GapReason,
        id::{
            ClusterId, Epoch, Era, GroupId, Incarnation, ReplicaId, Revision, ShardId, StreamId,
            UnixMillis,
        },
        member::Member,
        position::{Ordinal, Position},
        request::RequestId,
        state::State,
        stream::{EraStart, Stream},
    },
    raft::types::{LeaderId, LogId, Membership, Node},
};

pub(super) const SHARD: ShardId = ShardId {
    cluster: ClusterId(3),
    slice: 0,
};
const AT: UnixMillis = UnixMillis(1_790_000_000_123);

fn spec(source: Source) -> ClusterSpec {
    ClusterSpec {
        name: "production-eu".into(),
        labels: [("region".into(), "eu".into()), ("tier".into(), "1".into())].into(),
        source,
        resources: vec![
            ResourceSelector::all(Resource::events()),
            ResourceSelector {
                resource: "apps/v1/deployments".parse().unwrap(),
                namespaces: vec!["shop".into(), "pay".into()],
                label_selector: "app=web".into(),
                field_selector: "metadata.name=web".into(),
            },
        ],
        paused: true,
        description: "the shop".into(),
        duplicate_of: "production".into(),
    }
}

pub(super) fn request_id() -> Option<RequestId> {
    RequestId::new("4d1f0f1e", b"a cluster")
}

pub(super) fn commands() -> Vec<(&'static str, Command)> {
    vec![
        (
            "found-group",
            Command::FoundGroup {
                group: GroupId([7; 16]),
            },
        ),
        (
            "register-member",
            Command::RegisterMember {
                replica: ReplicaId(i64::MAX as u64),
                name: "quorumwatch-0".into(),
                peer_address: "quorumwatch-0.replicas:7100".into(),
                client_address: "quorumwatch-0.replicas:7000".into(),
                at: AT,
            },
        ),
        (
            "remove-member",
            Command::RemoveMember {
                replica: ReplicaId(9),
            },
        ),
        (
            "drain-member",
            Command::DrainMember {
                replica: ReplicaId(9),
            },
        ),
        (
            "resume-member",
            Command::ResumeMember {
                replica: ReplicaId(9),
            },
        ),
        (
            "assign",
            Command::Assign {
                moves: vec![
                    Move {
                        shard: SHARD,
                        epoch: Epoch(0),
                        to: Some(ReplicaId(9)),
                        reason: MoveReason::Placed,
                    },
                    Move {
                        shard: SHARD,
                        epoch: Epoch(5),
                        to: None,
                        reason: MoveReason::NoReplica,
                    },
                ],
                at: AT,
            },
        ),
    ]
}

pub(super) fn owner_commands() -> Vec<(&'static str, Command)> {
    let long = "99999999999999999999999".parse().unwrap();
    vec![
        (
            "begin-era",
            Command::BeginEra(BeginEra {
                stream: StreamId(4),
                epoch: Epoch(2),
                run: Revision(11),
                expected_era: Some(Era(5)),
                from: Some(Position::closed(Era(5), 800u64.into())),
                reason: GapReason::WatchCacheReset,
                to: 812u64.into(),
                repaired: true,
                cluster_uid: "7d9e".into(),
                at: AT,
            }),
        ),
        (
            "begin-era-first",
            Command::BeginEra(BeginEra {
                stream: StreamId(4),
                epoch: Epoch(1),
                run: Revision(11),
                expected_era: None,
                from: None,
                reason: GapReason::StreamCreated,
                to: 812u64.into(),
                repaired: false,
                cluster_uid: String::new(),
                at: AT,
            }),
        ),
        (
            "advance-checkpoints",
            Command::AdvanceCheckpoints {
                entries: vec![
                    CheckpointEntry {
                        stream: StreamId(4),
                        epoch: Epoch(2),
                        position: Position::closed(Era(5), 900u64.into()),
                    },
                    CheckpointEntry {
                        stream: StreamId(6),
                        epoch: Epoch(1),
                        position: Position::at(Era(5), long, Ordinal::new(3)),
                    },
                ],
            },
        ),
        (
            "report-health",
            Command::ReportHealth {
                shard: SHARD,
                epoch: Epoch(2),
                condition: Condition::Unauthenticated,
                reason: "the API server refuses the token".into(),
                at: AT,
            },
        ),
        (
            "confirm-outage",
            Command::ConfirmOutage {
                shard: SHARD,
                epoch: Epoch(2),
                reason: "the API server refuses the token".into(),
            },
        ),
    ]
}

pub(super) fn cluster_commands() -> Vec<(&'static str, Command)> {
    let create = |source| Command::CreateCluster {
        spec: spec(source),
        request_id: request_id(),
        at: AT,
    };
    vec![
        ("create-cluster-in-cluster", create(Source::InCluster)),
        (
            "create-cluster-configured",
            create(Source::Configured {
                name: "eu-1".into(),
            }),
        ),
        (
            "create-cluster-file",
            create(Source::KubeconfigFile {
                path: "/etc/kube/eu".into(),
                context: "admin".into(),
            }),
        ),
        (
            "create-cluster-inline",
            create(Source::KubeconfigInline {
                yaml: "apiVersion: v1".into(),
                context: String::new(),
            }),
        ),
        (
            "update-cluster",
            Command::UpdateCluster {
                id: ClusterId(3),
                expected: Some(Revision(0)),
                spec: spec(Source::InCluster),
                request_id: request_id(),
                at: AT,
            },
        ),
        (
            "delete-cluster",
            Command::DeleteCluster {
                id: ClusterId(3),
                expected: None,
                request_id: request_id(),
                at: AT,
            },
        ),
    ]
}

pub(super) fn outcomes() -> Vec<Outcome> {
    let mut outcomes = vec![
        Outcome::Done,
        Outcome::Cluster(ClusterId(3)),
        Outcome::Era(Era(5)),
    ];
    let rejections = [
        Rejection::NameTaken("a".into()),
        Rejection::NoSuchCluster,
        Rejection::Renamed,
        Rejection::RevisionMismatch(Revision(8)),
        Rejection::StaleEpoch(Epoch(8)),
        Rejection::NoSuchStream,
        Rejection::MemberNameTaken("a".into(), ReplicaId(9)),
        Rejection::Full("10,000 clusters"),
        Rejection::InvalidSpec(InvalidSpec {
            field: "cluster.name".into(),
            message: "no".into(),
        }),
        Rejection::RequestIdReused,
        Rejection::DuplicateCluster { of: "a".into() },
        Rejection::StaleRun(Revision(8)),
        Rejection::StaleEra(Some(Era(8))),
        Rejection::StaleEra(None),
        Rejection::StaleCheckpoint,
        Rejection::NoSuchMember,
    ];
    outcomes.extend(rejections.map(Outcome::Rejected));
    outcomes
}

pub(super) fn state() -> State {
    let cluster = Cluster {
        id: ClusterId(3),
        spec: Arc::new(spec(Source::InCluster)),
        uid: Some("7d9e".into()),
        created: AT,
        updated: UnixMillis(AT.0 + 1),
        revision: Revision(11),
        watch_revision: Revision(10),
        health_epoch: Epoch(3),
        health: Health {
            condition: Condition::Connected,
            reason: String::new(),
            since: AT,
        },
    };
    let member = Member {
        id: ReplicaId(9),
        name: "quorumwatch-0".into(),
        peer_address: "a:7100".into(),
        client_address: "a:7000".into(),
        incarnation: Incarnation(2),
        started: AT,
        drained: false,
    };
    let owner = Some(ReplicaId(9));
    let assignment = Assignment::restore(SHARD, owner, Epoch(2), MoveReason::Takeover, AT);
    let stream = |id, era: Option<EraStart>, checkpoint| Stream {
        id: StreamId(id),
        shard: SHARD,
        selector: StreamSelector {
            namespace: "shop".into(),
            ..StreamSelector::all(Resource::events())
        },
        first: era.as_ref().map(|_| Position::closed(Era(4), 8u64.into())),
        era,
        checkpoint,
        cluster_uid: None,
    };
    let era = EraStart {
        unbroken_since: Era(5),
        broken_by: GapReason::HistoryExpired,
        era: Era(5),
        reason: GapReason::HistoryExpired,
        from: Some(Position::closed(Era(4), 10u64.into())),
        to: 812u64.into(),
        repaired: false,
        at: AT,
    };
    let checkpoint = Position::closed(Era(5), 900u64.into());
    State {
        revision: Revision(42),
        group: Some(GroupId([7; 16])),
        last_id: 6,
        clusters: [(cluster.id, cluster)].into(),
        members: [(member.id, member)].into(),
        assignments: [(SHARD, assignment)].into(),
        streams: [
            (StreamId(4), stream(4, Some(era), Some(checkpoint))),
            (StreamId(6), stream(6, None, None)),
        ]
        .into(),
        requests: requests(),
        topology: Revision(41),
    }
}

/// What a member and an assignment may be besides.
pub(super) fn drained_state() -> State {
    let mut state = state();
    for member in state.members.values_mut() {
        member.drained = true;
    }
    let owner = Some(ReplicaId(9));
    let drained = Assignment::restore(SHARD, owner, Epoch(3), MoveReason::Drained, AT);
    state.assignments.insert(SHARD, drained);
    state
}

fn requests() -> Requests {
    let answered = |text: &str, revision, outcome| Answered {
        request_id: RequestId::restore(text, u64::MAX),
        revision: Revision(revision),
        outcome,
    };
    [
        answered("one", 11, Outcome::Cluster(ClusterId(3))),
        answered("two", 12, Outcome::Done),
    ]
    .into_iter()
    .collect()
}

pub(super) fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId::new(3, 9), index)
}

pub(super) fn membership() -> Membership {
    let node = |name: &str| Node {
        name: name.into(),
        peer_address: format!("{name}:7100"),
        client_address: format!("{name}:7000"),
    };
    let nodes: BTreeMap<u64, Node> = [(8, node("b")), (9, node("a")), (10, node("c"))].into();
    Membership::new(vec![[8, 9].into(), [9].into()], nodes).unwrap()
}
