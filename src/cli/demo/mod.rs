//! `quorumwatch demo`: three replicas, one is killed, and every event is accounted for.

mod group;
mod ownership;
mod printer;
mod replicas;
mod report;
mod run;
mod tally;
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
use printer::Printer;
use replicas::Replicas;
use report::Report;
use run::Run;
use tally::Tally;
use world::World;

/// How often a progress line is printed.
const TICK: Duration = Duration::from_secs(1);
/// The client name that the replicas log.
const CLIENT_NAME: &str = "quorumwatch-demo";
/// A shorter run has no time for a takeover and a rebalance.
const LENGTH_MIN: Duration = Duration::from_secs(4);

/// Run a demo: three replicas, one is killed, and every event is accounted for.
///
/// Three replicas of this executable watch simulated clusters; one replica is killed and restarted;
/// at the end every event is accounted for. The exit code is 0 only if no event was lost or
/// duplicated.
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
    /// How long to generate load.
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = length)]
    length: Duration,
    /// Number of simulated clusters.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clusters: u16,
    /// Events per second, across all simulated clusters.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Random seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Watch your own clusters instead of simulated ones.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; may be repeated. [default: the current context]
    #[arg(long = "kube-context", value_name = "CONTEXT", requires = "kubeconfig")]
    contexts: Vec<String>,
    /// A command that the kubeconfig may run for credentials; may be repeated.
    #[arg(long, value_name = "COMMAND", requires = "kubeconfig")]
    allow_exec: Vec<String>,
    /// Keep the replicas' data and logs in this directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Which replica is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// The replica that owns the most shards.
    Owner,
    /// The leader.
    Leader,
    /// None.
    None,
}

fn length(text: &str) -> Result<Duration, &'static str> {
    let length = duration::parse(text)?;
    if length < LENGTH_MIN {
        return Err("at least 4s, to leave time for a takeover and a rebalance");
    }
    Ok(length)
}

/// What the demo is about to do, for the first line.
fn plan(arguments: &Arguments) -> String {
    let victim = match arguments.kill {
        Target::Owner => "the replica that owns the most shards",
        Target::Leader => "the leader",
        Target::None => {
            let seconds = arguments.length.as_secs();
            return format!("three replicas share some clusters for {seconds} s; none is killed");
        }
    };
    let seconds = (arguments.length / 4).as_secs();
    format!(
        "three replicas share some clusters; {seconds} s into the load, {victim} is killed with \
         SIGKILL; at the end every event is accounted for"
    )
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let json = arguments.output.format == Format::Json;
    let printer = Printer::new(json);
    let failed = |source| Error::File {
        action: "create a directory for",
        path: "the replicas' data".into(),
        source,
    };
    let temporary = tempfile::tempdir().map_err(failed)?;
    let directory = arguments
        .keep
        .as_deref()
        .unwrap_or_else(|| temporary.path());
    printer.print(Tone::Bold, &plan(&arguments))?;
    let mut world = World::start(&arguments).await?;
    printer.print(Tone::Plain, &world.describe())?;
    let flags = world.replica_flags(&arguments.allow_exec);
    let mut replicas = Replicas::start(directory, flags)?;
    for replica in replicas.iter() {
        let (name, endpoint) = (replica.name, &replica.endpoint);
        let pid = replicas.pid(name).unwrap_or_default();
        printer.print(
            Tone::Plain,
            &format!("replica {name}: {endpoint}, process {pid}"),
        )?;
    }
    let prepared = prepare(&mut replicas, &world, &printer, &shutdown).await;
    let outcome = match prepared {
        Err(error) => Err(error),
        Ok((ownership, serving)) => {
            let client = Client::new(replicas.endpoints(serving));
            let endpoints = client.endpoints().clone();
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut run = Run {
                arguments: &arguments,
                printer: &printer,
                shutdown,
                shard_watch: ShardWatch::new(endpoints, WatchShardsRequest::default()),
                subscription: client.subscribe(Options {
                    client_name: CLIENT_NAME.into(),
                    ..Options::default()
                }),
                world,
                replicas,
                serving,
                ownership,
                tally: Tally::default(),
                tick,
            };
            let outcome = run.execute().await;
            (world, replicas) = (run.world, run.replicas);
            outcome
        }
    };
    world.stop().await;
    replicas.stop().await;
    show(&outcome?, &printer, json)
}

/// From processes to a group that watches every cluster; returns who owns what, and the replica
/// that is to serve the subscriber: neither the leader nor the one that owns most, where possible.
async fn prepare(
    replicas: &mut Replicas,
    world: &World,
    printer: &Printer,
    shutdown: &CancellationToken,
) -> Result<(Ownership, &'static str), Error> {
    let leader = group::founded(replicas, shutdown).await?;
    printer.print(Tone::Good, &format!("one group, led by {leader}"))?;
    let clusters = world.clusters();
    let client = Client::new(replicas.endpoints(&leader));
    group::create(replicas, shutdown, &clusters, &client).await?;
    printer.print(Tone::Plain, &format!("{} clusters created", clusters.len()))?;
    let ownership = group::owned(replicas, shutdown, clusters.len(), &client).await?;
    for replica in replicas.iter() {
        let owned = ownership.of_replica(replica.name);
        let shards: Vec<_> = owned.into_keys().collect();
        let shards = match shards.as_slice() {
            [] => "nothing".to_owned(),
            shards => shards.join(", "),
        };
        let text = format!("{} owns {shards}", replica.name);
        printer.print(Tone::Notable, &text)?;
    }
    let serving = replicas
        .iter()
        .map(|replica| replica.name)
        .min_by_key(|name| (*name == leader, ownership.of_replica(name).len()))
        .unwrap_or_default();
    Ok((ownership, serving))
}

fn show(report: &Report, printer: &Printer, json: bool) -> Result<(), Error> {
    report.show(printer)?;
    if json {
        output::write_json(&mut output::open(), report)?;
    }
    if report.ok {
        Ok(())
    } else {
        Err(Error::Demo(
            "the demo failed: see the problems above".into(),
        ))
    }
}
