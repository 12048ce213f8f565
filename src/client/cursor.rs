//! What is kept of a subscription's cursor.

use crate::proto::v1::SubscribeResponse;

/// What is kept of a subscription's cursor: the whole that was received last, then what the frames
/// after it changed. Its parts are opaque: save and resume with all of them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    parts: Vec<String>,
}

impl Cursor {
    /// The cursor that was saved as these parts.
    pub fn from_parts(parts: Vec<String>) -> Self {
        Self { parts }
    }

    /// The parts: what to save.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Whether there is nothing to resume from yet.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Saves a frame's change of the cursor.
    pub fn take(&mut self, response: &SubscribeResponse) {
        if !response.cursor.is_empty() {
            // The allocation stays: a whole comes often, with as many deltas after it.
            self.parts.clear();
            self.parts.push(response.cursor.clone());
        } else if !response.cursor_delta.is_empty() {
            self.parts.push(response.cursor_delta.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, SubscribeResponse};

    fn frame(cursor: &str, delta: &str) -> SubscribeResponse {
        SubscribeResponse {
            cursor: cursor.into(),
            cursor_delta: delta.into(),
            frame: None,
        }
    }

    #[test]
    fn a_whole_replaces_what_was_kept_and_deltas_are_kept_after_it_in_order() {
        let mut cursor = Cursor::default();
        cursor.take(&frame("", ""));
        assert!(cursor.is_empty());
        for (whole, delta) in [
            ("w1", ""),
            ("", "a"),
            ("w2", ""),
            ("", ""),
            ("", "b"),
            ("", "c"),
        ] {
            cursor.take(&frame(whole, delta));
        }
        assert_eq!(cursor.parts(), ["w2", "b", "c"]);
    }

    #[test]
    fn what_was_saved_goes_on_with_deltas() {
        let mut cursor = Cursor::from_parts(vec!["w".into(), "a".into()]);
        cursor.take(&frame("", "b"));
        assert_eq!(cursor.parts(), ["w", "a", "b"]);
    }
}
