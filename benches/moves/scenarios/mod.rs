//! What is done to a group, again and again.

mod api_servers;
mod replicas;

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use clap::ValueEnum;

use crate::{
    clusters::{Kind, Watched},
    network::Network,
    options::Arguments,
    report::{Scope, Tally},
    world::{REPLICAS, Setting, World},
};

/// A disturbance from which nobody recovers in this time is given up: what is missing by then
/// counts as a silence that had not ended.
const RECOVERED_WITHIN: Duration = Duration::from_secs(30);
/// For how long a window stays open once everything flows: what follows at once belongs to it.
const TAIL: Duration = Duration::from_secs(1);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A replica comes back and is given its share.
    Rebalance,
    /// SIGTERM to each replica in turn, the next one when the last is a member again.
    RollingRestart,
    /// SIGKILL to an owner that does not lead.
    KillOwner,
    /// SIGKILL to the leader.
    KillLeader,
    /// SIGSTOP to the leader, SIGCONT later.
    FreezeLeader,
    /// SIGSTOP to an owner that does not lead, SIGCONT later.
    FreezeOwner,
    /// Nothing passes between the leader and anybody: peers, API servers, subscribers.
    CutLeader,
    /// The same with an owner that does not lead.
    CutOwner,
    /// What the leader sends to its peers is dropped; everything else passes.
    OneWayLeader,
    /// The same with an owner that does not lead.
    OneWayOwner,
    /// The owner alone cannot reach a cluster for 15 seconds.
    Route,
    /// An API server dies and is back after 4 seconds, after other trouble of the same kind.
    ApiServer,
    /// An API server that dies for 15 seconds: nothing may move.
    ClusterDown,
    /// All of many clusters are down for 15 seconds and come back at once.
    Storm,
}

/// Which replica it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Leader,
    Owner,
}

/// A scenario that is under way.
struct Run<'a> {
    world: World,
    tally: &'a RefCell<Tally>,
    round: u32,
    seed: u64,
    /// For how long a replica that comes back was away.
    away: Duration,
    is_smoke: bool,
}

impl Scenario {
    /// One of each kind; a replica that was killed comes back and is given its share.
    pub(crate) const SMOKE: [Self; 3] = [Self::KillLeader, Self::OneWayOwner, Self::ApiServer];

    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }

    /// Whether it cuts a network.
    pub(crate) fn needs_network(self) -> bool {
        matches!(
            self,
            Self::CutLeader | Self::CutOwner | Self::OneWayLeader | Self::OneWayOwner | Self::Route
        )
    }

    /// Whether API servers end and start again.
    pub(crate) fn restarts_api_servers(self) -> bool {
        matches!(self, Self::ApiServer | Self::ClusterDown | Self::Storm)
    }

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

    /// Measures as many rounds as are asked for.
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
    /// The replica that it is done to: another one in each round where there is a choice.
    async fn victim(&self, victim: Victim) -> usize {
        let leader = self.world.group.leader().await;
        match victim {
            Victim::Leader => leader,
            Victim::Owner => (leader + 1 + self.round as usize % (REPLICAS - 1)) % REPLICAS,
        }
    }

    /// Waits until all these subscribers have what is committed by now, and a little longer.
    async fn recovered(&self, subscribers: &[usize]) {
        self.world.flows(subscribers, RECOVERED_WITHIN).await;
        tokio::time::sleep(TAIL).await;
        self.world.flows(subscribers, RECOVERED_WITHIN).await;
    }

    /// Writes down what came since the window was opened.
    fn close(&mut self, window: &str, scope: &Scope) {
        self.tally
            .borrow_mut()
            .window(&mut self.world, window, scope);
    }

    /// The clusters of these indexes: what is disturbed where no replica is.
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
