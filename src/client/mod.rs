//! A client of the public API: what the command line, the demo and the tests use, and what a
//! program in Rust that follows a group may use as well.
//!
//! - [`Client`] makes calls: it asks the next replica where one does not answer, repeats a write
//!   whose outcome is not known without making it twice, and reads its own writes.
//! - [`Subscription`] follows events, and resumes at another replica with the cursor that it keeps.
//! - [`Table`] keeps a copy of what exists from the frames of a subscription.
//! - [`watch`] keeps copies of shards, of clusters and of the group, from the API's watches.
//!
//! How a client in another language does the same: [`crate::docs::clients`].

mod calls;
mod connection;
mod cursor;
mod endpoint;
mod endpoints;
mod error;
mod failover;
mod interruption;
mod position;
#[cfg(test)]
mod scripted;
mod subscription;
mod table;
mod turns;
pub mod watch;

pub use calls::{Client, request_id};
pub use connection::{Connection, MESSAGE_BYTES_MAX};
pub use cursor::Cursor;
pub use endpoint::{Endpoint, NotAnEndpoint};
pub use endpoints::Endpoints;
pub use error::{Error, FieldViolation, Reaction, chain};
pub use interruption::Interruption;
pub use position::compare_positions;
pub use subscription::{BATCH_FRAMES_MAX, Begin, Options, SILENCE_MAX, Subscription, Update};
pub use table::{Effect, Key, Object, StreamCopy, Table, Violation};
