//! The other replicas.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tonic::{Code, Status, transport::Channel};

use super::{
    finding::{Finding, Verdict},
    targets::{Outcome, Target},
};
use crate::{
    config::{Peer, Serve},
    domain::id::GroupId,
    net::{Channels, Tcp},
    proto::{
        internal::v1::{
            HelloRequest, HelloResponse, membership_service_client::MembershipServiceClient,
        },
        v1::{GetGroupRequest, group_service_client::GroupServiceClient},
    },
    raft::protocol::{PROTOCOL, VERSION},
};

/// How long one step may take; inside a data centre each takes a millisecond.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// What answers at an address.
pub(super) enum Reached {
    Replica(HelloResponse),
    /// That of the replica with this name.
    ClientListener(String),
    /// No connection: the reason, and what to do.
    Nobody(String, &'static str),
    /// Something else: its response.
    Stranger(String),
}

pub(super) fn targets(serve: &Serve) -> Vec<Target> {
    let target = |peer: &Peer| {
        let (own, peer) = (serve.name.clone(), peer.clone());
        let subject = format!("peer {}", peer.name);
        Target::new(&subject.clone(), async move {
            look(&subject, &own, &peer).await
        })
    };
    serve.peers.iter().map(target).collect()
}

async fn look(subject: &str, own: &str, peer: &Peer) -> Outcome {
    let check = &peer.address;
    let found = |verdict, detail: String| Finding::new(subject, check, verdict, detail);
    let is_self = peer.name == own;
    let mut group = None;
    let finding = match ask(&peer.address, own, &peer.name).await {
        Reached::Replica(hello) if hello.name == peer.name => {
            let name = name_of(&hello.group_id);
            let of = match &name {
                Some(name) => format!("of group {name}"),
                None => "of no group yet".to_owned(),
            };
            group = name;
            found(Verdict::Ok, format!("replica {} answers, {of}", hello.name))
        }
        Reached::Replica(hello) => {
            let detail = format!("replica {:?} answers there", hello.name);
            found(Verdict::Failed, detail).advise("correct the address or the name in peers")
        }
        Reached::ClientListener(name) => {
            let detail = format!("the client listener of replica {name:?} answers there");
            found(Verdict::Failed, detail)
                .advise("give the address of its peer listener; its default port is 7401")
        }
        Reached::Stranger(said) => {
            let detail = format!("not a replica: {said}");
            found(Verdict::Failed, detail).advise("correct the address in peers")
        }
        // It need not run to be checked.
        Reached::Nobody(reason, _) if is_self && is_refused(&reason) => {
            found(Verdict::Ok, "this replica; it is not running".to_owned())
        }
        Reached::Nobody(reason, advice) => found(Verdict::Failed, reason).advise(advice),
    };
    Outcome {
        findings: vec![finding],
        group,
        ..Outcome::default()
    }
}

const REFUSED: &str = "nothing listens there";

fn is_refused(reason: &str) -> bool {
    reason == REFUSED
}

/// Sends a hello; any replica may answer.
pub(super) async fn ask(address: &str, own: &str, expected: &str) -> Reached {
    if let Err((reason, advice)) = connect(address).await {
        return Reached::Nobody(reason, advice);
    }
    let channel = match Channels::new(Arc::new(Tcp)).channel(address) {
        Ok(channel) => channel,
        Err(error) => return Reached::Stranger(error.to_string()),
    };
    let mut client = MembershipServiceClient::new(channel.clone());
    let hello = client.hello(HelloRequest {
        name: own.to_owned(),
        // No replica has this id, so the check of identity is skipped.
        replica_id: 0,
        expected_name: expected.to_owned(),
        protocol: PROTOCOL,
        version: VERSION.to_owned(),
    });
    match timeout(STEP_TIMEOUT, hello).await {
        Ok(Ok(hello)) => Reached::Replica(hello.into_inner()),
        Ok(Err(status)) => match client_listener(channel, &status).await {
            Some(name) => Reached::ClientListener(name),
            None => Reached::Stranger(said(&status)),
        },
        Err(_) => Reached::Stranger("it accepts connections and sends nothing".to_owned()),
    }
}

fn said(status: &Status) -> String {
    match status.code() {
        Code::Unimplemented => "it speaks gRPC, but has no MembershipService".to_owned(),
        _ if status.message().contains("protocol error") => "it does not speak gRPC".to_owned(),
        _ if status.message().is_empty() => format!("{:?}", status.code()),
        _ => status.message().to_owned(),
    }
}

/// Explains a failed connection, and what to do.
type Absence = (String, &'static str);

/// The addresses of a `host:port`.
pub(super) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, Absence> {
    match timeout(STEP_TIMEOUT, lookup_host(address)).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => {
            let advice = "correct the host name in peers, or this machine's name service (DNS)";
            Err((format!("the host name cannot be resolved: {error}"), advice))
        }
        Err(_) => {
            let advice = "check this machine's name service (DNS)";
            Err(("the name service does not answer".to_owned(), advice))
        }
    }
}

async fn connect(address: &str) -> Result<(), Absence> {
    let resolved = resolve(address).await?;
    match timeout(STEP_TIMEOUT, TcpStream::connect(&*resolved)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            let advice = "start that replica, or correct its address in peers";
            Err((REFUSED.to_owned(), advice))
        }
        Ok(Err(error)) => Err((
            error.to_string(),
            "allow this machine to reach it (routes, \
                                                   firewalls)",
        )),
        Err(_) => {
            let seconds = STEP_TIMEOUT.as_secs();
            let reason = format!("the machine does not answer within {seconds} s");
            Err((
                reason,
                "is it up, and does a firewall let this machine through?",
            ))
        }
    }
}

/// The two listeners are easily mistaken for each other.
async fn client_listener(channel: Channel, status: &Status) -> Option<String> {
    if status.code() != Code::Unimplemented {
        return None;
    }
    let mut client = GroupServiceClient::new(channel);
    let group = client.get_group(GetGroupRequest::default());
    let group = timeout(STEP_TIMEOUT, group).await.ok()?.ok()?;
    Some(group.into_inner().answered_by)
}

/// A group's identity, as people know it; `None` for none.
fn name_of(group: &[u8]) -> Option<String> {
    let id = group.try_into().ok()?;
    Some(GroupId(id).to_string())
}
