//! What must hold after every command.

use std::collections::BTreeSet;

use super::State;
use crate::domain::{
    cluster::{Cluster, StreamSelector},
    command::Outcome,
    id::{ClusterId, ShardId},
    position::Position,
    stream::Stream,
};

impl State {
    /// What must hold after every command; tests and simulations call it at each step.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (shard, assignment) in &self.assignments {
            if !self.clusters.contains_key(&shard.cluster) {
                return Err(format!("shard {shard} belongs to no cluster"));
            }
            if assignment.shard() != *shard {
                return Err(format!(
                    "shard {shard} holds the assignment of {}",
                    assignment.shard()
                ));
            }
            if assignment.owner().is_some() && !self.is_ownable(*shard) {
                return Err(format!("shard {shard} is paused and has an owner"));
            }
        }
        let names: BTreeSet<_> = self.clusters.values().map(|c| &c.spec.name).collect();
        if names.len() != self.clusters.len() {
            return Err("two clusters have one name".into());
        }
        for (id, cluster) in &self.clusters {
            self.check_cluster(*id, cluster)?;
        }
        self.check_requests()?;
        self.streams
            .values()
            .try_for_each(|stream| self.check_stream(stream))
    }

    fn check_cluster(&self, id: ClusterId, cluster: &Cluster) -> Result<(), String> {
        let shard = ShardId {
            cluster: id,
            slice: 0,
        };
        if !self.assignments.contains_key(&shard) {
            return Err(format!("cluster {id} has no shard"));
        }
        let wanted = cluster.spec.stream_selectors();
        let streams: Vec<&StreamSelector> = self.streams_of(shard).map(|s| &s.selector).collect();
        let distinct: BTreeSet<_> = streams.iter().copied().collect();
        if distinct.len() != streams.len() || distinct != wanted.iter().collect() {
            return Err(format!("cluster {id} has other streams than it asks for"));
        }
        if cluster.watch_revision > cluster.revision || cluster.revision > self.revision {
            return Err(format!("cluster {id} is of a later revision"));
        }
        Ok(())
    }

    fn check_requests(&self) -> Result<(), String> {
        let texts: BTreeSet<_> = self.requests.iter().map(|a| a.request_id.text()).collect();
        if texts.len() != self.requests.iter().count() {
            return Err("a request is remembered twice".into());
        }
        let mut last = None;
        for answered in self.requests.iter() {
            if last >= Some(answered.revision) || answered.revision > self.revision {
                return Err("requests are not remembered in order".into());
            }
            if matches!(answered.outcome, Outcome::Rejected(_)) {
                return Err("a request that was rejected is remembered".into());
            }
            last = Some(answered.revision);
        }
        Ok(())
    }

    fn check_stream(&self, stream: &Stream) -> Result<(), String> {
        let id = stream.id;
        if !self.assignments.contains_key(&stream.shard) {
            return Err(format!("stream {id} belongs to no shard"));
        }
        let closed = |position: &Option<Position>| {
            position
                .as_ref()
                .is_none_or(|position| position.is_closed())
        };
        if !closed(&stream.checkpoint) || !closed(&stream.first) {
            return Err(format!(
                "the checkpoint or the beginning of stream {id} is inside a version"
            ));
        }
        let era_of = |position: &Option<Position>| position.as_ref().map(|position| position.era);
        let era = stream.era.as_ref().map(|start| start.era);
        if era_of(&stream.checkpoint) > era {
            return Err(format!("the checkpoint of stream {id} is ahead of its era"));
        }
        if era.is_some() != stream.first.is_some() || era_of(&stream.first) > era {
            return Err(format!("stream {id} does not begin with its first era"));
        }
        Ok(())
    }
}
