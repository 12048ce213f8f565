//! Who of the voters answers, for messages: [`Reach`].

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{Peer, Raft, Role};
use crate::domain::id::ReplicaId;

/// A leader that no majority has acknowledged for so long does not take writes: they would only
/// wait. Longer than an election takes, and many of Raft's heartbeats.
const QUORUM_LOST: Duration = Duration::from_secs(1);

/// Which voters answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Names of those who answer, this replica included where it votes.
    pub answering: Vec<String>,
    /// Those who do not: `name (why)`.
    pub silent: Vec<String>,
}

impl Reach {
    fn voters(&self) -> usize {
        self.answering.len() + self.silent.len()
    }

    /// How many voters must work together.
    fn majority(&self) -> usize {
        self.voters() / 2 + 1
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (voters, answering) = (self.voters(), self.answering.len());
        let names = self.answering.join(", ");
        if answering >= self.majority() {
            return write!(
                f,
                "the group has no leader just now, although {answering} of {voters} voters answer \
                 ({names}): they are electing one, or cannot reach each other"
            );
        }
        let verb = if answering == 1 { "answers" } else { "answer" };
        write!(
            f,
            "the group has no quorum: {answering} of {voters} voters {verb} ({names}), {} must. \
             Start the others, or repair the network to them: {}",
            self.majority(),
            self.silent.join("; ")
        )
    }
}

impl Raft {
    /// Asks every voter, now.
    pub async fn reach(&self) -> Reach {
        let membership = self.membership();
        let nodes: BTreeMap<_, _> = membership.membership().nodes().collect();
        let roles = self.status().roles.into_iter();
        let voters = roles.filter(|(_, role)| *role == Role::Voter);
        let asked = voters.filter_map(|(id, _)| {
            let name = nodes.get(&id.0)?.name.clone();
            Some(self.ask_voter(id, name))
        });
        let mut reach = Reach::default();
        let mut told = futures::future::join_all(asked).await;
        told.sort();
        for (name, trouble) in told {
            match trouble {
                None => reach.answering.push(name),
                Some(why) => reach.silent.push(format!("{name} ({why})")),
            }
        }
        reach
    }

    async fn ask_voter(&self, id: ReplicaId, name: String) -> (String, Option<String>) {
        if id == self.replica_id() {
            return (name, None);
        }
        let address = self.peer_address_of(id).unwrap_or_default();
        let peer = Peer { name, address };
        let why = match self.ask(&peer).await {
            Ok(_) => None,
            Err(why) => Some(format!("{}: {why}", peer.address)),
        };
        (peer.name, why)
    }

    /// Whether a majority has acknowledged this replica as the leader lately; `false` on others.
    pub fn leads_a_quorum(&self) -> bool {
        self.quorum_ack_age().is_some_and(|age| age < QUORUM_LOST)
    }

    /// Whether this leader had a majority and has lost it.
    pub(super) fn has_lost_its_quorum(&self) -> bool {
        self.quorum_ack_age().is_some_and(|age| age >= QUORUM_LOST)
    }
}

#[cfg(test)]
mod tests {
    use super::Reach;

    #[test]
    fn it_says_how_many_of_how_many_answer() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut reach = Reach {
            answering: names(&["a"]),
            silent: names(&["b (h:1: x)", "c (h:2: y)"]),
        };
        let said = reach.to_string();
        assert!(
            said.contains("no quorum: 1 of 3 voters answers (a), 2 must"),
            "{said}"
        );
        assert!(said.ends_with("b (h:1: x); c (h:2: y)"), "{said}");
        reach.answering = names(&["a", "d"]);
        assert!(
            reach
                .to_string()
                .contains("2 of 4 voters answer (a, d), 3 must")
        );
        reach.silent.clear();
        assert!(
            reach
                .to_string()
                .contains("no leader just now, although 2 of 2")
        );
    }
}
