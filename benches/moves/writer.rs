//! Writes to every stream at a steady rate, and remembers when.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use quorumwatch::domain::cluster::Resource;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    clock,
    clusters::Clusters,
    servers::Server,
    silence::{Commit, Commits},
};

/// How often it looks for what is due: the finest that timers have.
const BEAT: Duration = Duration::from_millis(1);
/// What is later than so many periods is left out: nothing is made up for in a burst.
const BEHIND_MAX: u64 = 3;

/// One resource of one cluster.
pub(crate) struct Stream {
    /// The index of its cluster.
    pub(crate) cluster: usize,
    pub(crate) resource: Resource,
    server: Server,
    commits: Mutex<Commits>,
    is_paused: AtomicBool,
}

impl Stream {
    pub(crate) fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().expect("nobody panics while it is held")
    }

    fn write(&self) {
        // Held until the commit is recorded: arrivals must not be compared before.
        let mut commits = self.commits();
        let at = clock::now();
        let version = self.server.write(&self.resource, commits.count());
        commits.push(Commit { at, version });
    }
}

/// Writes until it is dropped.
pub(crate) struct Writer {
    pub(crate) streams: Arc<[Stream]>,
    work: Option<Work>,
}

/// What writes until it is dropped.
enum Work {
    /// A task that writes to all streams.
    Task { _handle: AbortOnDropHandle<()> },
    /// A thread for each stream, since a real API server is waited for.
    Threads {
        stop: CancellationToken,
        threads: Vec<JoinHandle<()>>,
    },
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Self::Threads { stop, threads } = self {
            stop.cancel();
            for thread in threads.drain(..) {
                // One that has failed has said so.
                let _ = thread.join();
            }
        }
    }
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
            work: None,
        }
    }

    /// Begins to write so many changes per second to each stream.
    pub(crate) fn begin(&mut self, rate: f64) {
        let is_real = |stream: &Stream| matches!(stream.server, Server::Real(_));
        self.work = Some(if self.streams.iter().any(is_real) {
            let stop = CancellationToken::new();
            let threads = (0..self.streams.len()).map(|index| {
                let (streams, stop) = (Arc::clone(&self.streams), stop.clone());
                std::thread::spawn(move || write_alone(&streams, index, rate, &stop))
            });
            Work::Threads {
                threads: threads.collect(),
                stop,
            }
        } else {
            let task = tokio::spawn(write(Arc::clone(&self.streams), rate));
            Work::Task {
                _handle: AbortOnDropHandle::new(task),
            }
        });
    }

    pub(crate) fn end(&mut self) {
        self.work = None;
    }

    /// An API server that is down commits nothing.
    pub(crate) fn pause(&self, cluster: usize, is_paused: bool) {
        let streams = self.streams.iter();
        for stream in streams.filter(|stream| stream.cluster == cluster) {
            stream.is_paused.store(is_paused, Ordering::Release);
            // What is being written has an outcome.
            drop(stream.commits());
        }
    }
}

/// Writes to one stream, and waits for each answer.
#[expect(clippy::disallowed_methods, reason = "a thread that keeps a rate")]
fn write_alone(streams: &[Stream], index: usize, rate: f64, stop: &CancellationToken) {
    let period = (1e6 / rate) as u64;
    let stream = &streams[index];
    // Spread evenly over a period.
    let mut due = clock::now() + index as u64 * period / streams.len() as u64;
    while !stop.is_cancelled() {
        let now = clock::now();
        std::thread::sleep(Duration::from_micros(due.saturating_sub(now))); // poll: the next is due
        if !stream.is_paused.load(Ordering::Acquire) {
            stream.write();
        }
        due = (due + period).max(clock::now().saturating_sub(BEHIND_MAX * period));
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
