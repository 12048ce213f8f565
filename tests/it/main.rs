//! The whole thing: the real executable as child processes, simulated clusters, real connections.

mod harness;

mod takeover;
