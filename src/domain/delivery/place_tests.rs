use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Admission, Had, Item, Missing, Next, Part, Place, Reader};
use crate::domain::delivery::fixtures::{broken, item, position, repaired};

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

/// What the item means to a subscriber at `from`, and where it stands then.
fn admit(from: &str, item: &Item) -> (Admission, String) {
    let mut place = place(from);
    let admission = place.admit(Reader::Subscriber, item);
    (admission, place.to_string())
}

fn log(from: &str, item: &Item) -> (Admission, String) {
    let mut place = place(from);
    let admission = place.admit(Reader::Log, item);
    (admission, place.to_string())
}

#[test]
fn what_comes_after_the_place_is_next_and_what_does_not_was_had() {
    for (at, to, admission) in [
        ("1/5", "1/7", Next),
        ("1/5", "1/7/0", Next),
        ("1/7/0", "1/7/1", Next),
        ("1/7/1", "1/7", Next),
        ("1/7/1", "1/7/1", Had),
        ("1/7/1", "1/7/0", Had),
        ("1/7", "1/7/5", Had),
        ("1/7", "1/6", Had),
        ("2/3", "1/9", Had),
    ] {
        let stands = if admission == Next { to } else { at };
        let expected = (admission, stands.to_owned());
        assert_eq!(admit(at, &item(Part::Live, to)), expected, "{at} {to}");
    }
}

#[test]
fn an_event_of_a_version_is_not_next_where_one_before_it_is_missing() {
    for (at, to) in [("1/5", "1/7/1"), ("1/7/0", "1/7/2"), ("1/7/3", "1/8/1")] {
        let expected = (Missing, at.to_owned());
        assert_eq!(admit(at, &item(Part::Live, to)), expected, "{at} {to}");
    }
}

#[test]
fn net_changes_are_next_only_where_they_are_counted_from() {
    let gap = repaired("1/6", "2/9");
    assert_eq!(admit("1/6", &gap), (Next, "repair 1/6>2/9+0".into()));
    for elsewhere in ["1/5", "1/7", "1/6/0", "1/7/0"] {
        assert_eq!(admit(elsewhere, &gap), (Missing, elsewhere.into()));
    }
    assert_eq!(admit("2/9", &gap), (Had, "2/9".into()));
    assert_eq!(admit("2/12", &gap), (Had, "2/12".into()));
    let inside = "repair 1/6>2/9+2";
    assert_eq!(admit(inside, &gap).0, Had);
}

#[test]
fn net_changes_are_counted() {
    let inside = "repair 1/6>2/9+2";
    let change = |at| item(Part::Repair, at);
    assert_eq!(
        admit(inside, &change("2/9/2")),
        (Next, "repair 1/6>2/9+3".into())
    );
    assert_eq!(admit(inside, &change("2/9/1")), (Had, inside.into()));
    assert_eq!(admit(inside, &change("2/9/3")), (Missing, inside.into()));
    assert_eq!(admit(inside, &change("2/8/2")), (Missing, inside.into()));
    assert_eq!(
        admit("1/6", &change("2/9/0")),
        (Missing, "1/6".into()),
        "without its gap"
    );
    assert_eq!(admit("2/9", &change("2/9/4")), (Had, "2/9".into()));
}

#[test]
fn a_repair_ends_where_it_leads_and_not_before() {
    let inside = "repair 1/6>2/9+2";
    assert_eq!(
        admit(inside, &Item::At(position("2/8"))),
        (Had, inside.into())
    );
    assert_eq!(
        admit(inside, &Item::At(position("2/9"))),
        (Next, "2/9".into())
    );
    assert_eq!(
        admit(inside, &item(Part::Live, "2/12")),
        (Missing, inside.into())
    );
}

#[test]
fn after_a_gap_that_is_not_repaired_only_a_snapshot_is_next() {
    assert_eq!(
        admit("1/6", &broken(Some("1/6"), Some("2/9"))),
        (Next, "snapshot".into())
    );
    assert_eq!(
        admit("1/6", &broken(Some("1/6"), None)),
        (Next, "snapshot".into())
    );
    assert_eq!(
        admit("2/9", &broken(None, Some("2/9"))),
        (Had, "2/9".into()),
        "it stands behind the gap"
    );
    assert_eq!(
        admit("snapshot", &broken(None, Some("2/9"))),
        (Had, "snapshot".into()),
        "nothing is missing to it"
    );
    for item in [item(Part::Live, "2/12"), Item::At(position("2/12"))] {
        assert_eq!(admit("snapshot", &item), (Missing, "snapshot".into()));
    }
}

#[test]
fn a_snapshot_is_counted_and_goes_on_in_the_same_list_only() {
    let list = |at| Item::Snapshot(position(at));
    let inside = "snapshot 2/9+2";
    assert_eq!(
        admit("snapshot", &list("2/9")),
        (Next, "snapshot 2/9+0".into())
    );
    assert_eq!(admit(inside, &list("2/9")), (Had, inside.into()));
    assert_eq!(
        admit(inside, &list("2/12")),
        (Next, "snapshot 2/12+0".into()),
        "another list begins again"
    );
    assert_eq!(
        admit(inside, &item(Part::Snapshot, "2/4")),
        (Next, "snapshot 2/9+3".into())
    );
    assert_eq!(
        admit(inside, &Item::Synced(position("2/9"))),
        (Next, "2/9".into())
    );
    assert_eq!(
        admit("2/9", &item(Part::Snapshot, "2/4")),
        (Missing, "2/9".into()),
        "never without its beginning"
    );
    assert_eq!(
        admit("2/9", &Item::Synced(position("2/12"))),
        (Missing, "2/9".into())
    );
}

#[test]
fn a_hole_is_passed_by_logs_and_by_those_behind_it() {
    let hole = Item::Hole(position("1/9"));
    assert_eq!(admit("1/6", &hole), (Missing, "1/6".into()));
    assert_eq!(admit("1/9", &hole), (Had, "1/9".into()));
    assert_eq!(log("1/6", &hole), (Next, "1/9".into()));
    assert_eq!(log("1/12", &hole), (Had, "1/12".into()));
}

#[test]
fn a_log_that_is_inside_net_changes_passes_over_the_rest_of_them() {
    let inside = "repair 1/5>2/9+2";
    let end = Item::Hole(position("2/9"));
    assert_eq!(log(inside, &end), (Next, "2/9".into()));
    assert_eq!(log("2/9", &end), (Had, "2/9".into()));
    assert_eq!(admit(inside, &end), (Missing, inside.into()));
    assert_eq!(admit("2/9", &end), (Had, "2/9".into()));
    assert_eq!(
        log(inside, &Item::Hole(position("2/8"))),
        (Had, inside.into())
    );
}

#[test]
fn a_log_passes_every_gap_forward() {
    let gap = repaired("1/5", "2/9");
    assert_eq!(log("1/6", &gap), (Next, "repair 1/5>2/9+0".into()));
    assert_eq!(log("2/9", &gap), (Had, "2/9".into()));
    assert_eq!(
        log("1/6", &broken(Some("1/5"), Some("2/9"))),
        (Next, "2/9".into())
    );
}

fn any_place() -> impl Strategy<Value = Place> {
    let at = || (1..4_u64, 1..30_u64).prop_map(|(era, rv)| position(&format!("{era}/{rv}")));
    prop_oneof![
        Just(Place::BeforeFirst),
        Just(Place::SnapshotDue),
        (at(), any::<u32>()).prop_map(|(list, given)| Place::Snapshot { list, given }),
        (at(), at(), any::<u32>()).prop_map(|(from, to, given)| Place::Repair { from, to, given }),
        (1..4_u64, 1..30_u64, 0..4_u32)
            .prop_map(|(era, rv, n)| Place::At(position(&format!("{era}/{rv}/{n}")))),
        at().prop_map(Place::At),
    ]
}

fn any_item() -> impl Strategy<Value = Item> {
    let at = || (1..4_u64, 1..12_u64).prop_map(|(era, rv)| format!("{era}/{rv}"));
    let open = || (at(), 0..3_u32).prop_map(|(at, n)| format!("{at}/{n}"));
    prop_oneof![
        at().prop_map(|at| item(Part::Live, &at)),
        open().prop_map(|at| item(Part::Live, &at)),
        open().prop_map(|at| item(Part::Repair, &at)),
        at().prop_map(|at| item(Part::Snapshot, &at)),
        at().prop_map(|at| Item::At(position(&at))),
        (at(), at()).prop_map(|(from, to)| repaired(&from, &to)),
        (at(), at()).prop_map(|(from, to)| broken(Some(&from), Some(&to))),
        at().prop_map(|from| broken(Some(&from), None)),
        at().prop_map(|at| Item::Hole(position(&at))),
        at().prop_map(|at| Item::Snapshot(position(&at))),
        at().prop_map(|at| Item::Synced(position(&at))),
    ]
}

proptest! {
    #[test]
    fn a_place_reads_back_as_it_prints(place in any_place()) {
        prop_assert_eq!(place.to_string().parse::<Place>(), Ok(place));
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in any::<String>()) {
        let _ = text.parse::<Place>();
    }

    #[test]
    fn a_reader_never_goes_back_and_takes_no_event_twice(
        items in proptest::collection::vec(any_item(), 1..60),
        is_log in any::<bool>(),
    ) {
        let reader = if is_log { Reader::Log } else { Reader::Subscriber };
        let mut place = Place::At(position("1/1"));
        let mut highest = place.position();
        for item in &items {
            let before = place.clone();
            let admission = place.admit(reader, item);
            if admission != Next {
                prop_assert_eq!(&place, &before);
            }
            prop_assert!(place.clone().admit(reader, item) != Next || is_counted(item), "{item:?}");
            if let Some(now) = place.position() {
                // Only a snapshot may end before what was given ahead of it.
                if before.position().is_some() {
                    prop_assert!(Some(&now) >= highest.as_ref(), "{before} {item:?} {place}");
                }
                highest = Some(now);
            }
        }
    }
}

/// Objects of a snapshot are distinguished only by their count.
fn is_counted(item: &Item) -> bool {
    matches!(item, Item::Event(published) if published.part == Part::Snapshot)
}
