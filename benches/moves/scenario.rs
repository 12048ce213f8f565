//! The disturbances, by name: [`Scenario`]. What is done in each is in [`crate::scenarios`].

use clap::ValueEnum;

/// A disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A replica returns and gets its share of the shards.
    Rebalance,
    /// SIGTERM to each replica in turn, the next one when the previous is a member again.
    RollingRestart,
    /// SIGKILL to an owner that is not the leader.
    KillOwner,
    /// SIGKILL to the leader.
    KillLeader,
    /// SIGSTOP to the leader, SIGCONT later.
    FreezeLeader,
    /// SIGSTOP to an owner that is not the leader, SIGCONT later.
    FreezeOwner,
    /// All packets to and from the leader are dropped: of peers, API servers and subscribers.
    CutLeader,
    /// The same with an owner that is not the leader.
    CutOwner,
    /// Packets of the leader to its peers are dropped; everything else passes.
    OneWayLeader,
    /// The same with an owner that is not the leader.
    OneWayOwner,
    /// The owner of a cluster, and no other replica, cannot reach it for 15 seconds.
    Route,
    /// An API server dies and is back after 4 seconds, after up to two outages of the same kind.
    ApiServer,
    /// An API server is down for 15 seconds: nothing may move.
    ClusterDown,
    /// Many clusters are down for 15 seconds and return at once.
    Storm,
}

impl Scenario {
    /// One of each kind; a replica that was killed returns and gets its share.
    pub(crate) const SMOKE: [Self; 3] = [Self::KillLeader, Self::OneWayOwner, Self::ApiServer];

    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }

    /// Whether it partitions a network.
    pub(crate) fn needs_network(self) -> bool {
        matches!(
            self,
            Self::CutLeader | Self::CutOwner | Self::OneWayLeader | Self::OneWayOwner | Self::Route
        )
    }

    /// Whether API servers restart.
    pub(crate) fn restarts_api_servers(self) -> bool {
        matches!(self, Self::ApiServer | Self::ClusterDown | Self::Storm)
    }
}
