//! A copy of what exists, kept from the frames of a subscription that began with a snapshot.
//!
//! It does no I/O and waits for nothing: give it each frame of a [`super::Subscription`], in order.
//! It stays valid when the subscription resumes at another replica, and after a restart where it
//! was saved together with the cursor.

mod copy;

use std::collections::{BTreeMap, btree_map::Entry};

use crate::proto::v1::{
    Event, Gap, Position, Progress, StreamChange, StreamChangeType, SubscribeResponse, Synced,
    subscribe_response::Frame,
};
pub use copy::StreamCopy;

/// An object's key within its stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// metadata.namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// metadata.uid.
    pub uid: String,
    /// metadata.resourceVersion.
    pub resource_version: String,
    /// The object as JSON, as far as the subscription's view includes it.
    pub json: String,
}

/// What a frame did to the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An object is new, or has a new content.
    Stored {
        /// Its stream.
        stream: String,
        /// Its key.
        key: Key,
    },
    /// An object is gone.
    Dropped {
        /// Its stream.
        stream: String,
        /// Its key.
        key: Key,
    },
}

/// A frame that the protocol does not allow here. The copy cannot be trusted after it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Violation {
    /// A frame names a stream that no StreamChange has added.
    #[error("stream {0} was not added to the subscription")]
    UnknownStream(String),
    /// An object of a snapshot, and none was announced.
    #[error("stream {0}: an object of a snapshot outside a snapshot")]
    SnapshotOutside(String),
    /// The end of a snapshot, and none was announced.
    #[error("stream {0}: the end of a snapshot outside a snapshot")]
    SyncedOutside(String),
    /// A change before the snapshot that was announced is complete.
    #[error("stream {0}: a change inside a snapshot")]
    ChangeInside(String),
    /// A place at or before an earlier one of the stream.
    #[error("stream {stream}: {position:?} does not come after {last:?}")]
    NotGrowing {
        /// The stream.
        stream: String,
        /// The position of the previous frame of the stream.
        last: Position,
        /// The place of the frame.
        position: Position,
    },
    /// A frame lacks a part that it always has.
    #[error("stream {stream}: a frame without its {part}")]
    Incomplete {
        /// The stream.
        stream: String,
        /// What is missing.
        part: &'static str,
    },
}

/// A copy of what exists, by stream and key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    streams: BTreeMap<String, StreamCopy>,
}

impl Table {
    /// An empty copy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a frame, and returns what it did to the objects.
    pub fn apply(&mut self, response: &SubscribeResponse) -> Result<Vec<Effect>, Violation> {
        match &response.frame {
            Some(Frame::Event(event)) => self.event(event),
            Some(Frame::StreamChange(change)) => self.stream_change(change),
            Some(Frame::Gap(gap)) => self.gap(gap),
            Some(Frame::Synced(synced)) => self.synced(synced),
            Some(Frame::Progress(progress)) => self.progress(progress),
            // A frame of a later version does not concern objects.
            Some(Frame::Closing(_) | Frame::Heartbeat(_)) | None => Ok(Vec::new()),
        }
    }

    /// The streams, by identity.
    pub fn streams(&self) -> &BTreeMap<String, StreamCopy> {
        &self.streams
    }

    /// One object.
    pub fn get(&self, stream: &str, key: &Key) -> Option<&Object> {
        self.streams.get(stream)?.objects().get(key)
    }

    /// Every object, with the identity of its stream and its key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Key, &Object)> {
        self.streams.iter().flat_map(|(stream, copy)| {
            let objects = copy.objects().iter();
            objects.map(move |(key, object)| (stream.as_str(), key, object))
        })
    }

    /// Whether the copy of every stream is whole: none is being replaced by a snapshot.
    pub fn is_complete(&self) -> bool {
        self.streams.values().all(StreamCopy::is_complete)
    }

    fn stream(&mut self, stream: &str) -> Result<&mut StreamCopy, Violation> {
        let copy = self.streams.get_mut(stream);
        copy.ok_or_else(|| Violation::UnknownStream(stream.to_owned()))
    }

    fn stream_change(&mut self, change: &StreamChange) -> Result<Vec<Effect>, Violation> {
        match change.r#type() {
            StreamChangeType::Added => {
                match self.streams.entry(change.stream.clone()) {
                    Entry::Vacant(entry) => {
                        entry.insert(StreamCopy::added(change));
                    }
                    // Another replica continues with what is known.
                    Entry::Occupied(mut entry) => entry.get_mut().added_again(change),
                }
                Ok(Vec::new())
            }
            StreamChangeType::Removed => {
                // A stream that the cursor knows need not be in a copy that was begun without it.
                let copy = self.streams.remove(&change.stream);
                let keys = copy.into_iter().flat_map(StreamCopy::into_keys);
                Ok(dropped(&change.stream, keys))
            }
            StreamChangeType::Paused | StreamChangeType::Resumed | StreamChangeType::Changed => {
                self.stream(&change.stream)?.changed(change);
                Ok(Vec::new())
            }
            StreamChangeType::Unspecified => Ok(Vec::new()),
        }
    }

    fn event(&mut self, event: &Event) -> Result<Vec<Effect>, Violation> {
        let stream = &event.stream;
        let (key, is_stored) = self.stream(stream)?.event(event)?;
        let stream = stream.clone();
        Ok(match (key, is_stored) {
            (Some(key), true) => vec![Effect::Stored { stream, key }],
            (Some(key), false) => vec![Effect::Dropped { stream, key }],
            (None, _) => Vec::new(),
        })
    }

    fn gap(&mut self, gap: &Gap) -> Result<Vec<Effect>, Violation> {
        let copy = self.stream(&gap.stream)?;
        if !gap.repaired {
            copy.begin_snapshot();
        }
        Ok(Vec::new())
    }

    fn synced(&mut self, synced: &Synced) -> Result<Vec<Effect>, Violation> {
        let keys = self.stream(&synced.stream)?.synced(synced)?;
        Ok(dropped(&synced.stream, keys))
    }

    fn progress(&mut self, progress: &Progress) -> Result<Vec<Effect>, Violation> {
        for stream in &progress.streams {
            self.stream(&stream.stream)?.progress(stream)?;
        }
        Ok(Vec::new())
    }
}

fn dropped(stream: &str, keys: impl IntoIterator<Item = Key>) -> Vec<Effect> {
    let dropped = |key| Effect::Dropped {
        stream: stream.to_owned(),
        key,
    };
    keys.into_iter().map(dropped).collect()
}

#[cfg(test)]
mod tests;
