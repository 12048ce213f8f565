//! How a replica becomes part of the group: it founds it, joins it, or rejoins it.
//!
//! A group is founded only when every replica that configuration names has answered and is empty,
//! by the one with the lowest name, with all of them. So no two groups can arise from one
//! configuration, and a replica that lost its data never founds a second one: it finds the others
//! initialised and joins them as a new member.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::errors::{InitializeError, RaftError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{Peer, ProposeError, Raft, membership::LEADER_ADDRESS, types::Node};
use crate::{
    clock,
    domain::{
        command::{Command, Outcome},
        id::GroupId,
    },
    proto::internal::v1::{
        HelloRequest, HelloResponse, JoinRequest, peer_service_client::PeerServiceClient,
    },
};

/// Pause between two rounds of asking peers.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// Patience for one answer.
const HELLO_PATIENCE: Duration = Duration::from_secs(1);

/// Patience for the leader to bring a joiner up to date and change the membership.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);

/// How often a waiting replica says whom it waits for, unless that changes.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Why the replica could not become part of the group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Asked to stop while waiting.
    #[error("stopped while waiting for the group to form")]
    Cancelled,
    /// A peer belongs to another group.
    #[error(
        "data of another group: {peer} at {address} belongs to group {theirs}, this replica to \
         group {ours}; correct `peers`, or empty the data directory of the one that is wrong"
    )]
    AnotherGroup {
        /// The peer's name.
        peer: String,
        /// Its address.
        address: String,
        /// Its group.
        theirs: GroupId,
        /// Our group.
        ours: GroupId,
    },
    /// Another replica answers at a peer's address.
    #[error("at {address} answers replica {found:?}, not {expected:?}; correct `peers`")]
    AnotherReplica {
        /// The address.
        address: String,
        /// Who answers.
        found: String,
        /// Who should.
        expected: String,
    },
    /// The group refused this replica.
    #[error("the group refuses this replica: {0}")]
    Refused(String),
    /// Raft has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// What one round of asking says is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Found the group with these replicas.
    Found(BTreeMap<u64, Node>),
    /// Ask one of these to join.
    Join(Vec<String>),
    /// Wait for these, who do not answer.
    WaitFor(BTreeSet<String>),
    /// Everybody is there; wait for this one to found.
    WaitForFounder(String),
}

/// A peer's answer to Hello.
#[derive(Clone, Debug)]
struct Answer {
    replica_id: u64,
    initialised: bool,
}

impl Raft {
    /// Founds, joins or rejoins the group, and registers this replica with it.
    pub async fn form(&self, cancel: CancellationToken) -> Result<(), FormError> {
        tokio::select! {
            () = cancel.cancelled() => Err(FormError::Cancelled),
            formed = self.become_member() => formed,
        }
    }

    async fn become_member(&self) -> Result<(), FormError> {
        let mut said = (BTreeSet::new(), None);
        // Even a replica that is a member asks once: it may have been given the wrong peers.
        let mut answers = self.ask_peers().await?;
        while !self.is_initialised() {
            self.running().map_err(FormError::Stopped)?;
            match self.next_step(&answers) {
                Step::Found(nodes) => self.found(nodes).await?,
                Step::Join(addresses) => self.ask_to_join(addresses).await?,
                Step::WaitFor(names) => say_whom(names, &mut said),
                Step::WaitForFounder(name) => say_whom([name].into(), &mut said),
            }
            if self.is_initialised() {
                break;
            }
            tokio::time::sleep(ROUND_PAUSE).await;
            answers = self.ask_peers().await?;
        }
        self.give_the_group_its_id().await?;
        self.register().await
    }

    /// Whether this replica's log has a membership.
    fn is_initialised(&self) -> bool {
        !self.membership().membership().get_joint_config().is_empty()
    }

    /// Says hello to every other replica that configuration names.
    async fn ask_peers(&self) -> Result<BTreeMap<String, Answer>, FormError> {
        let others = self.inner.options.peers.iter();
        let others = others.filter(|peer| peer.name != self.name());
        let asked = others.map(|peer| async move { (peer, self.ask(peer).await) });
        let mut answers = BTreeMap::new();
        for (peer, answer) in futures::future::join_all(asked).await {
            if let Some(answer) = answer {
                answers.insert(peer.name.clone(), self.check(peer, &answer)?);
            }
        }
        Ok(answers)
    }

    async fn ask(&self, peer: &Peer) -> Option<HelloResponse> {
        let channel = self.inner.channels.channel(&peer.address).ok()?;
        let request = HelloRequest {
            name: self.name().to_owned(),
            replica_id: self.replica_id().0,
            expected_name: peer.name.clone(),
        };
        let mut client = PeerServiceClient::new(channel);
        let answer = tokio::time::timeout(HELLO_PATIENCE, client.hello(request)).await;
        match answer {
            Ok(Ok(answer)) => Some(answer.into_inner()),
            Ok(Err(status)) => {
                tracing::debug!(peer = peer.name, %status, "peer does not answer");
                None
            }
            Err(_) => None,
        }
    }

    fn check(&self, peer: &Peer, answer: &HelloResponse) -> Result<Answer, FormError> {
        if answer.name != peer.name || answer.replica_id == self.replica_id().0 {
            return Err(FormError::AnotherReplica {
                address: peer.address.clone(),
                found: answer.name.clone(),
                expected: peer.name.clone(),
            });
        }
        let theirs = <[u8; 16]>::try_from(&answer.group_id[..]).ok().map(GroupId);
        if let (Some(theirs), Some(ours)) = (theirs, self.inner.store.group())
            && theirs != ours
        {
            return Err(FormError::AnotherGroup {
                peer: peer.name.clone(),
                address: peer.address.clone(),
                theirs,
                ours,
            });
        }
        Ok(Answer {
            replica_id: answer.replica_id,
            initialised: answer.initialised,
        })
    }

    fn next_step(&self, answers: &BTreeMap<String, Answer>) -> Step {
        let own_node = Node {
            name: self.name().to_owned(),
            peer_address: self.inner.options.peer_address.clone(),
            client_address: self.inner.options.client_address.clone(),
        };
        decide(
            (self.replica_id().0, own_node),
            &self.inner.options.peers,
            answers,
        )
    }

    async fn found(&self, nodes: BTreeMap<u64, Node>) -> Result<(), FormError> {
        let names: Vec<_> = nodes.values().map(|node| node.name.clone()).collect();
        tracing::info!(?names, "founding the group");
        match self.inner.raft.initialize(nodes).await {
            // "Not allowed" means that it has been done meanwhile.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(FormError::Stopped(error.to_string())),
        }
    }

    async fn ask_to_join(&self, addresses: Vec<String>) -> Result<(), FormError> {
        let mut addresses = std::collections::VecDeque::from(addresses);
        let mut asked = BTreeSet::new();
        while let Some(address) = addresses.pop_front() {
            let Ok(channel) = self.inner.channels.channel(&address) else {
                continue;
            };
            if !asked.insert(address.clone()) {
                continue;
            }
            let request = JoinRequest {
                replica_id: self.replica_id().0,
                name: self.name().to_owned(),
                peer_address: self.inner.options.peer_address.clone(),
                client_address: self.inner.options.client_address.clone(),
            };
            let mut client = PeerServiceClient::new(channel);
            match tokio::time::timeout(JOIN_PATIENCE, client.join(request)).await {
                Ok(Ok(_)) => {
                    tracing::info!(leader = address, "joined the group");
                    return Ok(());
                }
                Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                    return Err(FormError::Refused(status.message().to_owned()));
                }
                Ok(Err(status)) => {
                    tracing::debug!(peer = address, %status, "could not join here");
                    let leader = status.metadata().get(LEADER_ADDRESS);
                    if let Some(leader) = leader.and_then(|leader| leader.to_str().ok()) {
                        addresses.push_front(leader.to_owned());
                    }
                }
                Err(_) => tracing::debug!(peer = address, "no answer to the request to join"),
            }
        }
        Ok(())
    }

    /// Registers this replica, however long that takes.
    async fn register(&self) -> Result<(), FormError> {
        let mut said = None;
        loop {
            self.running().map_err(FormError::Stopped)?;
            let command = Command::RegisterMember {
                replica: self.replica_id(),
                name: self.name().to_owned(),
                peer_address: self.inner.options.peer_address.clone(),
                client_address: self.inner.options.client_address.clone(),
                at: clock::unix_now(),
            };
            match self.submit(command).await {
                Ok(proposed) => {
                    if let Outcome::Rejected(rejection) = proposed.outcome {
                        return Err(FormError::Refused(rejection.to_string()));
                    }
                    // From here on this replica's state is at least as new as before its restart.
                    while !self.wait_applied(proposed.revision, SAY_EVERY).await {
                        tracing::info!("waiting for the log to be applied");
                    }
                    return Ok(());
                }
                Err(ProposeError::Stopped(error)) => return Err(FormError::Stopped(error)),
                Err(ProposeError::Refused(error)) => return Err(FormError::Refused(error)),
                // Registering twice does no harm, so "unknown" is tried again too.
                Err(error) => {
                    if is_due(&mut said) {
                        tracing::info!(%error, "waiting to register with the group");
                    }
                }
            }
        }
    }

    /// The leader proposes the group's id; the first one wins.
    async fn give_the_group_its_id(&self) -> Result<(), FormError> {
        let mut state = self.watch_state();
        loop {
            self.running().map_err(FormError::Stopped)?;
            let known = state.borrow_and_update().group.is_some();
            if known {
                return Ok(());
            }
            if self.inner.leadership.borrow().is_self {
                let group = GroupId(uuid::Uuid::new_v4().into_bytes());
                if let Err(ProposeError::Stopped(error)) =
                    self.propose(Command::FoundGroup { group }).await
                {
                    return Err(FormError::Stopped(error));
                }
            }
            drop(tokio::time::timeout(ROUND_PAUSE, state.changed()).await);
        }
    }

    /// Answers `PeerService.Hello`.
    pub fn hello(&self, request: &HelloRequest) -> HelloResponse {
        if request.expected_name != self.name() {
            tracing::warn!(
                peer = request.name,
                expected_name = request.expected_name,
                "a peer expects another replica at this address"
            );
        }
        let leader = self.inner.leadership.borrow().leader;
        HelloResponse {
            name: self.name().to_owned(),
            replica_id: self.replica_id().0,
            group_id: self
                .inner
                .store
                .group()
                .map(|group| group.0.to_vec().into())
                .unwrap_or_default(),
            initialised: self.is_initialised() || self.inner.store.is_initialised(),
            leader_id: leader.map_or(0, |leader| leader.0),
        }
    }
}

/// What is to be done, given who answered. `own` is this replica, which is empty.
fn decide(own: (u64, Node), peers: &[Peer], answers: &BTreeMap<String, Answer>) -> Step {
    let (own_id, own_node) = own;
    let others = || peers.iter().filter(|peer| peer.name != own_node.name);
    let founded: Vec<String> = others()
        .filter(|peer| answers.get(&peer.name).is_some_and(|a| a.initialised))
        .map(|peer| peer.address.clone())
        .collect();
    if !founded.is_empty() {
        return Step::Join(founded);
    }
    let silent: BTreeSet<String> = others()
        .filter(|peer| !answers.contains_key(&peer.name))
        .map(|peer| peer.name.clone())
        .collect();
    if !silent.is_empty() {
        return Step::WaitFor(silent);
    }
    let lowest = others().map(|peer| &peer.name).min();
    if let Some(lowest) = lowest
        && *lowest < own_node.name
    {
        return Step::WaitForFounder(lowest.clone());
    }
    let mut nodes: BTreeMap<u64, Node> = others()
        .filter_map(|peer| {
            let node = Node {
                name: peer.name.clone(),
                peer_address: peer.address.clone(),
                // Told when the replica registers.
                client_address: String::new(),
            };
            Some((answers.get(&peer.name)?.replica_id, node))
        })
        .collect();
    nodes.insert(own_id, own_node);
    Step::Found(nodes)
}

fn is_due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|last| now.duration_since(last) >= SAY_EVERY);
    if due {
        *last = Some(now);
    }
    due
}

/// Says whom this replica waits for, when that changes and every now and then.
fn say_whom(names: BTreeSet<String>, said: &mut (BTreeSet<String>, Option<Instant>)) {
    if names != said.0 {
        said.1 = None;
    }
    if is_due(&mut said.1) {
        tracing::info!(?names, "waiting for replicas, to found the group together");
    }
    said.0 = names;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Answer, Node, Peer, Step, decide};

    fn peers(names: &[&str]) -> Vec<Peer> {
        let peer = |name: &&str| Peer {
            name: (*name).to_owned(),
            address: format!("{name}:1"),
        };
        names.iter().map(peer).collect()
    }

    fn step(own: &str, answers: &[(&str, bool)]) -> Step {
        let node = Node {
            name: own.into(),
            ..Node::default()
        };
        let answers: BTreeMap<String, Answer> = answers
            .iter()
            .enumerate()
            .map(|(index, (name, initialised))| {
                let answer = Answer {
                    replica_id: index as u64 + 100,
                    initialised: *initialised,
                };
                ((*name).to_owned(), answer)
            })
            .collect();
        decide((1, node), &peers(&["a", "b", "c"]), &answers)
    }

    #[test]
    fn only_the_lowest_name_founds_and_only_when_everybody_is_there_and_empty() {
        let all = step("a", &[("b", false), ("c", false)]);
        assert!(matches!(all, Step::Found(nodes) if nodes.len() == 3));
        assert_eq!(
            step("a", &[("b", false)]),
            Step::WaitFor(["c".to_owned()].into())
        );
        let later = step("b", &[("a", false), ("c", false)]);
        assert_eq!(later, Step::WaitForFounder("a".into()));
    }

    #[test]
    fn an_empty_replica_joins_whoever_is_founded_though_others_are_silent() {
        assert_eq!(step("a", &[("c", true)]), Step::Join(vec!["c:1".into()]));
    }

    #[test]
    fn one_name_alone_founds_at_once() {
        let node = Node {
            name: "a".into(),
            ..Node::default()
        };
        let alone = decide((1, node), &peers(&["a"]), &BTreeMap::new());
        assert!(matches!(alone, Step::Found(nodes) if nodes.len() == 1));
    }
}
