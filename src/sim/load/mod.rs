//! Seeded load: realistic objects, written to the clusters of a fleet at a steady rate.

mod objects;

use std::{collections::VecDeque, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use self::objects::Template;
use super::cluster::SimCluster;
use crate::domain::cluster::Resource;

/// How often the load looks whether something is due: often enough to be smooth, seldom enough to
/// cost nothing.
const BEAT: Duration = Duration::from_millis(5);

/// Most changes written in one beat; a load that cannot keep up falls behind its rate and reports
/// that in its report, and never blocks a thread for long.
const BEAT_CHANGES_MAX: u64 = 1000;

/// Most objects of a resource in a cluster that the load keeps alive: beyond it the oldest is
/// deleted where a new one was due, so that memory is bounded without a TTL.
const OBJECTS_MAX: usize = 2000;

/// What to write.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Changes per second, over the whole fleet.
    pub events_per_second: f64,
    /// What to write; each is taken equally often.
    pub resources: Vec<Resource>,
    /// About how long an object's JSON is.
    pub object_bytes: usize,
    /// Which share of the changes are updates.
    pub update_share: f64,
    /// Which share of the changes are deletions.
    pub delete_share: f64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            events_per_second: 100.0,
            resources: vec![Resource::events()],
            object_bytes: 1024,
            update_share: 0.3,
            delete_share: 0.05,
        }
    }
}

/// A load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    cancel: CancellationToken,
    task: JoinHandle<LoadReport>,
}

/// What a load wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Objects created.
    pub created: u64,
    /// Updates.
    pub updated: u64,
    /// Deletions, those by TTL not counted.
    pub deleted: u64,
    /// How long the load ran.
    pub elapsed: Duration,
}

impl LoadReport {
    /// All changes.
    pub fn changes(&self) -> u64 {
        self.created + self.updated + self.deleted
    }
}

impl Load {
    /// Stops and returns what was written.
    pub async fn stop(self) -> LoadReport {
        self.cancel.cancel();
        self.task.await.unwrap_or_default()
    }
}

pub(super) fn start(
    clusters: Vec<SimCluster>,
    seed: u64,
    options: LoadOptions,
    cancel: CancellationToken,
) -> Load {
    let generator = Generator::new(clusters, seed, options);
    let task = tokio::spawn(generator.run(cancel.clone()));
    Load { cancel, task }
}

struct Generator {
    options: LoadOptions,
    rng: SmallRng,
    /// One for each resource of each cluster.
    populations: Vec<Population>,
    report: LoadReport,
}

/// The objects of one resource of one cluster that the load keeps.
struct Population {
    cluster: SimCluster,
    resource: Resource,
    /// Oldest first.
    objects: VecDeque<Template>,
}

impl Generator {
    fn new(clusters: Vec<SimCluster>, seed: u64, options: LoadOptions) -> Self {
        let populations = clusters.into_iter().flat_map(|cluster| {
            options.resources.iter().map(move |resource| Population {
                cluster: cluster.clone(),
                resource: resource.clone(),
                objects: VecDeque::new(),
            })
        });
        Self {
            rng: SmallRng::seed_from_u64(seed),
            populations: populations.collect(),
            report: LoadReport::default(),
            options,
        }
    }

    async fn run(mut self, cancel: CancellationToken) -> LoadReport {
        let start = Instant::now();
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = 0.0;
        let mut last = start;
        while let Some(now) = cancel.run_until_cancelled(beats.tick()).await {
            due += now.duration_since(last).as_secs_f64() * self.options.events_per_second;
            last = now;
            let mut left = BEAT_CHANGES_MAX;
            while due >= 1.0 && left > 0 {
                due -= 1.0;
                left -= 1;
                self.change();
            }
            // What could not be written in this beat is not made up for later.
            due = due.min(1.0);
        }
        self.report.elapsed = start.elapsed();
        self.report
    }

    /// Makes one change somewhere.
    fn change(&mut self) {
        if self.populations.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.populations.len());
        let population = &mut self.populations[index];
        let draw: f64 = self.rng.random();
        let deletes = self.options.delete_share;
        let is_full = population.objects.len() >= OBJECTS_MAX;
        let (done, count) = if population.objects.is_empty() {
            (false, &mut self.report.created)
        } else if is_full || draw < deletes {
            (population.delete_oldest(), &mut self.report.deleted)
        } else if draw < deletes + self.options.update_share {
            let index = self.rng.random_range(0..population.objects.len());
            (population.update(index), &mut self.report.updated)
        } else {
            (false, &mut self.report.created)
        };
        if done {
            *count += 1;
        } else {
            // Something new was due, or the object had gone by itself.
            let template = Template::draw(&mut self.rng, &population.resource);
            self.report.created +=
                u64::from(population.create(template, self.options.object_bytes));
        }
    }
}

impl Population {
    fn create(&mut self, mut template: Template, object_bytes: usize) -> bool {
        let manifest = template.next(object_bytes, self.cluster.context().clock.now().unix_us);
        let created = self.cluster.create(&self.resource, &manifest).is_ok();
        if created {
            self.objects.push_back(template);
        }
        created
    }

    /// An object that has gone by itself, by its TTL or a rewind, is forgotten.
    fn update(&mut self, index: usize) -> bool {
        let template = &mut self.objects[index];
        let manifest = template.next(0, self.cluster.context().clock.now().unix_us);
        let updated = self.cluster.update(&self.resource, &manifest).is_ok();
        if !updated {
            self.objects.swap_remove_back(index);
        }
        updated
    }

    fn delete_oldest(&mut self) -> bool {
        self.objects.pop_front().is_some_and(|template| {
            let (namespace, name) = template.key();
            self.cluster.delete(&self.resource, namespace, name).is_ok()
        })
    }
}
