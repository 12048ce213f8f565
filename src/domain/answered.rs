//! What is remembered of writes that may be sent again: [`Requests`].

use std::{collections::VecDeque, sync::Arc};

use super::{
    command::{Outcome, Rejection},
    id::Revision,
    request::RequestId,
};

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
/// A rejected one is not remembered: it changed nothing, and sent again it may take effect. Copies
/// share all of them until one is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(Arc<VecDeque<Answered>>);

impl Requests {
    /// How many are remembered: in the state that every replica holds, at about 120 bytes each.
    pub const MAX: usize = 1024;

    /// What comes of a write without executing it: what came of it the first time, or a rejection
    /// where its text was used for another one. `None` where the text is new, or forgotten.
    pub fn answer(&self, request_id: &RequestId) -> Option<Outcome> {
        let known = self
            .0
            .iter()
            .find(|known| known.request_id.text() == request_id.text())?;
        Some(if known.request_id.content() == request_id.content() {
            known.outcome.clone()
        } else {
            Outcome::Rejected(Rejection::RequestIdReused)
        })
    }

    /// Remembers one more, and forgets the oldest where there is no room.
    pub fn remember(&mut self, answered: Answered) {
        let all = Arc::make_mut(&mut self.0);
        if all.len() >= Self::MAX {
            all.pop_front();
        }
        all.push_back(answered);
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
