use super::{
    Owned, advance, apply, begin, begin_era, closed, outcome, owned, register, rejection, spec,
    update,
};
use crate::domain::{
    cluster::Source,
    command::{BeginEra, Command, Outcome, Rejection},
    id::{Epoch, Era, Revision},
    position::{Ordinal, Position, ResourceVersion},
    stream::ResumePoint,
};

#[test]
fn an_era_without_repair_begins_at_its_list() {
    let (
        mut state,
        Owned {
            id, stream, epoch, ..
        },
    ) = owned();
    assert_eq!(state.streams[&stream].resume_point(), ResumePoint::Fresh);
    let era = begin_era(&mut state, stream, epoch, 10, false);
    assert_eq!(
        state.streams[&stream].resume_point(),
        ResumePoint::At(closed(era, 10))
    );
    assert_eq!(state.clusters[&id].uid.as_deref(), Some("uid"));
}

#[test]
fn a_stream_begins_with_its_first_era_whatever_follows() {
    let (mut state, Owned { stream, epoch, .. }) = owned();
    assert_eq!(state.streams[&stream].first, None);
    let first = begin_era(&mut state, stream, epoch, 10, false);
    let begun = Some(closed(first, 10));
    assert_eq!(state.streams[&stream].first, begun);
    begin_era(&mut state, stream, epoch, 20, false);
    begin_era(&mut state, stream, epoch, 30, true);
    assert_eq!(state.streams[&stream].first, begun);
}

#[test]
fn a_repair_is_resumed_until_all_of_it_is_published() {
    let (mut state, Owned { stream, epoch, .. }) = owned();
    let first = begin_era(&mut state, stream, epoch, 10, false);
    let second = begin_era(&mut state, stream, epoch, 20, true);
    let repair = ResumePoint::Repair {
        era: second,
        from: ResourceVersion::from(10),
        to: ResourceVersion::from(20),
    };
    assert_eq!(state.streams[&stream].resume_point(), repair);

    // Neither the era before nor half a repair is progress.
    for position in [closed(first, 15), closed(second, 19)] {
        apply(&mut state, &advance(stream, epoch, position));
        assert_eq!(state.streams[&stream].resume_point(), repair);
    }
    apply(&mut state, &advance(stream, epoch, closed(second, 20)));
    assert_eq!(
        state.streams[&stream].resume_point(),
        ResumePoint::At(closed(second, 20))
    );
}

#[test]
fn a_repair_begins_where_its_owner_says_that_everything_is_published() {
    let (mut state, Owned { stream, epoch, .. }) = owned();
    let first = begin_era(&mut state, stream, epoch, 10, false);
    let mut repair = begin(&state, stream, epoch, 20, true);
    repair.from = Some(closed(first, 15));
    assert!(matches!(
        outcome(&mut state, &Command::BeginEra(repair)),
        Outcome::Era(_)
    ));
    let start = state.streams[&stream].era.clone().unwrap();
    assert_eq!(start.from, Some(closed(first, 15)));
    assert_eq!(state.streams[&stream].checkpoint, start.from);

    // Inside of a repair nothing is published beyond the last era.
    let mut again = begin(&state, stream, epoch, 30, true);
    again.from = Some(closed(first, 17));
    apply(&mut state, &Command::BeginEra(again));
    let start = state.streams[&stream].era.clone().unwrap();
    assert_eq!(start.from, Some(closed(first, 15)));
}

#[test]
fn without_a_checkpoint_there_is_nothing_to_repair() {
    let (mut state, Owned { stream, epoch, .. }) = owned();
    begin_era(&mut state, stream, epoch, 10, true);
    let start = state.streams[&stream].era.clone().unwrap();
    assert!(!start.repaired);
    assert_eq!(
        state.streams[&stream].resume_point(),
        ResumePoint::At(closed(start.era, 10))
    );
}

#[test]
fn checkpoints_are_closed_of_the_current_epoch_and_only_move_forward() {
    let (mut state, Owned { stream, epoch, .. }) = owned();
    let era = begin_era(&mut state, stream, epoch, 10, false);
    apply(&mut state, &advance(stream, epoch, closed(era, 20)));
    let kept = Some(closed(era, 20));
    let open = Position::at(era, ResourceVersion::from(30), Ordinal::FIRST);
    for (epoch, position) in [
        (epoch, closed(era, 19)),
        (epoch, open),
        (epoch, closed(Era(era.0 + 1), 30)),
        (Epoch(epoch.0 - 1), closed(era, 30)),
        (Epoch(epoch.0 + 1), closed(era, 30)),
    ] {
        apply(&mut state, &advance(stream, epoch, position));
        assert_eq!(state.streams[&stream].checkpoint, kept);
    }
}

#[test]
fn a_proposal_that_is_repeated_begins_one_era() {
    let (mut state, Owned { stream, epoch, .. }) = owned();
    let proposal = begin(&state, stream, epoch, 10, false);
    let Outcome::Era(era) = outcome(&mut state, &Command::BeginEra(proposal.clone())) else {
        panic!("no era");
    };
    let stale = Rejection::StaleEra(Some(era));
    assert_eq!(rejection(&mut state, &Command::BeginEra(proposal)), stale);
    assert_eq!(state.streams[&stream].era.as_ref().unwrap().era, era);
}

#[test]
fn a_run_that_is_behind_the_checkpoint_begins_no_era() {
    let (mut state, Owned { stream, epoch, .. }) = owned();
    let era = begin_era(&mut state, stream, epoch, 10, false);
    let earlier = begin(&state, stream, epoch, 40, true);
    apply(&mut state, &advance(stream, epoch, closed(era, 30)));
    for from in [earlier.from.clone(), None] {
        let from = BeginEra {
            from,
            ..earlier.clone()
        };
        let refusal = rejection(&mut state, &Command::BeginEra(from));
        assert_eq!(refusal, Rejection::StaleCheckpoint);
    }
    let from = BeginEra {
        from: Some(closed(era, 30)),
        ..earlier
    };
    let next = outcome(&mut state, &Command::BeginEra(from));
    assert!(matches!(next, Outcome::Era(_)), "{next:?}");
    // While the repair is being published nothing of the new era is agreed on.
    let again = BeginEra {
        from: None,
        ..begin(&state, stream, epoch, 50, true)
    };
    let again = outcome(&mut state, &Command::BeginEra(again));
    assert!(matches!(again, Outcome::Era(_)), "{again:?}");
}

#[test]
fn a_run_that_was_replaced_begins_no_era() {
    let (
        mut state,
        Owned {
            id, stream, epoch, ..
        },
    ) = owned();
    let before = begin(&state, stream, epoch, 10, false);
    let mut elsewhere = spec("c", &["v1/events"]);
    elsewhere.source = Source::Configured { name: "eu".into() };
    apply(&mut state, &update(id, elsewhere));
    let updated = state.revision;
    let refusal = rejection(&mut state, &Command::BeginEra(before));
    assert_eq!(refusal, Rejection::StaleRun(updated));

    // The same epoch, but another process.
    let before = begin(&state, stream, epoch, 10, false);
    apply(&mut state, &register(1, "a"));
    let restarted = Revision(state.revision.0);
    let refusal = rejection(&mut state, &Command::BeginEra(before));
    assert_eq!(refusal, Rejection::StaleRun(restarted));
    begin_era(&mut state, stream, epoch, 10, false);
}
