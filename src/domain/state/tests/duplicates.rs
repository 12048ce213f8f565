use super::{Owned, apply, begin, delete, outcome, own, owned, rejection, spec, update};
use crate::domain::{
    cluster::ClusterSpec,
    command::{Command, Outcome, Rejection},
    state::State,
};

fn era(state: &State, of: &Owned, uid: &str) -> Command {
    let mut begin = begin(state, of.stream, of.epoch, 10, false);
    begin.cluster_uid = uid.into();
    Command::BeginEra(begin)
}

fn begins(state: &mut State, of: &Owned, uid: &str) -> bool {
    let command = era(state, of, uid);
    let mut before = state.clone();
    match outcome(state, &command) {
        Outcome::Era(_) => true,
        Outcome::Rejected(Rejection::DuplicateCluster { .. }) => {
            before.revision = state.revision;
            assert_eq!(*state, before);
            false
        }
        other => panic!("{other:?}"),
    }
}

fn naming(name: &str, duplicate_of: &str) -> ClusterSpec {
    let mut spec = spec(name, &["v1/events"]);
    spec.duplicate_of = duplicate_of.into();
    spec
}

/// "c", which has the identity "uid", and "d", which has none.
fn two() -> (State, Owned, Owned) {
    let (mut state, first) = owned();
    assert!(begins(&mut state, &first, "uid"));
    let second = own(&mut state, spec("d", &["v1/events"]));
    (state, first, second)
}

#[test]
fn who_has_an_identity_first_keeps_it() {
    let (mut state, first, second) = two();
    let command = era(&state, &second, "uid");
    let of = "c".to_owned();
    let refusal = rejection(&mut state, &command);
    assert_eq!(refusal, Rejection::DuplicateCluster { of });
    let text = refusal.to_string();
    assert!(
        text.contains("\"c\"") && text.contains("duplicate_of"),
        "{text}"
    );
    assert!(state.streams[&second.stream].era.is_none());
    assert!(begins(&mut state, &first, "uid"));
    assert!(begins(&mut state, &second, "other"));
}

#[test]
fn either_of_the_two_may_name_the_other() {
    let (mut state, _, second) = two();
    apply(&mut state, &update(second.id, naming("d", "c")));
    assert!(begins(&mut state, &second, "uid"));

    let (mut state, first, second) = two();
    apply(&mut state, &update(first.id, naming("c", "d")));
    assert!(begins(&mut state, &second, "uid"));

    let (mut state, _, second) = two();
    apply(&mut state, &update(second.id, naming("d", "elsewhere")));
    assert!(!begins(&mut state, &second, "uid"));
}

#[test]
fn a_third_one_needs_to_name_one_of_them() {
    let (mut state, _, second) = two();
    apply(&mut state, &update(second.id, naming("d", "c")));
    assert!(begins(&mut state, &second, "uid"));
    let third = own(&mut state, spec("e", &["v1/events"]));
    assert!(!begins(&mut state, &third, "uid"));
    apply(&mut state, &update(third.id, naming("e", "d")));
    assert!(begins(&mut state, &third, "uid"));
}

#[test]
fn what_was_accepted_stays_so() {
    let (mut state, _, second) = two();
    apply(&mut state, &update(second.id, naming("d", "c")));
    assert!(begins(&mut state, &second, "uid"));
    apply(&mut state, &update(second.id, naming("d", "")));
    assert!(begins(&mut state, &second, "uid"));
}

#[test]
fn a_deletion_makes_room() {
    let (mut state, first, second) = two();
    assert!(!begins(&mut state, &second, "uid"));
    apply(&mut state, &delete(first.id));
    assert!(state.duplicate(second.id, "uid").is_none());
    assert!(begins(&mut state, &second, "uid"));
}

#[test]
fn a_cluster_that_may_not_be_identified_is_no_duplicate() {
    let (mut state, first, second) = two();
    assert!(begins(&mut state, &second, ""));
    assert!(begins(&mut state, &first, ""));
    // Identified at last.
    assert!(!begins(&mut state, &second, "uid"));
}
