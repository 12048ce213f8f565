//! Histories of API servers that are replaced by others. Each is under way until the group has begun
//! an era in every stream of the cluster: until then nothing is written there that could hide it.
//!
//! What the service does not promise to notice is not done here: a restore that undoes only what no
//! checkpoint has, or one that is overtaken while shards move (`src/docs/guarantees.md`, "What is
//! proven").

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quorumwatch::{
    domain::{
        id::{Epoch, Era, StreamId},
        position::ResourceVersion,
        state::State,
    },
    proto::v1::GapReason,
    sim::{Fault, SimCluster},
};

use super::cause::{What, is_of_compaction};
use crate::{
    hosts::{ApiServer, RESOURCES, mark},
    report,
    stage::Stage,
};

/// How far ahead a restore with other versions goes.
const AHEAD: u64 = 1_000_000;

/// How many objects of each resource pass what a restore has undone.
const OVERTAKING: usize = 5;

/// How often watches are closed until the new history is noticed: one may have been opened with what
/// was asked of the old one.
const CLOSED_EVERY: Duration = Duration::from_millis(700);

/// How long a restore waits for what it is to undo to be checkpointed. One that is to be overtaken
/// has no longer than its fault lasts, less the time in which it is noticed.
const PREPARED_WITHIN: Duration = Duration::from_secs(8);
const OVERTAKEN_WITHIN: Duration = Duration::from_millis(2_400);

/// How a history is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Another, empty cluster answers.
    Replaced,
    /// etcd is restored from a backup: versions that were delivered are undone. What is written next
    /// comes after that was noticed.
    Restored,
    /// The same, and what is written next passes what was undone before that is noticed.
    Overtaken,
    /// etcd is restored with versions that are far ahead, and without its history.
    Ahead,
}

/// A history that is being replaced.
#[derive(Debug)]
pub(crate) struct Pending {
    server: usize,
    cut: Cut,
    begun: Duration,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// What the restore is to undo has to be checkpointed: everything after this version.
    Preparing { backup: u64 },
    /// Replicas have to notice it.
    Struck {
        /// The eras before.
        eras: BTreeMap<StreamId, Option<Era>>,
        /// Who owned the cluster then.
        epoch: Option<Epoch>,
        /// When watches were closed last.
        closed: Duration,
    },
}

impl Cut {
    pub(super) const ALL: [Self; 4] =
        [Self::Replaced, Self::Restored, Self::Overtaken, Self::Ahead];

    /// What it is called where it is counted once it was noticed.
    pub(super) fn name(self) -> String {
        format!("history {self:?}")
    }

    /// Whether a gap with this reason may come of it.
    pub(super) fn explains(self, reason: GapReason) -> bool {
        match self {
            // The list and the identity that are compared are asked for at the same time: one of
            // them may be of the old cluster.
            Self::Replaced => matches!(
                reason,
                GapReason::ClusterReplaced | GapReason::HistoryReset | GapReason::SnapshotRestarted
            ),
            // A restored etcd comes with an API server that starts: its watch cache begins again.
            Self::Restored | Self::Overtaken => matches!(
                reason,
                GapReason::HistoryReset | GapReason::WatchCacheReset | GapReason::SnapshotRestarted
            ),
            Self::Ahead => is_of_compaction(reason),
        }
    }
}

impl Stage {
    /// Begins to replace the history of a server, unless that is under way.
    pub(super) fn begin_cut(&mut self, server: usize, cut: Cut) {
        if self.is_replaced(server) {
            report::note("fault", "not twice at the same time");
            return;
        }
        let phase = match cut {
            Cut::Replaced | Cut::Ahead => self.strike(server, cut, 0),
            Cut::Restored | Cut::Overtaken => self.prepare(server),
        };
        self.cuts.push(Pending {
            server,
            cut,
            begun: self.sim.elapsed(),
            phase,
        });
    }

    /// Whether the history of a server is being replaced.
    pub(super) fn is_replaced(&self, server: usize) -> bool {
        self.cuts.iter().any(|pending| pending.server == server)
    }

    /// Whether the history of a server is about to be restored, and must not be compacted.
    pub(super) fn is_preparing(&self, server: usize) -> bool {
        let mut cuts = self.cuts.iter();
        cuts.any(|it| it.server == server && matches!(it.phase, Phase::Preparing { .. }))
    }

    /// Goes on with what is under way.
    pub(crate) fn advance_cuts(&mut self) {
        for mut pending in std::mem::take(&mut self.cuts) {
            if self.advance(&mut pending) {
                self.servers[pending.server].set_paused(false);
            } else {
                self.cuts.push(pending);
            }
        }
    }

    /// Writes what the restore is to undo, twice, so that the first is closed. Nothing else is
    /// written.
    fn prepare(&mut self, server: usize) -> Phase {
        self.restores += 1;
        let (api, number) = (&self.servers[server], self.restores);
        api.set_paused(true);
        let backup = api.revision();
        for part in ["a", "b"] {
            api.mark(&format!("undone-{number}-{part}"));
        }
        Phase::Preparing { backup }
    }

    /// Replaces the history.
    fn strike(&mut self, server: usize, cut: Cut, backup: u64) -> Phase {
        report::note(
            "fault",
            format_args!("{cut:?} at {server}, backup {backup}"),
        );
        self.note_cause(server, What::Cut(cut));
        let state = self.newest_state();
        let api = &self.servers[server];
        let number = self.restores;
        api.act(move |cluster| replace(cluster, cut, backup, number));
        Phase::Struck {
            eras: state
                .as_ref()
                .map(|it| eras_of(it, api))
                .unwrap_or_default(),
            epoch: state.and_then(|it| epoch_of(&it, api)),
            closed: self.sim.elapsed(),
        }
    }

    /// Whether it is over.
    fn advance(&mut self, pending: &mut Pending) -> bool {
        let now = self.sim.elapsed();
        let Pending {
            server,
            cut,
            begun,
            phase,
        } = pending;
        match phase {
            Phase::Preparing { backup } if self.is_prepared(*server, *cut, *backup) => {
                *phase = self.strike(*server, *cut, *backup);
                false
            }
            Phase::Preparing { .. } => {
                let within = match cut {
                    Cut::Overtaken => OVERTAKEN_WITHIN,
                    _ => PREPARED_WITHIN,
                };
                let is_given_up = now >= *begun + within;
                if is_given_up {
                    report::note("fault", format_args!("{cut:?} is given up"));
                    report::reached(format!("given up: {cut:?}"));
                }
                is_given_up
            }
            Phase::Struck {
                eras,
                epoch,
                closed,
            } => {
                let Some(state) = self.newest_state() else {
                    return false;
                };
                if has_begun_all(&state, eras) {
                    report::reached(cut.name());
                    return true;
                }
                let api = &self.servers[*server];
                if *cut == Cut::Overtaken && epoch_of(&state, api) != *epoch {
                    self.is_unjudged = true;
                }
                if now >= *closed + CLOSED_EVERY {
                    *closed = now;
                    api.act(|cluster| cluster.faults().set(Fault::CloseWatches));
                }
                false
            }
        }
    }

    /// Whether every stream of the cluster has a checkpoint beyond this version. One that is to be
    /// overtaken is noticed by the owner alone, and by none that reads the past: shards must be where
    /// they stay, and subscribers up to date.
    fn is_prepared(&self, server: usize, cut: Cut, backup: u64) -> bool {
        let api = &self.servers[server];
        let Some(state) = self.newest_state() else {
            return false;
        };
        let backup = ResourceVersion::from(backup);
        let Some(cluster) = state.cluster_named(&api.cluster) else {
            return false;
        };
        let id = cluster.id;
        let mut streams = state.streams.values().filter(|it| it.shard.cluster == id);
        let is_checkpointed = streams.all(|stream| {
            let checkpoint = stream.checkpoint.as_ref();
            checkpoint.is_some_and(|checkpoint| checkpoint.rv > backup)
        });
        if cut != Cut::Overtaken {
            return is_checkpointed;
        }
        is_checkpointed && self.is_balanced() && self.are_up_to_date(api, &backup)
    }

    /// Whether every subscriber that has the cluster has it beyond this version.
    fn are_up_to_date(&self, api: &ApiServer, version: &ResourceVersion) -> bool {
        let tier = self.operator.wanted(&api.cluster).tier;
        let having = self.subscribers.iter().filter(|subscriber| {
            let scope = subscriber.wish.scope;
            scope.is_whole() && scope.has_cluster(tier)
        });
        having.into_iter().all(|subscriber| {
            let record = subscriber.record();
            RESOURCES.iter().all(|resource| {
                let place = (api.cluster.clone(), (*resource).to_owned());
                let reached = record.reached.get(&place);
                reached.is_some_and(|reached| reached > version)
            })
        })
    }

    /// Whether all replicas run, and there is nothing to move between them.
    pub(super) fn is_balanced(&self) -> bool {
        let Some(state) = self.newest_state() else {
            return false;
        };
        let rafts: Vec<_> = self.replicas.iter().filter_map(|it| it.raft()).collect();
        let counts = rafts.iter().map(|raft| {
            let id = raft.replica_id();
            let owners = state.assignments.values().map(|it| it.owner());
            owners.filter(|owner| *owner == Some(id)).count()
        });
        let counts: Vec<usize> = counts.collect();
        let most = counts.iter().max().copied().unwrap_or(0);
        let least = counts.iter().min().copied().unwrap_or(0);
        let is_owned = counts.iter().sum::<usize>() == state.assignments.values().count();
        rafts.len() == self.replicas.len() && is_owned && most - least <= 1
    }

    /// The newest state that any replica shows.
    fn newest_state(&self) -> Option<Arc<State>> {
        let rafts = self.replicas.iter().filter_map(|it| it.raft());
        let states = rafts.map(|raft| raft.state());
        states.max_by_key(|state| state.revision)
    }
}

/// Done by the host of the cluster.
fn replace(cluster: &SimCluster, cut: Cut, backup: u64, number: usize) {
    match cut {
        Cut::Replaced => drop(cluster.replace()),
        Cut::Ahead => cluster.restore_ahead(&cluster.current_rv(), AHEAD).unwrap(),
        Cut::Restored | Cut::Overtaken => cluster.rewind(&backup.into()).unwrap(),
    }
    if cut == Cut::Overtaken {
        for part in 0..OVERTAKING {
            mark(cluster, &format!("overtaking-{number}-{part}"));
        }
    }
    cluster.faults().set(Fault::CloseWatches);
}

/// The eras of the streams of a cluster.
fn eras_of(state: &State, api: &ApiServer) -> BTreeMap<StreamId, Option<Era>> {
    let cluster = state.cluster_named(&api.cluster).map(|cluster| cluster.id);
    let streams = state.streams.values();
    let of_it = streams.filter(|stream| Some(stream.shard.cluster) == cluster);
    of_it
        .map(|stream| (stream.id, stream.era.as_ref().map(|era| era.era)))
        .collect()
}

/// The epoch of its owner.
fn epoch_of(state: &State, api: &ApiServer) -> Option<Epoch> {
    let cluster = state.cluster_named(&api.cluster).map(|cluster| cluster.id);
    let mut assignments = state.assignments.values();
    let assignment = assignments.find(|it| Some(it.shard().cluster) == cluster);
    assignment.map(|assignment| assignment.epoch())
}

/// Whether each of these streams that still exists has begun an era that does not continue its past.
fn has_begun_all(state: &State, before: &BTreeMap<StreamId, Option<Era>>) -> bool {
    before.iter().all(|(id, before)| {
        let Some(stream) = state.streams.get(id) else {
            return true;
        };
        let era = stream.era.as_ref();
        era.is_some_and(|era| Some(era.era) > *before && !era.repaired)
    })
}
