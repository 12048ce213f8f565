//! Objects that were delivered, remembered to decide whether history is still the one that they
//! were delivered from (trap T4): [`Witnesses`].

use crate::domain::{
    event::{Change, Event, ObjectKey},
    position::ResourceVersion,
};

/// For so long after its delivery an object is looked up at its own version, where it has to be
/// whatever followed. Later that version may be compacted.
const FRESH_MS: u64 = 200_000;

/// An object as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Namespace, name and UID.
    pub key: ObjectKey,
    /// The resource version at which it was delivered.
    pub rv: ResourceVersion,
}

/// Whether an exact list at this version shows the object, just as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The version.
    pub at: ResourceVersion,
    /// The object.
    pub witness: Witness,
}

#[derive(Clone, Debug)]
struct Remembered {
    witness: Witness,
    /// When it was delivered; `None` where a list has shown it.
    delivered_ms: Option<u64>,
    /// Whether its deletion was delivered.
    is_deleted: bool,
    /// Whether something newer was delivered, perhaps of the same object.
    is_passed: bool,
}

impl Remembered {
    fn question(&self, now_ms: u64, closed: &ResourceVersion) -> Question {
        let is_fresh = self
            .delivered_ms
            .is_some_and(|delivered_ms| now_ms < delivered_ms.saturating_add(FRESH_MS));
        let is_ahead = self.witness.rv > *closed;
        let at = if is_fresh || is_ahead || self.is_deleted || self.is_passed {
            self.witness.rv.clone()
        } else {
            closed.clone()
        };
        let witness = self.witness.clone();
        Question { at, witness }
    }
}

/// The object that was delivered last, and the one that was the last when history was checked: a
/// rewind that was overtaken since then stands between the two.
#[derive(Clone, Debug, Default)]
pub(super) struct Witnesses {
    newest: Option<Remembered>,
    checked: Option<Remembered>,
}

impl Witnesses {
    /// Events were delivered, in this order.
    pub(super) fn remember(&mut self, now_ms: u64, events: &[Event]) {
        let last = events
            .iter()
            .rposition(|event| event.change != Change::Deleted);
        let is_deleted = |uid: &str, events: &[Event]| {
            let mut deletions = events
                .iter()
                .filter(|event| event.change == Change::Deleted);
            deletions.any(|event| event.uid() == uid)
        };
        if let Some(last) = last
            && let Some(event) = events.get(last)
        {
            // Before the first check it is the first one that is kept.
            if self.checked.is_none() {
                self.checked = self.newest.take();
            }
            if let Some(checked) = &mut self.checked {
                checked.is_passed = true;
            }
            self.newest = Some(Remembered {
                witness: Witness {
                    key: event.key.clone(),
                    rv: event.rv.clone(),
                },
                delivered_ms: Some(now_ms),
                is_deleted: is_deleted(event.uid(), &events[last + 1..]),
                is_passed: false,
            });
        } else {
            for known in self.newest.iter_mut().chain(&mut self.checked) {
                known.is_deleted |= is_deleted(known.witness.key.uid(), events);
            }
        }
    }

    /// Net changes were delivered, perhaps of these objects.
    pub(super) fn pass(&mut self) {
        for known in self.newest.iter_mut().chain(&mut self.checked) {
            known.is_passed = true;
        }
    }

    /// A list has shown this object, the newest of all.
    pub(super) fn show(&mut self, witness: &Witness) {
        let newest = self.newest.as_ref();
        if newest.is_none_or(|newest| witness.rv > newest.witness.rv) {
            self.newest = Some(Remembered {
                witness: witness.clone(),
                delivered_ms: None,
                is_deleted: false,
                is_passed: false,
            });
            self.checked();
        }
    }

    /// The exact lists to request.
    pub(super) fn questions(&self, now_ms: u64, closed: &ResourceVersion) -> Vec<Question> {
        let newest = self.newest.as_ref();
        let checked = self
            .checked
            .as_ref()
            .filter(|checked| newest.is_none_or(|newest| newest.witness.rv != checked.witness.rv));
        let asked = newest.into_iter().chain(checked);
        asked
            .map(|known| known.question(now_ms, closed))
            .filter(|question| question.at != ResourceVersion::ZERO)
            .collect()
    }

    /// What was asked is so.
    pub(super) fn checked(&mut self) {
        self.checked.clone_from(&self.newest);
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Event, FRESH_MS, ObjectKey, Witnesses};
    use crate::domain::id::UnixMillis;

    fn event(uid: &str, rv: u64, change: Change) -> Event {
        Event {
            change,
            rv: rv.into(),
            key: ObjectKey::new("n", uid, uid),
            object: bytes::Bytes::new(),
            metadata_only: false,
            seen: UnixMillis(0),
        }
    }

    /// UID and version of the object, and the version at which it is looked up.
    fn asked(witnesses: &Witnesses, now_ms: u64, closed: u64) -> Vec<(String, u64, u64)> {
        let questions = witnesses.questions(now_ms, &closed.into());
        let number = |rv: &super::ResourceVersion| rv.as_u64().unwrap();
        questions
            .iter()
            .map(|q| {
                (
                    q.witness.key.uid().to_owned(),
                    number(&q.witness.rv),
                    number(&q.at),
                )
            })
            .collect()
    }

    #[test]
    fn the_last_object_is_looked_up_at_its_own_version_and_later_where_it_still_is() {
        let mut witnesses = Witnesses::default();
        assert_eq!(asked(&witnesses, 0, 9), []);
        let events = [
            event("a", 3, Change::Added),
            event("b", 4, Change::Modified),
            event("c", 5, Change::Deleted),
        ];
        witnesses.remember(0, &events);
        assert_eq!(asked(&witnesses, 0, 9), [("b".to_owned(), 4, 4)]);
        assert_eq!(asked(&witnesses, FRESH_MS, 9), [("b".to_owned(), 4, 9)]);
        witnesses.remember(1, &[event("b", 12, Change::Deleted)]);
        assert_eq!(asked(&witnesses, FRESH_MS, 20), [("b".to_owned(), 4, 4)]);
    }

    #[test]
    fn what_was_the_last_at_the_check_before_is_asked_about_too() {
        let mut witnesses = Witnesses::default();
        witnesses.remember(0, &[event("a", 3, Change::Added)]);
        witnesses.checked();
        assert_eq!(asked(&witnesses, 0, 9).len(), 1);
        witnesses.remember(0, &[event("a", 7, Change::Modified)]);
        let own = |rv| ("a".to_owned(), rv, rv);
        assert_eq!(asked(&witnesses, 0, 9), [own(7), own(3)]);
        witnesses.checked();
        assert_eq!(asked(&witnesses, 0, 9), [own(7)]);
    }
}
