//! Every kind of record, against the bytes that this format has always had.
//!
//! A line of `tests/data/records-v1.txt` is never changed: data on somebody's disk looks like it.
//! A new kind of record gets a new line, which the failing test prints.

use std::{collections::BTreeMap, fmt::Debug, fmt::Write as _};

use openraft::{EntryPayload, vote::RaftLeaderId as _};
use prost::Message;

use super::{Corrupt, decode_entry, encode_entry};
use crate::{
    domain::{
        assignment::{Assignment, MoveReason},
        cluster::{
            Cluster, ClusterSpec, Condition, Health, InvalidSpec, Resource, ResourceSelector,
            Source,
        },
        command::{BeginEra, CheckpointEntry, Command, Move, Outcome, Rejection},
        frame::GapReason,
        id::{
            ClusterId, Epoch, Era, GroupId, Incarnation, ReplicaId, Revision, ShardId, StreamId,
            UnixMillis,
        },
        member::Member,
        position::{Ordinal, Position},
        state::State,
        stream::{EraStart, Stream},
    },
    proto::store::v1 as store,
    raft::types::{
        Entry, LeaderId, LogId, Membership, Node, Request, SnapshotMeta, StoredMembership, Vote,
    },
};

const GOLDEN: &str = include_str!("../../../tests/data/records-v1.txt");

const SHARD: ShardId = ShardId {
    cluster: ClusterId(3),
    slice: 0,
};
const AT: UnixMillis = UnixMillis(1_790_000_000_123);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn golden(name: &str) -> Option<Vec<u8>> {
    let mut lines = GOLDEN.lines().filter_map(|line| line.split_once(' '));
    lines
        .find(|(known, _)| *known == name)
        .map(|(_, text)| unhex(text))
}

/// What is written now, what is written in the file, and what both are read as, must agree.
fn check<T: PartialEq + Debug>(
    name: &str,
    value: &T,
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Corrupt>,
) {
    assert_eq!(&read(bytes).unwrap(), value, "{name} does not read back");
    let line = format!("{name} {}", hex(bytes));
    let golden = golden(name).unwrap_or_else(|| panic!("add this line:\n{line}"));
    assert_eq!(
        &read(&golden).unwrap(),
        value,
        "{name}: old data is read differently"
    );
    assert_eq!(bytes, golden, "{name} is written differently:\n{line}");
}

fn check_record<T, R>(name: &str, value: &T)
where
    T: PartialEq + Debug + TryFrom<R, Error = Corrupt>,
    R: Message + Default + for<'a> From<&'a T>,
{
    check(name, value, &R::from(value).encode_to_vec(), |bytes| {
        R::decode(bytes)?.try_into()
    });
}

fn spec(source: Source) -> ClusterSpec {
    ClusterSpec {
        name: "production-eu".into(),
        labels: [("region".into(), "eu".into()), ("tier".into(), "1".into())].into(),
        source,
        selectors: vec![
            ResourceSelector::all(Resource::events()),
            ResourceSelector {
                resource: "apps/v1/deployments".parse().unwrap(),
                namespace: "shop".into(),
                label_selector: "app=web".into(),
                field_selector: "metadata.name=web".into(),
            },
        ],
        paused: true,
    }
}

fn commands() -> Vec<(&'static str, Command)> {
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

fn owner_commands() -> Vec<(&'static str, Command)> {
    let long = "99999999999999999999999".parse().unwrap();
    vec![
        (
            "begin-era",
            Command::BeginEra(BeginEra {
                stream: StreamId(4),
                epoch: Epoch(2),
                reason: GapReason::WatchCacheReset,
                to: 812u64.into(),
                repaired: true,
                cluster_uid: "7d9e".into(),
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
                condition: Condition::Unauthorised,
                reason: "the API server refuses the token".into(),
                at: AT,
            },
        ),
    ]
}

fn cluster_commands() -> Vec<(&'static str, Command)> {
    let create = |source| Command::CreateCluster {
        spec: spec(source),
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
                at: AT,
            },
        ),
        (
            "delete-cluster",
            Command::DeleteCluster {
                id: ClusterId(3),
                expected: None,
                at: AT,
            },
        ),
    ]
}

fn outcomes() -> Vec<Outcome> {
    let mut outcomes = vec![
        Outcome::Done,
        Outcome::Cluster(ClusterId(3)),
        Outcome::Era(Era(5)),
    ];
    let faults = [
        InvalidSpec::Name("A".into()),
        InvalidSpec::NoResources("a".into()),
        InvalidSpec::Repeated("a".into(), Resource::events()),
        InvalidSpec::EventsTwice("a".into()),
        InvalidSpec::TooMany("a".into(), 65),
        InvalidSpec::TooLong("a".into(), "a label value", 1024),
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
    ];
    let rejections = rejections
        .into_iter()
        .chain(faults.into_iter().map(Rejection::InvalidSpec));
    outcomes.extend(rejections.map(Outcome::Rejected));
    outcomes
}

fn state() -> State {
    let cluster = Cluster {
        id: ClusterId(3),
        spec: spec(Source::InCluster),
        uid: Some("7d9e".into()),
        created: AT,
        revision: Revision(11),
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
    };
    let owner = Some(ReplicaId(9));
    let assignment = Assignment::restore(SHARD, owner, Epoch(2), MoveReason::Takeover, AT);
    let stream = |id, era, checkpoint| Stream {
        id: StreamId(id),
        shard: SHARD,
        selector: ResourceSelector::all(Resource::events()),
        era,
        checkpoint,
        cluster_uid: None,
    };
    let era = EraStart {
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
    }
}

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId::new(3, 9), index)
}

fn membership() -> Membership {
    let node = |name: &str| Node {
        name: name.into(),
        peer_address: format!("{name}:7100"),
        client_address: format!("{name}:7000"),
    };
    let nodes: BTreeMap<u64, Node> = [(8, node("b")), (9, node("a")), (10, node("c"))].into();
    Membership::new(vec![[8, 9].into(), [9].into()], nodes).unwrap()
}

fn check_entry(name: &str, payload: EntryPayload<Request, u64, Node>) {
    let entry = Entry {
        log_id: log_id(77),
        payload,
    };
    check(name, &entry, &encode_entry(&entry), decode_entry);
}

#[test]
fn commands_are_written_as_ever() {
    let all = [commands(), owner_commands(), cluster_commands()];
    for (name, command) in all.into_iter().flatten() {
        check_record::<_, store::Command>(name, &command);
    }
}

#[test]
fn the_state_is_written_as_ever() {
    check_record::<_, store::State>("state", &state());
    let empty = State::default();
    assert_eq!(State::try_from(store::State::from(&empty)), Ok(empty));
}

#[test]
fn the_log_is_written_as_ever() {
    check_entry("entry-blank", EntryPayload::Blank);
    let command = commands().remove(2).1;
    check_entry("entry-command", EntryPayload::Normal(Request(command)));
    check_entry("entry-membership", EntryPayload::Membership(membership()));
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(77)),
        last_membership: StoredMembership::new(Some(log_id(5)), membership()),
    };
    check_record::<_, store::SnapshotMeta>("snapshot-meta", &meta);
    let vote = Vote::new_committed(3, 9);
    let bytes = store::Vote::from(vote).encode_to_vec();
    check("vote", &vote, &bytes, |bytes| {
        store::Vote::decode(bytes)?.try_into()
    });
}

#[test]
fn outcomes_read_back() {
    for outcome in outcomes() {
        let bytes = store::Outcome::from(&outcome).encode_to_vec();
        let read = store::Outcome::decode(&*bytes).unwrap();
        assert_eq!(Outcome::try_from(read), Ok(outcome));
    }
}

#[test]
fn what_is_unknown_or_missing_is_corrupt() {
    assert!(Command::try_from(store::Command::default()).is_err());
    assert!(Outcome::try_from(store::Outcome::default()).is_err());
    assert!(decode_entry(&[]).is_err());
    assert!(decode_entry(&[0xff; 7]).is_err());
    let mut record = store::Move::from(&Move {
        shard: SHARD,
        epoch: Epoch(1),
        to: None,
        reason: MoveReason::Paused,
    });
    for reason in [0, 99] {
        record.reason = reason;
        assert!(Move::try_from(record).is_err());
    }
    let group = store::FoundGroup {
        group_id: vec![1; 15].into(),
    };
    let command = store::Command {
        command: Some(store::command::Command::FoundGroup(group)),
    };
    assert!(Command::try_from(command).is_err());
}
