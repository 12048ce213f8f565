//! How a replica becomes part of the group: it founds it, joins it, or rejoins it.
//!
//! A group is founded only when every replica that configuration names has answered and is empty,
//! by the one with the lowest name, with all of them. So no two groups can arise from one
//! configuration, and a replica that lost its data never founds a second one: it finds the others
//! initialised and joins them as a new member.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use openraft::errors::{InitializeError, RaftError};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    Peer, ProposeError, Raft, Registered,
    hello::Answer,
    membership::LEADER_ADDRESS,
    protocol::{Incompatible, PROTOCOL, VERSION},
    types::Node,
};
use crate::{
    clock,
    domain::{
        command::{Command, Outcome},
        id::{GroupId, Incarnation},
    },
    proto::internal::v1::{JoinRequest, peer_service_client::PeerServiceClient},
};

/// Pause between two rounds of asking peers.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// Patience for the leader to bring a joiner up to date and change the membership.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);

/// How long the log may take to be applied before that is said.
const APPLY_WITHIN: Duration = Duration::from_secs(10);

/// Pause before the peers are asked whether this replica was removed.
const REMOVAL_PAUSE: Duration = Duration::from_secs(2);

/// A replica that hears nothing for so long asks whether another one took its place.
const SUPPLANTED_PAUSE: Duration = Duration::from_secs(3);

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
    /// Another process has the same data.
    #[error(
        "another process answers at {address} as replica {name:?} with the same data: two processes \
         have copies of one data directory. That one goes on; give this one a --name of its own \
         and an empty --data-dir, or remove its copy"
    )]
    SameData {
        /// The name of both.
        name: String,
        /// Where the other one is.
        address: String,
    },
    /// Another replica answers where this one is said to be.
    #[error(
        "at {address}, where others are told to find this replica, answers replica {found:?} with \
         other data: two replicas have one name, or the address is wrong. Correct --name, \
         --advertise-peer or --peers"
    )]
    NotHere {
        /// The address.
        address: String,
        /// Who answers.
        found: String,
    },
    /// Another process took this replica's place.
    #[error(
        "another process has registered as replica {name:?}, at {address}: two processes have \
         copies of one data directory. This one ends, the other goes on; remove this one's copy"
    )]
    Supplanted {
        /// The name of both.
        name: String,
        /// Where the other one is.
        address: String,
    },
    /// The data is older than what the leader knows of it.
    #[error(
        "the data is older than what this replica has acknowledged: leader {by:?} knows its log up \
         to entry {known}, the data ends with entry {last}. Was it restored from a copy? This \
         replica must not go on with it: `quorumwatch members remove {name} --endpoints \
         OTHER-REPLICA`, then `rm -r {}/raft`, then start it again",
        dir.display()
    )]
    Behind {
        /// The leader.
        by: String,
        /// What it knows.
        known: u64,
        /// What there is.
        last: u64,
        /// This replica's name.
        name: String,
        /// This replica's data directory.
        dir: PathBuf,
    },
    /// The group does not know this replica any more.
    #[error(
        "replica {name:?} was removed from the group (says its leader, {by:?}): its data is of no \
         more use. Start it with an empty data directory (`rm -r {}/raft`) and it joins anew; \
         or leave it stopped",
        dir.display()
    )]
    Removed {
        /// This replica's name.
        name: String,
        /// The leader.
        by: String,
        /// This replica's data directory.
        dir: PathBuf,
    },
    /// A peer does not understand us.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
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
    /// These were told of other founders: two groups could arise.
    Disagreement(BTreeMap<String, BTreeSet<String>>),
}

/// Who did not answer, with the reason.
type Silence = BTreeMap<String, String>;

impl Raft {
    /// Founds, joins or rejoins the group, and registers this replica with it.
    pub async fn form(&self, cancel: CancellationToken) -> Result<(), FormError> {
        tokio::select! {
            () = cancel.cancelled() => Err(FormError::Cancelled),
            formed = self.become_member() => formed,
        }
    }

    async fn become_member(&self) -> Result<(), FormError> {
        self.check_is_alone().await?;
        // Even a replica that is a member asks once: it may have been given the wrong peers.
        let (mut answers, mut silence) = self.ask_peers().await?;
        self.inner.admitted.send_replace(true);
        while !self.is_initialised() {
            self.running().map_err(FormError::Stopped)?;
            match self.next_step(&answers) {
                Step::Found(nodes) => self.found(nodes).await?,
                Step::Join(addresses) => self.ask_to_join(addresses).await?,
                Step::WaitFor(names) => self.say_whom(&names, &silence),
                Step::WaitForFounder(name) => self.say_whom(&[name].into(), &silence),
                Step::Disagreement(others) => self.say_disagreement(&others),
            }
            if self.is_initialised() {
                break;
            }
            tokio::time::sleep(ROUND_PAUSE).await;
            (answers, silence) = self.ask_peers().await?;
        }
        self.give_the_group_its_id().await?;
        self.register().await
    }

    /// Whether this replica's log has a membership.
    pub(super) fn is_initialised(&self) -> bool {
        !self.membership().membership().get_joint_config().is_empty()
    }

    /// Says hello to every other replica that configuration names.
    async fn ask_peers(&self) -> Result<(BTreeMap<String, Answer>, Silence), FormError> {
        let others = self.inner.options.peers.iter();
        let others = others.filter(|peer| peer.name != self.name());
        let asked = others.map(|peer| async move { (peer, self.ask(peer).await) });
        let (mut answers, mut silence) = (BTreeMap::new(), Silence::new());
        for (peer, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(answer) => {
                    answers.insert(peer.name.clone(), self.check(peer, &answer)?);
                }
                Err(why) => {
                    let why = format!("{} at {}: {why}", peer.name, peer.address);
                    silence.insert(peer.name.clone(), why);
                }
            }
        }
        Ok((answers, silence))
    }

    /// Says whom this replica waits for and why: at once where that changes, and now and then.
    fn say_whom(&self, names: &BTreeSet<String>, silence: &Silence) {
        let why = |name: &String| match silence.get(name) {
            Some(why) => why.clone(),
            None => format!("{name} answers, and founds it"),
        };
        let why = names.iter().map(why).collect::<Vec<_>>().join("; ");
        if !self.inner.voice.is_due(&why) {
            return;
        }
        tracing::info!(
            ?names,
            why,
            "waiting for replicas, to found the group together"
        );
    }

    fn say_disagreement(&self, others: &BTreeMap<String, BTreeSet<String>>) {
        let show = |names: &BTreeSet<String>| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            names.join(", ")
        };
        let theirs = others
            .iter()
            .map(|(name, founders)| format!("{name} names {}", show(founders)));
        let theirs = theirs.collect::<Vec<_>>().join("; ");
        let ours = show(&self.founders());
        if self.inner.voice.is_due(&theirs) {
            tracing::warn!(
                ours,
                theirs,
                "the group is not founded: replicas were given different `peers`; give all the \
                 same and start them again"
            );
        }
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
                protocol: PROTOCOL,
                version: VERSION.to_owned(),
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
        let at = clock::unix_now();
        loop {
            self.running().map_err(FormError::Stopped)?;
            let command = Command::RegisterMember {
                replica: self.replica_id(),
                name: self.name().to_owned(),
                peer_address: self.inner.options.peer_address.clone(),
                client_address: self.inner.options.client_address.clone(),
                at,
            };
            let submitted = tokio::select! {
                submitted = self.submit(command) => submitted,
                removed = self.removal() => return Err(removed),
            };
            match submitted {
                Ok(proposed) => {
                    if let Outcome::Rejected(rejection) = proposed.outcome {
                        return Err(FormError::Refused(rejection.to_string()));
                    }
                    let incarnation = Incarnation(proposed.revision.0);
                    let registered = Registered { incarnation, at };
                    self.inner.registered.send_replace(Some(registered));
                    // From here on this replica's state is at least as new as before its restart.
                    while !self.wait_applied(proposed.revision, APPLY_WITHIN).await {
                        tracing::info!("waiting for the log to be applied");
                    }
                    return Ok(());
                }
                Err(ProposeError::Stopped(error)) => return Err(FormError::Stopped(error)),
                Err(ProposeError::Refused(error)) => {
                    let removed = self.removed().await;
                    return Err(removed.unwrap_or(FormError::Refused(error)));
                }
                // Registering twice does no harm, so "unknown" is tried again too.
                Err(error) => {
                    if self.inner.voice.is_due(&error.to_string()) {
                        tracing::warn!(%error, "waiting to register with the group");
                    }
                }
            }
        }
    }

    /// Waits until the leader says that it does not know this replica.
    async fn removal(&self) -> FormError {
        loop {
            // A member registers long before this.
            tokio::time::sleep(REMOVAL_PAUSE).await;
            if let Some(removed) = self.removed().await {
                return removed;
            }
        }
    }

    async fn removed(&self) -> Option<FormError> {
        let by = self.who_removed().await?;
        Some(FormError::Removed {
            name: self.name().to_owned(),
            by,
            dir: self.inner.options.data_dir.clone(),
        })
    }

    /// Waits until another process has registered with this replica's identity: one of the two must
    /// end, and it is the one that the group forgot.
    pub async fn supplanted(&self) -> FormError {
        let mut registered = self.inner.registered.subscribe();
        let own = registered.wait_for(Option::is_some).await;
        let Some(own) = own.ok().and_then(|own| *own) else {
            // The sender lives in `self`, so waiting does not fail.
            return std::future::pending().await;
        };
        let supplanted = |address: String| FormError::Supplanted {
            name: self.name().to_owned(),
            address,
        };
        let id = self.replica_id();
        let mut states = self.watch_state();
        loop {
            let state = states.borrow_and_update().clone();
            if let Some(member) = state.members.get(&id)
                && member.incarnation > own.incarnation
                && member.started != own.at
            {
                return supplanted(member.peer_address.clone());
            }
            let changed = tokio::time::timeout(SUPPLANTED_PAUSE, states.changed()).await;
            match changed {
                Ok(Ok(())) => {}
                // Consensus has stopped, which ends the replica by itself.
                Ok(Err(_)) => std::future::pending::<()>().await,
                // Nothing is heard, perhaps because another one hears it in its place.
                Err(_) => {
                    if let Some(address) = self.who_supplanted(own).await {
                        return supplanted(address);
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
    let ours: BTreeSet<String> = peers.iter().map(|peer| peer.name.clone()).collect();
    let differing: BTreeMap<_, _> = answers
        .iter()
        .filter(|(_, answer)| !answer.founders.is_empty() && answer.founders != ours)
        .map(|(name, answer)| (name.clone(), answer.founders.clone()))
        .collect();
    if !differing.is_empty() {
        return Step::Disagreement(differing);
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

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
                    founders: BTreeSet::new(),
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
    fn replicas_that_were_told_of_other_founders_found_nothing() {
        let node = Node {
            name: "a".into(),
            ..Node::default()
        };
        let founders = BTreeSet::from(["b".to_owned(), "z".to_owned()]);
        let answer = Answer {
            replica_id: 2,
            initialised: false,
            founders: founders.clone(),
        };
        let answers = BTreeMap::from([("b".to_owned(), answer)]);
        let step = decide((1, node), &peers(&["a", "b"]), &answers);
        assert_eq!(
            step,
            Step::Disagreement([("b".to_owned(), founders)].into())
        );
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
