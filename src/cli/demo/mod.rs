//! `quorumwatch demo`: a group of three, a death, a takeover, and an account of every event.

mod group;
mod ownership;
mod replicas;
mod report;
mod scene;
mod tally;
mod voice;
mod world;

use std::{path::PathBuf, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    Error, duration, interrupt,
    output::{self, Format, Output},
    terminal::Tone,
};
use crate::{
    client::{Client, Options, watch::ShardWatch},
    proto::v1::WatchShardsRequest,
};
use ownership::Ownership;
use replicas::Replicas;
use report::Report;
use scene::Scene;
use tally::Tally;
use voice::Voice;
use world::World;

/// How often the state of things is shown.
const TICK: Duration = Duration::from_secs(1);
/// How the subscription is called in the replicas' logs.
const CLIENT_NAME: &str = "quorumwatch-demo";
/// Below, there is no time for a takeover and a rebalance.
const LENGTH_MIN: Duration = Duration::from_secs(4);

/// See it work: a group of three, a death, a takeover, and an account of every event.
///
/// Three replicas of this executable watch simulated clusters; one replica is killed and comes
/// back; in the end every event is accounted for. Exit code 0 only where none was lost and none
/// came twice.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  quorumwatch demo
  quorumwatch demo --kill leader --for 15s
  quorumwatch demo --kubeconfig ~/.kube/config --kube-context kind-dev --kube-context prod-eu")]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Which replica is killed.
    #[arg(long, value_enum, default_value = "owner")]
    kill: Target,
    /// For how long there is load.
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = length)]
    length: Duration,
    /// How many simulated clusters.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clusters: u16,
    /// Events per second, over all simulated clusters.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Everything that is drawn is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Watch clusters of your own, instead of simulated ones.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; may be repeated. The current one where it is not set.
    #[arg(long = "kube-context", value_name = "CONTEXT", requires = "kubeconfig")]
    contexts: Vec<String>,
    /// A command that the kubeconfig may run for credentials; may be repeated.
    #[arg(long, value_name = "COMMAND", requires = "kubeconfig")]
    allow_exec: Vec<String>,
    /// Keep the replicas' data and logs in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Which replica is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// The one that owns most.
    Owner,
    /// The one that leads.
    Leader,
    /// None.
    None,
}

fn length(text: &str) -> Result<Duration, &'static str> {
    let length = duration::parse(text)?;
    if length < LENGTH_MIN {
        return Err("at least 4s: a takeover and a rebalance need their time");
    }
    Ok(length)
}

/// What is going to happen.
fn plan(arguments: &Arguments) -> String {
    let victim = match arguments.kill {
        Target::Owner => "the replica that owns most",
        Target::Leader => "the leader",
        Target::None => {
            let seconds = arguments.length.as_secs();
            return format!("three replicas share some clusters for {seconds} s; none is killed");
        }
    };
    let seconds = (arguments.length / 4).as_secs();
    format!(
        "three replicas share some clusters; {seconds} s into the load, {victim} is killed with \
         SIGKILL; in the end every event is accounted for"
    )
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let json = arguments.output.format == Format::Json;
    let voice = Voice::new(json);
    let failed = |source| Error::File {
        action: "make a folder for",
        path: "the replicas' data".into(),
        source,
    };
    let temporary = tempfile::tempdir().map_err(failed)?;
    let folder = arguments
        .keep
        .as_deref()
        .unwrap_or_else(|| temporary.path());
    voice.say(Tone::Bold, &plan(&arguments))?;
    let mut world = World::start(&arguments).await?;
    voice.say(Tone::Plain, &world.describe())?;
    let flags = world.replica_flags(&arguments.allow_exec);
    let mut replicas = Replicas::start(folder, flags)?;
    for replica in replicas.iter() {
        let (name, endpoint) = (replica.name, &replica.endpoint);
        let pid = replicas.pid(name).unwrap_or_default();
        voice.say(
            Tone::Plain,
            &format!("replica {name}: {endpoint}, process {pid}"),
        )?;
    }
    let prepared = prepare(&mut replicas, &world, &voice, &shutdown).await;
    let played = match prepared {
        Err(error) => Err(error),
        Ok((ownership, seat)) => {
            let client = Client::new(replicas.endpoints(seat));
            let endpoints = client.endpoints().clone();
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut scene = Scene {
                arguments: &arguments,
                voice: &voice,
                shutdown,
                shard_watch: ShardWatch::new(endpoints, WatchShardsRequest::default()),
                subscription: client.subscribe(Options {
                    client_name: CLIENT_NAME.into(),
                    ..Options::default()
                }),
                world,
                replicas,
                seat,
                ownership,
                tally: Tally::default(),
                tick,
            };
            let played = scene.play().await;
            (world, replicas) = (scene.world, scene.replicas);
            played
        }
    };
    world.stop().await;
    replicas.stop().await;
    show(&played?, &voice, json)
}

/// From processes to a group that watches every cluster; returns who owns what, and the replica
/// that is to serve the subscriber: neither the leader nor the one that owns most, where possible.
async fn prepare(
    replicas: &mut Replicas,
    world: &World,
    voice: &Voice,
    shutdown: &CancellationToken,
) -> Result<(Ownership, &'static str), Error> {
    let leader = group::founded(replicas, shutdown).await?;
    voice.say(Tone::Good, &format!("one group, led by {leader}"))?;
    let clusters = world.clusters();
    let client = Client::new(replicas.endpoints(&leader));
    group::create(replicas, shutdown, &clusters, &client).await?;
    voice.say(Tone::Plain, &format!("{} clusters created", clusters.len()))?;
    let ownership = group::owned(replicas, shutdown, clusters.len(), &client).await?;
    for replica in replicas.iter() {
        let owned = ownership.of_replica(replica.name);
        let shards: Vec<_> = owned.into_keys().collect();
        let shards = match shards.as_slice() {
            [] => "nothing".to_owned(),
            shards => shards.join(", "),
        };
        let text = format!("{} owns {shards}", replica.name);
        voice.say(Tone::Notable, &text)?;
    }
    let seat = replicas
        .iter()
        .map(|replica| replica.name)
        .min_by_key(|name| (*name == leader, ownership.of_replica(name).len()))
        .unwrap_or_default();
    Ok((ownership, seat))
}

fn show(report: &Report, voice: &Voice, json: bool) -> Result<(), Error> {
    report.show(voice)?;
    if json {
        output::write_json(&mut output::open(), report)?;
    }
    if report.ok {
        Ok(())
    } else {
        Err(Error::Demo("the demo does not show what it should".into()))
    }
}
