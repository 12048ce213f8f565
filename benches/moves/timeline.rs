//! When a takeover reached each of its stages: from the replicas' logs, the requests to the API
//! servers, and the arrivals at subscribers.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use serde_json::Value;

use crate::clock;

/// The stages, in their order.
pub(crate) const STAGES: [&str; 7] = [
    "detected",
    "leader",
    "committed",
    "started",
    "watch open",
    "first event",
    "delivered",
];

/// What is logged when a death is detected.
const DETECTED: &[&str] = &[
    "replica availability changed",
    "the leader's process is gone, starting an election",
    "replica considered dead",
    "peer's process is gone",
];
/// What a new leader logs.
const LEADER: &[&str] = &[
    // tidy: earlier builds logged this.
    "controller takes office",
    "became leader, controller started",
];
/// What the leader logs once moves are committed.
const COMMITTED: &[&str] = &["shards assigned"];
/// What an owner logs when it starts a shard.
const STARTED: &[&str] = &["shard run starts", "shard run begins"];

/// When each stage was reached, in microseconds after the disturbance.
pub(crate) type Passed = [Option<u64>; STAGES.len()];

/// One line of a log.
struct Line {
    at: u64,
    message: String,
    shard: String,
}

/// The logs of all replicas, from where they were read up to.
pub(crate) struct Logs {
    files: Vec<(PathBuf, u64)>,
}

/// The lines since a disturbance.
pub(crate) struct Lines(Vec<Line>);

impl Logs {
    pub(crate) fn new(files: impl Iterator<Item = PathBuf>) -> Self {
        Self {
            files: files.map(|file| (file, 0)).collect(),
        }
    }

    /// Skips what has been logged so far.
    pub(crate) fn skip(&mut self) {
        for (file, read) in &mut self.files {
            *read = fs::metadata(file).map_or(0, |data| data.len());
        }
    }

    /// What was logged since the last read or skip.
    pub(crate) fn read(&mut self) -> Lines {
        let mut lines = Vec::new();
        for (path, read) in &mut self.files {
            let mut text = String::new();
            let Ok(mut file) = fs::File::open(path) else {
                continue;
            };
            let found = file.seek(SeekFrom::Start(*read));
            if found.and_then(|_| file.read_to_string(&mut text)).is_ok() {
                *read += text.len() as u64;
            }
            lines.extend(text.lines().filter_map(Line::parse));
        }
        lines.sort_by_key(|line| line.at);
        Lines(lines)
    }
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(text).ok()?;
        let time = line["timestamp"].as_str()?;
        let time = chrono::DateTime::parse_from_rfc3339(time).ok()?;
        Some(Self {
            at: clock::of_unix(u64::try_from(time.timestamp_micros()).ok()?),
            message: line["message"].as_str()?.to_owned(),
            shard: line["shard"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

impl Lines {
    /// When one of these messages was first logged after a time, about this shard if one is given.
    fn first(&self, messages: &[&str], shard: Option<&str>, since: u64) -> Option<u64> {
        let of_shard = |line: &&Line| shard.is_none_or(|shard| line.shard == shard);
        let mut lines = self.0.iter().filter(|line| line.at >= since);
        lines
            .by_ref()
            .filter(of_shard)
            .find(|line| messages.contains(&line.message.as_str()))
            .map(|line| line.at)
    }

    /// The stages of one shard's takeover. `read` is when its new owner read the first change,
    /// `delivered` when a subscriber received it.
    pub(crate) fn passed(
        &self,
        cluster: &str,
        since: u64,
        watch_open: Option<u64>,
        read: u64,
        delivered: u64,
    ) -> Passed {
        let shard = format!("{cluster}/0");
        let passed = [
            self.first(DETECTED, None, since),
            self.first(LEADER, None, since),
            self.first(COMMITTED, None, since),
            self.first(STARTED, Some(&shard), since),
            watch_open,
            Some(read),
            Some(delivered),
        ];
        passed.map(|at| at.map(|at| at.saturating_sub(since)))
    }
}
