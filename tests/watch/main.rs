//! Watching a scripted API server through the real client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod harness;
mod history;
mod session;
