//! Every kind of record, against the bytes that this format has always had.
//!
//! A line of `tests/data/records-v2.txt` is never changed: data on somebody's disk looks like it.
//! A new kind of record gets a new line, which the failing test prints.

mod samples;

use std::{fmt::Debug, fmt::Write as _};

use openraft::EntryPayload;
use prost::Message;

use super::{Corrupt, decode_entry, encode_entry};
use crate::{
    domain::{
        answered::Answered,
        assignment::MoveReason,
        cluster::Condition,
        command::{Command, Move, Outcome, Rejection},
        id::Epoch,
        state::State,
    },
    proto::store::v1 as store,
    raft::types::{Entry, Node, Request, SnapshotMeta, StoredMembership, Vote},
};
use samples::{
    SHARD, cluster_commands, commands, drained_state, log_id, membership, outcomes, owner_commands,
    request_id, state,
};

const GOLDEN: &str = include_str!("../../../../tests/data/records-v2.txt");

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
    check_record::<_, store::State>("state-drained", &drained_state());
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
fn move_reasons_read_back() {
    for reason in [
        MoveReason::Created,
        MoveReason::Placed,
        MoveReason::Takeover,
        MoveReason::Handover,
        MoveReason::Rebalance,
        MoveReason::Reachability,
        MoveReason::Drained,
        MoveReason::Requested,
        MoveReason::NoReplica,
        MoveReason::Paused,
        MoveReason::Deleted,
    ] {
        let record = store::MoveReason::from(reason).into();
        assert_eq!(super::move_reason(record), Ok(reason));
    }
}

#[test]
fn conditions_read_back() {
    for condition in [
        Condition::Unknown,
        Condition::Connected,
        Condition::Degraded,
        Condition::Unreachable,
        Condition::Unauthenticated,
        Condition::PermissionDenied,
        Condition::Duplicate,
    ] {
        let record = store::Condition::from(condition).into();
        assert_eq!(super::condition(record), Ok(condition));
    }
}

#[test]
fn a_request_that_was_rejected_is_corrupt() {
    let rejected = Outcome::Rejected(Rejection::NoSuchCluster);
    let record = store::Answered {
        request_id: request_id().as_ref().map(Into::into),
        revision: 8,
        outcome: Some((&rejected).into()),
    };
    assert!(Answered::try_from(record).is_err());
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
