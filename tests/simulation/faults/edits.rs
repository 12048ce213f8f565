//! What an operator changes about clusters while all else goes on.

use super::cause::What;
use crate::{
    hosts::{Change, TIERS},
    stage::Stage,
};

/// What the operator changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The cluster's labels, by which subscribers select: to another tier, and on to the next.
    Relabel,
    /// It is paused, and resumed.
    Pause,
    /// Its kubeconfig, so that its watches are opened again with another client.
    Rewrite,
    /// One more resource is watched, and then no more.
    Extend,
}

impl Edit {
    pub(super) const ALL: [Self; 4] = [Self::Relabel, Self::Pause, Self::Rewrite, Self::Extend];
}

impl Stage {
    pub(super) fn begin_edit(&mut self, server: usize, edit: Edit) {
        match edit {
            Edit::Relabel => self.relabel(server),
            Edit::Pause => self.change(server, Change::Paused(true)),
            Edit::Rewrite => self.rewrite(server),
            Edit::Extend => self.change(server, Change::Extra(true)),
        }
    }

    pub(super) fn end_edit(&mut self, server: usize, edit: Edit) {
        match edit {
            Edit::Relabel => self.relabel(server),
            Edit::Pause => self.change(server, Change::Paused(false)),
            Edit::Rewrite => self.rewrite(server),
            Edit::Extend => self.change(server, Change::Extra(false)),
        }
    }

    /// Every cluster has a tier that subscribers with filters select.
    pub(crate) fn select_all(&mut self) {
        for server in 0..self.servers.len() {
            let tier = self.operator.wanted(&self.servers[server].cluster).tier;
            if tier == TIERS[TIERS.len() - 1] {
                self.relabel(server);
            }
        }
    }

    /// Gives a cluster the next tier.
    fn relabel(&mut self, server: usize) {
        let tier = self.operator.wanted(&self.servers[server].cluster).tier;
        let at = TIERS.iter().position(|known| *known == tier);
        let next = TIERS[(at.unwrap_or(0) + 1) % TIERS.len()];
        self.note_cause(server, What::Relabelled);
        self.change(server, Change::Tier(next));
    }

    fn rewrite(&mut self, server: usize) {
        self.rewrites += 1;
        self.change(server, Change::Kubeconfig(self.rewrites));
    }

    fn change(&self, server: usize, change: Change) {
        self.operator.change(&self.servers[server], change);
    }
}
