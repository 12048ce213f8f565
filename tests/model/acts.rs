//! Carries out what happens: [`World::act`].

use quorumwatch::domain::{
    command::{CheckpointEntry, Command},
    position::Position,
};

use crate::{
    action::{Action, watch_of},
    digest::Digested,
    group::{STREAM, assign, register},
    replica::{Asking, Prepared, Replica},
    scope::{Milestone, Plant, Scope},
    server::Api,
    stream_log::StreamLog,
    watch::{Waits, Watch},
    world::{World, begun},
};

impl World {
    /// Carries one step out, and all that follows from it without delay.
    pub(crate) fn act(&mut self, scope: &Scope, action: Action) {
        match action {
            Action::Write => {
                let server = self.server;
                let api = Api {
                    server: &server,
                    script: &scope.script,
                };
                self.server.written += api.next_version();
            }
            Action::Compact => {
                self.left.compactions -= 1;
                self.server.compacted = self.now(scope);
            }
            Action::RestartServer => self.restart_server(scope),
            Action::Crash(replica) => self.crash(scope, replica),
            Action::Restart(replica) => {
                self.replicas[replica].up = true;
                self.commit(scope, &register(replica));
                self.replicas[replica].applied = self.group.revision();
            }
            Action::Move(to) => {
                self.left.moves -= 1;
                let epoch = self.group.assignment().epoch();
                self.propose(None, assign(epoch, to));
            }
            Action::Commit(proposal) => self.commit_proposal(scope, proposal),
            Action::LoseOutcome(replica) => self.lose_outcome(scope, replica),
            Action::Apply(replica) => self.replicas[replica].applied += 1,
            Action::Reconcile(replica) => self.reconcile(scope, replica),
            Action::Prepare(replica) => self.prepare(scope, replica),
            Action::Change(_)
            | Action::Bookmark(_)
            | Action::Break(_)
            | Action::Retry(_)
            | Action::PublishNetChange(_)
            | Action::Checkpoint(_) => self.act_as_owner(scope, action),
            Action::Follow(replica) => self.follow(replica),
            Action::Feed(replica) => self.feed(scope, replica),
            Action::Connect(subscriber, replica) => self.connect(scope, subscriber, replica),
            Action::Read(subscriber) => self.read(scope, subscriber),
            Action::Cut(subscriber) => self.cut(scope, subscriber),
            Action::Progress(subscriber) => self.progress(subscriber),
        }
        self.settle(scope);
        self.forget();
    }

    fn act_as_owner(&mut self, scope: &Scope, action: Action) {
        match action {
            Action::Change(replica) => self.change(scope, replica),
            Action::Bookmark(replica) => {
                self.left.bookmarks -= 1;
                self.drive(scope, replica, |watch, api| watch.bookmark(api));
            }
            Action::Break(replica) => {
                self.left.breaks -= 1;
                self.break_watch(scope, replica);
            }
            Action::Retry(replica) => self.retry(scope, replica),
            Action::PublishNetChange(replica) => self.publish_net_change(scope, replica),
            Action::Checkpoint(replica) => self.checkpoint(scope, replica),
            _ => {}
        }
    }

    fn now(&self, scope: &Scope) -> u64 {
        let api = Api {
            server: &self.server,
            script: &scope.script,
        };
        api.now()
    }

    fn restart_server(&mut self, scope: &Scope) {
        self.left.resets -= 1;
        self.server.watchable = self.now(scope);
        self.server.restarts += 1;
        for replica in 0..self.replicas.len() {
            let watch = watch_of(&self.replicas[replica]);
            if watch.is_some_and(|watch| matches!(watch.waits, Waits::Change(_))) {
                self.break_watch(scope, replica);
            }
        }
    }

    fn crash(&mut self, scope: &Scope, replica: usize) {
        self.left.crashes -= 1;
        let run = self.replicas[replica].run.as_ref();
        if run.is_some_and(|run| matches!(run.watch.waits, Waits::Repair(_))) {
            scope.reached.note(Milestone::RepairInterrupted);
        }
        self.replicas[replica] = Replica {
            applied: self.replicas[replica].applied,
            ..Replica::default()
        };
        for subscriber in &mut self.subscribers {
            if subscriber.at == Some(replica) {
                subscriber.disconnect();
            }
        }
    }

    /// The proposer does not learn what came of its proposal: it checks its state, and proposes
    /// the same once more if that shows nothing.
    fn lose_outcome(&mut self, scope: &Scope, replica: usize) {
        self.left.unknowns -= 1;
        let run = self.replicas[replica].run.as_mut();
        let Some(asking) = run.and_then(|run| run.asking.take()) else {
            return;
        };
        if let Some(start) = begun(self.state(replica), &asking.begin) {
            scope.reached.note(Milestone::EraRepeated);
            self.granted(scope, replica, start);
            return;
        }
        let command = Command::BeginEra((*asking.begin).clone());
        let ticket = self.propose(Some(replica), command);
        if let Some(run) = &mut self.replicas[replica].run {
            run.asking = Some(Asking { ticket, ..asking });
        }
    }

    fn reconcile(&mut self, scope: &Scope, replica: usize) {
        let steps = self.steps(scope, replica);
        if !steps.stop.is_empty() {
            self.replicas[replica].run = None;
            // The log lives as long as something reads it.
            if !self.serves(replica) && steps.start.is_empty() {
                self.replicas[replica].log = StreamLog::default();
            }
        }
        let key = steps.start.first().or_else(|| steps.change.first());
        if let Some((_, key)) = key {
            self.start(scope, replica, key.epoch, key.run);
        }
        let runs = self.replicas.iter().filter(|replica| replica.run.is_some());
        if runs.count() > 1 {
            scope.reached.note(Milestone::TwoOwners);
        }
    }

    fn prepare(&mut self, scope: &Scope, replica: usize) {
        self.left.preparations -= 1;
        let stream = self.state(replica).streams[&STREAM].clone();
        let server = self.server;
        let api = Api {
            server: &server,
            script: &scope.script,
        };
        let watch = Watch::open(stream.resume_point(), api);
        self.replicas[replica].prepared = Some(Prepared {
            stream: Digested::new(stream),
            watch,
        });
    }

    fn change(&mut self, scope: &Scope, replica: usize) {
        let run = self.replicas[replica].run.as_ref();
        let Some(Waits::Change(next)) = run.map(|run| run.watch.waits) else {
            return;
        };
        if let Some(written) = scope.script.get(next) {
            self.drive(scope, replica, |watch, api| watch.change(written, api));
        }
    }

    /// The connection breaks; of a run or of a preparation.
    fn break_watch(&mut self, scope: &Scope, replica: usize) {
        let server = self.server;
        let api = Api {
            server: &server,
            script: &scope.script,
        };
        let replica = &mut self.replicas[replica];
        if let Some(run) = &mut replica.run {
            run.watch.break_off(api);
        } else if let Some(prepared) = &mut replica.prepared {
            prepared.watch.break_off(api);
        }
    }

    fn retry(&mut self, scope: &Scope, replica: usize) {
        let server = self.server;
        let api = Api {
            server: &server,
            script: &scope.script,
        };
        if self.replicas[replica].run.is_some() {
            self.drive(scope, replica, |watch, api| watch.retry(api));
        } else if let Some(prepared) = &mut self.replicas[replica].prepared {
            // Nothing is published yet; what it asks for, it asks for once it is.
            prepared.watch.retry(api);
        }
    }

    fn publish_net_change(&mut self, scope: &Scope, replica: usize) {
        let run = self.replicas[replica].run.as_ref();
        let Some(Waits::Repair(repair)) = run.map(|run| run.watch.waits) else {
            return;
        };
        let server = self.server;
        let api = Api {
            server: &server,
            script: &scope.script,
        };
        if !api.can_list(repair.from) || !api.can_list(repair.to) {
            scope.reached.note(Milestone::RepairInterrupted);
            self.drive(scope, replica, |watch, api| watch.irreparable(api));
            return;
        }
        let mut changes = api.net_changes(repair.from, repair.to);
        if scope.plants(Plant::NetChangeSkipped) && !changes.is_empty() {
            changes.remove(0);
        }
        match changes.get(repair.given) {
            Some(change) => {
                let change = change.clone();
                self.publish(scope, replica, |publication| {
                    publication.net_changes(vec![change])
                });
                if let Some(run) = &mut self.replicas[replica].run {
                    run.watch.count_net_change();
                }
            }
            None => {
                self.drive(scope, replica, |watch, api| watch.repaired(api));
                self.covered = self.covered.max(repair.to);
            }
        }
    }

    /// What an owner would propose as its checkpoint: what it has published beyond what it knows.
    pub(crate) fn next_checkpoint(&self, scope: &Scope, replica: usize) -> Option<Position> {
        let run = self.replicas[replica].run.as_ref()?;
        let published = run.publication.checkpoint()?;
        let position = match scope.plant {
            Some(Plant::CheckpointAhead) => Position::closed(published.era, self.now(scope).into()),
            Some(Plant::CheckpointInsideVersion) => {
                let head = run.publication.head()?;
                Position::closed(head.era, head.rv.clone())
            }
            _ => published,
        };
        let known = self.state(replica).streams[&STREAM].checkpoint.as_ref();
        known
            .is_none_or(|known| *known < position)
            .then_some(position)
    }

    fn checkpoint(&mut self, scope: &Scope, replica: usize) {
        self.left.checkpoints -= 1;
        let epoch = self.replicas[replica].run.as_ref().map(|run| run.epoch);
        let position = self.next_checkpoint(scope, replica);
        if let (Some(epoch), Some(position)) = (epoch, position) {
            let entry = CheckpointEntry {
                stream: STREAM,
                epoch,
                position,
            };
            let command = Command::AdvanceCheckpoints {
                entries: vec![entry],
            };
            self.propose(Some(replica), command);
        }
    }
}
