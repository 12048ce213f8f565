//! States of a search have to be compared and hashed by the million: [`Digested`].

use std::{
    fmt::{self, Debug, Write},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// A value of the service, which is compared by a digest of all that its `Debug` shows. That shows
/// every field, so that equal digests stand for equal values.
pub(crate) struct Digested<T> {
    value: Arc<T>,
    digest: u64,
}

impl<T: Clone + Debug> Digested<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            digest: digest(&value),
            value: Arc::new(value),
        }
    }

    /// Changes the value.
    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let value = Arc::make_mut(&mut self.value);
        let result = change(value);
        self.digest = digest(value);
        result
    }
}

impl<T> Clone for Digested<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            digest: self.digest,
        }
    }
}

impl<T> Deref for Digested<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Digested<T> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<T> Eq for Digested<T> {}

impl<T> Hash for Digested<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl<T: Debug> Debug for Digested<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Hashes what is written to it.
struct Hashing(DefaultHasher);

impl Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn digest<T: Debug>(value: &T) -> u64 {
    // With fixed keys: paths are followed a second time, and must be the same then.
    let mut hashing = Hashing(DefaultHasher::new());
    write!(hashing, "{value:?}").expect("hashing does not fail");
    hashing.0.finish()
}
