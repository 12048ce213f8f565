//! Disturbances of replicas and of the network between them.

use std::time::Duration;

use super::{RECOVERED_WITHIN, Run, Victim, besides, everybody};
use crate::{
    clock,
    harness::{PATIENCE, eventually},
    network::Cut,
    report::Scope,
    world::REPLICAS,
};

/// How long a replica is frozen or partitioned at least: longer than any timeout of the group.
const AWAY: Duration = Duration::from_secs(6);
/// How long its own subscribers may take to recover before it returns.
const OWN_WITHIN: Duration = Duration::from_secs(15);
/// How long a group may take to give a returning replica its share.
const BALANCED_WITHIN: Duration = Duration::from_secs(60);

impl Run<'_> {
    pub(super) async fn rebalance(&mut self) {
        let victim = self.victim(Victim::Owner).await;
        let world = &mut self.world;
        world.group.replicas[victim].terminate(PATIENCE).await;
        tokio::time::sleep(self.away).await;
        self.come_back(victim, "").await;
    }

    /// Measures from the start of a replica until it has its share.
    async fn come_back(&mut self, victim: usize, window: &str) {
        let world = &mut self.world;
        let client = world.group.client_besides(victim);
        world.rest(client.clone()).await;
        world.flows(&everybody(), RECOVERED_WITHIN).await;
        world.open();
        world.group.launch(victim);
        world.whole().await;
        let name = world.group.replicas[victim].name.clone();
        let share = world.clusters.all.len() / REPLICAS;
        let has_share = async || {
            let owners = world.owners(&client).await?;
            let own = owners.values().filter(|(owner, _)| *owner == name).count();
            (own >= share).then_some(())
        };
        eventually("the replica has its share", BALANCED_WITHIN, has_share).await;
        world.rest(client).await;
        self.recovered(&everybody()).await;
        self.close(window, &Scope::Nobody);
    }

    pub(super) async fn rolling_restart(&mut self) {
        for victim in everybody() {
            self.world.open();
            self.world.group.replicas[victim].terminate(PATIENCE).await;
            self.world.group.launch(victim);
            self.world.whole().await;
            self.world.flows(&everybody(), RECOVERED_WITHIN).await;
            self.close("", &Scope::Replica(victim));
        }
        // The moves back to the last replica belong to the restart as well.
        self.world.open();
        self.world.rest(self.world.group.client()).await;
        self.recovered(&everybody()).await;
        self.close("afterwards", &Scope::Nobody);
    }

    pub(super) async fn kill(&mut self, victim: Victim) {
        let victim = self.victim(victim).await;
        self.world.open();
        self.world.group.replicas[victim].kill();
        self.recovered(&everybody()).await;
        self.close("", &Scope::Replica(victim));
        self.come_back(victim, "back").await;
    }

    pub(super) async fn freeze(&mut self, victim: Victim) {
        let victim = self.victim(victim).await;
        self.world.open();
        self.world.group.replicas[victim].freeze();
        self.away(victim).await;
        self.world.open();
        self.world.group.replicas[victim].thaw();
        self.back().await;
    }

    pub(super) async fn cut_off(&mut self, victim: Victim) {
        let victim = self.victim(victim).await;
        self.cut(victim, &[Cut::From(victim), Cut::To(victim)])
            .await;
    }

    pub(super) async fn one_way(&mut self, victim: Victim) {
        let victim = self.victim(victim).await;
        let cuts: Vec<_> = besides(victim)
            .into_iter()
            .map(|peer| Cut::Between(victim, peer))
            .collect();
        self.cut(victim, &cuts).await;
    }

    async fn cut(&mut self, victim: usize, cuts: &[Cut]) {
        self.world.open();
        self.world.cut(cuts);
        self.away(victim).await;
        self.world.open();
        self.world.heal();
        self.back().await;
    }

    /// Measures while a replica is frozen or partitioned.
    async fn away(&mut self, victim: usize) {
        let since = clock::now();
        self.world.flows(&besides(victim), RECOVERED_WITHIN).await;
        self.world.flows(&everybody(), OWN_WITHIN).await;
        let passed = Duration::from_micros(clock::now() - since);
        tokio::time::sleep(AWAY.saturating_sub(passed)).await;
        self.close("", &Scope::Replica(victim));
    }

    /// Measures from its return until the group is settled.
    async fn back(&mut self) {
        self.world.whole().await;
        self.world.rest(self.world.group.client()).await;
        self.recovered(&everybody()).await;
        self.close("afterwards", &Scope::Nobody);
    }
}
