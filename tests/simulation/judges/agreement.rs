//! What replicas agree on: one state for each place in the log, and one owner for each epoch; and
//! nothing of that goes back. Each change of what a replica knows is a line of the trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use quorumwatch::{
    domain::{
        event::GapReason,
        id::{Epoch, Era, ReplicaId, Revision, ShardId, StreamId},
        position::Position,
        state::State,
    },
    raft::Raft,
};

use crate::{report, stage::Stage};

/// Everything that was seen so far.
#[derive(Default)]
pub(crate) struct Agreement {
    /// The state at each place in the log that any replica has shown.
    states: BTreeMap<Revision, Arc<State>>,
    /// Who owned a shard in an epoch, if anybody did.
    owners: BTreeMap<(ShardId, Epoch), Option<ReplicaId>>,
    /// The names of clusters, also of those that are gone.
    names: BTreeMap<String, BTreeSet<ShardId>>,
    /// How each era began.
    eras: BTreeMap<Era, Began>,
    /// What each replica showed last.
    shown: BTreeMap<usize, Shown>,
}

/// How an era began.
pub(super) struct Began {
    /// The name of the cluster.
    pub(super) cluster: String,
    resource: String,
    pub(super) reason: GapReason,
    /// When a replica showed it first.
    pub(super) at: Duration,
}

/// What a replica shows.
#[derive(Clone, PartialEq)]
struct Shown {
    /// Which of its processes it was.
    process: usize,
    term: u64,
    leader: Option<ReplicaId>,
    last_index: u64,
    state: Arc<State>,
}

impl Agreement {
    /// Compares what every replica shows with what is known.
    pub(crate) fn look(&mut self, stage: &Stage) {
        let elapsed = stage.sim.elapsed();
        for (at, replica) in stage.replicas.iter().enumerate() {
            let Some(raft) = replica.raft() else {
                self.shown.remove(&at);
                continue;
            };
            let now = shown(&raft, replica.processes());
            let before = self.shown.get(&at);
            if before == Some(&now) {
                continue;
            }
            report::note(&replica.name, now.words(raft.replica_id()));
            let before = self.shown.insert(at, now.clone());
            if let Some(before) = before.filter(|before| before.process == now.process) {
                check_progress(&replica.name, &before, &now);
            }
            self.check_state(&replica.name, &now.state, elapsed);
        }
    }

    /// How often a shard has changed hands.
    pub(crate) fn moves(&self) -> usize {
        self.owners.values().flatten().count()
    }

    /// Whether the shard of a cluster had an owner in this epoch.
    pub(crate) fn was_owned(&self, cluster: &str, epoch: u64) -> bool {
        let shards = self.names.get(cluster).into_iter().flatten();
        let mut owners = shards.filter_map(|shard| self.owners.get(&(*shard, Epoch(epoch))));
        owners.any(Option::is_some)
    }

    /// How each era began, in the order of the eras.
    pub(super) fn eras(&self) -> impl Iterator<Item = &Began> {
        self.eras.values()
    }

    fn check_state(&mut self, name: &str, state: &Arc<State>, now: Duration) {
        match self.states.get(&state.revision) {
            Some(known) if known == state => return,
            Some(known) => {
                let revision = state.revision;
                report::violated(format!(
                    "{name}: two states at {revision}:\n{known:#?}\n{state:#?}"
                ));
                return;
            }
            None => drop(self.states.insert(state.revision, Arc::clone(state))),
        }
        if let Err(broken) = state.check_invariants() {
            report::violated(format!("{name}: {broken}"));
        }
        for (shard, assignment) in &state.assignments {
            let (epoch, owner) = (assignment.epoch(), assignment.owner());
            let known = *self.owners.entry((*shard, epoch)).or_insert(owner);
            if known != owner {
                report::violated(format!(
                    "{name}: epoch {epoch} of shard {shard} has two owners, {known:?} and {owner:?}"
                ));
            }
        }
        self.note_eras(state, now);
        for cluster in state.clusters.values() {
            let shards = self.names.entry(cluster.spec.name.clone()).or_default();
            shards.insert(ShardId {
                cluster: cluster.id,
                slice: 0,
            });
        }
    }
}

impl Agreement {
    fn note_eras(&mut self, state: &State, now: Duration) {
        for stream in state.streams.values() {
            let cluster = state.clusters.get(&stream.shard.cluster);
            let (Some(era), Some(cluster)) = (&stream.era, cluster) else {
                continue;
            };
            self.eras.entry(era.era).or_insert_with(|| Began {
                cluster: cluster.spec.name.clone(),
                resource: stream.selector.resource.to_string(),
                reason: era.reason,
                at: now,
            });
        }
    }
}

impl Began {
    pub(super) fn words(&self) -> String {
        let Self {
            cluster,
            resource,
            reason,
            at,
        } = self;
        format!("that {cluster} {resource} began an era for {reason:?}, first shown at {at:?}")
    }
}

fn shown(raft: &Raft, process: usize) -> Shown {
    let leadership = *raft.leadership().borrow();
    Shown {
        process,
        term: leadership.term,
        leader: leadership.leader,
        last_index: raft.last_index(),
        state: raft.state(),
    }
}

/// What a replica knows never goes back while it runs.
fn check_progress(name: &str, before: &Shown, now: &Shown) {
    let (old, new) = (&before.state, &now.state);
    if now.term < before.term || new.revision < old.revision {
        report::violated(format!(
            "{name}: went back from term {} at {} to term {} at {}",
            before.term, old.revision, now.term, new.revision
        ));
    }
    for (shard, assignment) in &old.assignments {
        let later = new.assignments.get(shard);
        if later.is_some_and(|later| later.epoch() < assignment.epoch()) {
            report::violated(format!("{name}: the epoch of shard {shard} went back"));
        }
    }
    for (stream, old) in &old.streams {
        let later = new.streams.get(stream);
        if later.is_some_and(|later| later.checkpoint < old.checkpoint) {
            let later = later.and_then(|later| later.checkpoint.as_ref());
            went_back(name, *stream, old.checkpoint.as_ref(), later);
        }
    }
}

fn went_back(name: &str, stream: StreamId, from: Option<&Position>, to: Option<&Position>) {
    report::violated(format!(
        "{name}: the checkpoint of stream {stream} went back from {from:?} to {to:?}"
    ));
}

impl Shown {
    /// One line of the trace.
    fn words(&self, of: ReplicaId) -> String {
        let state = &self.state;
        let owned = state
            .assignments
            .values()
            .filter(|it| it.owner() == Some(of));
        let owned: Vec<_> = owned
            .map(|it| format!("{}@{}", state.shard_name(it.shard()), it.epoch()))
            .collect();
        let members = state.members.values();
        let leader = self.leader.and_then(|leader| {
            let mut leading = members.filter(|member| member.id == leader);
            leading.next().map(|member| member.name.as_str())
        });
        format!(
            "term {} leader {} log {} state {} owns [{}]",
            self.term,
            leader.unwrap_or("-"),
            self.last_index,
            state.revision,
            owned.join(" ")
        )
    }
}
