use super::{AT, Owned, apply, outcome, owned, rejection, spec};
use crate::domain::{
    answered::Requests,
    cluster::ClusterSpec,
    command::{Command, Outcome, Rejection},
    id::{ClusterId, Revision, UnixMillis},
    request::RequestId,
    state::State,
};

fn create(spec: ClusterSpec, text: &str, content: &str) -> Command {
    Command::CreateCluster {
        spec,
        request_id: RequestId::new(text, content.as_bytes()),
        at: AT,
    }
}

fn update(id: ClusterId, spec: ClusterSpec, expected: Option<Revision>) -> Command {
    Command::UpdateCluster {
        id,
        expected,
        spec,
        request_id: RequestId::new("update", b"labels"),
        at: AT,
    }
}

/// The state does not change, but for the revision.
fn answers_as_before(state: &mut State, command: &Command, expected: &Outcome) {
    let mut before = state.clone();
    let applied = apply(state, command);
    assert_eq!(applied.outcome, *expected);
    assert!(applied.changes.is_empty());
    before.revision = state.revision;
    assert_eq!(*state, before);
}

#[test]
fn a_request_that_is_repeated_takes_effect_once() {
    let mut state = State::default();
    let first = create(spec("c", &[]), "one", "c");
    let created = outcome(&mut state, &first);
    assert!(matches!(created, Outcome::Cluster(_)));
    answers_as_before(&mut state, &first, &created);
    // Another request for the same is another request.
    let other = create(spec("c", &[]), "two", "c");
    let taken = Rejection::NameTaken("c".into());
    assert_eq!(rejection(&mut state, &other), taken);
}

#[test]
fn a_request_that_is_repeated_after_other_changes_answers_as_it_did() {
    let (mut state, Owned { id, .. }) = owned();
    let mut labelled = spec("c", &["v1/events"]);
    labelled.labels.insert("team".into(), "a".into());
    let first = state.clusters[&id].revision;
    let updated = outcome(&mut state, &update(id, labelled.clone(), Some(first)));
    assert_eq!(updated, Outcome::Cluster(id));
    // Sent again, the specification is computed from what others changed meanwhile.
    labelled.description = "changed by others".into();
    let again = update(id, labelled, Some(Revision(0)));
    answers_as_before(&mut state, &again, &updated);

    let delete = |at| Command::DeleteCluster {
        id,
        expected: None,
        request_id: RequestId::new("delete", b"c"),
        at: UnixMillis(at),
    };
    assert_eq!(outcome(&mut state, &delete(1)), Outcome::Done);
    answers_as_before(&mut state, &delete(2), &Outcome::Done);
}

#[test]
fn a_text_is_of_one_request() {
    let mut state = State::default();
    apply(&mut state, &create(spec("c", &[]), "one", "c"));
    let other = create(spec("d", &[]), "one", "d");
    let reused = Outcome::Rejected(Rejection::RequestIdReused);
    answers_as_before(&mut state, &other, &reused);
}

#[test]
fn what_was_rejected_may_take_effect_later() {
    let mut state = State::default();
    let created = outcome(&mut state, &create(spec("c", &[]), "one", "c"));
    let Outcome::Cluster(id) = created else {
        panic!("{created:?}");
    };
    let again = create(spec("c", &[]), "two", "c");
    let taken = Rejection::NameTaken("c".into());
    assert_eq!(rejection(&mut state, &again), taken);
    apply(&mut state, &super::delete(id));
    assert!(matches!(outcome(&mut state, &again), Outcome::Cluster(_)));
}

#[test]
fn the_oldest_request_is_forgotten() {
    let mut state = State::default();
    let (mut cluster, mut at) = (ClusterId(0), 0);
    for number in 0..=Requests::MAX {
        at = number;
        let made = create(spec("c", &[]), &number.to_string(), "c");
        let Outcome::Cluster(id) = outcome(&mut state, &made) else {
            panic!("{number}");
        };
        cluster = id;
        apply(&mut state, &super::delete(id));
    }
    assert_eq!(state.requests.iter().count(), Requests::MAX);
    let last = create(spec("c", &[]), &at.to_string(), "c");
    answers_as_before(&mut state, &last, &Outcome::Cluster(cluster));
    let first = create(spec("c", &[]), "0", "c");
    assert_ne!(outcome(&mut state, &first), Outcome::Cluster(cluster));
}

#[test]
fn without_a_text_nothing_is_remembered() {
    assert_eq!(RequestId::new("", b"anything"), None);
    let (state, _) = owned();
    assert_eq!(state.requests, Requests::default());
}
