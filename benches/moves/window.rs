//! What all subscribers received of all streams between two times.

use crate::{
    silence::{Check, Commits, Pair, Silence, silence},
    subscriber::Subscriber,
    writer::Stream,
};

/// What one subscriber received of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) subscriber: usize,
    pub(crate) stream: usize,
    pub(crate) silence: Silence,
    /// Whether the stream has a new owner, or its owner a new epoch.
    pub(crate) is_moved: bool,
    /// The first change that arrived from the new owner.
    pub(crate) first_moved: Option<Pair>,
}

/// The position of one subscriber in one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    check: Check,
    last: Option<Pair>,
    /// The highest epoch that has arrived.
    epoch: u64,
}

/// Follows all subscribers in all streams.
pub(crate) struct Tracks {
    subscribers: usize,
    /// Those of the first stream, then those of the second.
    tracks: Vec<Track>,
}

/// Violations of the guarantees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) unknown: u64,
    pub(crate) gaps: u64,
    /// Changes that gaps left out, each of an object with a later change.
    pub(crate) coalesced: u64,
}

impl Faults {
    pub(crate) fn is_clean(self) -> bool {
        self == Self::default()
    }
}

impl Tracks {
    pub(crate) fn new(subscribers: usize, streams: usize) -> Self {
        Self {
            subscribers,
            tracks: vec![Track::default(); subscribers * streams],
        }
    }

    /// Takes what has arrived since the last call, and returns the effect of a disturbance at
    /// `from` on it, as of `now`.
    pub(crate) fn take(
        &mut self,
        streams: &[Stream],
        subscribers: &[Subscriber],
        from: u64,
        now: u64,
    ) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (index, stream) in streams.iter().enumerate() {
            let resource = stream.resource.to_string();
            let cluster = format!("sim-{}", stream.cluster);
            let mut commits = stream.commits();
            let tracks = &mut self.tracks[index * self.subscribers..][..self.subscribers];
            for (subscriber, track) in subscribers.iter().zip(tracks.iter_mut()) {
                let received = subscriber.seen().take(&cluster, &resource);
                let mut pairs: Vec<Pair> = track.last.into_iter().collect();
                if received.had_gap {
                    pairs.extend(track.check.take_with_gap(&received.arrivals, &commits));
                } else {
                    let taken = received.arrivals.into_iter();
                    pairs.extend(taken.filter_map(|arrival| track.check.take(arrival, &commits)));
                }
                samples.push(Sample {
                    subscriber: subscriber.home,
                    stream: index,
                    ..track.look(&pairs, &commits, from, now)
                });
            }
            let everybody = tracks.iter().map(|track| track.check.next).min();
            commits.drop_before(everybody.unwrap_or(0));
        }
        samples
    }

    /// What was lost or duplicated so far; changes that may still arrive are not counted.
    pub(crate) fn faults(&self, subscribers: &[Subscriber]) -> Faults {
        let sum = |of: fn(&Check) -> u64| self.tracks.iter().map(|track| of(&track.check)).sum();
        Faults {
            lost: sum(|check| check.lost),
            duplicated: sum(|check| check.duplicated),
            unknown: sum(|check| check.unknown),
            coalesced: sum(|check| check.coalesced),
            gaps: subscribers
                .iter()
                .map(|subscriber| subscriber.seen().gaps)
                .sum(),
        }
    }

    /// How many changes have not arrived yet.
    pub(crate) fn missing(&self, streams: &[Stream]) -> u64 {
        let by_stream = self.tracks.chunks(self.subscribers).zip(streams);
        by_stream
            .map(|(tracks, stream)| {
                let count = stream.commits().count();
                let missing = tracks.iter().map(|track| count - track.check.next);
                missing.sum::<u64>()
            })
            .sum()
    }
}

impl Track {
    fn look(&mut self, pairs: &[Pair], commits: &Commits, from: u64, now: u64) -> Sample {
        let before = self.epoch;
        let mut first_moved = None;
        for pair in pairs {
            if pair.arrival.epoch > self.epoch {
                if self.epoch > 0 && first_moved.is_none() {
                    first_moved = Some(*pair);
                }
                self.epoch = pair.arrival.epoch;
            }
        }
        self.last = pairs.last().copied();
        let missing = commits.at(self.check.next).map(|commit| commit.at);
        Sample {
            subscriber: 0,
            stream: 0,
            silence: silence(pairs, from, now, missing),
            is_moved: before > 0 && self.epoch > before,
            first_moved,
        }
    }
}
