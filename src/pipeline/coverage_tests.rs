use std::collections::BTreeMap;

use super::{
    Coverage, Cursor, Filters, Mode, Place, Position, Start, State, Step, Stream, StreamId,
};
use crate::{
    domain::{
        cluster::{Cluster, ClusterSpec},
        command::{BeginEra, Command},
        event::GapReason,
        fixtures,
        id::{Era, ReplicaId, Revision, ShardId, UnixMillis},
    },
    pipeline::filter::{Filter, LabelSelector, Values},
};

const AT: UnixMillis = UnixMillis(0);
const OWNER: ReplicaId = ReplicaId(1);

/// A state, and commands that change it.
struct World {
    state: State,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            state: State::default(),
        };
        world.apply(&fixtures::register(OWNER, "a"));
        world
    }

    fn apply(&mut self, command: &Command) {
        let next = Revision(self.state.revision.0 + 1);
        self.state.apply(next, command);
    }

    /// A cluster whose only stream is watched from version 10 on.
    fn cluster(&mut self, name: &str, labels: &[(&str, &str)]) -> StreamId {
        self.apply(&fixtures::create(spec(name, labels, "v1/events")));
        self.watch(name)
    }

    fn watch(&mut self, name: &str) -> StreamId {
        let cluster = self.named(name).id;
        let shard = ShardId { cluster, slice: 0 };
        self.apply(&fixtures::assign(&self.state, shard, Some(OWNER)));
        let stream = self.state.streams_of(shard).last().unwrap().clone();
        self.era(&stream, 10);
        stream.id
    }

    fn era(&mut self, stream: &Stream, to: u64) {
        let epoch = self.state.assignments[&stream.shard].epoch();
        let run = self.state.run_revision(stream.shard).unwrap();
        self.apply(&Command::BeginEra(BeginEra {
            stream: stream.id,
            epoch,
            run,
            expected_era: stream.era.as_ref().map(|start| start.era),
            from: None,
            reason: GapReason::StreamCreated,
            to: to.into(),
            repaired: false,
            cluster_uid: format!("uid of {}", stream.shard),
            at: AT,
        }));
    }

    fn update(&mut self, spec: ClusterSpec) {
        let id = self.named(&spec.name).id;
        self.apply(&Command::UpdateCluster {
            id,
            expected: None,
            spec,
            request_id: None,
            at: AT,
        });
    }

    fn delete(&mut self, name: &str) {
        let id = self.named(name).id;
        self.apply(&Command::DeleteCluster {
            id,
            expected: None,
            request_id: None,
            at: AT,
        });
    }

    fn named(&self, name: &str) -> &Cluster {
        self.state.cluster_named(name).unwrap()
    }

    fn begin(&self, start: &Start, filters: Filters) -> (Coverage, Vec<Step>) {
        let digest = filters.digest();
        Coverage::begin(start, filters, digest, &self.state, &now)
    }

    /// What the present state changes, where each stream stands at version 15.
    fn fit(&self, coverage: &mut Coverage) -> Vec<String> {
        let place_of = |id| Some(Place::At(at(&self.state, id, 15)));
        texts(&coverage.fit(&self.state, &now, &place_of))
    }
}

fn now(stream: &Stream) -> Option<Position> {
    stream.checkpoint.clone()
}

fn at(state: &State, id: StreamId, rv: u64) -> Position {
    let era = state
        .streams
        .get(&id)
        .and_then(|stream| stream.era.as_ref());
    Position::closed(era.map_or(Era(1), |start| start.era), rv.into())
}

fn spec(name: &str, labels: &[(&str, &str)], resource: &str) -> ClusterSpec {
    ClusterSpec {
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..fixtures::spec(name, &[resource])
    }
}

fn prod() -> Filters {
    Filters::new(vec![Filter {
        cluster_labels: LabelSelector::parse("env=prod").unwrap(),
        ..Filter::default()
    }])
}

fn named(name: &str) -> Filters {
    Filters::new(vec![Filter {
        names: [name.to_owned()].into_iter().collect::<Values>(),
        ..Filter::default()
    }])
}

fn texts(steps: &[Step]) -> Vec<String> {
    steps.iter().map(text).collect()
}

/// "Added Created 12", with the version it begins at, or the mark.
fn text(step: &Step) -> String {
    match step {
        Step::Add(added) => {
            let from = match &added.from {
                Place::SnapshotDue => "snapshot".to_owned(),
                Place::BeforeFirst => "first".to_owned(),
                Place::At(from) => from.rv.to_string(),
                other => other.to_string(),
            };
            assert_eq!(added.change.snapshot_follows, from == "snapshot");
            format!("Added {:?} {from}", added.change.reason)
        }
        Step::Remove(change) | Step::Change(change) => {
            let at = change.position.as_ref();
            let at = at.map_or_else(String::new, |at| format!(" {}", at.rv));
            format!("{:?} {:?}{at}", change.kind, change.reason)
        }
        Step::Refilter(..) => "Refilter".into(),
        Step::Void(_, position) => {
            let at = position.as_ref();
            at.map_or_else(|| "Void".to_owned(), |at| format!("Void {}", at.rv))
        }
    }
}

fn cursor_at(coverage: &Coverage, state: &State, rv: u64) -> Cursor {
    let ids = coverage.covered.keys();
    let places = ids.map(|id| (*id, Place::At(at(state, *id, rv))));
    coverage.cursor(places.collect())
}

#[test]
fn a_subscription_begins_with_what_the_filter_matches() {
    let mut world = World::new();
    world.cluster("prod", &[("env", "prod")]);
    world.cluster("test", &[("env", "test")]);
    let (_, steps) = world.begin(&Start::Now, prod());
    assert_eq!(texts(&steps), ["Added Subscribed 10"]);
    let (_, steps) = world.begin(&Start::Snapshot, prod());
    assert_eq!(texts(&steps), ["Added Subscribed snapshot"]);
}

#[test]
fn a_stream_that_nobody_has_watched_yet_begins_with_its_first_event() {
    let mut world = World::new();
    let (mut coverage, _) = world.begin(&Start::Now, Filters::default());
    world.apply(&fixtures::create(spec("new", &[], "v1/events")));
    assert_eq!(world.fit(&mut coverage), ["Added Created first"]);
    let (_, steps) = world.begin(&Start::Now, Filters::default());
    assert_eq!(texts(&steps), ["Added Subscribed first"]);
    world.watch("new");
    assert_eq!(
        world.fit(&mut coverage),
        ["Changed ClusterIdentified 15"],
        "its cluster has an identity now"
    );
    assert_eq!(world.fit(&mut coverage), [""; 0]);
}

#[test]
fn labels_that_cease_to_match_and_match_again_continue_where_they_were() {
    let mut world = World::new();
    world.cluster("c", &[("env", "prod")]);
    let (mut coverage, _) = world.begin(&Start::Now, prod());
    world.update(spec("c", &[("env", "test")], "v1/events"));
    assert_eq!(world.fit(&mut coverage), ["Removed Unmatched 15"]);
    let left = cursor_at(&coverage, &world.state, 15);
    world.update(spec("c", &[("env", "prod")], "v1/events"));
    assert_eq!(world.fit(&mut coverage), ["Added Matched 15"]);
    // The same for who was away in between.
    let (_, steps) = world.begin(&Start::Cursor(left), prod());
    assert_eq!(texts(&steps), ["Added Matched 15"]);
}

#[test]
fn a_copy_gets_a_snapshot_of_what_matches_again() {
    let mut world = World::new();
    world.cluster("c", &[("env", "prod")]);
    let (mut coverage, _) = world.begin(&Start::Snapshot, prod());
    world.update(spec("c", &[("env", "test")], "v1/events"));
    assert_eq!(world.fit(&mut coverage), ["Removed Unmatched 15"]);
    let left = cursor_at(&coverage, &world.state, 15);
    world.update(spec("c", &[("env", "prod")], "v1/events"));
    assert_eq!(world.fit(&mut coverage), ["Added Matched snapshot"]);
    let (_, steps) = world.begin(&Start::Cursor(left), prod());
    assert_eq!(texts(&steps), ["Added Matched snapshot"]);
}

#[test]
fn a_cluster_deleted_and_created_again_is_another_one() {
    let mut world = World::new();
    let old = world.cluster("c", &[]);
    let (mut coverage, _) = world.begin(&Start::Now, Filters::default());
    let cursor = cursor_at(&coverage, &world.state, 15);
    world.delete("c");
    let new = world.cluster("c", &[]);
    assert_ne!(old, new);
    assert_eq!(
        world.fit(&mut coverage),
        ["Removed ClusterDeleted 15", "Added Created 10"]
    );
    let (_, steps) = world.begin(&Start::Cursor(cursor), Filters::default());
    assert_eq!(
        texts(&steps),
        ["Removed RemovedSinceCursor 15", "Added Created 10"]
    );
}

#[test]
fn another_resource_is_another_stream() {
    let mut world = World::new();
    world.cluster("c", &[]);
    let (mut coverage, _) = world.begin(&Start::Now, Filters::default());
    world.update(spec("c", &[], "v1/configmaps"));
    assert_eq!(
        world.fit(&mut coverage),
        ["Removed ResourceRemoved 15", "Added Created first"]
    );
}

#[test]
fn a_stream_created_while_away_is_sent_from_its_beginning() {
    let mut world = World::new();
    world.cluster("c", &[]);
    let (coverage, _) = world.begin(&Start::Now, Filters::default());
    let cursor = cursor_at(&coverage, &world.state, 15);
    let new = world.cluster("d", &[]);
    let stream = world.state.streams[&new].clone();
    world.era(&stream, 90);
    let (_, steps) = world.begin(&Start::Cursor(cursor), Filters::default());
    assert_eq!(
        texts(&steps),
        ["Added Continued 15", "Added Created 10"],
        "its first era, and not the present one"
    );
}

#[test]
fn another_filter_at_resume_is_said() {
    let mut world = World::new();
    world.cluster("c", &[("env", "prod")]);
    world.cluster("d", &[]);
    let (coverage, _) = world.begin(&Start::Now, prod());
    let cursor = cursor_at(&coverage, &world.state, 15);
    let (_, steps) = world.begin(&Start::Cursor(cursor.clone()), named("x"));
    assert_eq!(
        texts(&steps),
        [
            "Added Continued 15",
            "Changed FilterChanged 15",
            "Added Matched 10"
        ]
    );
    let copy = Cursor {
        mode: Mode::Copy,
        ..cursor.clone()
    };
    let (_, steps) = world.begin(&Start::Cursor(copy), named("x"));
    assert_eq!(
        texts(&steps),
        ["Added Continued 15", "Void 15", "Added Matched snapshot"]
    );
    let none = Filters::new(vec![Filter {
        clusters: ["other".to_owned()].into_iter().collect::<Values>(),
        ..Filter::default()
    }]);
    let (_, steps) = world.begin(&Start::Cursor(cursor), none);
    assert_eq!(texts(&steps), ["Removed FilterChanged 15"]);
}

#[test]
fn a_pause_is_said_and_its_end() {
    let mut world = World::new();
    world.cluster("c", &[]);
    let (mut coverage, _) = world.begin(&Start::Now, Filters::default());
    let paused = ClusterSpec {
        paused: true,
        ..spec("c", &[], "v1/events")
    };
    world.update(paused);
    assert_eq!(world.fit(&mut coverage), ["Paused ClusterPaused 15"]);
    let (_, steps) = world.begin(&Start::Now, Filters::default());
    let Step::Add(added) = &steps[0] else {
        panic!("{steps:?}");
    };
    assert!(added.change.paused);
    world.update(spec("c", &[], "v1/events"));
    assert_eq!(world.fit(&mut coverage), ["Resumed ClusterPaused 15"]);
}

#[test]
fn a_cursor_forgets_what_no_longer_exists() {
    let mut world = World::new();
    world.cluster("c", &[("env", "prod")]);
    let (mut coverage, _) = world.begin(&Start::Now, prod());
    world.update(spec("c", &[("env", "test")], "v1/events"));
    world.fit(&mut coverage);
    assert_eq!(coverage.cursor(BTreeMap::new()).left.len(), 1);
    world.delete("c");
    world.fit(&mut coverage);
    assert_eq!(coverage.cursor(BTreeMap::new()).left.len(), 0);
}

#[test]
fn labels_that_select_others_of_the_filters_make_a_copy_void_also_while_away() {
    let mut world = World::new();
    world.cluster("c", &[("env", "prod")]);
    let part = |env: &str, namespace: &str| Filter {
        cluster_labels: LabelSelector::parse(env).unwrap(),
        namespaces: [namespace.to_owned()].into_iter().collect::<Values>(),
        ..Filter::default()
    };
    let filters = || Filters::new(vec![part("env=prod", "a"), part("env=test", "b")]);
    let (mut live, _) = world.begin(&Start::Snapshot, filters());
    let copy = cursor_at(&live, &world.state, 15);
    let log = Cursor {
        mode: Mode::Changes,
        ..copy.clone()
    };
    let (_, steps) = world.begin(&Start::Cursor(copy.clone()), filters());
    assert_eq!(texts(&steps), ["Added Continued 15"], "nothing has changed");
    world.update(spec("c", &[("env", "test")], "v1/events"));
    assert_eq!(world.fit(&mut live), ["Refilter", "Void 15"]);
    let (_, steps) = world.begin(&Start::Cursor(copy), filters());
    assert_eq!(texts(&steps), ["Added Continued 15", "Void 15"]);
    let (_, steps) = world.begin(&Start::Cursor(log), filters());
    assert_eq!(texts(&steps), ["Added Continued 15"]);
}
