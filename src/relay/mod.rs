//! What an owner publishes, brought to the replicas that serve it: the pipeline's remote half.

pub mod client;
pub mod codec;
mod service;

pub use service::RelayServer;
