use std::collections::BTreeMap;

use super::{Audit, AuditReport, Change, Delivered, GapReason, Resource, SeenGap};
use crate::sim::{
    Ledger, Manifest,
    ledger::Commit,
    store::{Now, Store, StoreOptions},
};

/// A cluster, and a subscriber that is fed by hand.
struct World {
    store: Store,
    audit: Audit,
}

const MAPS: &str = "v1/configmaps";

fn maps() -> Resource {
    MAPS.parse().unwrap()
}

impl World {
    fn new() -> Self {
        let store = Store::new(StoreOptions {
            cluster: "a".into(),
            seed: 1,
            resources: vec![maps()],
            event_ttl: None,
            history: std::time::Duration::from_secs(300),
        });
        Self {
            store,
            audit: Audit::new(),
        }
    }

    fn create(&mut self, name: &str) -> u64 {
        let manifest = Manifest::new("default", name);
        self.store.create(0, &manifest, Now::default()).unwrap()
    }

    fn update(&mut self, name: &str) -> u64 {
        let manifest = Manifest::new("default", name);
        self.store.update(0, &manifest, Now::default()).unwrap()
    }

    fn delete(&mut self, name: &str) -> u64 {
        let key = format!("default/{name}").into();
        self.store.delete(0, vec![key], Now::default()).unwrap()
    }

    fn ledger(&self) -> Ledger {
        self.store.ledger()
    }

    fn event(&mut self, index: usize) {
        let commit = &self.ledger().commits[index];
        self.audit.deliver(&event_of(commit, commit.change));
    }

    fn snapshot(&mut self, index: usize) {
        let commit = &self.ledger().commits[index];
        let mut event = event_of(commit, Change::Snapshot);
        event.object_crc = commit.item_crc;
        self.audit.deliver(&event);
    }

    fn gap(&mut self, from: u64, to: u64, reason: GapReason, repaired: bool) {
        self.audit.gap(&SeenGap {
            cluster: "a".into(),
            resource: maps(),
            from: Some(from.into()),
            to: to.into(),
            reason,
            repaired,
        });
    }

    fn synced(&mut self, rv: u64) {
        self.audit.synced("a", &maps(), &rv.into());
    }

    fn report(&self) -> AuditReport {
        let report = self.audit.report(&[self.ledger()], &BTreeMap::new());
        let AuditReport {
            produced,
            delivered,
            lost,
            declared,
            coalesced,
            ..
        } = report;
        assert_eq!(produced, delivered + lost + declared + coalesced);
        report
    }
}

fn event_of(commit: &Commit, change: Change) -> Delivered {
    Delivered {
        cluster: "a".into(),
        resource: maps(),
        change,
        rv: commit.rv.into(),
        namespace: commit.namespace.to_string(),
        name: commit.name.to_string(),
        uid: commit.uid.to_string(),
        object_crc: commit.object_crc,
    }
}

#[test]
fn everything_once_and_in_order_is_clean() {
    let mut world = World::new();
    world.create("x");
    world.update("x");
    world.delete("x");
    (0..3).for_each(|index| world.event(index));
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.produced, report.delivered), (3, 3));
}

#[test]
fn loss_repetition_disorder_and_corruption_are_distinguished() {
    let mut world = World::new();
    for name in ["a", "b", "c", "d", "e"] {
        world.create(name);
    }
    for index in [0, 3, 2, 3] {
        world.event(index);
    }
    let last = &world.ledger().commits[4];
    let mut altered = event_of(last, Change::Added);
    altered.object_crc ^= 1;
    world.audit.deliver(&altered);
    altered.name = "other".into();
    world.audit.deliver(&altered);
    let report = world.report();
    assert_eq!((report.lost, report.duplicated), (1, 1));
    assert_eq!((report.out_of_order, report.corrupted), (1, 2));
    assert_eq!(report.first_problems.len(), 5, "{report:?}");
}

#[test]
fn the_start_is_the_first_event_or_where_it_is_said_to_be() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.create(name);
    }
    world.event(1);
    world.event(2);
    assert_eq!(world.report().produced, 2);
    let from = BTreeMap::from([("a".to_owned(), 1.into())]);
    let report = world.audit.report(&[world.ledger()], &from);
    assert_eq!((report.produced, report.lost), (3, 1));
    let nothing = Audit::new().report(&[world.ledger()], &from);
    assert_eq!(nothing.lost, 3);
}

#[test]
fn a_gap_with_a_snapshot_declares_what_is_missing() {
    let mut world = World::new();
    world.create("a");
    world.create("b");
    world.delete("a");
    let to = world.update("b");
    world.create("c");
    world.event(0);
    world.gap(2, to, GapReason::HistoryExpired, false);
    world.snapshot(3);
    world.synced(to);
    world.event(4);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        (report.delivered, report.declared, report.snapshot),
        (2, 3, 1)
    );
}

#[test]
fn what_was_lost_before_a_gap_stays_lost() {
    let mut world = World::new();
    world.create("a");
    let from = world.create("b");
    let to = world.create("c");
    world.event(0);
    world.gap(from, to, GapReason::HistoryExpired, false);
    (0..3).for_each(|index| world.snapshot(index));
    world.synced(to);
    let report = world.report();
    assert_eq!((report.lost, report.declared), (1, 1), "{report:?}");
}

#[test]
fn a_snapshot_that_begins_again_is_judged_by_its_last_attempt() {
    let mut world = World::new();
    world.create("a");
    world.create("b");
    world.snapshot(0);
    let to = world.delete("a");
    let silent = world.audit.clone();
    world.audit.restarted("a", &maps());
    world.snapshot(1);
    world.synced(to);
    assert!(world.report().is_clean());

    world.audit = silent;
    world.snapshot(1);
    world.synced(to);
    assert_eq!(world.report().corrupted, 1);
}

#[test]
fn an_incomplete_snapshot_is_a_problem() {
    let mut world = World::new();
    world.create("a");
    let to = world.create("b");
    world.snapshot(0);
    world.synced(to);
    let report = world.report();
    assert_eq!((report.missing_in_snapshot, report.produced), (1, 0));
    assert!(!report.is_clean());
}

#[test]
fn a_repaired_gap_must_agree_in_the_end() {
    let mut world = World::new();
    world.create("kept");
    let from = world.create("gone");
    world.update("kept");
    world.update("kept");
    world.create("brief");
    world.delete("brief");
    let to = world.delete("gone");
    world.create("after");
    world.event(0);
    world.event(1);
    world.gap(from, to - 1, GapReason::WatchCacheReset, true);
    let mut deletion = event_of(&world.ledger().commits[1], Change::Deleted);
    deletion.object_crc = 0;
    let without_deletion = world.audit.clone();
    world.audit.deliver(&deletion);
    world.event(3);
    world.event(7);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.coalesced), (5, 3));

    world.audit = without_deletion;
    world.event(3);
    world.event(7);
    assert_eq!(world.report().lost, 1);
}

#[test]
fn what_a_gap_has_given_comes_no_second_time() {
    let mut world = World::new();
    world.create("a");
    let from = world.create("b");
    world.update("a");
    let to = world.update("a");
    (0..2).for_each(|index| world.event(index));
    let before = world.audit.clone();
    world.gap(from, to - 1, GapReason::WatchCacheReset, true);
    world.event(3);
    world.create("c");
    world.event(4);
    world.event(2);
    let report = world.report();
    assert_eq!((report.duplicated, report.coalesced), (1, 1), "{report:?}");

    world.audit = before;
    world.gap(from, from, GapReason::HistoryExpired, false);
    world.snapshot(1);
    world.snapshot(3);
    world.synced(to);
    world.event(3);
    world.event(4);
    let report = world.report();
    assert_eq!((report.duplicated, report.declared), (1, 2), "{report:?}");
}

#[test]
fn changes_that_were_said_to_be_complete_are_declared_by_the_gap_that_says_otherwise() {
    let mut world = World::new();
    world.create("a");
    world.create("b");
    let to = world.create("c");
    world.event(0);
    world.gap(to, to, GapReason::UpstreamInconsistent, false);
    (0..3).for_each(|index| world.snapshot(index));
    world.synced(to);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.declared), (1, 2));
}

#[test]
fn a_rewind_is_followed_through_its_gap() {
    let mut world = World::new();
    world.create("a");
    let restored = world.update("a");
    world.create("b");
    (0..3).for_each(|index| world.event(index));
    world.store.rewind(restored, Now::default()).unwrap();
    let to = world.create("c");
    world.create("d");
    let silent = world.audit.clone();
    world.gap(4, to, GapReason::HistoryReset, false);
    world.snapshot(1);
    world.snapshot(3);
    world.synced(to);
    world.event(4);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.declared), (4, 1));

    world.audit = silent;
    world.event(4);
    let report = world.report();
    assert_eq!(report.lost, 1, "{report:?}");
}

#[test]
fn a_rewind_may_be_reported_as_history_that_is_gone() {
    let mut world = World::new();
    world.create("a");
    let restored = world.update("a");
    world.event(0);
    world.event(1);
    world.create("lost");
    world.store.rewind(restored, Now::default()).unwrap();
    let to = world.create("b");
    world.create("c");
    world.gap(restored, restored, GapReason::HistoryExpired, false);
    world.snapshot(1);
    world.snapshot(3);
    world.synced(to);
    world.event(4);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.declared), (3, 2));
}

#[test]
fn a_snapshot_that_fits_two_pasts_is_of_the_one_that_goes_on() {
    let mut world = World::new();
    world.create("a");
    world.event(0);
    world.store.replace();
    let brief = world.create("b");
    world.store.replace();
    let live = world.audit.clone();
    world.create("c");
    world.gap(2, 1, GapReason::ClusterReplaced, false);
    world.synced(1);
    world.event(2);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.declared), (2, 1));

    world.audit = live;
    world.gap(2, 1, GapReason::ClusterReplaced, false);
    world.synced(1);
    world.event(1);
    world.gap(brief, 1, GapReason::ClusterReplaced, false);
    world.synced(1);
    world.event(2);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.declared), (3, 0));
}

#[test]
fn a_replaced_cluster_begins_from_nothing() {
    let mut world = World::new();
    world.create("a");
    world.event(0);
    world.store.replace();
    let to = world.create("b");
    world.gap(2, to, GapReason::ClusterReplaced, false);
    world.snapshot(1);
    world.synced(to);
    let report = world.report();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.delivered, report.declared), (1, 1));
}
