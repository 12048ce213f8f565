//! What one subscriber received of one stream: how long nothing arrived, and whether all of it did.
//! Pure: times are given in microseconds of one clock.

use std::collections::VecDeque;

/// What was committed this recently is in transit, not missing.
const UNDER_WAY: u64 = 50_000;

/// A change, as its API server committed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) at: u64,
    pub(crate) version: u64,
}

/// A change, as a subscriber received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    pub(crate) version: u64,
    /// The epoch of the owner that read it.
    pub(crate) epoch: u64,
    /// When that owner read it, by the wall clock.
    pub(crate) read_unix: u64,
}

/// The changes of one stream, oldest first; what every subscriber has received may be dropped.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// How many were dropped.
    dropped: u64,
    kept: VecDeque<Commit>,
}

impl Commits {
    pub(crate) fn push(&mut self, commit: Commit) {
        self.kept.push_back(commit);
    }

    pub(crate) fn last(&self) -> Option<Commit> {
        self.kept.back().copied()
    }

    /// How many changes there were since the beginning.
    pub(crate) fn count(&self) -> u64 {
        self.dropped + self.kept.len() as u64
    }

    /// The change with this number, from 0.
    pub(crate) fn at(&self, number: u64) -> Option<Commit> {
        let index = number.checked_sub(self.dropped)?;
        self.kept.get(usize::try_from(index).ok()?).copied()
    }

    /// Drops the changes before this number.
    pub(crate) fn drop_before(&mut self, number: u64) {
        while self.dropped < number && self.kept.pop_front().is_some() {
            self.dropped += 1;
        }
    }

    /// The change with this version, and its number, from 0.
    fn find(&self, version: u64) -> Option<(u64, Commit)> {
        let index = self.kept.partition_point(|commit| commit.version < version);
        let found = self.kept.get(index).copied();
        let found = found.filter(|commit| commit.version == version)?;
        Some((self.dropped + index as u64, found))
    }
}

/// An arrival, and when its change was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) arrival: Arrival,
    pub(crate) committed: u64,
}

/// Compares arrivals with commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    /// The number of the change that must arrive next.
    pub(crate) next: u64,
    /// Changes that were skipped.
    pub(crate) lost: u64,
    /// Changes that arrived a second time, or after a later one.
    pub(crate) duplicated: u64,
    /// Arrivals of versions that were never committed.
    pub(crate) unknown: u64,
    /// Changes that did not arrive because after a gap only the last one of each object is sent.
    pub(crate) coalesced: u64,
}

impl Check {
    /// Takes arrivals that include a gap: after it, changes arrive by object, not by version. What
    /// is missing was announced.
    pub(crate) fn take_with_gap(&mut self, arrivals: &[Arrival], commits: &Commits) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let mut numbers = std::collections::BTreeSet::new();
        for arrival in arrivals {
            let Some((number, commit)) = commits.find(arrival.version) else {
                self.unknown += 1;
                continue;
            };
            if number < self.next || !numbers.insert(number) {
                self.duplicated += 1;
                continue;
            }
            pairs.push(Pair {
                arrival: *arrival,
                committed: commit.at,
            });
        }
        if let Some(last) = numbers.last() {
            self.coalesced += last + 1 - self.next - numbers.len() as u64;
            self.next = last + 1;
        }
        pairs
    }

    /// Takes the next arrival; returns it with its commit if its change is the expected one, or a
    /// later one.
    pub(crate) fn take(&mut self, arrival: Arrival, commits: &Commits) -> Option<Pair> {
        let Some((number, commit)) = commits.find(arrival.version) else {
            // Every subscriber has already received the changes that were dropped.
            let is_old = commits
                .kept
                .front()
                .is_none_or(|first| arrival.version < first.version);
            *(if is_old {
                &mut self.duplicated
            } else {
                &mut self.unknown
            }) += 1;
            return None;
        };
        if number < self.next {
            self.duplicated += 1;
            return None;
        }
        self.lost += number - self.next;
        self.next = number + 1;
        Some(Pair {
            arrival,
            committed: commit.at,
        })
    }
}

/// The effect of a disturbance on one stream at one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Silence {
    /// The longest time between two arrivals, less the time between their commits.
    pub(crate) longest: u64,
    /// The longest time from a commit to its arrival.
    pub(crate) latest: u64,
    /// From the disturbance to the first arrival after it.
    pub(crate) first: u64,
    /// Whether the longest had not ended when the measurement did: it was even longer.
    pub(crate) is_open: bool,
}

/// The effect of a disturbance at `from`, as of `now`, on arrivals in their order; the first may be
/// before `from`. `missing` is when the oldest change that has not arrived was committed.
pub(crate) fn silence(pairs: &[Pair], from: u64, now: u64, missing: Option<u64>) -> Silence {
    let first = pairs.iter().find(|pair| pair.arrival.at >= from);
    let mut worst = Silence {
        first: first
            .map_or(now, |pair| pair.arrival.at)
            .saturating_sub(from),
        ..Silence::default()
    };
    for pair in pairs.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        if after.arrival.at < from {
            continue;
        }
        let came = after.arrival.at.saturating_sub(before.arrival.at);
        let spacing = after.committed.saturating_sub(before.committed);
        worst.longest = worst.longest.max(came.saturating_sub(spacing));
        let late = after.arrival.at.saturating_sub(after.committed);
        worst.latest = worst.latest.max(late);
    }
    let waited = missing.map_or(0, |committed| now.saturating_sub(committed));
    if waited > UNDER_WAY {
        if waited > worst.longest {
            worst.longest = waited;
            worst.is_open = true;
        }
        worst.latest = worst.latest.max(waited);
    }
    worst
}

/// A percentile of sorted values, by nearest rank.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1).min(last))
        .copied()
        .unwrap_or(f64::NAN)
}
