//! What a run leaves behind: its trace, what was violated, and what was reached. There is one of
//! each, because a process runs one seed.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    io,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

/// Logs that the trace has. The spans of turmoil, and of processes, name the host. Feeds also log how
/// they serve their readers.
const LOGGED: &str = "off,quorumwatch=info,quorumwatch::pipeline::feed=debug,\
                      turmoil::sim=info,simulation=info";

/// Log lines that count, and what they show.
const COUNTED: [(&str, &str); 3] = [
    ("circuit breaker opened", "breaker open"),
    ("circuit breaker half-open", "breaker half-open"),
    ("circuit breaker closed", "breaker closed"),
];

/// Most violations that are described: more add nothing new.
const VIOLATIONS_MAX: usize = 20;

static REPORT: Mutex<Report> = Mutex::new(Report {
    now: Duration::ZERO,
    trace: String::new(),
    violations: Vec::new(),
    reached: BTreeMap::new(),
});

#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The time of the simulation, between its steps.
    pub(crate) now: Duration,
    /// One line for each thing that happened.
    pub(crate) trace: String,
    /// What must hold, and did not.
    pub(crate) violations: Vec<String>,
    /// How often something worth testing happened.
    pub(crate) reached: BTreeMap<String, u64>,
}

/// Takes the logs of all hosts into the trace.
pub(crate) fn start() {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_timer(Simulated)
        .with_env_filter(EnvFilter::new(LOGGED))
        .with_writer(|| Trace)
        .init();
}

/// Everything so far.
pub(crate) fn so_far() -> Report {
    report().clone()
}

/// The next step begins.
pub(crate) fn set_now(now: Duration) {
    report().now = now;
}

/// Adds a line to the trace.
pub(crate) fn note(who: &str, what: impl Display) {
    let line = format!("{} {who:<12} {what}\n", now());
    report().trace.push_str(&line);
}

/// Something that must hold does not.
pub(crate) fn violated(what: impl Display) {
    let what = what.to_string();
    note("VIOLATED", &what);
    let mut report = report();
    if report.violations.len() < VIOLATIONS_MAX {
        report.violations.push(what);
    }
}

/// Whether anything was violated.
pub(crate) fn is_violated() -> bool {
    !report().violations.is_empty()
}

/// Something worth testing happened.
pub(crate) fn reached(what: impl Into<String>) {
    *report().reached.entry(what.into()).or_default() += 1;
}

/// The time on the host that runs, or between steps.
pub(crate) fn elapsed() -> Duration {
    now().0
}

fn report() -> MutexGuard<'static, Report> {
    // Nothing panics while it is held.
    REPORT.lock().unwrap()
}

/// The time on the host that runs, or between steps.
fn now() -> Seconds {
    // Before the lock: the simulation must not ask for it.
    let on_host = turmoil::sim_elapsed();
    Seconds(on_host.unwrap_or_else(|| report().now))
}

struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        write!(f, "{seconds:>3}.{millis:03}")
    }
}

/// Prints the simulated time before a log line.
struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{} ", now())
    }
}

/// Where log lines go.
struct Trace;

impl io::Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let shown = shown(&text);
        let mut report = report();
        report.trace.push_str(&text);
        if let Some(shown) = shown {
            *report.reached.entry(shown).or_default() += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a log line shows that counts.
fn shown(line: &str) -> Option<String> {
    if line.contains("feed located") {
        let (_, way) = line.split_once(" way=")?;
        let way = way.split_whitespace().next()?;
        return Some(format!("way {way}"));
    }
    let mut counted = COUNTED.iter();
    let (_, what) = counted.find(|(text, _)| line.contains(text))?;
    Some((*what).to_owned())
}
