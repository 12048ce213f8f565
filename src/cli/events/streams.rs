//! What is known of the streams of a subscription: which there are, and which are not heard.

use std::collections::BTreeMap;

use crate::{
    cli::{
        status::LAG_MAX_MS,
        time::{instant, short},
    },
    proto::v1::{Progress, StreamChange, StreamChangeType},
};

/// The streams of a subscription, by identity.
#[derive(Default)]
pub(super) struct Streams {
    all: BTreeMap<String, Known>,
    /// Whether the last progress was of a subscription without streams.
    is_empty: bool,
}

struct Known {
    cluster: String,
    /// The name shown to the user.
    name: String,
    is_paused: bool,
    /// When its API server last sent something, in milliseconds since the epoch.
    heard: Option<i64>,
    is_lagging: bool,
}

impl Streams {
    /// Another replica serves: it names every stream once more.
    pub(super) fn forget(&mut self) {
        self.all.clear();
    }

    /// Takes a change.
    pub(super) fn change(&mut self, change: &StreamChange) {
        if change.r#type() == StreamChangeType::Removed {
            self.all.remove(&change.stream);
            return;
        }
        let known = self.all.entry(change.stream.clone());
        let known = known.or_insert_with(|| Known {
            cluster: change.cluster.clone(),
            name: name(change),
            is_paused: false,
            heard: None,
            is_lagging: false,
        });
        known.is_paused = change.paused;
    }

    /// Whether any stream is one of this cluster.
    pub(super) fn has_cluster(&self, cluster: &str) -> bool {
        self.all.values().any(|known| known.cluster == cluster)
    }

    /// Takes progress; returns what people should know: silence looks like a cluster where nothing
    /// happens.
    pub(super) fn progress(&mut self, progress: &Progress) -> Vec<String> {
        let mut notes = Vec::new();
        if self.all.is_empty() && !self.is_empty {
            notes.push(
                "no cluster and resource of the group matches; waiting for one (`quorumwatch \
                 clusters` lists them)"
                    .into(),
            );
        }
        self.is_empty = self.all.is_empty();
        for stream in &progress.streams {
            let heard = stream.heard_time.as_ref().and_then(instant);
            if let (Some(known), Some(heard)) = (self.all.get_mut(&stream.stream), heard) {
                known.heard = Some(heard.timestamp_millis());
            }
        }
        let now = progress.time.as_ref().and_then(instant);
        if let Some(now) = now.map(|now| now.timestamp_millis()) {
            notes.extend(self.all.values_mut().filter_map(|known| known.lag(now)));
        }
        notes
    }
}

impl Known {
    /// Returns a note when the lag becomes long, or ends.
    fn lag(&mut self, now: i64) -> Option<String> {
        let lag = u64::try_from(now - self.heard?).unwrap_or(0);
        let is_lagging = lag > LAG_MAX_MS && !self.is_paused;
        if is_lagging == self.is_lagging {
            return None;
        }
        self.is_lagging = is_lagging;
        let name = &self.name;
        Some(match (is_lagging, self.is_paused) {
            (true, _) => {
                let lag = short(lag);
                format!("nothing from {name} for {lag}; `quorumwatch status` shows why")
            }
            (false, false) => format!("receiving from {name} again"),
            (false, true) => format!("{name} is paused"),
        })
    }
}

/// `prod-eu v1/events`, with what narrows it.
pub(super) fn name(change: &StreamChange) -> String {
    let parts = [
        &change.cluster,
        &change.resource,
        &change.namespace,
        &change.label_selector,
        &change.field_selector,
    ];
    let parts = parts.into_iter().map(String::as_str);
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::{Progress, StreamChange, StreamChangeType, Streams};
    use crate::proto::v1::StreamProgress;

    fn added(stream: &str) -> StreamChange {
        StreamChange {
            stream: stream.into(),
            r#type: StreamChangeType::Added.into(),
            cluster: "a".into(),
            resource: "v1/events".into(),
            namespace: "shop".into(),
            ..StreamChange::default()
        }
    }

    fn progress(now: i64, heard: Option<i64>) -> Progress {
        let time = |seconds| Timestamp { seconds, nanos: 0 };
        let stream = |heard| StreamProgress {
            stream: "7".into(),
            heard_time: Some(time(heard)),
            ..StreamProgress::default()
        };
        Progress {
            time: Some(time(now)),
            streams: heard.map(stream).into_iter().collect(),
            ..Progress::default()
        }
    }

    #[test]
    fn a_subscription_without_streams_is_said_once_each_time() {
        let mut streams = Streams::default();
        assert_eq!(streams.progress(&progress(1, None)).len(), 1);
        assert_eq!(streams.progress(&progress(2, None)).len(), 0);
        streams.change(&added("7"));
        assert_eq!(streams.progress(&progress(3, None)).len(), 0);
        assert!(streams.has_cluster("a") && !streams.has_cluster("b"));
        streams.change(&StreamChange {
            r#type: StreamChangeType::Removed.into(),
            ..added("7")
        });
        assert_eq!(streams.progress(&progress(4, None)).len(), 1);
    }

    #[test]
    fn a_stream_that_is_not_heard_is_named_also_where_progress_does_not_mention_it() {
        let mut streams = Streams::default();
        streams.change(&added("7"));
        assert!(streams.progress(&progress(1000, Some(1000))).is_empty());
        assert!(streams.progress(&progress(1120, None)).is_empty());
        let notes = streams.progress(&progress(1121, None));
        let expected = "nothing from a v1/events shop for 2m1s; `quorumwatch status` shows why";
        assert_eq!(notes, [expected]);
        assert!(streams.progress(&progress(1130, None)).is_empty());
        let notes = streams.progress(&progress(1140, Some(1139)));
        assert_eq!(notes, ["receiving from a v1/events shop again"]);
    }
}
