//! A network for each replica, and a router between them that drops packets on demand.
//!
//! Packets are dropped without notice to either end, as by a broken cable or a firewall. Everything
//! is in namespaces of this program alone (see [`super::isolation`]), so nothing is left behind
//! however it ends.

use std::{
    net::Ipv4Addr,
    process::{Command, Output},
};

const ROUTER: &str = "router";

/// Addresses: 10.99.1.2 for this program's clients, 10.99.10.2 and up for the replicas, and one
/// for each API server from 10.99.100.1.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);
const EVERYTHING: &str = "10.99.0.0/16";
const API_SERVERS: &str = "10.99.100.0/22";
const API_SERVERS_FIRST: u32 = u32::from_be_bytes([10, 99, 100, 1]);
/// The maximum number of API servers with an address of their own.
const API_SERVERS_MAX: usize = 1_000;

/// What the router drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Everything that a replica sends.
    From(usize),
    /// Everything that is sent to a replica.
    To(usize),
    /// What one replica sends to another.
    Between(usize, usize),
    /// What a replica sends to an API server.
    ApiServer(usize, usize),
}

/// The network of a group and its API servers.
#[derive(Debug)]
pub(crate) struct Network {
    replicas: usize,
    api_servers: usize,
}

impl Network {
    /// Creates the network for so many replicas and API servers.
    pub(crate) fn create(replicas: usize, api_servers: usize) -> Self {
        assert!(api_servers <= API_SERVERS_MAX, "too many API servers");
        run("mkdir -p /run/netns");
        run("mount -t tmpfs none /run/netns");
        ip("link set lo up");
        ip(&format!("netns add {ROUTER}"));
        ip(&format!("-n {ROUTER} link set lo up"));
        ip(&format!(
            "link add up0 type veth peer name clients netns {ROUTER}"
        ));
        ip(&format!("addr add {CLIENTS}/24 dev up0"));
        ip("link set up0 up");
        ip(&format!("-n {ROUTER} addr add 10.99.1.1/24 dev clients"));
        ip(&format!("-n {ROUTER} link set clients up"));
        ip(&format!("route add {EVERYTHING} via 10.99.1.1"));
        ip(&format!(
            "-n {ROUTER} route add {API_SERVERS} via {CLIENTS}"
        ));
        let forward = "/proc/sys/net/ipv4/ip_forward";
        run(&format!(
            "ip netns exec {ROUTER} dd of={forward} status=none"
        ));
        let network = Self {
            replicas,
            api_servers,
        };
        for index in 0..api_servers {
            ip(&format!("addr add {}/32 dev lo", network.api_server(index)));
        }
        for index in 0..replicas {
            network.connect(index);
        }
        network
    }

    fn connect(&self, index: usize) {
        let (own, link) = (namespace(index), link(index));
        let (address, gateway) = (self.replica(index), gateway(index));
        ip(&format!("netns add {own}"));
        ip(&format!("-n {own} link set lo up"));
        ip(&format!(
            "-n {own} link add eth0 type veth peer name {link} netns {ROUTER}"
        ));
        ip(&format!("-n {own} addr add {address}/24 dev eth0"));
        ip(&format!("-n {own} link set eth0 up"));
        ip(&format!("-n {ROUTER} addr add {gateway}/24 dev {link}"));
        ip(&format!("-n {ROUTER} link set {link} up"));
        ip(&format!("-n {own} route add default via {gateway}"));
    }

    /// The address of a replica.
    pub(crate) fn replica(&self, index: usize) -> Ipv4Addr {
        assert!(index < self.replicas, "no such replica");
        Ipv4Addr::new(10, 99, 10 + octet(index), 2)
    }

    /// The address of an API server.
    pub(crate) fn api_server(&self, index: usize) -> Ipv4Addr {
        assert!(index < self.api_servers, "no such API server");
        let index = u32::try_from(index).expect("there are few");
        Ipv4Addr::from(API_SERVERS_FIRST + index)
    }

    /// The prefix of a command that is to run in the network namespace of a replica.
    pub(crate) fn wrapper(&self, index: usize) -> Vec<String> {
        let path = format!("--net=/run/netns/{}", namespace(index));
        vec!["nsenter".into(), path]
    }

    /// Starts dropping these packets.
    pub(crate) fn cut(&self, cuts: &[Cut]) {
        self.change("add", cuts);
    }

    /// Stops dropping these packets.
    pub(crate) fn heal(&self, cuts: &[Cut]) {
        self.change("del", cuts);
    }

    /// Changes all rules in one batch, as close to at once as possible.
    fn change(&self, verb: &str, cuts: &[Cut]) {
        let rules = cuts.iter().map(|cut| {
            let which = match *cut {
                Cut::From(from) => format!("iif {}", link(from)),
                Cut::To(to) => format!("to {}", self.replica(to)),
                Cut::Between(from, to) => format!("iif {} to {}", link(from), self.replica(to)),
                Cut::ApiServer(from, to) => {
                    format!("iif {} to {}", link(from), self.api_server(to))
                }
            };
            format!("rule {verb} {which} blackhole\n")
        });
        let batch: String = rules.collect();
        let mut command = Command::new("ip");
        command.args(["-n", ROUTER, "-batch", "-"]);
        check(&format!("{verb} {cuts:?}"), &fed(&mut command, &batch));
    }
}

fn namespace(index: usize) -> String {
    format!("replica{index}")
}

/// The router's end of the link to a replica.
fn link(index: usize) -> String {
    format!("to{index}")
}

fn gateway(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 10 + octet(index), 1)
}

fn octet(index: usize) -> u8 {
    u8::try_from(index).expect("a group is small")
}

fn ip(arguments: &str) {
    run(&format!("ip {arguments}"));
}

/// Runs a command, given as words, with "1" as its standard input.
fn run(words: &str) {
    let mut words_of = words.split(' ');
    let mut command = Command::new(words_of.next().expect("a command has a name"));
    command.args(words_of);
    check(words, &fed(&mut command, "1"));
}

fn fed(command: &mut Command, input: &str) -> Output {
    use std::{io::Write as _, process::Stdio};
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the command exists");
    // Most of them read nothing and may be gone already.
    let _ = child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn check(what: &str, output: &Output) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {error}");
}
