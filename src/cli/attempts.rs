//! The notes of a command that follows a stream while it moves from replica to replica.

use std::fmt::Display;

use super::{Error, output};
use crate::client::{Endpoint, Endpoints};

/// The replicas tried since one last served.
pub(super) struct Attempts {
    endpoints: Endpoints,
    /// Whether any replica has served yet.
    has_served: bool,
    failed: Vec<String>,
}

impl Attempts {
    pub(super) fn new(endpoints: Endpoints) -> Self {
        Self {
            endpoints,
            has_served: false,
            failed: Vec::new(),
        }
    }

    /// A replica serves.
    pub(super) fn serves(&mut self) {
        self.has_served = true;
        self.failed.clear();
    }

    /// Whether any replica has served yet.
    pub(super) fn has_served(&self) -> bool {
        self.has_served
    }

    /// The same as [`Self::fails`], and prints the notes.
    pub(super) fn note_failure(
        &mut self,
        endpoint: &Endpoint,
        why: &impl Display,
    ) -> Result<(), Error> {
        let notes = self.fails(endpoint, &why.to_string())?;
        notes.iter().for_each(|note| output::note(note));
        Ok(())
    }

    /// A replica stopped serving, or did not answer: returns the notes, once in each round of
    /// all replicas. An error where none has ever answered: the user has named the wrong ones, or
    /// none runs.
    pub(super) fn fails(&mut self, endpoint: &Endpoint, why: &str) -> Result<Vec<String>, Error> {
        let replicas = self.endpoints.len();
        let mut notes = Vec::new();
        if self.has_served && self.failed.is_empty() {
            notes.push(format!("{endpoint} disconnected ({why}); resuming"));
        }
        // After one round the list is complete; later rounds would only repeat it.
        if self.failed.len() < replicas {
            self.failed.push(format!("{endpoint}: {why}"));
            if self.failed.len() == replicas {
                if !self.has_served {
                    let tried = std::mem::take(&mut self.failed);
                    return Err(self.endpoints.no_answer(tried).into());
                }
                if replicas > 1 {
                    notes.push("no replica is available; retrying until one is".to_owned());
                }
            }
        }
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempts, Endpoint, Endpoints, Error};
    use crate::client;

    fn attempts() -> (Attempts, [Endpoint; 2]) {
        let replicas: [Endpoint; 2] =
            ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        let [first, second] = replicas.clone();
        (Attempts::new(Endpoints::new(first, [second])), replicas)
    }

    #[test]
    fn who_never_answered_is_named_once_all_were_asked() {
        let (mut attempts, [first, second]) = attempts();
        assert_eq!(attempts.fails(&first, "refused").unwrap(), [""; 0]);
        let error = attempts.fails(&second, "refused").unwrap_err();
        assert!(
            matches!(&error, Error::Client(client::Error::NoAnswer { tried, .. }) if tried.len() == 2),
            "{error:?}"
        );
    }

    #[test]
    fn one_that_served_is_noted_and_the_rest_of_the_round_once() {
        let (mut attempts, [first, second]) = attempts();
        attempts.serves();
        let notes = attempts.fails(&first, "gone").unwrap();
        assert_eq!(notes, ["127.0.0.1:1 disconnected (gone); resuming"]);
        let notes = attempts.fails(&second, "gone").unwrap();
        assert_eq!(notes, ["no replica is available; retrying until one is"]);
        for _ in 0..5 {
            assert_eq!(attempts.fails(&first, "gone").unwrap(), [""; 0]);
        }
        attempts.serves();
        assert_eq!(attempts.fails(&second, "gone").unwrap().len(), 1);
    }
}
