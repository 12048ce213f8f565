//! Writes objects at an uneven pace, as the seed has it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quorumwatch::{
    domain::{cluster::Resource, position::ResourceVersion},
    sim::{Error, Manifest, SimCluster},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::api_server::served;

const NAMESPACE: &str = "default";

/// Between two changes, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 5..250;

/// Objects of each resource from the beginning: a list of them is more than one frame of HTTP/2, so
/// that a snapshot can be interrupted inside.
const POPULATION: usize = 60;

/// Objects of each resource in a flood: more than wait for a subscriber that does not read.
const FLOOD: usize = 180;

/// How a writer is controlled from outside, and what it leaves there.
#[derive(Clone, Debug, Default)]
pub(super) struct Writing {
    /// Ends it.
    pub(super) stop: CancellationToken,
    /// While it is set nothing is written.
    pub(super) is_paused: Arc<AtomicBool>,
    /// The label `part` of each object that has one, by its name and its version.
    parts: Arc<Mutex<BTreeMap<(String, u64), u64>>>,
}

impl Writing {
    /// The label `part` of an object at this version.
    pub(super) fn part_of(&self, name: &str, rv: u64) -> Option<u64> {
        let parts = self.parts.lock().unwrap();
        parts.get(&(name.to_owned(), rv)).copied()
    }

    /// Of two histories that have the same version the newer counts.
    fn note_part(&self, name: &str, rv: &ResourceVersion, part: u64) {
        let rv = rv.as_u64().unwrap();
        let mut parts = self.parts.lock().unwrap();
        parts.insert((name.to_owned(), rv), part);
    }
}

/// What one resource has.
struct Population {
    resource: Resource,
    /// The names of the objects that exist, but for those that a restore has brought back.
    names: Vec<String>,
}

struct Writer {
    random: SmallRng,
    cluster: SimCluster,
    writing: Writing,
    populations: Vec<Population>,
    /// Numbers names and contents.
    written: u64,
}

/// Writes until it is stopped.
pub(super) async fn write(cluster: SimCluster, seed: u64, writing: Writing) {
    let populations = served().into_iter().map(|resource| Population {
        resource,
        names: Vec::new(),
    });
    let mut writer = Writer {
        random: SmallRng::seed_from_u64(seed),
        cluster,
        populations: populations.collect(),
        writing,
        written: 0,
    };
    for at in 0..writer.populations.len() {
        (0..POPULATION).for_each(|_| writer.create(at));
    }
    let stop = writer.writing.stop.clone();
    loop {
        let pause = Duration::from_millis(writer.random.random_range(PAUSE_MS));
        // poll: objects are written at some pace
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        if !writer.writing.is_paused.load(Ordering::Relaxed) {
            writer.change();
        }
    }
}

/// Writes one object of each resource, which shows how far a subscriber is.
pub(crate) fn mark(cluster: &SimCluster, name: &str) {
    for resource in served() {
        let manifest = Manifest::new(NAMESPACE, name);
        cluster.create(&resource, &manifest).unwrap();
    }
}

/// Writes many objects at once.
pub(crate) fn flood(cluster: &SimCluster, number: usize) {
    for resource in served() {
        for name in names_of_flood(number) {
            let manifest = Manifest::new(NAMESPACE, name);
            cluster.create(&resource, &manifest).unwrap();
        }
    }
}

/// Deletes them, those of one resource at one revision.
pub(crate) fn drain(cluster: &SimCluster, number: usize) {
    let names: Vec<String> = names_of_flood(number).collect();
    let gone: Vec<_> = names
        .iter()
        .map(|name| (NAMESPACE, name.as_str()))
        .collect();
    for resource in served() {
        of_this_history(cluster.delete_batch(&resource, &gone));
    }
}

fn names_of_flood(number: usize) -> impl Iterator<Item = String> {
    (0..FLOOD).map(move |at| format!("flood-{number}-{at}"))
}

impl Writer {
    fn change(&mut self) {
        let at = self.random.random_range(0..self.populations.len());
        let exist = self.populations[at].names.len();
        match self.random.random_range(0..20) {
            0..8 => self.create(at),
            8..15 if exist > 0 => self.update(at),
            15..18 if exist > 0 => self.delete(at, 1),
            // Several at one revision, as where a lease ends.
            18 if exist > 0 => self.delete(at, 3),
            19 => (0..5).for_each(|_| self.create(at)),
            _ => self.create(at),
        }
    }

    fn create(&mut self, at: usize) {
        let name = format!("object-{}", self.written);
        let (manifest, part) = self.manifest(&name);
        let population = &mut self.populations[at];
        let rv = self.cluster.create(&population.resource, &manifest);
        self.writing.note_part(&name, &rv.unwrap(), part);
        population.names.push(name);
    }

    fn update(&mut self, at: usize) {
        let count = self.populations[at].names.len();
        let which = self.random.random_range(0..count);
        let name = self.populations[at].names[which].clone();
        let (manifest, part) = self.manifest(&name);
        let population = &mut self.populations[at];
        let updated = self.cluster.update(&population.resource, &manifest);
        match of_this_history(updated) {
            Some(rv) => self.writing.note_part(&name, &rv, part),
            None => drop(population.names.remove(which)),
        }
    }

    fn delete(&mut self, at: usize, most: usize) {
        let population = &mut self.populations[at];
        let count = population.names.len().min(most);
        let gone: Vec<String> = population.names.drain(..count).collect();
        let gone: Vec<_> = gone.iter().map(|name| (NAMESPACE, name.as_str())).collect();
        let deleted = self.cluster.delete_batch(&population.resource, &gone);
        of_this_history(deleted);
    }

    /// An object, and its label `part`.
    fn manifest(&mut self, name: &str) -> (Manifest, u64) {
        self.written += 1;
        let words = "x".repeat(self.random.random_range(0..200));
        let content = json!({ "number": self.written.to_string(), "words": words });
        let part = self.written % 3;
        let manifest = Manifest::new(NAMESPACE, name)
            .label("part", part.to_string())
            .member("data", &content);
        (manifest, part)
    }
}

/// The outcome of a write; nothing where the object does not exist, because the history is another
/// one than when it was written.
fn of_this_history(written: Result<ResourceVersion, Error>) -> Option<ResourceVersion> {
    match written {
        Err(Error::NotFound { .. }) => None,
        written => Some(written.unwrap()),
    }
}
