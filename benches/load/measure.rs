//! CPU and memory of a replica: for events, for subscribers, for idle clusters.

use std::time::{Duration, Instant};

use quorumwatch::{
    client::Endpoint,
    domain::cluster::Resource,
    sim::{Fleet, FleetOptions, LoadOptions},
};
use tempfile::TempDir;

use crate::{
    floor::Floor,
    frames::{Readers, record},
    harness::{Usage, World, WorldOptions, holds},
    reader::Reader,
    report::Report,
};

/// How much is measured, and for how long.
pub(crate) struct Plan {
    clusters: usize,
    /// The pause before a measurement.
    warm_up: Duration,
    span: Duration,
    overload_span: Duration,
    /// Events per second: one rate at which the replica is nearly idle, and one that keeps it busy.
    rates: [u32; 2],
    subscriber_rate: u32,
    subscribers: usize,
    /// Events per second that a slow reader reads.
    slow_reader_rate: f64,
    idle_clusters: usize,
    /// The pause until the connections of the start are closed: idle ones are kept for 50 s.
    idle_span: Duration,
    pub(crate) state_clusters: u64,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        clusters: 30,
        warm_up: Duration::from_secs(3),
        span: Duration::from_secs(10),
        overload_span: Duration::from_secs(25),
        rates: [5_000, 60_000],
        subscriber_rate: 10_000,
        subscribers: 8,
        slow_reader_rate: 20_000.0,
        idle_clusters: 1_000,
        idle_span: Duration::from_secs(60),
        state_clusters: 10_000,
    };

    pub(crate) const QUICK: Self = Self {
        clusters: 3,
        warm_up: Duration::from_millis(300),
        span: Duration::from_secs(1),
        overload_span: Duration::from_secs(2),
        rates: [500, 2_000],
        subscriber_rate: 500,
        subscribers: 2,
        slow_reader_rate: 500.0,
        idle_clusters: 30,
        idle_span: Duration::from_secs(1),
        state_clusters: 1_000,
    };
}

/// How long the replica may take until it watches all clusters.
const WATCHED_TIMEOUT: Duration = Duration::from_secs(180);

/// The number of frames that the floor's server repeats.
const FRAMES: usize = 2_000;

/// The interval at which deliveries are counted.
const SECOND: Duration = Duration::from_secs(1);

/// One replica that watches simulated clusters.
pub(crate) struct Watched<'a> {
    plan: &'a Plan,
    world: World,
}

/// The CPU time of a process in a period, and the events that it published or read.
struct Used {
    cpu: Duration,
    elapsed: Duration,
    events: u64,
}

impl Used {
    async fn over(span: Duration, pid: u32, mut count: impl AsyncFnMut() -> u64) -> Self {
        let (events, start) = (count().await, Instant::now());
        let before = cpu(pid);
        tokio::time::sleep(span).await;
        Self {
            cpu: cpu(pid) - before,
            elapsed: start.elapsed(),
            events: count().await - events,
        }
    }

    fn us_per_event(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events.max(1) as f64
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }

    fn cores(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

impl<'a> Watched<'a> {
    pub(crate) async fn start(plan: &'a Plan) -> Self {
        let world = World::start_with(WorldOptions {
            clusters: plan.clusters,
            replicas: 1,
            ..WorldOptions::default()
        });
        Self {
            plan,
            world: world.await,
        }
    }

    fn pid(&self) -> u32 {
        self.world.group.replicas[0].pid().unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        self.world.group.replicas[0].endpoint()
    }

    /// The number of events that the owner has published since the clusters started: a simulated
    /// cluster gives each change the next version.
    async fn published(&self) -> u64 {
        let shards = self.world.group.client().shards().await.unwrap();
        let streams = shards.iter().flat_map(|shard| &shard.streams);
        let versions = streams.filter_map(|stream| {
            let checkpoint = stream.checkpoint.as_ref()?;
            checkpoint.resource_version.parse::<u64>().ok()
        });
        versions.sum()
    }

    async fn begin(&mut self, rate: u32) {
        self.world.end().await;
        self.world.begin(f64::from(rate));
        tokio::time::sleep(self.plan.warm_up).await;
    }

    async fn used(&self) -> Used {
        Used::over(self.plan.span, self.pid(), async || self.published().await).await
    }

    /// From the API server's socket to the owner's ring.
    pub(crate) async fn cpu(&mut self, report: &mut Report) {
        for rate in self.plan.rates {
            self.begin(rate).await;
            let used = self.used().await;
            let remark = format!(
                "{} clusters, {:.0} events/s reached the ring, {:.2} cores",
                self.plan.clusters,
                used.rate(),
                used.cores()
            );
            let name = format!("cpu.at_{rate}");
            report.add(name, used.us_per_event(), "us/event", remark);
        }
        self.world.end().await;
        for rate in self.plan.rates {
            self.reading(rate, report).await;
        }
    }

    /// What it costs to read the same watches, and to do nothing with what they bring.
    async fn reading(&self, rate: u32, report: &mut Report) {
        let names = (1..=self.plan.clusters).map(|number| format!("sim-{number}"));
        let fleet = Fleet::start(FleetOptions {
            clusters: names.clone().collect(),
            ..FleetOptions::default()
        });
        let fleet = fleet.await.unwrap();
        let watches = names.map(|name| {
            let version = fleet.cluster(&name).unwrap().current_rv();
            let address = fleet.address();
            format!(
                "http://{address}/clusters/{name}/api/v1/events?watch=1&resourceVersion={version}"
            )
        });
        let mut reader = Reader::start(&watches.collect::<Vec<_>>());
        let load = fleet.load(LoadOptions {
            events_per_second: f64::from(rate),
            resources: vec![Resource::events()],
            ..LoadOptions::default()
        });
        tokio::time::sleep(self.plan.warm_up).await;
        let pid = reader.pid();
        let used = Used::over(self.plan.span, pid, async || reader.events()).await;
        drop(reader);
        load.stop().await;
        fleet.stop().await;
        let remark = format!(
            "a bare hyper client of such watches: {:.0} events/s",
            used.rate()
        );
        let name = format!("cpu.floor_at_{rate}");
        report.add(name, used.us_per_event(), "us/event", remark);
    }

    /// What subscribers add, and what they add to a server that does nothing else.
    pub(crate) async fn subscribers(&mut self, report: &mut Report) {
        let (rate, count) = (self.plan.subscriber_rate, self.plan.subscribers);
        self.begin(rate).await;
        let without = self.used().await;
        let frames = record(&self.endpoint(), FRAMES.min(rate as usize)).await;
        let readers = Readers::start(&self.endpoint(), count, None).await;
        tokio::time::sleep(self.plan.warm_up).await;
        let before = readers.received.events();
        let with = self.used().await;
        let delivered = readers.received.events() - before;
        drop(readers);
        self.world.end().await;
        // What the replica does without subscribers, at the rate of this measurement.
        let watching = without.us_per_event() * with.events as f64 / 1e6;
        let added = with.cpu.as_secs_f64() - watching;
        let remark = format!(
            "{count} subscribers, {:.0} events/s: {:.0} deliveries/s, {:.2} cores",
            with.rate(),
            delivered as f64 / with.elapsed.as_secs_f64(),
            with.cores()
        );
        let each = added * 1e6 / delivered.max(1) as f64;
        report.add("subscribers.each", each, "us/event/subscriber", remark);
        self.floor(&frames, report).await;
    }

    async fn floor(&self, frames: &[bytes::Bytes], report: &mut Report) {
        let (rate, count) = (self.plan.subscriber_rate, self.plan.subscribers);
        let folder = TempDir::with_prefix("quorumwatch-bench-").unwrap();
        let floor = Floor::start(frames, rate, folder.path());
        let readers = Readers::start(&floor.endpoint, count, None).await;
        tokio::time::sleep(self.plan.warm_up).await;
        let (before, start) = (readers.received.events(), Instant::now());
        let cpu_before = cpu(floor.pid());
        tokio::time::sleep(self.plan.span).await;
        let used = cpu(floor.pid()) - cpu_before;
        let delivered = readers.received.events() - before;
        let remark = format!(
            "a bare tonic stream of such frames ({} bytes each): {:.0} deliveries/s",
            frames.iter().map(bytes::Bytes::len).sum::<usize>() / frames.len().max(1),
            delivered as f64 / start.elapsed().as_secs_f64()
        );
        let each = used.as_secs_f64() * 1e6 / delivered.max(1) as f64;
        report.add("subscribers.floor", each, "us/event/subscriber", remark);
    }

    /// Readers that are slower than the writer.
    pub(crate) async fn overload(&mut self, report: &mut Report) {
        let rate = self.plan.rates[1];
        let count = self.plan.subscribers;
        self.begin(rate).await;
        let readers =
            Readers::start(&self.endpoint(), count, Some(self.plan.slow_reader_rate)).await;
        let (published, cpu_before) = (self.published().await, cpu(self.pid()));
        let start = Instant::now();
        let mut deliveries = Vec::new();
        while start.elapsed() < self.plan.overload_span {
            let (before, since) = (readers.received.events(), Instant::now());
            tokio::time::sleep(SECOND).await;
            let events = readers.received.events() - before;
            deliveries.push(events as f64 / since.elapsed().as_secs_f64());
        }
        let cores = (cpu(self.pid()) - cpu_before).as_secs_f64() / start.elapsed().as_secs_f64();
        let published = self.published().await - published;
        let peak = deliveries.iter().copied().fold(0.0, f64::max);
        let end = &deliveries[deliveries.len() / 2..];
        let sustained = end.iter().sum::<f64>() / end.len().max(1) as f64;
        let gaps = readers
            .received
            .gaps
            .load(std::sync::atomic::Ordering::Relaxed);
        let ended = readers.received.ended.lock().unwrap().clone();
        drop(readers);
        self.world.end().await;
        let remark = format!(
            "{count} readers of {:.0} events/s each, {:.0} events/s reached the ring, {cores:.2} cores",
            self.plan.slow_reader_rate,
            published as f64 / start.elapsed().as_secs_f64()
        );
        report.add("overload.peak", peak, "deliveries/s", remark);
        let seconds: Vec<_> = deliveries
            .iter()
            .map(|n| format!("{:.0}", n / 1e3))
            .collect();
        let remark = format!(
            "the second half; {gaps} gaps, ended {ended:?}; thousands in each second: {}",
            seconds.join(" ")
        );
        report.add("overload.sustained", sustained, "deliveries/s", remark);
    }
}

fn cpu(pid: u32) -> Duration {
    Duration::from_secs_f64(Usage::of(pid).cpu_seconds)
}

/// The memory of a replica that watches nothing, and what each idle cluster adds.
pub(crate) async fn idle(plan: &Plan, report: &mut Report) {
    let count = plan.idle_clusters;
    let world = World::start_empty(WorldOptions {
        clusters: count,
        replicas: 1,
        ..WorldOptions::default()
    })
    .await;
    let pid = world.group.replicas[0].pid().unwrap();
    tokio::time::sleep(plan.warm_up).await;
    let empty = Usage::of(pid).rss_mib;
    report.add("idle.replica", empty, "MiB", "watches nothing");
    let client = world.group.client();
    let start = Instant::now();
    for name in world.fleet.cluster_names() {
        client.create(world.described(&name)).await.unwrap();
    }
    let created = start.elapsed();
    let watched = async || {
        let shards = client.shards().await.unwrap_or_default();
        let streams = shards.iter().flat_map(|shard| &shard.streams);
        streams.filter(|stream| stream.checkpoint.is_some()).count() == count
    };
    holds("every cluster is watched", WATCHED_TIMEOUT, watched).await;
    let took = start.elapsed();
    let each = || (Usage::of(pid).rss_mib - empty) * 1024.0 / count as f64;
    let remark = format!(
        "just watched: {count} clusters, registered in {:.1} s, watched after {:.1} s",
        created.as_secs_f64(),
        took.as_secs_f64()
    );
    report.add("idle.cluster_at_first", each(), "KiB", remark);
    tokio::time::sleep(plan.idle_span).await;
    let (before, since) = (cpu(pid), Instant::now());
    tokio::time::sleep(plan.span).await;
    let cores = (cpu(pid) - before).as_secs_f64() / since.elapsed().as_secs_f64();
    let remark = format!("after {:?}; {cores:.3} cores", plan.idle_span + plan.span);
    report.add("idle.cluster", each(), "KiB", remark);
}
