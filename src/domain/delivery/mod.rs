//! What a subscriber gets of a stream, decided in four places, each pure:
//!
//! | question | decided by |
//! |---|---|
//! | how far has the owner published, and what may be checkpointed? | [`publication::Publication`] |
//! | how is a reader served that stands here, from what the owner has there? | the table [`way::way`], which [`feed::FeedSession`] follows |
//! | does an item come next for this reader, or did it have it, or is something missing in between? | [`place::Place::admit`] |
//! | is this owner still accepted? | [`fence::Fence::admit`] |
//!
//! The last two are the comparisons that "exactly once" rests on. Everything that holds items passes
//! them: the log of a stream at each replica, a feed, a subscription.

pub mod feed;
pub mod fence;
#[cfg(test)]
mod fixtures;
pub mod item;
pub mod numbering;
pub mod place;
pub mod publication;
pub mod replay;
pub mod ring;
pub mod way;
