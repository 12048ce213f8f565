//! How a replica becomes a member of the group: it bootstraps it, joins it, or rejoins it.
//!
//! A group is bootstrapped only when every replica that the configuration names has answered and is
//! empty, by the one with the lowest name. The first five by name are its voters, the others join
//! it. So no two groups can arise from one
//! configuration, and a replica that lost its data never bootstraps a second one: it finds the
//! others initialised and joins them as a new member.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    FormError, Group, Peer,
    identity::Answer,
    membership::{LEADER_ADDRESS, VOTERS_MAX},
};
use crate::{
    domain::{command::Command, id::GroupId, lifecycle::Milestone},
    proto::internal::v1::{JoinRequest, membership_service_client::MembershipServiceClient},
    raft::{
        Listing, ProposeError,
        protocol::{PROTOCOL, VERSION},
    },
};

/// Pause between two rounds of asking peers.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// How long the leader may take to bring a joiner up to date and change the membership.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// What to do after one round of hellos.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Found the group with these replicas as its voters.
    Found(BTreeMap<u64, Listing>),
    /// Ask one of these to join.
    Join(Vec<String>),
    /// Wait for these, who do not answer.
    WaitFor(BTreeSet<String>),
    /// All peers answer; wait for this one to bootstrap the group.
    WaitForFounder(String),
    /// These peers have a different bootstrap list: two groups could arise.
    Disagreement(BTreeMap<String, BTreeSet<String>>),
}

/// Who did not answer, with the reason.
type Silence = BTreeMap<String, String>;

impl Group {
    /// Founds, joins or rejoins the group, and registers this replica with it.
    pub async fn form(&self, cancel: CancellationToken) -> Result<(), FormError> {
        tokio::select! {
            () = cancel.cancelled() => Err(FormError::Cancelled),
            formed = self.become_member() => formed,
        }
    }

    async fn become_member(&self) -> Result<(), FormError> {
        self.check_has_no_twin().await?;
        // Even a replica that is a member asks once: it may have been given the wrong peers.
        let (mut answers, mut silence) = self.ask_peers().await?;
        self.passed(Milestone::Checked);
        while !self.raft().has_membership() {
            self.raft().running().map_err(FormError::Stopped)?;
            match self.next_step(&answers) {
                Step::Found(listings) => self.found(listings).await?,
                Step::Join(addresses) => self.ask_to_join(addresses).await?,
                Step::WaitFor(names) => self.say_whom(&names, &silence),
                Step::WaitForFounder(name) => self.say_whom(&[name].into(), &silence),
                Step::Disagreement(others) => self.say_disagreement(&others),
            }
            if self.raft().has_membership() {
                break;
            }
            tokio::time::sleep(ROUND_PAUSE).await;
            (answers, silence) = self.ask_peers().await?;
        }
        self.give_the_group_its_id().await?;
        self.register().await
    }

    /// Sends a hello to every other replica in the configuration.
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
            None => format!("{name} answered and will bootstrap the group"),
        };
        let why = names.iter().map(why).collect::<Vec<_>>().join("; ");
        if !self.inner.throttle.is_due(&why) {
            return;
        }
        tracing::info!(
            ?names,
            why,
            "waiting for peers before bootstrapping the group"
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
        if self.inner.throttle.is_due(&theirs) {
            tracing::warn!(
                ours,
                theirs,
                "the group was not bootstrapped: replicas have different `peers`; configure the \
                 same on all and restart them"
            );
        }
    }

    fn next_step(&self, answers: &BTreeMap<String, Answer>) -> Step {
        let own_listing = Listing {
            name: self.name().to_owned(),
            peer_address: self.inner.options.peer_address.clone(),
            client_address: self.inner.options.client_address.clone(),
        };
        decide(
            (self.replica_id().0, own_listing),
            &self.inner.options.peers,
            answers,
        )
    }

    async fn found(&self, listings: BTreeMap<u64, Listing>) -> Result<(), FormError> {
        let names: Vec<_> = listings
            .values()
            .map(|listing| listing.name.clone())
            .collect();
        tracing::info!(?names, "bootstrapping the group");
        self.raft()
            .found(listings)
            .await
            .map_err(FormError::Stopped)
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
            let mut client = MembershipServiceClient::new(channel);
            match tokio::time::timeout(JOIN_TIMEOUT, client.join(request)).await {
                Ok(Ok(_)) => {
                    tracing::info!(leader = address, "joined the group");
                    return Ok(());
                }
                Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                    return Err(FormError::Refused(status.message().to_owned()));
                }
                Ok(Err(status)) => {
                    tracing::debug!(peer = address, %status, "join failed at this peer");
                    let leader = status.metadata().get(LEADER_ADDRESS);
                    if let Some(leader) = leader.and_then(|leader| leader.to_str().ok()) {
                        addresses.push_front(leader.to_owned());
                    }
                }
                Err(_) => tracing::debug!(peer = address, "join request timed out"),
            }
        }
        Ok(())
    }

    /// The leader proposes the group's id; the first one wins.
    async fn give_the_group_its_id(&self) -> Result<(), FormError> {
        let mut state = self.raft().watch_topology();
        loop {
            self.raft().running().map_err(FormError::Stopped)?;
            let known = state.borrow_and_update().group.is_some();
            if known {
                return Ok(());
            }
            if self.raft().leadership().borrow().is_self {
                let group = GroupId(uuid::Uuid::new_v4().into_bytes());
                if let Err(ProposeError::Stopped(error)) =
                    self.raft().propose(Command::FoundGroup { group }).await
                {
                    return Err(FormError::Stopped(error));
                }
            }
            drop(tokio::time::timeout(ROUND_PAUSE, state.changed()).await);
        }
    }
}

/// What is to be done, given who answered. `own` is this replica, which is empty.
fn decide(own: (u64, Listing), peers: &[Peer], answers: &BTreeMap<String, Answer>) -> Step {
    let (own_id, own_listing) = own;
    let others = || peers.iter().filter(|peer| peer.name != own_listing.name);
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
        && *lowest < own_listing.name
    {
        return Step::WaitForFounder(lowest.clone());
    }
    let mut listings: Vec<(u64, Listing)> = others()
        .filter_map(|peer| {
            let listing = Listing {
                name: peer.name.clone(),
                peer_address: peer.address.clone(),
                // Set when the replica registers.
                client_address: String::new(),
            };
            Some((answers.get(&peer.name)?.replica_id, listing))
        })
        .collect();
    listings.push((own_id, own_listing));
    // Those that are not among the first voters join once there is a group, as learners.
    listings.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    listings.truncate(VOTERS_MAX);
    Step::Found(listings.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Answer, Listing, Peer, Step, decide};

    fn peers(names: &[&str]) -> Vec<Peer> {
        let peer = |name: &&str| Peer {
            name: (*name).to_owned(),
            address: format!("{name}:1"),
        };
        names.iter().map(peer).collect()
    }

    fn step(own: &str, answers: &[(&str, bool)]) -> Step {
        let listing = Listing {
            name: own.into(),
            ..Listing::default()
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
        decide((1, listing), &peers(&["a", "b", "c"]), &answers)
    }

    #[test]
    fn only_the_lowest_name_founds_and_only_when_everybody_is_there_and_empty() {
        let all = step("a", &[("b", false), ("c", false)]);
        assert!(matches!(all, Step::Found(listings) if listings.len() == 3));
        assert_eq!(
            step("a", &[("b", false)]),
            Step::WaitFor(["c".to_owned()].into())
        );
        let later = step("b", &[("a", false), ("c", false)]);
        assert_eq!(later, Step::WaitForFounder("a".into()));
    }

    #[test]
    fn of_many_replicas_five_are_the_first_voters() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let listing = Listing {
            name: "a".into(),
            ..Listing::default()
        };
        let answers = names[1..].iter().zip(100..).map(|(name, replica_id)| {
            let answer = Answer {
                replica_id,
                initialised: false,
                founders: BTreeSet::new(),
            };
            ((*name).to_owned(), answer)
        });
        let step = decide((1, listing), &peers(&names), &answers.collect());
        let Step::Found(voters) = step else {
            panic!("all are there and empty: {step:?}")
        };
        let voters: BTreeSet<_> = voters.values().map(|voter| voter.name.as_str()).collect();
        assert_eq!(voters, BTreeSet::from(["a", "b", "c", "d", "e"]));
    }

    #[test]
    fn an_empty_replica_joins_a_bootstrapped_group_though_others_are_silent() {
        assert_eq!(step("a", &[("c", true)]), Step::Join(vec!["c:1".into()]));
    }

    #[test]
    fn replicas_with_different_peers_bootstrap_nothing() {
        let listing = Listing {
            name: "a".into(),
            ..Listing::default()
        };
        let founders = BTreeSet::from(["b".to_owned(), "z".to_owned()]);
        let answer = Answer {
            replica_id: 2,
            initialised: false,
            founders: founders.clone(),
        };
        let answers = BTreeMap::from([("b".to_owned(), answer)]);
        let step = decide((1, listing), &peers(&["a", "b"]), &answers);
        assert_eq!(
            step,
            Step::Disagreement([("b".to_owned(), founders)].into())
        );
    }

    #[test]
    fn one_name_alone_founds_at_once() {
        let listing = Listing {
            name: "a".into(),
            ..Listing::default()
        };
        let alone = decide((1, listing), &peers(&["a"]), &BTreeMap::new());
        assert!(matches!(alone, Step::Found(listings) if listings.len() == 1));
    }
}
