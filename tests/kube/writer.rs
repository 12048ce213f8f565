//! Writes to one cluster, and keeps account of what its API server answered.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

use crate::{
    kind::Kind,
    rest::{Rest, key_of},
    truth::Truth,
};
use quorumwatch::domain::event::Change;

/// Objects of a kind that there should be before many are deleted.
const LIVE_FEW: usize = 8;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// How often each kind is chosen, relative to the others.
    pub(crate) weights: [(Kind, u32); 3],
    /// From one write to the next.
    pub(crate) every: Duration,
    /// How long an object's text is, in bytes.
    pub(crate) text_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Update,
    Delete,
}

/// One write that the API server acknowledged.
#[derive(Debug)]
struct Entry {
    kind: Kind,
    verb: Verb,
    name: String,
    uid: String,
    rv: Option<u64>,
}

/// What the API server acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    /// Writes that failed, or whose outcome is not known.
    pub(crate) failed: usize,
}

/// Writes until it is stopped.
pub(crate) struct Writer {
    stop: CancellationToken,
    task: JoinHandle<Ledger>,
}

struct Work {
    rest: Rest,
    mix: Mix,
    random: SmallRng,
    live: BTreeMap<Kind, Vec<String>>,
    made: u64,
    ledger: Ledger,
}

impl Writer {
    /// Begins to write; `seed` decides what, and is part of every name.
    pub(crate) fn start(rest: Rest, mix: Mix, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let mut work = Work::new(rest, mix, seed);
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut turns = time::interval(work.mix.every);
            turns.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
            while !stopped.is_cancelled() {
                turns.tick().await;
                work.write().await;
            }
            work.ledger
        });
        Self { stop, task }
    }

    /// Ends after the write that is under way.
    pub(crate) async fn stop(self) -> Ledger {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Writes so often, and is done.
pub(crate) async fn write(rest: Rest, mix: Mix, seed: u64, writes: usize) -> Ledger {
    let mut work = Work::new(rest, mix, seed);
    for _ in 0..writes {
        work.write().await;
    }
    work.ledger
}

impl Work {
    fn new(rest: Rest, mix: Mix, seed: u64) -> Self {
        Self {
            rest,
            mix,
            random: SmallRng::seed_from_u64(seed),
            live: BTreeMap::new(),
            made: seed * 1_000_000,
            ledger: Ledger::default(),
        }
    }

    async fn write(&mut self) {
        let kind = self.choose_kind();
        let live = self.live.get(&kind).map_or(0, Vec::len);
        let verb = match self.random.random_range(0..10) {
            _ if live == 0 => Verb::Create,
            0..=3 => Verb::Create,
            4..=6 => Verb::Update,
            _ if live < LIVE_FEW => Verb::Update,
            _ => Verb::Delete,
        };
        let name = match verb {
            Verb::Create => {
                self.made += 1;
                format!("object-{}", self.made)
            }
            Verb::Update | Verb::Delete => self.choose_live(kind, verb),
        };
        let text = "x".repeat(self.mix.text_bytes) + &self.random.random::<u32>().to_string();
        let answer = match verb {
            Verb::Create => self.rest.create(kind, &name, &text).await,
            Verb::Update => self.rest.update(kind, &name, &text).await,
            Verb::Delete => self.rest.delete(kind, &name).await,
        };
        match answer {
            Ok(written) => {
                if verb == Verb::Create {
                    self.live.entry(kind).or_default().push(name.clone());
                }
                self.ledger.entries.push(Entry {
                    kind,
                    verb,
                    name,
                    uid: written.uid,
                    rv: written.rv,
                });
            }
            // It expired, or the API server is dead: either way nothing more is done with it.
            Err(_) => {
                self.ledger.failed += 1;
                let live = self.live.entry(kind).or_default();
                live.retain(|other| *other != name);
            }
        }
    }

    fn choose_kind(&mut self) -> Kind {
        let all: u32 = self.mix.weights.iter().map(|(_, weight)| weight).sum();
        let mut chosen = self.random.random_range(0..all);
        for (kind, weight) in self.mix.weights {
            match chosen.checked_sub(weight) {
                None => return kind,
                Some(rest) => chosen = rest,
            }
        }
        unreachable!("the weights add up to more than was chosen")
    }

    fn choose_live(&mut self, kind: Kind, verb: Verb) -> String {
        let live = self.live.get_mut(&kind).unwrap();
        let chosen = self.random.random_range(0..live.len());
        match verb {
            Verb::Delete => live.swap_remove(chosen),
            Verb::Create | Verb::Update => live[chosen].clone(),
        }
    }
}

impl Ledger {
    /// Takes in what another writer of the same cluster wrote.
    pub(crate) fn add(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.failed += other.failed;
    }

    pub(crate) fn writes(&self) -> usize {
        self.entries.len()
    }

    /// The UIDs of a kind's objects, by key.
    pub(crate) fn uids(&self, kind: Kind) -> BTreeMap<String, &str> {
        let entries = self.entries.iter().filter(|entry| entry.kind == kind);
        entries
            .map(|entry| (key_of(&entry.name), entry.uid.as_str()))
            .collect()
    }

    /// What was acknowledged and is not in the truth, in words.
    pub(crate) fn missing_in(&self, kind: Kind, truth: &Truth) -> Vec<String> {
        let facts: std::collections::BTreeSet<_> = truth
            .facts()
            .iter()
            .map(|fact| (fact.key.as_str(), fact.change as u8, fact.rv))
            .collect();
        let mut missing = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.kind == kind) {
            let key = key_of(&entry.name);
            let is_there = match (entry.verb, entry.rv) {
                (Verb::Delete, _) | (_, None) => truth
                    .facts()
                    .iter()
                    .any(|fact| fact.key == key && fact.change == Change::Deleted),
                (Verb::Create, Some(rv)) => facts.contains(&(&key, Change::Added as u8, rv)),
                // A patch that changes nothing is answered with the version that was there.
                (Verb::Update, Some(rv)) => {
                    facts.contains(&(&key, Change::Modified as u8, rv))
                        || facts.contains(&(&key, Change::Added as u8, rv))
                }
            };
            if !is_there {
                missing.push(format!(
                    "{kind:?} {entry:?} was acknowledged, not committed"
                ));
            }
        }
        missing
    }
}
