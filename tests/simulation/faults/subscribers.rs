//! Subscribers that leave and come back, or do not read.

use super::{cause::What, histories::Cut};
use crate::{
    hosts::{drain, flood},
    report,
    stage::Stage,
};

/// A subscriber that is to leave inside a snapshot.
#[derive(Debug)]
pub(crate) struct Interrupting {
    subscriber: usize,
    server: usize,
    has_left: bool,
}

impl Stage {
    /// The process of a subscriber ends.
    pub(super) fn leave(&mut self, subscriber: usize) {
        let name = &self.subscribers[subscriber].name;
        self.sim.crash(name.as_str());
    }

    /// The next process of a subscriber starts, with the cursor of the one before it.
    pub(super) fn come_back(&mut self, subscriber: usize) {
        let name = &self.subscribers[subscriber].name;
        self.sim.bounce(name.as_str());
    }

    /// A subscriber reads nothing, while more is written than can wait for it. Where a history is being
    /// replaced, nothing is written.
    pub(super) fn stop_reading(&mut self, subscriber: usize) {
        self.subscribers[subscriber].set_paused(true);
        self.floods += 1;
        let (server, number) = (subscriber % self.servers.len(), self.floods);
        if !self.is_replaced(server) {
            self.servers[server].act(move |cluster| flood(cluster, number));
        }
    }

    pub(super) fn read_again(&mut self, subscriber: usize) {
        self.subscribers[subscriber].set_paused(false);
        let server = subscriber % self.servers.len();
        if !self.is_replaced(server) {
            for number in 1..=self.floods {
                self.servers[server].act(move |cluster| drain(cluster, number));
            }
        }
    }

    /// Makes a snapshot necessary, inside of which the subscriber will leave.
    pub(super) fn interrupt(&mut self, subscriber: usize, server: usize) {
        self.begin_cut(server, Cut::Ahead);
        self.interrupting.push(Interrupting {
            subscriber,
            server,
            has_left: false,
        });
    }

    /// The version of the snapshot is gone, and the subscriber comes back.
    pub(super) fn end_interruption(&mut self, subscriber: usize) {
        let is_this = |it: &mut Interrupting| it.subscriber == subscriber;
        let over: Vec<Interrupting> = self.interrupting.extract_if(.., is_this).collect();
        for Interrupting { server, .. } in over.into_iter().filter(|it| it.has_left) {
            if !self.is_preparing(server) {
                self.note_cause(server, What::Compacted);
                self.servers[server].act(|cluster| cluster.compact());
            }
            self.come_back(subscriber);
        }
    }

    /// Lets subscribers leave as soon as they are inside a snapshot.
    pub(crate) fn interrupt_snapshots(&mut self) {
        for at in 0..self.interrupting.len() {
            let it = &self.interrupting[at];
            let (subscriber, server) = (it.subscriber, it.server);
            let cluster = &self.servers[server].cluster;
            let record = self.subscribers[subscriber].record();
            let is_due = !it.has_left && record.is_inside_snapshot(cluster);
            drop(record);
            if is_due {
                self.interrupting[at].has_left = true;
                report::note("fault", format_args!("subscriber {subscriber} leaves"));
                report::reached("left inside a snapshot");
                self.leave(subscriber);
            }
        }
    }
}
