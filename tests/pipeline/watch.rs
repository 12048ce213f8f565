//! One watch of an API server, as it is sent: [`Watch`].

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use quorumwatch::domain::event::Change;
use rand::{Rng as _, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    api::{Api, Panics, dice, status_json},
    etcd::{Selection, Told},
};

/// Changes that are examined for one chunk.
const CHUNK_ENTRIES_MAX: usize = 6;

pub(crate) struct Watch {
    api: Api,
    selection: Selection,
    /// The last version that was examined, and how many of its entries were.
    rv: u64,
    at_rv: usize,
    timeline: usize,
    /// Lines that were sent last.
    recent: VecDeque<String>,
    /// The rest of a line that was begun.
    rest: Option<Bytes>,
    /// What is sent after the next event.
    held: Option<String>,
    changed: watch::Receiver<u64>,
    until: Instant,
    over: bool,
    rng: SmallRng,
    /// Counted by the API server.
    _open: Arc<()>,
}

impl Watch {
    pub(crate) fn new(
        api: Api,
        selection: Selection,
        from: u64,
        life: Duration,
        rng: SmallRng,
    ) -> Self {
        Self {
            _open: api.begin_watch(),
            changed: api.etcd.changes(),
            timeline: api.etcd.timelines(),
            api,
            selection,
            rv: from,
            at_rv: usize::MAX / 2,
            recent: VecDeque::new(),
            rest: None,
            held: None,
            until: Instant::now() + life,
            over: false,
            rng,
        }
    }

    /// The next chunk.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let broken = || Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
        while !self.over {
            let manners = self.api.manners();
            self.api.panic_at(Panics::Watch);
            if let Some(rest) = self.rest.take() {
                if dice(&mut self.rng, manners.cut) {
                    self.end("cut inside a line");
                    return broken();
                }
                // The second half of a line follows at once.
                self.pause(2).await;
                return Some(Ok(rest));
            }
            if dice(&mut self.rng, manners.cut) {
                self.end("cut");
                return broken();
            }
            if dice(&mut self.rng, manners.close) {
                self.end("clean close");
                return None;
            }
            for (fault, permille, code) in [
                ("in-stream 410", manners.gone, 410),
                ("in-stream 500", manners.internal, 500),
            ] {
                if dice(&mut self.rng, permille) {
                    self.end(fault);
                    let status = status_json(code, "fault");
                    return Some(Ok(line("ERROR", &status).into()));
                }
            }
            if dice(&mut self.rng, manners.stall) {
                self.api.count("stall");
                let long = Duration::from_millis(self.rng.random_range(1_000..90_000));
                sleep(long).await;
                if self.rng.random() {
                    self.end("cut after a stall");
                    return broken();
                }
            }
            self.changed.borrow_and_update();
            let lines = self.lines();
            if !lines.is_empty() {
                self.pause(10).await;
                return Some(Ok(self.chunk(&lines)));
            }
            tokio::select! {
                biased;
                changed = self.changed.changed() => changed.unwrap(),
                () = sleep_until(self.until) => {
                    self.end("time-out");
                    return None;
                }
                () = sleep(Duration::from_secs(5)) => {
                    if dice(&mut self.rng, manners.bookmark) && self.is_at_end() {
                        return Some(Ok(self.bookmark()));
                    }
                }
            }
        }
        None
    }

    fn end(&mut self, fault: &'static str) {
        self.api.count(fault);
        self.over = true;
    }

    async fn pause(&mut self, usual_ms: u64) {
        let slow = self.api.manners().slow;
        let long = if dice(&mut self.rng, slow) {
            self.api.count("slow event");
            self.rng.random_range(100..6_000)
        } else {
            self.rng.random_range(0..usual_ms)
        };
        sleep(Duration::from_millis(long)).await;
    }

    /// A watch that is open when history goes back stays silent until it has passed where it was.
    fn follow_timeline(&mut self) {
        let timelines = self.api.etcd.timelines();
        if timelines != self.timeline {
            self.timeline = timelines;
            self.at_rv = usize::MAX / 2;
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.follow_timeline();
        let revision = self.api.etcd.revision();
        self.held.is_none()
            && revision >= self.rv
            && self
                .api
                .etcd
                .entries_after(self.rv, self.at_rv, 1)
                .is_empty()
    }

    /// A quiet watch gets a bookmark.
    fn bookmark(&mut self) -> Bytes {
        self.api.count("bookmark");
        (self.rv, self.at_rv) = (self.api.etcd.revision(), usize::MAX / 2);
        let rv = self.rv;
        let object = format!(
            r#"{{"kind":"Thing","apiVersion":"v1","metadata":{{"resourceVersion":"{rv}","creationTimestamp":null}}}}"#
        );
        line("BOOKMARK", &object).into()
    }

    /// The lines of some entries that follow.
    fn lines(&mut self) -> Vec<String> {
        self.follow_timeline();
        let most = self.rng.random_range(1..=CHUNK_ENTRIES_MAX);
        let mut lines = Vec::new();
        while lines.is_empty() {
            let entries = self.api.etcd.entries_after(self.rv, self.at_rv, most);
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if entry.rv == self.rv {
                    self.at_rv += 1;
                } else {
                    (self.rv, self.at_rv) = (entry.rv, 1);
                }
                if let Some(told) = self.selection.tell(&entry) {
                    self.send(&told, &mut lines);
                }
            }
        }
        lines
    }

    fn send(&mut self, told: &Told, lines: &mut Vec<String>) {
        let manners = self.api.manners();
        let kind = match told.change {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted | Change::Snapshot => "DELETED",
        };
        let text = line(kind, &told.object.json(true));
        let faulty = |fault: &'static str| {
            self.api.count(fault);
            self.api.excuse(&self.selection, &told.object.uid, told.rv);
        };
        // The order of those that share a version is the same for everybody.
        let is_alone = self.api.etcd.is_alone(told.rv);
        if is_alone && dice(&mut self.rng, manners.drop) {
            faulty("dropped event");
            return;
        }
        if is_alone && self.held.is_none() && dice(&mut self.rng, manners.late) {
            faulty("late event");
            self.held = Some(text);
            return;
        }
        self.recent.push_back(text.clone());
        if self.recent.len() > 4 {
            self.recent.pop_front();
        }
        lines.push(text);
        if is_alone {
            lines.extend(self.held.take());
        }
        if dice(&mut self.rng, manners.replay) {
            self.api.count("replay");
            lines.extend(self.recent.iter().cloned());
        }
    }

    /// What is sent at once: it may end inside a line.
    fn chunk(&mut self, lines: &[String]) -> Bytes {
        let mut whole = Bytes::from(lines.concat());
        if self.rng.random_ratio(1, 4) {
            let at = self.rng.random_range(1..whole.len());
            self.rest = Some(whole.split_off(at));
        }
        whole
    }
}

fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}
