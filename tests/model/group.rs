//! What the group agrees on: the log of its commands, as the states that they lead to.

use quorumwatch::domain::{
    assignment::{Assignment, MoveReason},
    cluster::{ClusterSpec, ResourceSelector, Source},
    command::{BeginEra, Command, Move, Outcome, Rejection},
    event::GapReason,
    id::{ClusterId, Epoch, GroupId, ReplicaId, Revision, ShardId, StreamId, UnixMillis},
    state::State,
    stream::{EraStart, Stream},
};

use crate::{
    digest::Digested,
    scope::{FIRST, Milestone, Plant, Scope},
};

/// The one shard.
pub(crate) const SHARD: ShardId = ShardId {
    cluster: ClusterId(1),
    slice: 0,
};

/// Its one stream: ids are minted one after the other.
pub(crate) const STREAM: StreamId = StreamId(2);

/// The group.
pub(crate) const GROUP: GroupId = GroupId([7; 16]);

const AT: UnixMillis = UnixMillis(0);

/// The log, from the oldest revision that a replica has not applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    /// The revision of the first of the states.
    first: u64,
    states: Vec<Digested<State>>,
    /// How each era of the stream began.
    pub(crate) eras: Digested<Vec<EraStart>>,
    /// To whom the shard was given, under which epoch.
    pub(crate) assigned: Vec<(Epoch, Option<ReplicaId>)>,
}

/// The id of the replica with this number.
pub(crate) fn id_of(replica: usize) -> ReplicaId {
    ReplicaId(replica as u64 + 1)
}

/// The number of the replica with this id.
pub(crate) fn index_of(replica: ReplicaId) -> usize {
    usize::try_from(replica.0 - 1).expect("there are few replicas")
}

/// A replica has started.
pub(crate) fn register(replica: usize) -> Command {
    Command::RegisterMember {
        replica: id_of(replica),
        name: format!("replica-{replica}"),
        peer_address: String::new(),
        client_address: String::new(),
        at: AT,
    }
}

/// The shard is given to a replica, by a leader that knows it under this epoch.
pub(crate) fn assign(epoch: Epoch, to: usize) -> Command {
    let step = Move {
        shard: SHARD,
        epoch,
        to: Some(id_of(to)),
        reason: MoveReason::Takeover,
    };
    Command::Assign {
        moves: vec![step],
        at: AT,
    }
}

fn create() -> Command {
    let events = "v1/events".parse().expect("it is a resource");
    Command::CreateCluster {
        spec: ClusterSpec {
            name: "cluster".into(),
            labels: [].into(),
            source: Source::InCluster,
            resources: vec![ResourceSelector::all(events)],
            paused: false,
            description: String::new(),
            duplicate_of: String::new(),
        },
        request_id: None,
        at: AT,
    }
}

impl Group {
    /// A group whose first replica owns the shard. Unless nobody has watched it, its first era
    /// began at this version.
    pub(crate) fn found(scope: &Scope, version: u64) -> Self {
        let mut state = State::default();
        let mut commands = vec![Command::FoundGroup { group: GROUP }];
        commands.extend((0..scope.replicas).map(register));
        commands.push(create());
        commands.push(assign(Epoch(0), 0));
        let mut revision = 0;
        let mut apply = |state: &mut State, command: &Command| {
            revision += 1;
            let applied = state.apply(Revision(revision), command);
            let is_rejected = matches!(applied.outcome, Outcome::Rejected(_));
            assert!(!is_rejected, "{command:?}: {:?}", applied.outcome);
        };
        for command in &commands {
            apply(&mut state, command);
        }
        let mut eras = Vec::new();
        if !scope.fresh {
            let begin = Command::BeginEra(BeginEra {
                stream: STREAM,
                epoch: Epoch(1),
                run: state.run_revision(SHARD).expect("it has an owner"),
                expected_era: None,
                from: None,
                reason: GapReason::StreamCreated,
                to: version.max(FIRST).into(),
                repaired: false,
                cluster_uid: String::new(),
                at: AT,
            });
            apply(&mut state, &begin);
            eras.extend(state.streams[&STREAM].era.clone());
        }
        Self {
            first: state.revision.0,
            states: vec![Digested::new(state)],
            eras: Digested::new(eras),
            assigned: vec![(Epoch(1), Some(id_of(0)))],
        }
    }

    /// The revision of the newest state.
    pub(crate) fn revision(&self) -> u64 {
        self.first + self.states.len() as u64 - 1
    }

    /// The state at a revision that was not forgotten.
    pub(crate) fn state(&self, revision: u64) -> &State {
        let index = revision.checked_sub(self.first).map(usize::try_from);
        let index = index.and_then(Result::ok);
        let state = index.and_then(|index| self.states.get(index));
        state.expect("nobody is behind what was forgotten")
    }

    /// The newest state.
    pub(crate) fn newest(&self) -> &State {
        self.state(self.revision())
    }

    /// The stream in the newest state.
    pub(crate) fn stream(&self) -> &Stream {
        &self.newest().streams[&STREAM]
    }

    /// The shard in the newest state.
    pub(crate) fn assignment(&self) -> &Assignment {
        &self.newest().assignments[&SHARD]
    }

    /// Forgets what is before a revision.
    pub(crate) fn forget_before(&mut self, revision: u64) {
        while self.first < revision && self.states.len() > 1 {
            self.states.remove(0);
            self.first += 1;
        }
    }

    /// Commits a command: what came of it, or what is wrong with the state after it.
    pub(crate) fn commit(&mut self, command: &Command, scope: &Scope) -> Result<Outcome, String> {
        let mut state = self.newest().clone();
        note_left_out(&state, command, scope);
        let planted = planted(&state, command, scope);
        let revision = Revision(self.revision() + 1);
        let applied = state.apply(revision, planted.as_ref().unwrap_or(command));
        if scope.plants(Plant::EpochReused) {
            self.reuse_epoch(&mut state);
        }
        state.check_invariants()?;
        note_outcome(&applied.outcome, scope);
        let assignment = &state.assignments[&SHARD];
        let assigned = (assignment.epoch(), assignment.owner());
        if self.assigned.last() != Some(&assigned) {
            self.assigned.push(assigned);
        }
        if let Some(start) = &state.streams[&STREAM].era
            && self.eras.last() != Some(start)
        {
            let start = start.clone();
            self.eras.change(|eras| eras.push(start));
        }
        self.states.push(Digested::new(state));
        Ok(applied.outcome)
    }

    /// Undoes the growth of the epoch.
    fn reuse_epoch(&self, state: &mut State) {
        let (before, after) = (self.assignment(), &state.assignments[&SHARD]);
        if before.epoch() == after.epoch() {
            return;
        }
        let reused = Assignment::restore(
            SHARD,
            after.owner(),
            before.epoch(),
            after.reason(),
            after.since(),
        );
        state.assignments.insert(SHARD, reused);
    }
}

/// What is committed instead of a command, where the driver does that wrong.
fn planted(state: &State, command: &Command, scope: &Scope) -> Option<Command> {
    let Command::BeginEra(begin) = command else {
        return None;
    };
    let mut begin = begin.clone();
    match scope.plant? {
        Plant::RunIgnored => begin.run = state.run_revision(SHARD)?,
        Plant::EraIgnored => {
            begin.expected_era = state.streams[&STREAM].era.as_ref().map(|start| start.era);
        }
        _ => return None,
    }
    Some(Command::BeginEra(begin))
}

/// Notes what a command leaves out because it is stale.
fn note_left_out(state: &State, command: &Command, scope: &Scope) {
    let epoch = state.assignments[&SHARD].epoch();
    let milestone = match command {
        Command::AdvanceCheckpoints { entries } => {
            let is_stale = entries.iter().any(|entry| entry.epoch != epoch);
            is_stale.then_some(Milestone::CheckpointLeftOut)
        }
        Command::Assign { moves, .. } => {
            let is_stale = moves.iter().any(|step| step.epoch != epoch);
            is_stale.then_some(Milestone::MoveLeftOut)
        }
        _ => None,
    };
    if let Some(milestone) = milestone {
        scope.reached.note(milestone);
    }
}

fn note_outcome(outcome: &Outcome, scope: &Scope) {
    let milestone = match outcome {
        Outcome::Rejected(Rejection::StaleEpoch(_)) => Milestone::StaleEpoch,
        Outcome::Rejected(Rejection::StaleRun(_)) => Milestone::StaleRun,
        Outcome::Rejected(Rejection::StaleCheckpoint) => Milestone::RunBehind,
        _ => return,
    };
    scope.reached.note(milestone);
}
