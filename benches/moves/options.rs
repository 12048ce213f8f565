//! What is asked for.

use clap::{Parser, ValueEnum};

use crate::scenarios::Scenario;

/// How many rounds where nothing is said: enough for a look, not for a tail.
const ROUNDS: u32 = 10;

/// How many real API servers there are: one for each replica. Each needs a third of a core to start,
/// and half a gigabyte.
const REAL: u16 = 3;
/// Changes per second that a real API server commits with ease.
const REAL_RATE: u32 = 30;

/// Measures for how long subscribers hear nothing when replicas, networks and API servers fail.
///
/// Three replicas of the real executable, each in a network of its own, watch simulated clusters
/// that change at a steady rate; a subscriber lives beside each replica. `EXECUTABLE=path` measures
/// another build. The exit code is 1 where anything was lost, came twice, or failed.
#[derive(Clone, Debug, Parser)]
#[command(name = "moves", bin_name = "cargo bench --bench moves --")]
pub(crate) struct Arguments {
    /// What to measure; everything where nothing is named.
    #[arg(value_enum)]
    pub(crate) scenarios: Vec<Scenario>,
    /// How often each scenario is repeated; a round of `rolling-restart` restarts every replica.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// How many clusters are watched, of one shard each.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(3..=900))]
    pub(crate) shards: u16,
    /// Real API servers, three of them, each a kube-apiserver with an etcd of its own, instead of
    /// simulated ones; at most 30 changes a second of each stream. `tests/kube/build-tools.sh` must
    /// have been run.
    #[arg(long)]
    pub(crate) real: bool,
    /// Changes per second of each stream.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) rate: u32,
    /// How many clusters come back at once in `storm`.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(3..=5_000))]
    pub(crate) storm_clusters: u16,
    /// For how many seconds the replica of `rebalance` was away before it comes back.
    #[arg(long, default_value_t = 5)]
    pub(crate) away: u16,
    /// Which of what can be drawn is drawn.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Whether it works at all: one round of a few scenarios, few shards, in less than a minute.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// No namespaces: what needs them is skipped, and replicas listen on the loopback.
    #[arg(long)]
    pub(crate) no_namespaces: bool,
    /// What `-o json` printed for another build: its p50, p99 and max are shown beside the new.
    #[arg(long, value_name = "FILE", value_parser = document)]
    pub(crate) before: Option<serde_json::Value>,
    /// How to print the figures.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// From cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Readable text.
    Table,
    /// For programs: one document.
    Json,
}

fn document(path: &str) -> Result<serde_json::Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("not what -o json prints: {error}"))
}

impl Arguments {
    /// As asked, with what follows from it.
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
