//! What publishing a new state costs while a reader holds the previous one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use quorumwatch::domain::{
    assignment::{Assignment, MoveReason},
    cluster::{Cluster, ClusterSpec, Health, Resource, Source, StreamSelector},
    command::{CheckpointEntry, Command},
    event::GapReason,
    id::{ClusterId, Epoch, Era, ReplicaId, Revision, ShardId, StreamId, UnixMillis},
    position::Position,
    state::State,
    stream::{EraStart, Stream},
};

use crate::report::Report;

const AT: UnixMillis = UnixMillis(1_700_000_000_000);
const STREAMS_PER_CLUSTER: u64 = 2;
const ROUNDS: u32 = 40;

/// The state of a group that watches so many clusters, two streams of each.
fn state(clusters: u64) -> State {
    let mut state = State {
        last_id: clusters * (STREAMS_PER_CLUSTER + 1),
        ..State::default()
    };
    for id in 1..=clusters {
        let cluster = cluster(ClusterId(id));
        let shard = ShardId {
            cluster: cluster.id,
            slice: 0,
        };
        let owner = Some(ReplicaId(1 + id % 3));
        let assignment = Assignment::restore(shard, owner, Epoch(1), MoveReason::Placed, AT);
        state.clusters.insert(cluster.id, cluster);
        state.assignments.insert(shard, assignment);
    }
    for index in 0..clusters * STREAMS_PER_CLUSTER {
        let cluster = ClusterId(1 + index / STREAMS_PER_CLUSTER);
        let stream = stream(StreamId(clusters + 1 + index), cluster);
        state.streams.insert(stream.id, stream);
    }
    state
}

fn cluster(id: ClusterId) -> Cluster {
    let spec = ClusterSpec {
        name: format!("cluster-{id}"),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        source: Source::InCluster,
        resources: Vec::new(),
        paused: false,
        description: String::new(),
        duplicate_of: String::new(),
    };
    Cluster {
        id,
        spec: Arc::new(spec),
        uid: Some(format!("7d9e2f4c-0000-0000-0000-{:012}", id.0)),
        created: AT,
        updated: AT,
        revision: Revision(1),
        health_epoch: Epoch(0),
        watch_revision: Revision(1),
        health: Health::unknown(AT),
    }
}

fn stream(id: StreamId, cluster: ClusterId) -> Stream {
    let beginning = Position::closed(Era(1), 1_000u64.into());
    Stream {
        id,
        shard: ShardId { cluster, slice: 0 },
        selector: StreamSelector::all(Resource::events()),
        era: Some(EraStart {
            era: Era(1),
            reason: GapReason::StreamCreated,
            from: None,
            to: 1_000u64.into(),
            repaired: false,
            unbroken_since: Era(1),
            broken_by: GapReason::StreamCreated,
            at: AT,
        }),
        first: Some(beginning.clone()),
        checkpoint: Some(beginning),
        cluster_uid: Some(format!("7d9e2f4c-0000-0000-0000-{:012}", cluster.0)),
    }
}

/// Applies batches of checkpoints of all clusters, as their publication does.
pub(crate) fn measure(report: &mut Report, clusters: u64) {
    let mut state = Arc::new(state(clusters));
    let streams: Vec<StreamId> = state.streams.keys().copied().collect();
    for entries in [1_000, 100] {
        let mut taken = Duration::ZERO;
        for round in 0..ROUNDS as usize {
            let command = batch(&streams, entries, round, state.revision);
            let reader = Arc::clone(&state);
            let start = Instant::now();
            let revision = Revision(state.revision.0 + 1);
            let applied = Arc::make_mut(&mut state).apply(revision, &command);
            drop(reader);
            taken += start.elapsed();
            assert!(!applied.changes_topology);
        }
        let each = taken / ROUNDS;
        report.add(
            format!("state.batch_{entries}"),
            each.as_secs_f64() * 1e6,
            "us/batch",
            format!(
                "{entries} checkpoints of {clusters} clusters, a reader holds the state before"
            ),
        );
    }
}

fn batch(streams: &[StreamId], entries: usize, round: usize, revision: Revision) -> Command {
    let apart = (streams.len() / entries).max(1);
    let entry = |index: usize| CheckpointEntry {
        stream: streams[(index * apart + round) % streams.len()],
        epoch: Epoch(1),
        position: Position::closed(Era(1), (2_000 + revision.0).into()),
    };
    Command::AdvanceCheckpoints {
        entries: (0..entries).map(entry).collect(),
    }
}
