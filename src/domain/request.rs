//! Writes that may be sent again: [`RequestId`], and what is remembered of them: [`Requests`].

use std::{collections::VecDeque, sync::Arc};

use super::{
    command::{Outcome, Rejection},
    id::Revision,
};

/// What a caller names one intended write by, so that sending it again has no further effect.
///
/// It carries a fingerprint of what was asked for, so that another write under the same text is
/// noticed. That is the request as the caller wrote it, without the text itself and without the
/// etag. It cannot be the command: the specification in an update is computed from the cluster as
/// it is by then, and the same request sent again later may give another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    text: Arc<str>,
    content: u64,
}

impl RequestId {
    /// Longest text.
    pub const BYTES_MAX: usize = 64;

    /// The text that a caller chose, with the bytes of what it asked for, which must be the same
    /// whenever it asks for the same. `None` where there is no text.
    pub fn new(text: &str, content: &[u8]) -> Option<Self> {
        (!text.is_empty()).then(|| Self::restore(text, fingerprint(content)))
    }

    /// Rebuilds one from its record.
    pub fn restore(text: &str, content: u64) -> Self {
        Self {
            text: text.into(),
            content,
        }
    }

    /// The text that the caller chose.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fingerprint of what was asked for.
    pub fn content(&self) -> u64 {
        self.content
    }
}

/// FNV-1a. It guards against mistakes, not against somebody who looks for collisions: who can write
/// under a text can write without one. It is part of the log's format: `std`'s hash may change.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A write that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What it was named by.
    pub request_id: RequestId,
    /// The revision at which it took effect.
    pub revision: Revision,
    /// What came of it: never a rejection.
    pub outcome: Outcome,
}

/// The last writes that took effect and had a [`RequestId`], the oldest first.
///
/// A rejected one is not remembered: it changed nothing, and sent again it may take effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(VecDeque<Answered>);

impl Requests {
    /// How many are remembered: in the state that every replica holds, at about 120 bytes each.
    pub const MAX: usize = 1024;

    /// What comes of a write without executing it: what came of it the first time, or a rejection
    /// where its text was used for another one. `None` where the text is new, or forgotten.
    pub fn answer(&self, request_id: &RequestId) -> Option<Outcome> {
        let known = self
            .0
            .iter()
            .find(|known| known.request_id.text == request_id.text)?;
        Some(if known.request_id.content == request_id.content {
            known.outcome.clone()
        } else {
            Outcome::Rejected(Rejection::RequestIdReused)
        })
    }

    /// Remembers one more, and forgets the oldest where there is no room.
    pub fn remember(&mut self, answered: Answered) {
        if self.0.len() >= Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(answered);
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Answered> {
        self.0.iter()
    }
}

impl FromIterator<Answered> for Requests {
    fn from_iter<T: IntoIterator<Item = Answered>>(all: T) -> Self {
        let mut requests = Self::default();
        all.into_iter().for_each(|one| requests.remember(one));
        requests
    }
}
