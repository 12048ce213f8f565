//! What can happen next: [`Action`].

use quorumwatch::{agent::reconcile::Steps, domain::command::Command};

use crate::{
    group::id_of,
    replica::{Replica, Run},
    scope::{Plant, Scope},
    server::Api,
    subscriber::Reads,
    watch::{Waits, Watch},
    world::World,
};

/// One step. Replicas and subscribers are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The API server writes the next version.
    Write,
    /// The API server forgets what is before the present.
    Compact,
    /// The API server restarts: no watch can begin before the present any more.
    RestartServer,
    /// A replica's process ends.
    Crash(usize),
    /// It starts again.
    Restart(usize),
    /// The shard is given to a replica.
    Move(usize),
    /// The proposal with this number is committed.
    Commit(usize),
    /// The outcome of the era that a replica has proposed does not arrive.
    LoseOutcome(usize),
    /// A replica applies the next command of the log.
    Apply(usize),
    /// A replica starts and stops what its state requires.
    Reconcile(usize),
    /// A replica opens watches before the shard is its own.
    Prepare(usize),
    /// The watch of a replica sends the next change.
    Change(usize),
    /// The watch of a replica sends a bookmark.
    Bookmark(usize),
    /// The connection of a replica to the API server breaks.
    Break(usize),
    /// A replica opens its watch again.
    Retry(usize),
    /// A replica publishes the next of the net changes, or that they are complete.
    PublishNetChange(usize),
    /// An owner proposes a checkpoint.
    Checkpoint(usize),
    /// A replica opens a feed from the owner that it knows.
    Follow(usize),
    /// The feed of a replica goes on.
    Feed(usize),
    /// A subscriber connects to a replica, with its cursor.
    Connect(usize, usize),
    /// A subscription reads on.
    Read(usize),
    /// A subscriber is disconnected.
    Cut(usize),
    /// A subscriber gets a progress, with its cursor.
    Progress(usize),
}

impl World {
    /// What can happen next; some of it may turn out to change nothing.
    pub(crate) fn actions(&self, scope: &Scope, actions: &mut Vec<Action>) {
        if self.defect.is_some() {
            return;
        }
        self.server_actions(scope, actions);
        self.group_actions(scope, actions);
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].up {
                self.replica_actions(scope, replica, actions);
                self.owner_actions(scope, replica, actions);
            } else {
                actions.push(Action::Restart(replica));
            }
        }
        for subscriber in 0..self.subscribers.len() {
            self.subscriber_actions(scope, subscriber, actions);
        }
    }

    fn server_actions(&self, scope: &Scope, actions: &mut Vec<Action>) {
        let api = Api {
            server: &self.server,
            script: &scope.script,
        };
        let now = api.now();
        if self.server.written < scope.script.len() {
            actions.push(Action::Write);
        }
        if self.left.compactions > 0 && self.server.compacted < now {
            actions.push(Action::Compact);
        }
        if self.left.resets > 0 && self.server.watchable < now {
            actions.push(Action::RestartServer);
        }
    }

    fn group_actions(&self, scope: &Scope, actions: &mut Vec<Action>) {
        if self.left.moves > 0 {
            let owner = self.group.assignment().owner();
            for to in &scope.owners {
                if self.replicas[*to].up && owner != Some(id_of(*to)) {
                    actions.push(Action::Move(*to));
                }
            }
        }
        actions.extend((0..self.proposals.len()).map(Action::Commit));
    }

    fn replica_actions(&self, scope: &Scope, index: usize, actions: &mut Vec<Action>) {
        let replica = &self.replicas[index];
        if self.left.crashes > 0 {
            actions.push(Action::Crash(index));
        }
        if replica.applied < self.group.revision() {
            actions.push(Action::Apply(index));
        }
        if self.steps(scope, index) != Steps::default() {
            actions.push(Action::Reconcile(index));
        }
        if self.left.preparations > 0
            && scope.owners.contains(&index)
            && replica.run.is_none()
            && replica.prepared.is_none()
        {
            actions.push(Action::Prepare(index));
        }
        if self.serves(index) {
            actions.push(Action::Follow(index));
            if replica.feed.is_some() {
                actions.push(Action::Feed(index));
            }
        }
    }

    /// What has to start and stop at a replica.
    pub(crate) fn steps(&self, scope: &Scope, index: usize) -> Steps {
        let state = self.state(index);
        let mut id = id_of(index);
        if scope.plants(Plant::OwnerIgnored)
            && let Some((owner, _)) = self.owner(index)
        {
            id = id_of(owner);
        }
        self.replicas[index].steps(state, id)
    }

    fn owner_actions(&self, scope: &Scope, index: usize, actions: &mut Vec<Action>) {
        let replica = &self.replicas[index];
        let Some(watch) = watch_of(replica) else {
            return;
        };
        let publishes = replica.run.as_ref().filter(|run| !run.over);
        match watch.waits {
            Waits::Change(next) => {
                if self.left.breaks > 0 {
                    actions.push(Action::Break(index));
                }
                if publishes.is_some() && next < self.server.written {
                    actions.push(Action::Change(index));
                }
                if publishes.is_some() && next == self.server.written && self.left.bookmarks > 0 {
                    actions.push(Action::Bookmark(index));
                }
            }
            Waits::Retry => actions.push(Action::Retry(index)),
            Waits::Repair(_) => {
                if publishes.is_some() {
                    actions.push(Action::PublishNetChange(index));
                    if self.left.breaks > 0 {
                        actions.push(Action::Break(index));
                    }
                }
            }
            Waits::Era { .. } => {
                let waits = |run: &Run| run.asking.as_ref().is_some_and(|it| it.answer.is_none());
                if publishes.is_some_and(waits) && self.left.unknowns > 0 {
                    actions.push(Action::LoseOutcome(index));
                }
            }
        }
        if self.left.checkpoints > 0
            && !self.has_checkpoint_under_way(index)
            && self.next_checkpoint(scope, index).is_some()
        {
            actions.push(Action::Checkpoint(index));
        }
    }

    fn has_checkpoint_under_way(&self, replica: usize) -> bool {
        let mut proposals = self.proposals.iter();
        proposals.any(|proposal| {
            let is_checkpoint = matches!(&*proposal.command, Command::AdvanceCheckpoints { .. });
            is_checkpoint && proposal.from == Some(replica)
        })
    }

    fn subscriber_actions(&self, scope: &Scope, index: usize, actions: &mut Vec<Action>) {
        let subscriber = &self.subscribers[index];
        if subscriber.at.is_none() {
            for replica in &scope.serving {
                if self.replicas[*replica].up {
                    actions.push(Action::Connect(index, *replica));
                }
            }
            return;
        }
        actions.push(Action::Read(index));
        if self.left.cuts > 0 {
            actions.push(Action::Cut(index));
        }
        let is_saved = subscriber
            .saved
            .as_ref()
            .is_some_and(|saved| saved.place == subscriber.place);
        if self.left.progresses > 0 && !is_saved && !matches!(subscriber.reads, Reads::Nothing) {
            actions.push(Action::Progress(index));
        }
    }
}

/// The watch of a replica: that of its run, or one that was opened early.
pub(crate) fn watch_of(replica: &Replica) -> Option<&Watch> {
    let prepared = replica.prepared.as_ref().map(|prepared| &prepared.watch);
    replica.run.as_ref().map(|run| &run.watch).or(prepared)
}
