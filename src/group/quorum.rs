//! Contact with a majority of the group, and which voters answer: [`Reach`].

use std::{fmt, time::Duration};

use super::{Group, Peer};
use crate::{
    domain::{id::ReplicaId, lifecycle::Milestone},
    raft::Role,
};

/// How long after a lease expired contact counts as lost. A leader is normally succeeded before its
/// leases expire; this is the extra time for an election on a busy machine, so that subscribers are
/// not disconnected for it. Those of a partitioned replica are disconnected within 1.5 s: a lease,
/// and this.
const CONTACT_GRACE: Duration = Duration::from_millis(500);

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

impl Group {
    /// Follows whether this replica is in contact with a majority of the group: a leader that has
    /// none grants no lease. Never returns.
    pub async fn watch_contact(&self) {
        let lease = self.lease();
        lease.wait().await;
        self.passed(Milestone::ContactMade);
        loop {
            lease.lost_for(CONTACT_GRACE).await;
            self.passed(Milestone::ContactLost);
            let reach = self.reach().await;
            tracing::warn!(
                grace_ms = CONTACT_GRACE.as_millis(),
                "lost contact with a majority of the group; nothing is published, writes are \
                 rejected: {reach}"
            );
            lease.wait().await;
            self.passed(Milestone::ContactMade);
            tracing::info!("contact with a majority of the group restored");
        }
    }

    /// Asks every voter, now.
    pub async fn reach(&self) -> Reach {
        let listed = self.raft().all_listed().into_iter();
        let voters = listed.filter(|(_, listed)| listed.role == Role::Voter);
        let asked = voters.map(|(id, listed)| self.ask_voter(id, listed.listing.name));
        let mut reach = Reach::default();
        let mut answers = futures::future::join_all(asked).await;
        answers.sort();
        for (name, trouble) in answers {
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
        let address = self.raft().peer_address_of(id).unwrap_or_default();
        let peer = Peer { name, address };
        let why = match self.ask(&peer).await {
            Ok(_) => None,
            Err(why) => Some(format!("{}: {why}", peer.address)),
        };
        (peer.name, why)
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
