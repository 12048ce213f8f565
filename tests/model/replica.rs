//! One replica: what it knows, what it publishes, what it follows.

use std::collections::BTreeMap;

use quorumwatch::{
    agent::reconcile::{RunKey, Steps, reconcile},
    domain::{
        command::{BeginEra, Outcome},
        delivery::{
            item::Item,
            place::{Place, Reader},
            publication::Publication,
            way::Located,
        },
        id::{Epoch, Era, ReplicaId, Revision},
        state::State,
        stream::Stream,
    },
};

use crate::{
    digest::Digested,
    feed::Feed,
    group::SHARD,
    scope::Scope,
    stream_log::{Appended, StreamLog},
    watch::Watch,
};

/// What names a run: its epoch, the revision with which it began, and how often it began again.
pub(crate) type Key = (Epoch, Revision, u8);

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    /// Whether its process runs.
    pub(crate) up: bool,
    /// Up to which revision it has applied the log of the group.
    pub(crate) applied: u64,
    /// The newest part of the stream.
    pub(crate) log: StreamLog,
    /// What it publishes.
    pub(crate) run: Option<Run>,
    /// Watches that it has opened before the shard is its own.
    pub(crate) prepared: Option<Prepared>,
    /// What fills the log where it serves subscribers and does not own the shard.
    pub(crate) feed: Option<Feed>,
}

/// The stream as its owner publishes it, as `agent::stream` does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) epoch: Epoch,
    pub(crate) revision: Revision,
    /// How often it began again under the same epoch and revision.
    serial: u8,
    pub(crate) publication: Digested<Publication>,
    pub(crate) watch: Watch,
    /// The era that it has proposed.
    pub(crate) asking: Option<Asking>,
    /// Whether a newer owner is known here: its feeds have ended.
    pub(crate) fenced: bool,
    /// Whether it publishes no more, because its proposal was rejected.
    pub(crate) over: bool,
}

/// An era that was proposed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    pub(crate) begin: Digested<BeginEra>,
    /// Which of the copies of the proposal it waits for.
    pub(crate) ticket: u32,
    /// What came of it, and at which revision.
    pub(crate) answer: Option<(u64, Digested<Outcome>)>,
}

/// Watches that were opened early, and the stream as it was agreed on then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prepared {
    pub(crate) stream: Digested<Stream>,
    pub(crate) watch: Watch,
}

impl Run {
    pub(crate) fn key(&self) -> Key {
        (self.epoch, self.revision, self.serial)
    }

    pub(crate) fn era(&self) -> Option<Era> {
        self.publication.era().map(|start| start.era)
    }
}

impl Replica {
    /// What has to start and stop.
    pub(crate) fn steps(&self, state: &State, replica: ReplicaId) -> Steps {
        let running: BTreeMap<_, _> = self
            .run
            .iter()
            .map(|run| {
                let key = RunKey {
                    epoch: run.epoch,
                    run: run.revision,
                };
                (SHARD, key)
            })
            .collect();
        reconcile(state, replica, &running)
    }

    /// Begins to publish; what was published under an earlier epoch ends.
    pub(crate) fn begin_run(&mut self, epoch: Epoch, revision: Revision, watch: Watch) {
        self.log.fence(epoch);
        let same = |run: &&Run| (run.epoch, run.revision) == (epoch, revision);
        let before = self.run.as_ref().filter(same);
        self.run = Some(Run {
            epoch,
            revision,
            serial: before.map_or(0, |run| run.serial + 1),
            publication: Digested::new(Publication::new(epoch)),
            watch,
            asking: None,
            fenced: false,
            over: false,
        });
    }

    /// Publishes what the publication makes of something; whether the log has taken it.
    pub(crate) fn publish(
        &mut self,
        scope: &Scope,
        give: impl FnOnce(&mut Publication) -> Vec<Item>,
    ) -> Result<bool, String> {
        let Some(run) = &mut self.run else {
            return Ok(false);
        };
        let items = run.publication.change(give);
        match self.log.append(run.epoch, items, scope) {
            Appended::Taken => Ok(true),
            Appended::Stale => {
                run.fenced = true;
                Ok(false)
            }
            Appended::Missing => Err("published items do not follow what the log has".into()),
        }
    }

    /// The era that it publishes in.
    pub(crate) fn era(&self) -> Option<Era> {
        self.run.as_ref().and_then(Run::era)
    }

    /// What is here for a reader; none until the stream has an era.
    pub(crate) fn locate(&self, reader: Reader, place: &Place) -> Option<Located> {
        let run = self.run.as_ref()?;
        Some(Located {
            era: run.publication.era()?.clone(),
            next: self.log.locate(reader, place),
            floor: self.log.floor()?,
        })
    }
}
