//! Load that is judged, for a release build on a machine of its own:
//! `cargo test --release --test it -- --ignored --nocapture load`.
//! What it costs is measured by `benches/load`. `RATE`, `SECONDS`, `SUBSCRIBERS` and `CLUSTERS` change what is asked for.

use std::{
    collections::HashMap,
    env, fs,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quorumwatch::proto::v1::{
    Event, SubscribeRequest, SubscribeResponse, subscribe_response::Frame,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

use crate::harness::{PATIENCE, Usage, World, WorldOptions, holds};

/// How often the replicas are measured.
const SAMPLE: Duration = Duration::from_secs(10);

fn asked<T: FromStr>(name: &str, usual: T) -> T {
    let given = env::var(name).ok();
    given.map_or(usual, |text| text.parse().ok().expect("a number"))
}

/// What a subscriber that costs next to nothing knows.
#[derive(Default)]
struct Count {
    events: AtomicU64,
    not_after: AtomicU64,
    gaps: AtomicU64,
    ended: AtomicU64,
    /// From the owner's reading to our receiving, by milliseconds.
    latency: Vec<AtomicU64>,
}

/// Counts, and sees to it that positions grow.
async fn count(mut stream: Streaming<SubscribeResponse>, count: Arc<Count>) {
    let mut reached: HashMap<String, (u64, u64, u64)> = HashMap::new();
    while let Ok(Some(response)) = stream.message().await {
        match response.frame {
            Some(Frame::Event(event)) => {
                count.events.fetch_add(1, Ordering::Relaxed);
                let at = position(&event);
                let last = reached.get_mut(&event.stream);
                if last.as_ref().is_some_and(|last| at <= **last) {
                    count.not_after.fetch_add(1, Ordering::Relaxed);
                }
                count.measure(&event);
                match last {
                    Some(last) => *last = at,
                    None => drop(reached.insert(event.stream, at)),
                }
            }
            Some(Frame::Gap(_)) => drop(count.gaps.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
    count.ended.fetch_add(1, Ordering::Relaxed);
}

fn position(event: &Event) -> (u64, u64, u64) {
    let position = event.position.as_ref().expect("an event has a position");
    let rv = position.resource_version.parse().unwrap_or(u64::MAX);
    let ordinal = position.ordinal.map_or(u64::MAX, u64::from);
    (position.era, rv, ordinal)
}

impl Count {
    fn measuring() -> Self {
        Self {
            latency: (0..10_000).map(|_| AtomicU64::new(0)).collect(),
            ..Self::default()
        }
    }

    fn measure(&self, event: &Event) {
        if self.latency.is_empty() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seen = event.seen_time.unwrap_or_default();
        let seen_ms = seen.seconds * 1000 + i64::from(seen.nanos / 1_000_000);
        let now_ms = i64::try_from(now.as_millis()).unwrap();
        let late = usize::try_from(now_ms - seen_ms).unwrap_or(0);
        self.latency[late.min(self.latency.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// The latency that so many thousandths of the events kept, in milliseconds.
    fn latency_ms(&self, thousandths: u64) -> usize {
        let counts = self
            .latency
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let total: u64 = counts.clone().sum();
        let mut sum = 0;
        let reached = counts.map(|count| {
            sum += count;
            sum * 1000 >= total * thousandths
        });
        reached.take_while(|reached| !reached).count()
    }

    fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// Bytes on disk.
fn disk_mib(folder: &Path) -> f64 {
    fn bytes(folder: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let size = |entry: fs::DirEntry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            // Gone since it was listed.
            Err(_) => 0,
        };
        entries.map(size).sum()
    }
    bytes(folder) as f64 / 1024.0 / 1024.0
}

/// Measures every replica, and this process, for a while.
struct Meter {
    start: Instant,
    first: Vec<Usage>,
    pids: Vec<u32>,
}

impl Meter {
    fn start(world: &World) -> Self {
        let replicas = world.group.replicas.iter();
        let mut pids: Vec<_> = replicas.map(|replica| replica.pid().unwrap()).collect();
        pids.push(std::process::id());
        Self {
            start: Instant::now(),
            first: pids.iter().copied().map(Usage::of).collect(),
            pids,
        }
    }

    /// CPU in percent of one core since the start, resident memory, size of the data.
    fn tell(&self, world: &World, more: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut line = format!("{seconds:>5.0} s  {more}");
        for (index, pid) in self.pids.iter().enumerate() {
            let now = Usage::of(*pid);
            let cpu = (now.cpu_seconds - self.first[index].cpu_seconds) / seconds * 100.0;
            let rss = now.rss_mib;
            match world.group.replicas.get(index) {
                Some(replica) => {
                    let (name, disk) = (&replica.name, disk_mib(&replica.data_dir()));
                    line += &format!(" | {name}: {cpu:.1} % {rss:.0} MiB disk {disk:.1} MiB");
                }
                None => line += &format!(" | load and subscribers: {cpu:.0} % {rss:.0} MiB"),
            }
        }
        eprintln!("{line}");
    }
}

/// So many subscribers that cost next to nothing, spread over the replicas.
async fn counting(
    world: &World,
    subscribers: usize,
) -> (Vec<Arc<Count>>, Vec<AbortOnDropHandle<()>>) {
    let mut counts = Vec::new();
    let mut tasks = Vec::new();
    for index in 0..subscribers {
        let client = world.group.replicas[(index + 1) % 3].client();
        let mut stream = client.subscribe(SubscribeRequest::default()).await.unwrap();
        // The first progress: from here on everything counts.
        stream.message().await.unwrap();
        let of = match index {
            0 => Count::measuring(),
            _ => Count::default(),
        };
        let of = Arc::new(of);
        counts.push(Arc::clone(&of));
        tasks.push(AbortOnDropHandle::new(tokio::spawn(count(stream, of))));
    }
    (counts, tasks)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a machine of its own, and minutes"]
async fn load_is_borne_without_loss_or_repetition() {
    let rate = asked("RATE", 1000.0);
    let seconds = asked("SECONDS", 60_u64);
    let subscribers = asked("SUBSCRIBERS", 4_usize);
    let clusters = asked("CLUSTERS", 30_usize);
    let mut world = World::start_with(WorldOptions {
        clusters,
        ..WorldOptions::default()
    })
    .await;
    // One remembers everything and is judged; the others count.
    let judge = world.subscriber(0).await;
    let (counts, _tasks) = counting(&world, subscribers.saturating_sub(1)).await;
    eprintln!("{clusters} clusters, {rate} events/s, {subscribers} subscribers, {seconds} s");
    world.begin(rate);
    let meter = Meter::start(&world);
    let mut told = Instant::now();
    let end = Instant::now() + Duration::from_secs(seconds);
    holds(
        "the time is over",
        Duration::from_secs(seconds + 60),
        async || {
            if told.elapsed() >= SAMPLE {
                told = Instant::now();
                let slowest = counts.iter().map(|count| count.events()).min().unwrap_or(0);
                let more = format!(
                    "written {} judged {} slowest {slowest}",
                    world.produced(),
                    judge.record().delivered
                );
                meter.tell(&world, &more);
            }
            Instant::now() >= end
        },
    )
    .await;
    let written = world.produced();
    meter.tell(&world, "the load ends");
    world.end().await;
    let ended = Instant::now();
    let report = world.expect_exactly_once(&judge).await;
    let rest = async || counts.iter().all(|count| count.events() >= report.produced);
    holds("everybody has everything", PATIENCE, rest).await;
    eprintln!(
        "rate {:.0}/s: produced {} delivered {} lost {} duplicated {}; the rest took {:?}",
        written as f64 / seconds as f64,
        report.produced,
        report.delivered,
        report.lost,
        report.duplicated,
        ended.elapsed()
    );
    for count in &counts {
        let wrong = [&count.not_after, &count.gaps, &count.ended];
        let wrong = wrong.map(|count| count.load(Ordering::Relaxed));
        assert_eq!((count.events(), wrong), (report.produced, [0; 3]));
    }
    if let Some(count) = counts.first() {
        let [p50, p99, p999] = [500, 990, 999].map(|share| count.latency_ms(share));
        eprintln!("from API server to subscriber: p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn load_of_an_idle_group_is_small() {
    let world = World::start().await;
    let recorder = world.subscriber(0).await;
    recorder.covers(world.count()).await;
    let meter = Meter::start(&world);
    let seconds = asked("SECONDS", 60_u64);
    let end = Instant::now() + Duration::from_secs(seconds);
    let over = async || Instant::now() >= end;
    holds("the time is over", Duration::from_secs(seconds + 60), over).await;
    meter.tell(&world, "idle with six clusters");
}
