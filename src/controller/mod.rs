//! Placeholder until the controller lands.
use crate::{
    domain::{id::*, member::Availability},
    raft::Raft,
};
use std::{collections::BTreeMap, time::Duration};
pub struct HeartbeatIn {
    pub replica: ReplicaId,
    pub incarnation: Incarnation,
    pub leaving: bool,
    pub streams: Vec<(StreamId, Duration)>,
    pub applied_index: u64,
}
pub struct Grant {
    pub lease: Duration,
}
pub struct Seen {
    pub availability: Availability,
    pub silence: Option<Duration>,
}
pub struct Observation {
    pub replicas: BTreeMap<ReplicaId, Seen>,
    pub streams: BTreeMap<StreamId, Duration>,
}
#[derive(Clone)]
pub struct Controller;
impl Controller {
    pub fn start(_raft: Raft) -> Self {
        Self
    }
    pub fn heartbeat(&self, _h: HeartbeatIn) -> Option<Grant> {
        None
    }
    pub fn observed(&self) -> Option<Observation> {
        None
    }
    pub fn mark_dead(&self, _r: ReplicaId) {}
}
