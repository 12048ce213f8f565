//! Writes that may be sent again: [`RequestId`].

use std::sync::Arc;

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

/// FNV-1a. It guards against mistakes, not against deliberate collisions: a caller that can write
/// with a request id can write without one. It is part of the log's format: `std`'s hash may
/// change.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
