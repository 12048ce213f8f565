use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    DOMAIN, ErrorReason, FIELD_BYTES_MAX, FIELDS_BYTES_MAX, Kind, REASON_PREFIX, TEXT_BYTES_MAX,
    code, cursor_from_lost_state, cut_off, invalid, invalid_cursor, invalid_fields, leader_silent,
    no_leader, not_formed, not_found, plain, propose_error, rejected, retry_delay, stopping,
    too_slow,
};
use crate::{
    domain::{
        command::Rejection,
        cursor::InvalidCursor,
        id::{Revision, StreamId},
    },
    raft::ProposeError,
};

fn reasons() -> impl Iterator<Item = ErrorReason> {
    (0..).map_while(|number| ErrorReason::try_from(number).ok())
}

fn name_of(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, DOMAIN);
    info.reason
}

#[test]
fn every_reason_has_the_code_that_its_comment_names() {
    let mut comment = String::new();
    let mut documented = 0;
    for line in include_str!("../../../proto/quorumwatch/v1/error.proto").lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("// ") {
            comment = text.to_owned();
            continue;
        }
        let Some((name, _)) = line.split_once(" = ") else {
            continue;
        };
        let Some(reason) = ErrorReason::from_str_name(name) else {
            continue;
        };
        if reason != ErrorReason::Unspecified {
            let said = comment.trim_end_matches('.').rsplit(' ').next().unwrap();
            let shown = format!("{:?}", code(reason)).to_uppercase();
            assert_eq!(said.replace('_', ""), shown, "{name}");
            documented += 1;
        }
    }
    assert_eq!(documented, reasons().count() - 1);
}

#[test]
fn every_reason_that_sends_a_client_elsewhere_says_when_to_come_back() {
    for reason in reasons() {
        let has_delay = retry_delay(reason).is_some();
        let is_unavailable = code(reason) == Code::Unavailable;
        assert!(has_delay || !is_unavailable, "{reason:?}");
        let status = plain(reason, "text");
        let details = status.get_error_details();
        assert_eq!(details.retry_info().is_some(), has_delay, "{reason:?}");
        let name = format!("{REASON_PREFIX}{}", name_of(&status));
        assert_eq!(ErrorReason::from_str_name(&name), Some(reason));
    }
}

#[test]
fn a_request_that_is_not_valid_names_each_field() {
    let status = invalid("page_size", "-1 is negative");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "page_size: -1 is negative");
    assert_eq!(name_of(&status), "INVALID_REQUEST");
    let fields = |status: &Status| status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(fields(&status)[0].field, "page_size");
    assert_eq!(fields(&status)[0].description, "-1 is negative");
    let many = vec![("é".repeat(5_000), "x".repeat(5_000)); 50];
    let many = invalid_fields(many);
    assert_eq!(
        fields(&many).len(),
        FIELDS_BYTES_MAX / (2 * FIELD_BYTES_MAX)
    );
    assert!(many.message().len() <= TEXT_BYTES_MAX, "fits in trailers");
    assert!(many.details().len() < 6 * 1024, "{}", many.details().len());
}

#[test]
fn cursors_are_refused_by_what_a_client_can_do_about_it() {
    let cases = [
        (InvalidCursor::Damaged("x"), "CURSOR_INVALID"),
        (InvalidCursor::NoWhole, "CURSOR_INVALID"),
        (InvalidCursor::TooLong, "CURSOR_INVALID"),
        (InvalidCursor::Foreign, "CURSOR_FOREIGN"),
        (InvalidCursor::Future(9), "CURSOR_TOO_NEW"),
        (InvalidCursor::Ahead(StreamId(1)), "REPLICA_BEHIND"),
    ];
    for (error, reason) in cases {
        assert_eq!(name_of(&invalid_cursor(&error)), reason, "{error:?}");
    }
    assert_eq!(name_of(&cursor_from_lost_state()), "CURSOR_FROM_LOST_STATE");
}

#[test]
fn commands_without_an_outcome_say_whether_they_may_have_taken_effect() {
    let unknown = propose_error(&ProposeError::Unknown("x".into()));
    assert_eq!(
        (unknown.code(), name_of(&unknown).as_str()),
        (Code::Unknown, "OUTCOME_UNKNOWN")
    );
    let nobody = propose_error(&ProposeError::NotLeader { leader: None });
    assert_eq!(
        (nobody.code(), name_of(&nobody).as_str()),
        (Code::Unavailable, "NO_QUORUM")
    );
    let large = propose_error(&ProposeError::TooLarge(9));
    assert_eq!(name_of(&large), "TOO_LARGE");
}

#[test]
fn rejections_are_errors_and_say_what_programs_need() {
    let rejection = Rejection::RevisionMismatch(Revision(7));
    let status = rejected(&rejection);
    assert_eq!(status.code(), Code::Aborted);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["etag"], "7");
    let full = rejected(&Rejection::Full("10,000 clusters"));
    let quota = full.get_details_quota_failure().unwrap();
    assert_eq!(quota.violations[0].subject, "10,000 clusters");
    let missing = not_found(Kind::Shard, "a/0");
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(name_of(&missing), "SHARD_NOT_FOUND");
}

#[test]
fn statuses_without_arguments_have_their_reasons() {
    let cases = [
        (not_formed(), "GROUP_NOT_FORMED"),
        (cut_off(), "NO_QUORUM"),
        (stopping(), "REPLICA_STOPPING"),
        (too_slow("x"), "SUBSCRIBER_TOO_SLOW"),
        (leader_silent("x"), "OUTCOME_UNKNOWN"),
        (no_leader("x"), "NO_QUORUM"),
    ];
    for (status, reason) in cases {
        assert_eq!(name_of(&status), reason);
    }
}
