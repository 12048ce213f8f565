//! Watching a scripted API server through the real client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod breaker;
mod gone;
mod harness;
mod history;
mod memory;
mod session;
mod silence;
mod simulated;
