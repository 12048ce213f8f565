//! Writes objects at an uneven pace, as the seed has it.

use std::time::Duration;

use quorumwatch::{
    domain::cluster::Resource,
    sim::{Manifest, SimCluster},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::api_server::resources;

const NAMESPACE: &str = "default";

/// Between two changes, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 5..250;

/// What one resource has.
struct Population {
    resource: Resource,
    /// The names of the objects that exist.
    names: Vec<String>,
}

struct Writer {
    random: SmallRng,
    cluster: SimCluster,
    populations: Vec<Population>,
    /// Numbers names and contents.
    written: u64,
}

/// Writes until it is stopped.
pub(super) async fn write(cluster: SimCluster, seed: u64, stop: CancellationToken) {
    let populations = resources().into_iter().map(|resource| Population {
        resource,
        names: Vec::new(),
    });
    let mut writer = Writer {
        random: SmallRng::seed_from_u64(seed),
        cluster,
        populations: populations.collect(),
        written: 0,
    };
    loop {
        let pause = Duration::from_millis(writer.random.random_range(PAUSE_MS));
        // poll: objects are written at some pace
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        writer.change();
    }
}

/// Writes one object of each resource, which shows how far a subscriber is.
pub(super) fn mark(cluster: &SimCluster, name: &str) {
    for resource in resources() {
        let manifest = Manifest::new(NAMESPACE, name);
        cluster.create(&resource, &manifest).unwrap();
    }
}

impl Writer {
    fn change(&mut self) {
        let at = self.random.random_range(0..self.populations.len());
        let exist = self.populations[at].names.len();
        match self.random.random_range(0..20) {
            0..9 => self.create(at),
            9..15 if exist > 0 => self.update(at),
            15..18 if exist > 0 => self.delete(at, 1),
            // Several at one revision, as where a lease ends.
            18 if exist > 0 => self.delete(at, 3),
            19 => (0..5).for_each(|_| self.create(at)),
            _ => self.create(at),
        }
    }

    fn create(&mut self, at: usize) {
        let name = format!("object-{}", self.written);
        let manifest = self.manifest(&name);
        let population = &mut self.populations[at];
        let created = self.cluster.create(&population.resource, &manifest);
        created.unwrap();
        population.names.push(name);
    }

    fn update(&mut self, at: usize) {
        let which = self
            .random
            .random_range(0..self.populations[at].names.len());
        let manifest = self.manifest(&self.populations[at].names[which].clone());
        let resource = &self.populations[at].resource;
        self.cluster.update(resource, &manifest).unwrap();
    }

    fn delete(&mut self, at: usize, most: usize) {
        let population = &mut self.populations[at];
        let count = population.names.len().min(most);
        let gone: Vec<String> = population.names.drain(..count).collect();
        let gone: Vec<_> = gone.iter().map(|name| (NAMESPACE, name.as_str())).collect();
        let deleted = self.cluster.delete_batch(&population.resource, &gone);
        deleted.unwrap();
    }

    fn manifest(&mut self, name: &str) -> Manifest {
        self.written += 1;
        let words = "x".repeat(self.random.random_range(0..200));
        let content = json!({ "number": self.written.to_string(), "words": words });
        Manifest::new(NAMESPACE, name)
            .label("part", (self.written % 3).to_string())
            .member("data", &content)
    }
}
