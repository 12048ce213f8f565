//! Writes to every stream at a steady rate, and remembers when.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quorumwatch::{
    domain::cluster::Resource,
    sim::{Manifest, SimCluster},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    clock,
    clusters::Clusters,
    silence::{Commit, Commits},
};

/// How often it looks for what is due: the finest that timers have.
const BEAT: Duration = Duration::from_millis(1);
/// What is later than so many periods is left out: nothing is made up for in a burst.
const BEHIND_MAX: u64 = 3;
/// Objects of a stream. They are created first, then updated in turn.
const OBJECTS: u64 = 50;
/// What an object holds besides its metadata.
const BODY_BYTES: usize = 256;

/// One resource of one cluster.
pub(crate) struct Stream {
    /// The index of its cluster.
    pub(crate) cluster: usize,
    pub(crate) resource: Resource,
    server: SimCluster,
    commits: Mutex<Commits>,
    is_paused: AtomicBool,
}

impl Stream {
    pub(crate) fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().expect("nobody panics while it is held")
    }

    fn write(&self) {
        let mut commits = self.commits();
        let number = commits.count();
        let object = format!("object-{}", number % OBJECTS);
        let manifest = Manifest::new("default", object)
            .member("message", &"x".repeat(BODY_BYTES).into())
            .member("count", &number.into());
        // Held, so that nobody receives what is not written down yet.
        let at = clock::now();
        let written = if number < OBJECTS {
            self.server.create(&self.resource, &manifest)
        } else {
            self.server.update(&self.resource, &manifest)
        };
        let version = written.expect("objects are created before they are updated");
        let version = version.as_u64().expect("versions are small");
        commits.push(Commit { at, version });
    }
}

/// Writes until it is dropped.
pub(crate) struct Writer {
    pub(crate) streams: Arc<[Stream]>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Writer {
    /// Nothing is written yet.
    pub(crate) fn new(clusters: &Clusters) -> Self {
        let resources = clusters.watched.resources();
        let servers = clusters.all.iter().enumerate();
        let streams = servers.flat_map(|(cluster, server)| {
            resources.iter().map(move |resource| Stream {
                cluster,
                resource: resource.clone(),
                server: server.clone(),
                commits: Mutex::default(),
                is_paused: AtomicBool::new(false),
            })
        });
        Self {
            streams: streams.collect(),
            task: None,
        }
    }

    /// Begins to write so many changes per second to each stream.
    pub(crate) fn begin(&mut self, rate: f64) {
        let task = tokio::spawn(write(Arc::clone(&self.streams), rate));
        self.task = Some(AbortOnDropHandle::new(task));
    }

    pub(crate) fn end(&mut self) {
        self.task = None;
    }

    /// An API server that is down commits nothing.
    pub(crate) fn pause(&self, cluster: usize, is_paused: bool) {
        let streams = self.streams.iter();
        for stream in streams.filter(|stream| stream.cluster == cluster) {
            stream.is_paused.store(is_paused, Ordering::Release);
        }
    }
}

async fn write(streams: Arc<[Stream]>, rate: f64) {
    let period = (1e6 / rate) as u64;
    let count = streams.len() as u64;
    let start = clock::now();
    // Spread evenly over a period.
    let mut due: Vec<u64> = (0..count)
        .map(|index| start + index * period / count)
        .collect();
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        for (stream, due) in streams.iter().zip(&mut due) {
            let now = clock::now();
            if *due > now {
                continue;
            }
            if !stream.is_paused.load(Ordering::Acquire) {
                stream.write();
            }
            *due = (*due + period).max(now.saturating_sub(BEHIND_MAX * period));
        }
    }
}
