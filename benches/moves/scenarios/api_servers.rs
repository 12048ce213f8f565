//! Disturbances of API servers and of the routes to them.

use std::{ops::Range, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{RECOVERED_WITHIN, Run, everybody};
use crate::{network::Cut, report::Scope};

/// How long the route to a cluster is broken.
const ROUTE_BROKEN: Duration = Duration::from_secs(15);
/// How long an API server that restarts is down.
const RESTART: Duration = Duration::from_secs(4);
/// How many simulated API servers restart in a round.
const RESTARTING: usize = 3;
/// How often such a server is down before that, and how long it is up in between.
const TROUBLES: Range<u32> = 0..3;
const UP_MILLIS: Range<u64> = 300..3_000;
/// How long clusters are down in the longer outages.
const OUTAGE: Duration = Duration::from_secs(15);
/// How long all of many clusters may take to recover.
const STORM_OVER_WITHIN: Duration = Duration::from_secs(90);

impl Run<'_> {
    /// One cluster of each replica, another one in each round, becomes unreachable for its owner.
    pub(super) async fn route(&mut self) {
        let client = self.world.group.client();
        let owners = self.world.owners(&client).await.expect("the group answers");
        let mut cuts = Vec::new();
        for (index, replica) in self.world.group.replicas.iter().enumerate() {
            let clusters = self.world.clusters.all.iter().enumerate();
            let own: Vec<_> = clusters
                .filter(|(_, cluster)| owners[cluster.name()].0 == replica.name)
                .map(|(cluster, _)| cluster)
                .collect();
            if !own.is_empty() {
                let cluster = own[self.round as usize % own.len()];
                cuts.push(Cut::ApiServer(index, cluster));
            }
        }
        let clusters = cuts.iter().filter_map(|cut| match cut {
            Cut::ApiServer(_, cluster) => Some(*cluster),
            _ => None,
        });
        let clusters = Self::clusters(clusters);
        self.world.open();
        self.world.cut(&cuts);
        tokio::time::sleep(ROUTE_BROKEN).await;
        self.world.heal();
        self.recovered(&everybody()).await;
        self.close("", &Scope::Silent(clusters));
    }

    pub(super) async fn api_server(&mut self) {
        let mut random = SmallRng::seed_from_u64(self.seed.wrapping_add(u64::from(self.round)));
        let count = self.world.clusters.all.len();
        let clusters = rand::seq::index::sample(&mut random, count, self.restarting());
        let clusters: Vec<_> = clusters.into_iter().collect();
        let troubles = random.random_range(TROUBLES);
        for _ in 0..if self.is_smoke { 0 } else { troubles } {
            self.down(&clusters, RESTART).await;
            self.world.clusters.restore(&clusters).await;
            self.resume(&clusters);
            let up = Duration::from_millis(random.random_range(UP_MILLIS));
            tokio::time::sleep(up).await;
        }
        self.outage(clusters, RESTART, RECOVERED_WITHIN).await;
    }

    pub(super) async fn cluster_down(&mut self) {
        let count = self.world.clusters.all.len();
        let restarting = self.restarting();
        let first = self.round as usize * restarting;
        let clusters = (first..first + restarting).map(|index| index % count);
        self.outage(clusters.collect(), OUTAGE, RECOVERED_WITHIN)
            .await;
    }

    pub(super) async fn storm(&mut self) {
        let all = 0..self.world.clusters.all.len();
        self.outage(all.collect(), OUTAGE, STORM_OVER_WITHIN).await;
    }

    /// Measures from when the API servers are back.
    async fn outage(&mut self, clusters: Vec<usize>, span: Duration, within: Duration) {
        self.world.open();
        self.down(&clusters, span).await;
        self.close(
            "while down",
            &Scope::Down(Self::clusters(clusters.iter().copied())),
        );
        self.world.clusters.restore(&clusters).await;
        self.world.open();
        self.resume(&clusters);
        self.world.flows(&everybody(), within).await;
        self.recovered(&everybody()).await;
        self.close("", &Scope::Back(Self::clusters(clusters)));
    }

    async fn down(&self, clusters: &[usize], span: Duration) {
        for cluster in clusters {
            self.world.writer.pause(*cluster, true);
        }
        self.world.clusters.kill(clusters).await;
        tokio::time::sleep(span).await;
    }

    fn resume(&self, clusters: &[usize]) {
        for cluster in clusters {
            self.world.writer.pause(*cluster, false);
        }
    }

    /// How many API servers restart in a round. Real ones do not become ready at the same time.
    fn restarting(&self) -> usize {
        if self.world.clusters.are_real() {
            1
        } else {
            RESTARTING.min(self.world.clusters.all.len())
        }
    }
}
