//! The command line.

use clap::{Parser, ValueEnum};

use crate::scenario::Scenario;

/// The default number of rounds: enough for a median, not for a tail.
const ROUNDS: u32 = 10;

/// The number of real API servers: one for each replica. Each needs a third of a core to start, and
/// half a gigabyte of memory.
const REAL: u16 = 3;
/// Changes per second that a real API server commits easily.
const REAL_RATE: u32 = 30;

/// Measures how long subscribers receive nothing when replicas, networks and API servers fail.
///
/// Three replicas, processes of the real executable in network namespaces of their own, watch
/// simulated clusters that change at a steady rate; each replica has one subscriber.
/// `EXECUTABLE=path` measures another build. The exit code is 1 if anything was lost or duplicated,
/// or if a scenario failed.
#[derive(Clone, Debug, Parser)]
#[command(name = "moves", bin_name = "cargo bench --bench moves --")]
pub(crate) struct Arguments {
    /// Scenarios to measure; all by default.
    #[arg(value_enum)]
    pub(crate) scenarios: Vec<Scenario>,
    /// Rounds of each scenario; a round of `rolling-restart` restarts every replica.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Number of watched clusters, one shard each.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(3..=900))]
    pub(crate) shards: u16,
    /// Watch three real API servers, each a kube-apiserver with its own etcd, instead of simulated
    /// ones; at most 30 changes per second in each stream. Build them first with
    /// `tests/kube/build-tools.sh`.
    #[arg(long)]
    pub(crate) real: bool,
    /// Changes per second in each stream.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) rate: u32,
    /// Number of clusters that return at once in `storm`.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(3..=5_000))]
    pub(crate) storm_clusters: u16,
    /// Seconds for which the replica of `rebalance` is stopped before it returns.
    #[arg(long, default_value_t = 5)]
    pub(crate) away: u16,
    /// Seed of everything that is random.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Smoke test: one round of a few scenarios with few shards, in less than a minute.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Do not use network namespaces: replicas listen on loopback, and scenarios that partition a
    /// network are skipped.
    #[arg(long)]
    pub(crate) no_namespaces: bool,
    /// Output of `-o json` for another build, whose p50, p99 and max are printed for comparison.
    #[arg(long, value_name = "FILE", value_parser = document)]
    pub(crate) before: Option<serde_json::Value>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The format of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Readable text.
    Table,
    /// One JSON document.
    Json,
}

fn document(path: &str) -> Result<serde_json::Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("not what -o json prints: {error}"))
}

impl Arguments {
    /// The arguments of this process, with the values that `--smoke` and `--real` imply.
    pub(crate) fn read() -> Self {
        let mut asked = Self::parse();
        if asked.smoke {
            asked.rounds = 1;
            asked.shards = 6;
            asked.rate = 20;
            asked.away = 0;
            if asked.scenarios.is_empty() {
                asked.scenarios = Scenario::SMOKE.to_vec();
            }
        }
        if asked.real {
            asked.shards = REAL;
            asked.rate = asked.rate.min(REAL_RATE);
        }
        if asked.scenarios.is_empty() {
            asked.scenarios = Scenario::value_variants().to_vec();
        }
        asked
    }
}
