//! Replicas that end, and machines that do.

use quorumwatch::raft::storage::Crash;

use crate::stage::Stage;

impl Stage {
    /// The process of a replica is killed. Its machine closes its connections, and refuses others.
    pub(super) fn kill(&mut self, replica: usize) {
        self.ending.insert(replica);
        let replica = &self.replicas[replica];
        self.fabric.set_refusing(&replica.name, true);
        replica.died(Crash::Process);
        self.sim.crash(replica.name.as_str());
    }

    /// The process of a replica starts.
    pub(super) fn start(&mut self, replica: usize) {
        self.ending.remove(&replica);
        let name = &self.replicas[replica].name;
        self.fabric.set_refusing(name, false);
        self.sim.bounce(name.as_str());
        self.replicas[replica].start();
    }

    /// A replica is asked to stop. It stays down until it is started.
    pub(super) fn stop(&mut self, replica: usize) {
        self.ending.insert(replica);
        self.replicas[replica].stop();
    }

    /// The machine of a replica loses power: nothing of it answers any more.
    pub(super) fn cut_power(&mut self, replica: usize) {
        self.ending.insert(replica);
        let name = self.replicas[replica].name.clone();
        self.isolate(&name);
        self.replicas[replica].died(Crash::Power);
        self.sim.crash(name.as_str());
    }

    /// The machine of a replica is back, and starts it.
    pub(super) fn power_up(&mut self, replica: usize) {
        let name = self.replicas[replica].name.clone();
        self.join(&name);
        self.start(replica);
    }
}
