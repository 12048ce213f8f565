//! What a process uses.

use std::fs;

/// What `/proc` counts CPU time in, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used, and uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_mib: f64,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // The name in parentheses may hold anything; what is of interest comes after it.
        let fields: Vec<_> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib: f64 = rss.unwrap().trim().trim_end_matches(" kB").parse().unwrap();
        Self {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            rss_mib: rss_kib / 1024.0,
        }
    }
}
