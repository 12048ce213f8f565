//! Ports for replicas.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below those that systems hand out to outgoing connections (32768 and up): one of those could
/// take the port of a killed replica before it is back.
const PORTS: std::ops::Range<u16> = 12_000..19_900;

/// Ports handed out so far by this process.
static HANDED_OUT: AtomicU16 = AtomicU16::new(0);

/// Free ports, never the same ones twice in a process.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // Two processes at once begin at different places.
    let span = PORTS.end - PORTS.start;
    let offset = u16::try_from(std::process::id() * 37 % u32::from(span)).unwrap();
    let mut held: Vec<(u16, TcpListener)> = Vec::new();
    while held.len() < N {
        let turn = HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        assert!(turn < span, "every port is taken");
        let port = PORTS.start + (offset + turn) % span;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    std::array::from_fn(|index| held[index].0)
}
