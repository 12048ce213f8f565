//! The network between pods: a switch, a cable to each, and ways to cut them.
//!
//! Everything lies in network namespaces of its own, so that no firewall of this machine has a say,
//! and is gone with them.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

/// The name of every namespace begins with it.
const PREFIX: &str = "qwtest";
/// The place of this machine in the network.
const HOST: u8 = 1;
/// A hardware address that does not exist.
const NOBODY: &str = "02:00:00:00:00:fe";

/// The networks of this process: the kernel takes its time to remove one, so each has names and
/// addresses of its own.
static CREATED: AtomicU8 = AtomicU8::new(0);

/// The network of one test; gone when dropped.
pub(crate) struct Network {
    /// Different for each.
    id: String,
    /// Which of this process it is.
    number: u8,
    /// The third of an address' four numbers.
    subnet: u8,
    /// Which pods have a namespace.
    plugged: Vec<usize>,
}

/// One direction of silence: what `from` sends to `to` is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) from: usize,
    pub(crate) to: IpAddr,
}

impl Network {
    pub(crate) fn create() -> Self {
        remove_leftovers();
        let process = std::process::id();
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            id: format!("{PREFIX}{process}-{number}"),
            number,
            subnet: u8::try_from((process + 25 * u32::from(number)) % 250).unwrap() + 1,
            plugged: Vec::new(),
        };
        let switch = network.switch();
        ip(&format!("netns add {switch}"));
        ip(&format!(
            "-n {switch} link add br0 type bridge forward_delay 0"
        ));
        ip(&format!("-n {switch} link set br0 up"));
        let cable = network.cable();
        ip(&format!(
            "link add {cable} type veth peer name host netns {switch}"
        ));
        ip(&format!("-n {switch} link set host master br0 up"));
        ip(&format!("addr add {}/24 dev {cable}", network.host()));
        ip(&format!("link set {cable} up"));
        network
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.id)
    }

    /// This machine's end; names of links are short.
    fn cable(&self) -> String {
        format!("qw{}x{}", std::process::id(), self.number)
    }

    fn namespace(&self, pod: usize) -> String {
        format!("{}-{pod}", self.id)
    }

    /// Where a pod's namespace is.
    pub(crate) fn namespace_path(&self, pod: usize) -> String {
        format!("/run/netns/{}", self.namespace(pod))
    }

    fn address(&self, last: u8) -> IpAddr {
        // Addresses for tests of networks (RFC 2544): they lead nowhere else.
        Ipv4Addr::new(198, 18, self.subnet, last).into()
    }

    /// Where this machine is reached.
    pub(crate) fn host(&self) -> IpAddr {
        self.address(HOST)
    }

    /// The address of a pod in one of its lives.
    pub(crate) fn pod(&self, pod: usize, life: u8) -> IpAddr {
        self.address(10 + 10 * life + u8::try_from(pod).unwrap())
    }

    /// Gives a pod a namespace with an address.
    pub(crate) fn plug(&mut self, pod: usize, address: IpAddr) {
        let (switch, own) = (self.switch(), self.namespace(pod));
        ip(&format!("netns add {own}"));
        self.plugged.push(pod);
        ip(&format!("-n {own} link set lo up"));
        ip(&format!(
            "-n {own} link add eth0 type veth peer name pod{pod} netns {switch}"
        ));
        ip(&format!("-n {own} addr add {address}/24 dev eth0"));
        ip(&format!("-n {own} link set eth0 up"));
        ip(&format!("-n {switch} link set pod{pod} master br0 up"));
    }

    /// Takes it away, address and all.
    pub(crate) fn unplug(&mut self, pod: usize) {
        ip(&format!("netns del {}", self.namespace(pod)));
        self.plugged.retain(|other| *other != pod);
    }

    /// Pulls a pod's cable, or puts it back.
    pub(crate) fn set_cable(&self, pod: usize, is_up: bool) {
        let state = if is_up { "up" } else { "down" };
        ip(&format!("-n {} link set pod{pod} {state}", self.switch()));
    }

    /// From now on nothing gets through; neither side is notified.
    pub(crate) fn cut(&self, cut: Cut) {
        let own = self.namespace(cut.from);
        let to = cut.to;
        ip(&format!(
            "-n {own} neigh replace {to} lladdr {NOBODY} dev eth0 nud permanent"
        ));
    }

    /// Undoes it.
    pub(crate) fn heal(&self, cut: Cut) {
        let own = self.namespace(cut.from);
        ip(&format!("-n {own} neigh del {} dev eth0", cut.to));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let pods = self.plugged.iter().map(|pod| self.namespace(*pod));
        for namespace in pods.chain([self.switch()]) {
            // A failed removal is made up for by the next run.
            let _ = Command::new("ip")
                .args(["netns", "del", &namespace])
                .status();
        }
    }
}

/// Namespaces of test processes that were killed.
fn remove_leftovers() {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for namespace in listed.lines().filter_map(|line| line.split(' ').next()) {
        let process = namespace
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let is_gone = |process| !std::path::Path::new(&format!("/proc/{process}")).exists();
        if process.is_some_and(is_gone) {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

fn ip(arguments: &str) {
    let run = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "ip {arguments}: {error}");
}
