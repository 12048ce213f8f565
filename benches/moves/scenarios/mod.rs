//! The disturbances, each repeated for a number of rounds.

mod api_servers;
mod replicas;

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use crate::{
    clusters::{Kind, Watched},
    network::Network,
    options::Arguments,
    report::{Scope, Tally},
    scenario::Scenario,
    world::{REPLICAS, Setting, World},
};

/// How long subscribers may take to recover from a disturbance: what is missing then counts as a
/// silence that had not ended.
const RECOVERED_WITHIN: Duration = Duration::from_secs(30);
/// How long a window stays open once everything arrives, to include what follows immediately.
const TAIL: Duration = Duration::from_secs(1);

/// Which replica is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Leader,
    Owner,
}

/// A scenario in progress.
struct Run<'a> {
    world: World,
    tally: &'a RefCell<Tally>,
    round: u32,
    seed: u64,
    /// How long a replica is stopped before it returns.
    away: Duration,
    is_smoke: bool,
}

impl Scenario {
    fn setting(self, asked: &Arguments) -> Setting {
        let of_events = Setting {
            shards: asked.shards.into(),
            rate: asked.rate.into(),
            watched: Watched::Events,
            kind: if asked.real {
                Kind::Real
            } else {
                Kind::Simulated
            },
        };
        match self {
            Self::ApiServer => Setting {
                rate: of_events.rate / 2.0,
                watched: Watched::EventsAndConfigMaps,
                ..of_events
            },
            Self::Storm => Setting {
                shards: asked.storm_clusters.into(),
                rate: 1.0,
                kind: Kind::SharesServer,
                ..of_events
            },
            _ => of_events,
        }
    }

    /// Measures the requested number of rounds.
    pub(crate) async fn run(
        self,
        asked: &Arguments,
        network: Option<Rc<Network>>,
        tally: &RefCell<Tally>,
    ) {
        let world = World::start(self.setting(asked), network).await;
        let mut run = Run {
            world,
            tally,
            round: 0,
            seed: asked.seed,
            away: Duration::from_secs(asked.away.into()),
            is_smoke: asked.smoke,
        };
        for round in 0..asked.rounds {
            run.round = round;
            self.round(&mut run).await;
            run.world.settle().await;
            let mut tally = run.tally.borrow_mut();
            tally.rounds += 1;
            tally.faults = run.world.faults();
            tally.progress();
        }
        tally.borrow_mut().faults = run.world.finish().await;
    }

    async fn round(self, run: &mut Run<'_>) {
        match self {
            Self::Rebalance => run.rebalance().await,
            Self::RollingRestart => run.rolling_restart().await,
            Self::KillOwner => run.kill(Victim::Owner).await,
            Self::KillLeader => run.kill(Victim::Leader).await,
            Self::FreezeLeader => run.freeze(Victim::Leader).await,
            Self::FreezeOwner => run.freeze(Victim::Owner).await,
            Self::CutLeader => run.cut_off(Victim::Leader).await,
            Self::CutOwner => run.cut_off(Victim::Owner).await,
            Self::OneWayLeader => run.one_way(Victim::Leader).await,
            Self::OneWayOwner => run.one_way(Victim::Owner).await,
            Self::Route => run.route().await,
            Self::ApiServer => run.api_server().await,
            Self::ClusterDown => run.cluster_down().await,
            Self::Storm => run.storm().await,
        }
    }
}

impl Run<'_> {
    /// The replica to disturb: another one in each round if there is a choice.
    async fn victim(&self, victim: Victim) -> usize {
        let leader = self.world.group.leader().await;
        match victim {
            Victim::Leader => leader,
            Victim::Owner => (leader + 1 + self.round as usize % (REPLICAS - 1)) % REPLICAS,
        }
    }

    /// Waits until these subscribers have received what is committed by now, and a little longer.
    async fn recovered(&self, subscribers: &[usize]) {
        self.world.flows(subscribers, RECOVERED_WITHIN).await;
        tokio::time::sleep(TAIL).await;
        self.world.flows(subscribers, RECOVERED_WITHIN).await;
    }

    /// Records what has arrived since the window was opened.
    fn close(&mut self, window: &str, scope: &Scope) {
        self.tally
            .borrow_mut()
            .window(&mut self.world, window, scope);
    }

    /// The clusters with these indexes, as the scope of a disturbance.
    fn clusters(indexes: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        indexes.into_iter().collect()
    }
}

fn everybody() -> Vec<usize> {
    (0..REPLICAS).collect()
}

fn besides(index: usize) -> Vec<usize> {
    (0..REPLICAS).filter(|other| *other != index).collect()
}
