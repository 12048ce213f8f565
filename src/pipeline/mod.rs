//! From a watcher to subscribers.
//!
//! On the owner's side an [`owned::OwnedStream`] stamps frames with positions and keeps the newest
//! in a [`ring::Ring`]; a [`feed`] serves one asker from any position, out of the ring where it
//! reaches back far enough, else out of the API server's own history. On the serving side the
//! [`hub::Hub`] keeps one ring per wanted stream, fed from the owner, and a
//! [`subscription::Subscription`] merges streams for one subscriber.
//!
//! Every queue is bounded; who falls off a ring catches up from the history. Nothing here names
//! kube, Raft or gRPC: history, sources and state come in through traits and channels.

mod coverage;
pub mod feed;
pub mod filter;
pub mod hub;
pub mod item;
mod lock;
pub mod output;
pub mod owned;
pub mod ring;
pub mod sequencer;
mod shared;
pub mod subscription;
mod subscription_stream;
