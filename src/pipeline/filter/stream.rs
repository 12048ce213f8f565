//! What one stream's events are judged by.

use std::{cell::OnceCell, sync::Arc};

use super::{Content, Filter};
use crate::domain::event::Event;

/// What one stream's events are judged by; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFilter {
    /// Those that the stream can match, in the order of [`super::Filters`]; empty where everything
    /// is wanted.
    filters: Arc<[Arc<Filter>]>,
    /// Which of the subscription's filters these are, a bit for each in the order of their digests;
    /// 0 where they are all of them.
    mask: u32,
}

/// Whether a subscriber wants an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The filter selects the stream.
    Wanted,
    /// It would if the object's labels, or the fields of the Kubernetes Event, were others than
    /// they are now.
    Unmatched,
    /// It does not, whatever becomes of the object.
    Unwanted,
}

impl StreamFilter {
    pub(super) fn new(filters: Arc<[Arc<Filter>]>, mask: u32) -> Self {
        Self { filters, mask }
    }

    /// Which of the subscription's filters apply: the same number for the same ones, in every build
    /// and whatever the order they were given in. 0 where all of them apply.
    pub fn mask(&self) -> u32 {
        self.mask
    }

    /// Whether an event of the stream is wanted. Its object is read at most once, and only where
    /// that decides.
    pub fn judge(&self, event: &Event) -> Verdict {
        if self.filters.is_empty() {
            return Verdict::Wanted;
        }
        let content = OnceCell::new();
        let mut verdict = Verdict::Unwanted;
        for filter in &*self.filters {
            if !filter.matches_identity(event) {
                continue;
            }
            if !filter.asks_for_content() {
                return Verdict::Wanted;
            }
            let content = content.get_or_init(|| self.read(event)).as_ref();
            // What cannot be read is let through.
            if content.is_none_or(|content| filter.matches_content(content)) {
                return Verdict::Wanted;
            }
            verdict = Verdict::Unmatched;
        }
        verdict
    }

    fn read<'a>(&self, event: &'a Event) -> Option<Content<'a>> {
        // An object that was reduced to its metadata has lost the fields of a Kubernetes Event.
        let of_kubernetes_event =
            !event.metadata_only && self.filters.iter().any(|f| f.asks_for_kubernetes_event());
        Content::read(&event.object, of_kubernetes_event)
    }
}
