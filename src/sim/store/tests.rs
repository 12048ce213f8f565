use std::sync::Arc;

use super::{Duration, Error, Gone, Manifest, Now, Selection, Store, StoreOptions};
use crate::domain::event::Change;

const EVENTS: usize = 0;
const MAPS: usize = 1;

fn store() -> Store {
    Store::new(StoreOptions {
        cluster: "a".into(),
        seed: 7,
        resources: ["v1/events", "v1/configmaps"]
            .map(|text| text.parse().unwrap())
            .into(),
        event_ttl: Some(Duration::from_secs(100)),
        history: Duration::from_secs(300),
    })
}

fn at(seconds: u64) -> Now {
    Now {
        elapsed: Duration::from_secs(seconds),
        unix_us: seconds * 1_000_000,
    }
}

fn map(name: &str) -> Manifest {
    Manifest::new("default", name)
}

fn names(store: &Store, table: usize, rv: u64) -> Vec<String> {
    let page = store.page(table, rv, "", &Selection::default(), usize::MAX);
    let name = |object: &Arc<super::Object>| format!("{}@{}", object.identity.name, object.rv);
    page.items.iter().map(name).collect()
}

#[test]
fn one_revision_counts_all_resources() {
    let mut store = store();
    assert_eq!(store.create(MAPS, &map("b"), at(0)).unwrap(), 2);
    assert_eq!(store.create(EVENTS, &map("e"), at(0)).unwrap(), 3);
    assert_eq!(store.update(MAPS, &map("b"), at(1)).unwrap(), 4);
    assert!(matches!(
        store.create(MAPS, &map("b"), at(1)),
        Err(Error::Exists { .. })
    ));
    assert!(matches!(
        store.update(MAPS, &map("c"), at(1)),
        Err(Error::NotFound { .. })
    ));
    let cluster_wide = Manifest::new("", "x");
    assert!(matches!(
        store.create(MAPS, &cluster_wide, at(1)),
        Err(Error::Scope { .. })
    ));
    assert_eq!(store.revision(), 4);
}

#[test]
fn the_past_is_listed_as_it_was() {
    let mut store = store();
    for name in ["b", "d", "a"] {
        store.create(MAPS, &map(name), at(0)).unwrap();
    }
    store.update(MAPS, &map("d"), at(0)).unwrap();
    store.delete(MAPS, vec!["default/b".into()], at(0)).unwrap();
    store.create(MAPS, &map("c"), at(0)).unwrap();
    store.create(MAPS, &map("b"), at(0)).unwrap();
    assert_eq!(names(&store, MAPS, 8), ["a@4", "b@8", "c@7", "d@5"]);
    assert_eq!(names(&store, MAPS, 6), ["a@4", "d@5"]);
    assert_eq!(names(&store, MAPS, 4), ["a@4", "b@2", "d@3"]);
    assert_eq!(names(&store, MAPS, 1), [""; 0]);
}

#[test]
fn a_page_says_how_much_remains() {
    let mut store = store();
    for name in ["a", "b", "c", "d"] {
        store.create(MAPS, &map(name), at(0)).unwrap();
    }
    let all = Selection::default();
    let first = store.page(MAPS, 5, "", &all, 3);
    assert_eq!((first.items.len(), first.remaining), (3, Some(1)));
    let start = format!("{}\0", first.last.unwrap());
    let second = store.page(MAPS, 5, &start, &all, 3);
    assert_eq!((second.items.len(), second.last), (1, None));
    assert_eq!(&*second.items[0].identity.name, "d");
}

#[test]
fn a_lease_deletes_its_objects_at_one_revision_in_key_order() {
    let mut store = store();
    for name in ["x1", "x0", "x10"] {
        store.create(EVENTS, &map(name), at(0)).unwrap();
    }
    store.create(EVENTS, &map("later"), at(50)).unwrap();
    store.tick(at(105));
    let (changes, reached) = store.changes_after(EVENTS, 5, 1).unwrap();
    let deleted: Vec<_> = changes
        .iter()
        .map(|entry| (entry.change, entry.rv, &*entry.object.identity.name))
        .collect();
    let expected = ["x0", "x1", "x10"].map(|name| (Change::Deleted, 6, name));
    assert_eq!(deleted, expected);
    assert_eq!((reached, store.revision()), (6, 6));
    let ordinals: Vec<u32> = store.ledger().commits[4..]
        .iter()
        .map(|commit| commit.ordinal)
        .collect();
    assert_eq!(ordinals, [0, 1, 2]);
}

#[test]
fn history_ends_by_age_and_on_demand() {
    let mut store = store();
    store.create(MAPS, &map("a"), at(0)).unwrap();
    store.create(MAPS, &map("b"), at(200)).unwrap();
    store.tick(at(301));
    assert_eq!(store.compacted, 2);
    assert_eq!(store.check_listable(1), Err(Gone::Compacted));
    assert_eq!(store.changes_after(MAPS, 2, 9).unwrap().0.len(), 1);
    store.compact();
    assert!(store.changes_after(MAPS, 2, 9).is_err());
    assert!(store.changes_after(MAPS, 3, 9).unwrap().0.is_empty());
    assert_eq!(names(&store, MAPS, 3), ["a@2", "b@3"]);
}

#[test]
fn a_reset_of_the_watch_cache_leaves_history_and_events_alone() {
    let mut store = store();
    store.create(MAPS, &map("a"), at(0)).unwrap();
    store.create(EVENTS, &map("e"), at(0)).unwrap();
    store.reset_watch_cache();
    assert_eq!(
        store.check_watchable(MAPS, 2),
        Err(Gone::BeforeWatchCache(3))
    );
    assert_eq!(store.check_watchable(EVENTS, 2), Ok(()));
    assert_eq!(store.check_listable(2), Ok(()));
    assert_eq!(store.check_watchable(MAPS, 3), Ok(()));
}

#[test]
fn a_rewind_restores_and_is_reported_in_the_ledger() {
    let mut store = store();
    store.create(MAPS, &map("a"), at(0)).unwrap();
    store.update(MAPS, &map("a"), at(0)).unwrap();
    store.create(MAPS, &map("b"), at(0)).unwrap();
    store.delete(MAPS, vec!["default/a".into()], at(0)).unwrap();
    assert!(store.rewind(9, at(1)).is_err());
    store.rewind(3, at(1)).unwrap();
    assert_eq!(
        (store.revision(), names(&store, MAPS, 3)),
        (3, vec!["a@3".to_owned()])
    );
    // A watch that had reached revision 5 is silent until it is passed again.
    store.create(MAPS, &map("c"), at(1)).unwrap();
    let (changes, reached) = store.changes_after(MAPS, 5, 9).unwrap();
    assert_eq!((changes.len(), reached), (0, 5));
    let ledger = store.ledger();
    assert_eq!(ledger.histories[0].continues, Some(3));
    assert_eq!(ledger.commits.last().unwrap().history, 1);
}

#[test]
fn a_replaced_cluster_has_another_uid_and_nothing_in_it() {
    let mut store = store();
    store.create(MAPS, &map("a"), at(0)).unwrap();
    let before = store.uid().clone();
    store.replace();
    assert_ne!(*store.uid(), before);
    assert_eq!((store.revision(), names(&store, MAPS, 1).len()), (1, 0));
}
