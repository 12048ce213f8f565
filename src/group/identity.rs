//! Who a replica is: the first exchange between two of them, and what it may reveal. Another name,
//! another group, a copy of the same data, data that is older than what was acknowledged.

use std::{collections::BTreeSet, error::Error as _, time::Duration};

use tonic::{Code, Status};

use super::{FormError, Group, Peer};
use crate::{
    domain::{
        id::{GroupId, ReplicaId},
        lifecycle::Registration,
    },
    proto::internal::v1::{
        HelloRequest, HelloResponse, membership_service_client::MembershipServiceClient,
    },
    raft::protocol::{self, PROTOCOL, VERSION},
};

/// How long a peer may take to answer.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// A peer's answer to Hello.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) replica_id: u64,
    pub(super) initialised: bool,
    /// The peer's configured bootstrap list; empty if unknown.
    pub(super) founders: BTreeSet<String>,
}

impl Group {
    /// Sends a hello to one peer; the error is the reason, in words.
    pub(super) async fn ask(&self, peer: &Peer) -> Result<HelloResponse, String> {
        let channel = self.inner.channels.channel(&peer.address);
        let channel = channel.map_err(|error| error.to_string())?;
        let request = HelloRequest {
            name: self.name().to_owned(),
            replica_id: self.replica_id().0,
            expected_name: peer.name.clone(),
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
        };
        let mut client = MembershipServiceClient::new(channel);
        match tokio::time::timeout(HELLO_TIMEOUT, client.hello(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(no_answer(&status)),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// Whether a peer that answers may be one of ours.
    pub(super) fn check(&self, peer: &Peer, answer: &HelloResponse) -> Result<Answer, FormError> {
        let who = format!("{} at {}", peer.name, peer.address);
        protocol::check(&who, answer.protocol, &answer.version)?;
        if answer.replica_id == self.replica_id().0 && answer.process_id != self.inner.process_id {
            return Err(self.same_data(&peer.address));
        }
        if answer.name != peer.name {
            return Err(FormError::AnotherReplica {
                address: peer.address.clone(),
                found: answer.name.clone(),
                expected: peer.name.clone(),
            });
        }
        let last = self.raft().last_index();
        if answer.sender_matched > last {
            return Err(FormError::Behind {
                by: answer.name.clone(),
                known: answer.sender_matched,
                last,
                name: self.name().to_owned(),
                dir: self.inner.options.data_dir.clone(),
            });
        }
        let theirs = <[u8; 16]>::try_from(&answer.group_id[..]).ok().map(GroupId);
        if let (Some(theirs), Some(ours)) = (theirs, self.raft().group())
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
            founders: answer.founders.iter().cloned().collect(),
        })
    }

    fn same_data(&self, address: &str) -> FormError {
        FormError::SameData {
            name: self.name().to_owned(),
            address: address.to_owned(),
        }
    }

    /// Checks that no other process answers at this replica's advertised address. Two that share an
    /// identity, from copies of one data directory, could vote twice.
    pub(super) async fn check_has_no_twin(&self) -> Result<(), FormError> {
        let advertised = self.inner.options.peer_address.clone();
        // Where this replica was when it last registered.
        let registered = self.raft().peer_address_of(self.replica_id());
        let addresses: BTreeSet<String> =
            registered.into_iter().chain([advertised.clone()]).collect();
        for address in addresses {
            let name = self.name().to_owned();
            let own = Peer { name, address };
            let Ok(answer) = self.ask(&own).await else {
                continue;
            };
            if answer.process_id == self.inner.process_id {
                continue;
            }
            if answer.replica_id == self.replica_id().0 {
                return Err(self.same_data(&own.address));
            }
            if own.address == advertised {
                return Err(FormError::NotHere {
                    address: advertised,
                    found: answer.name,
                });
            }
        }
        Ok(())
    }

    /// Whether the leader answers and does not know this replica, which has been a member;
    /// returns the leader's name.
    pub(super) async fn who_removed(&self) -> Option<String> {
        let state = self.raft().state();
        let members = state.members.values().map(|member| Peer {
            name: member.name.clone(),
            address: member.peer_address.clone(),
        });
        let configured = self.inner.options.peers.iter().cloned();
        let peers = members.chain(configured);
        for peer in peers.filter(|peer| peer.name != self.name()) {
            let Ok(answer) = self.ask(&peer).await else {
                continue;
            };
            let ours = self.raft().group();
            let same_group = ours.is_some_and(|group| answer.group_id == group.0[..]);
            let leads = answer.leader_id != 0 && answer.leader_id == answer.replica_id;
            if same_group && leads && !answer.knows_sender {
                return Some(answer.name);
            }
        }
        None
    }

    /// Where another process has registered with this replica's identity after it, if the leader
    /// says so; where no leader is known, if a configured peer does.
    pub(super) async fn who_supplanted(&self, own: Registration) -> Option<String> {
        let state = self.raft().state();
        let leader = self.raft().leadership().borrow().leader;
        let leader = leader.and_then(|leader| state.members.get(&leader));
        let peers: Vec<Peer> = match leader {
            Some(leader) => vec![Peer {
                name: leader.name.clone(),
                address: leader.peer_address.clone(),
            }],
            None => self.inner.options.peers.clone(),
        };
        for peer in peers.iter().filter(|peer| peer.name != self.name()) {
            let Ok(answer) = self.ask(peer).await else {
                continue;
            };
            let ours = self.raft().group();
            let same_group = ours.is_some_and(|group| answer.group_id == group.0[..]);
            // The same process may have registered twice, where the first outcome was unknown.
            let elsewhere = answer.sender_address != self.inner.options.peer_address;
            if same_group && elsewhere && answer.sender_incarnation > own.incarnation.0 {
                return Some(answer.sender_address);
            }
        }
        None
    }

    /// Answers `MembershipService.Hello`.
    pub fn hello(&self, request: &HelloRequest) -> HelloResponse {
        let who = format!("replica {:?}", request.name);
        if let Err(error) = protocol::check(&who, request.protocol, &request.version)
            && self.inner.throttle.is_due(&error.to_string())
        {
            tracing::warn!(%error, "peer runs an incompatible version");
        }
        let mistaken = request.expected_name != self.name();
        if mistaken
            && self
                .inner
                .throttle
                .is_due(&format!("mistaken {}", request.name))
        {
            tracing::warn!(
                peer = request.name,
                expected_name = request.expected_name,
                "a peer expects another replica at this address; correct its `peers`"
            );
        }
        let leader = self.raft().leadership().borrow().leader;
        let group = self.raft().group();
        let sender = ReplicaId(request.replica_id);
        let state = self.raft().state();
        let member = state.members.get(&sender);
        HelloResponse {
            name: self.name().to_owned(),
            replica_id: self.replica_id().0,
            group_id: group
                .map(|group| group.0.to_vec().into())
                .unwrap_or_default(),
            initialised: self.raft().is_initialised(),
            leader_id: leader.map_or(0, |leader| leader.0),
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            process_id: self.inner.process_id,
            founders: self.founders().into_iter().collect(),
            knows_sender: member.is_some() || self.raft().listed(sender).is_some(),
            sender_incarnation: member.map_or(0, |member| member.incarnation.0),
            sender_address: member.map_or_else(String::new, |member| member.peer_address.clone()),
            sender_matched: self.raft().matched(sender),
        }
    }

    /// This replica's configured bootstrap list.
    pub(super) fn founders(&self) -> BTreeSet<String> {
        let peers = self.inner.options.peers.iter();
        peers.map(|peer| peer.name.clone()).collect()
    }
}

/// Why a peer did not answer, in words.
fn no_answer(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if let Some(io) = io.filter(|io| io.raw_os_error().is_some()) {
            return io.to_string();
        }
        cause = error.source();
    }
    match status.code() {
        Code::Unimplemented => {
            "the endpoint is not a peer listener: is it the client port?".to_owned()
        }
        Code::Unavailable | Code::DeadlineExceeded => "no answer".to_owned(),
        _ => "the endpoint is not a quorumwatch replica: is the port right?".to_owned(),
    }
}
