//! From a watcher to subscribers.
//!
//! Each replica keeps one [`log::StreamLog`] for each stream that it publishes or serves. At the
//! owner an [`owned::OwnedStream`] writes it; at every other replica the [`hub::Hub`] feeds it from
//! the owner. A [`feed`] serves one reader from any place, out of the log where it reaches back far
//! enough, else out of the API server's own history, and a [`subscription::Subscription`] merges
//! streams for one subscriber.
//!
//! What comes next for whom is decided in [`crate::domain::delivery`]. Every queue is bounded; a
//! reader that falls off a log catches up from the history. Nothing here names kube, Raft or gRPC:
//! history, feeds and state come in through traits and channels.

mod coverage;
pub mod feed;
pub mod filter;
mod history;
pub mod hub;
mod lock;
pub mod log;
pub mod output;
pub mod owned;
mod replays;
mod shared;
pub mod subscription;
mod subscription_stream;

#[cfg(test)]
mod batches_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod hub_tests;
#[cfg(test)]
mod moves_tests;
#[cfg(test)]
mod repairs_tests;
#[cfg(test)]
mod waiting_tests;
