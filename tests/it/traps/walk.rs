//! A random walk over what an API server can do wrong, one thing after another and several at once:
//! copies are what exists at its end, and what no gap covers came once and in order.
//!
//! `SEEDS=20 STEPS=80 cargo test --test it -- --ignored traps::walk` walks more; `SEED=7` one alone.

use std::time::Duration;

use quorumwatch::{client::Begin, proto::v1::GapReason, sim::Fault};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::Pair;
use crate::harness::{CONFIGMAPS, EVENTS, PATIENCE, Record, Stage, from_environment};

/// Names that objects may have.
const NAMES: u32 = 8;

struct Walk {
    rng: SmallRng,
    stage: Stage,
    live: Pair,
    /// Those who leave and come back, while they are away.
    away: Option<[(Begin, Record); 2]>,
    back: Option<Pair>,
    exists: Vec<String>,
    marks: u32,
    log: Vec<String>,
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let stage = Stage::open(&format!("walk-{seed}")).await;
        let live = Pair::subscribe(&stage, 0).await;
        let back = Some(Pair::subscribe(&stage, 1).await);
        Self {
            rng: SmallRng::seed_from_u64(seed),
            stage,
            live,
            away: None,
            back,
            exists: Vec::new(),
            marks: 0,
            log: Vec::new(),
        }
    }

    async fn step(&mut self) {
        let step = self.rng.random_range(0..24);
        self.log.push(step.to_string());
        let faults = self.stage.faults();
        match step {
            0..=7 => self.write(),
            8 => faults.set(Fault::CloseWatches),
            9 => self.stage.cluster.reset_watch_cache(),
            10 => self.stage.cluster.compact(),
            11 => faults.set_times(Fault::InternalErrorLine, self.rng.random_range(1..5)),
            12 => faults.set_times(Fault::ReplayEvents(4), 2),
            13 => faults.set_times(Fault::HttpGone410, 1),
            14 => faults.set_times(Fault::SilentClose410, 2),
            15 => faults.set_times(Fault::Refuse, 2),
            16 => faults.set_times(Fault::Unauthorised, 2),
            17 => self.unreachable().await,
            18 => self.restore().await,
            19 => self.replace().await,
            20 => self.leave_or_return(),
            21 => faults.set(Fault::Stall),
            22 => faults.clear(Fault::Stall),
            _ => {
                let pause = Duration::from_millis(self.rng.random_range(1..200));
                tokio::time::sleep(pause).await; // poll: things happen at some pace
            }
        }
    }

    fn write(&mut self) {
        for _ in 0..self.rng.random_range(1..6) {
            let name = format!("o-{}", self.rng.random_range(0..NAMES));
            match self.exists.iter().position(|it| *it == name) {
                None => {
                    self.stage.write(&name);
                    self.exists.push(name);
                }
                Some(_) if self.rng.random_ratio(2, 3) => self.stage.change(&name),
                Some(at) => {
                    self.stage.delete(&name);
                    self.exists.remove(at);
                }
            }
        }
    }

    async fn unreachable(&mut self) {
        self.stage.faults().clear(Fault::Stall);
        self.stage.faults().set(Fault::Unreachable);
        self.write();
        self.stage.is_asked(1).await;
        self.stage.faults().clear(Fault::Unreachable);
    }

    /// Everybody has everything up to here.
    async fn mark(&mut self) {
        self.stage.faults().clear_all();
        self.marks += 1;
        let mark = format!("mark-{}", self.marks);
        self.stage.write(&mark);
        self.live.see(&self.stage, &mark).await;
    }

    /// etcd goes back a little.
    async fn restore(&mut self) {
        self.mark().await;
        let backup = self.stage.cluster.current_rv();
        let lost = format!("lost-{}", self.marks);
        self.stage.write(&lost);
        self.live.see(&self.stage, &lost).await;
        let rewind = |stage: &Stage| {
            stage.cluster.rewind(&backup).unwrap();
            stage.faults().set(Fault::CloseWatches);
        };
        self.begin_new_history(rewind, GapReason::HistoryReset)
            .await;
    }

    async fn replace(&mut self) {
        self.mark().await;
        let replace = |stage: &Stage| drop(stage.cluster.replace());
        self.begin_new_history(replace, GapReason::ClusterReplaced)
            .await;
        self.exists.clear();
    }

    /// The cluster's past becomes another; nothing is written before the subscribers have the gap.
    async fn begin_new_history(&self, begin: impl FnOnce(&Stage), reason: GapReason) {
        let count = |record: &Record| {
            [EVENTS, CONFIGMAPS].map(|resource| {
                let gaps = record.gaps.iter().filter(|gap| gap.resource == resource);
                gaps.filter(|gap| gap.reason() == reason).count()
            })
        };
        let before = self.live.0.each_ref().map(|(_, it)| count(&it.record()));
        begin(&self.stage);
        for ((_, recorder), [events, configmaps]) in self.live.0.iter().zip(before) {
            let has_come = |record: &Record| {
                let now = count(record);
                now[0] > events && now[1] > configmaps
            };
            let what = "the gap of the new history comes";
            recorder.sees(what, PATIENCE * 3, has_come).await; // so long are pauses by then
        }
    }

    fn leave_or_return(&mut self) {
        let seat = self.rng.random_range(0..3);
        match (self.back.take(), self.away.take()) {
            (Some(back), _) => self.away = Some(back.leave()),
            (None, Some(away)) => self.back = Some(Pair::resume(&self.stage, away, seat)),
            (None, None) => {}
        }
    }
}

async fn walk(seed: u64, steps: u64) {
    eprintln!("SEED={seed} STEPS={steps}");
    let mut walk = Walk::new(seed).await;
    for _ in 0..steps {
        walk.step().await;
    }
    if walk.back.is_none() {
        walk.leave_or_return();
    }
    walk.mark().await;
    let back = walk.back.take().expect("they are back");
    let end = format!("mark-{}", walk.marks);
    back.see(&walk.stage, &end).await;
    for (who, pair) in [("live", &walk.live), ("back", &back)] {
        pair.complete().await;
        for (begin, recorder) in &pair.0 {
            let who = format!("SEED={seed} {who}, {begin:?}, steps {:?}", walk.log);
            walk.stage.judge_but_gaps(&who, recorder, begin);
        }
    }
    walk.stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_api_server_does_copies_are_what_exists() {
    walk(from_environment("SEED", 1), 40).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn whatever_an_api_server_does_for_long_copies_are_what_exists() {
    let first = from_environment("SEED", 1);
    for seed in first..first + from_environment("SEEDS", 20) {
        walk(seed, from_environment("STEPS", 80)).await;
    }
}
