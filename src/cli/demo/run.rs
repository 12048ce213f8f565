//! The demo while it runs: one loop that reads the subscription and the changes of ownership, and
//! the acts that are outcome over it.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, Interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Arguments, Target, group,
    ownership::{Owned, Ownership},
    printer::Printer,
    replicas::Replicas,
    report::{Kill, Report},
    tally::Tally,
    world::World,
};
use crate::{
    cli::{Error, json::word, terminal::Tone},
    client::{
        self, Client, Subscription,
        watch::{self, ShardWatch},
    },
    proto::v1::ShardChange,
};

/// How long the subscription may take to cover every stream.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a takeover may take before the demo continues without it, and fails: ten times what is
/// promised for the worst case.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a replica may take to come back and to get a shard.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the subscriber may take to receive the rest after the load has ended.
const REST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it keeps reading when it has everything, to catch duplicates.
const AFTERMATH: Duration = Duration::from_secs(1);

/// A run of the demo.
pub(super) struct Run<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) printer: &'a Printer,
    pub(super) shutdown: CancellationToken,
    pub(super) world: World,
    pub(super) replicas: Replicas,
    /// The replica that serves the subscriber; it is not killed.
    pub(super) serving: &'static str,
    pub(super) subscription: Subscription,
    pub(super) shard_watch: ShardWatch,
    pub(super) ownership: Ownership,
    pub(super) tally: Tally,
    /// Interval of the progress lines.
    pub(super) tick: Interval,
}

impl Run<'_> {
    /// Runs all steps: subscribe, load, kill and restart, drain, report.
    pub(super) async fn execute(&mut self) -> Result<Report, Error> {
        self.open().await?;
        let begun = Instant::now();
        let end = begun + self.arguments.length;
        self.world.begin();
        self.print(Tone::Bold, self.world.opening())?;
        let quarter = self.arguments.length / 4;
        self.until(begun + quarter, |_| false).await?;
        let kill = match self.arguments.kill {
            Target::None => None,
            target => Some(self.kill_and_restart(target, end).await?),
        };
        self.until(end, |_| false).await?;
        self.world.end().await;
        let seconds = begun.elapsed().as_secs_f64();
        if self.world.has_ledger() {
            self.print(Tone::Bold, "load ended; waiting for the remaining events")?;
        }
        let rest = Instant::now() + REST_TIMEOUT;
        let complete = self
            .until(rest, |run| run.world.is_complete(&run.tally))
            .await?;
        if complete {
            self.until(Instant::now() + AFTERMATH, |_| false).await?;
        }
        Ok(self.report(seconds, kill, complete))
    }

    /// Waits until the subscription covers every stream, and stands in the present.
    async fn open(&mut self) -> Result<(), Error> {
        let streams = self.ownership.counts().0;
        let limit = Instant::now() + SUBSCRIBE_TIMEOUT;
        let open = self
            .until(limit, |run| {
                run.tally.streams() >= streams && run.tally.is_current
            })
            .await?;
        if open {
            let text = format!("subscribed at {}: {streams} streams in one", self.serving);
            self.print(Tone::Good, &text)
        } else {
            Err(Error::Demo(format!(
                "the subscription covers {} of {streams} streams after {SUBSCRIBE_TIMEOUT:?}",
                self.tally.streams()
            )))
        }
    }

    /// Kills a replica, watches the takeover, starts it again, watches the rebalance.
    async fn kill_and_restart(&mut self, target: Target, end: Instant) -> Result<Kill, Error> {
        let leader = group::leader(&Client::new(self.replicas.endpoints(self.serving))).await?;
        let victim = self.victim(target, &leader);
        let lost = self.ownership.of_replica(victim);
        let mut kill = Kill {
            replica: victim.to_owned(),
            was_leader: leader == victim,
            shards: lost.len(),
            ..Kill::default()
        };
        for owned in lost.values() {
            self.tally.await_successor(&owned.cluster, owned.epoch);
        }
        let pid = self.replicas.pid(victim).unwrap_or_default();
        let killed = Instant::now();
        self.replicas.kill(victim)?;
        let shards: Vec<_> = lost.keys().map(String::as_str).collect();
        let shards = match shards.join(", ") {
            none if none.is_empty() => "nothing".to_owned(),
            shards => shards,
        };
        self.print(
            Tone::Bad,
            &format!("SIGKILL to {victim} (process {pid}), owner of {shards}"),
        )?;
        self.takeover(&mut kill, killed, &lost).await?;
        self.replicas.reap(victim).await?;

        let quarter = self.arguments.length / 4;
        self.until(killed + quarter, |_| false).await?;
        let started = Instant::now();
        self.replicas.launch(victim)?;
        self.print(Tone::Bold, &format!("{victim} is restarted"))?;
        let limit = (started + REBALANCE_TIMEOUT).min(end);
        let owns = |run: &Self| !run.ownership.of_replica(victim).is_empty();
        if self.until(limit, owns).await? {
            kill.rebalance_ms = Some(since(started));
        }
        Ok(kill)
    }

    /// Waits until everything that was lost is owned again, and until its new owners are heard.
    async fn takeover(
        &mut self,
        kill: &mut Kill,
        killed: Instant,
        lost: &BTreeMap<String, Owned>,
    ) -> Result<(), Error> {
        let limit = killed + TAKEOVER_TIMEOUT;
        let watch = kill.was_leader.then(|| {
            let client = Client::new(self.replicas.endpoints(self.serving));
            tokio::spawn(group::new_leader(client, kill.replica.clone(), limit))
        });
        let taken = |run: &Self| run.ownership.has_successors_of(lost);
        if self.until(limit, taken).await? {
            kill.takeover_ms = Some(since(killed));
            let text = format!("every shard of {} is owned again", kill.replica);
            self.print(Tone::Good, &format!("{text} after {:.0} ms", since(killed)))?;
        }
        // In clusters of one's own perhaps nothing happens; then it is not waited for.
        let timeout = match self.world.has_ledger() {
            true => TAKEOVER_TIMEOUT,
            false => self.arguments.length / 4,
        };
        let heard = |run: &Self| run.tally.first_events().is_some();
        if self.until(killed + timeout, heard).await?
            && let Some(firsts) = self.tally.first_events()
        {
            let after = |at: &Instant| milliseconds(at.duration_since(killed));
            kill.first_event_ms = firsts.values().min().map(after);
            kill.last_first_event_ms = firsts.values().max().map(after);
            if let Some(ms) = kill.last_first_event_ms {
                let text = format!("first event from every new owner after {ms:.0} ms");
                self.print(Tone::Good, &text)?;
            }
        }
        if let Some(watch) = watch {
            let elected = watch.await.ok().flatten();
            kill.new_leader_ms = elected.map(|at| milliseconds(at.duration_since(killed)));
        }
        Ok(())
    }

    /// The replica to kill. Never the one that serves the subscriber, unless it leads and `--kill
    /// leader` was given.
    fn victim(&self, target: Target, leader: &str) -> &'static str {
        let names = || self.replicas.iter().map(|replica| replica.name);
        let leader = names().find(|name| *name == leader);
        if target == Target::Leader
            && let Some(leader) = leader
        {
            return leader;
        }
        names()
            .filter(|name| *name != self.serving)
            .max_by_key(|name| {
                let owned = self.ownership.of_replica(name).len();
                (owned, Some(*name) != leader)
            })
            .unwrap_or(self.serving)
    }

    fn report(&self, seconds: f64, kill: Option<Kill>, complete: bool) -> Report {
        let mut report = Report {
            clusters: self.ownership.counts().0,
            replicas: self.replicas.iter().count(),
            seconds: (seconds * 10.0).round() / 10.0,
            delivered: self.tally.delivered,
            gaps: self.tally.gaps,
            problems: self.tally.problems.clone(),
            kill,
            ..Report::default()
        };
        if !complete {
            let text = format!("the subscriber had not received everything after {REST_TIMEOUT:?}");
            report.problems.push(text);
        }
        if self.tally.not_after > 0 {
            let text = format!(
                "{} events were duplicated or out of order",
                self.tally.not_after
            );
            report.problems.push(text);
        }
        if let Some(kill) = &mut report.kill {
            kill.shards_after = self.ownership.of_replica(&kill.replica).len();
            // With fewer clusters than replicas the leader may own nothing, and still be succeeded.
            let owned = kill.shards > 0;
            if !owned && !kill.was_leader {
                report
                    .problems
                    .push("the killed replica owned nothing".into());
            }
            let unheard = self.world.has_ledger() && owned && kill.last_first_event_ms.is_none();
            let unled = kill.was_leader && kill.new_leader_ms.is_none();
            if kill.takeover_ms.is_none() || unheard || unled {
                let text = format!("the takeover was not complete after {TAKEOVER_TIMEOUT:?}");
                report.problems.push(text);
            }
        }
        if let Some(judged) = self.world.judge(&self.tally.audit) {
            report.judged(&judged);
        }
        report.ok = report.problems.is_empty();
        report
    }

    /// Reads what comes until something holds, or until a moment; returns whether it holds.
    async fn until(
        &mut self,
        moment: Instant,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<bool, Error> {
        loop {
            if holds(self) {
                return Ok(true);
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(Error::Interrupted),
                () = sleep_until(moment) => return Ok(holds(self)),
                update = self.shard_watch.next() => self.ownership_update(update?)?,
                update = self.subscription.next() => self.subscription_update(update?)?,
                _ = self.tick.tick() => {
                    self.replicas.check()?;
                    self.state()?;
                }
            }
        }
    }

    fn subscription_update(&mut self, update: Option<client::Update>) -> Result<(), Error> {
        match update {
            Some(client::Update::Frame(response)) => {
                self.tally.take(&response, Instant::now());
                Ok(())
            }
            Some(client::Update::Connected(_)) => Ok(()),
            Some(client::Update::Interrupted { endpoint, why }) => {
                let text = format!("the subscription left {endpoint}: {why}");
                self.print(Tone::Notable, &text)
            }
            None => Err(Error::Demo("the replicas ended the subscription".into())),
        }
    }

    fn ownership_update(&mut self, update: watch::Update<ShardChange>) -> Result<(), Error> {
        match update {
            watch::Update::Connected(_) => Ok(()),
            watch::Update::Snapshot => {
                self.ownership = Ownership::of(self.shard_watch.shards().values());
                Ok(())
            }
            watch::Update::Change(change) => {
                if self.ownership.take(&change) {
                    self.print(Tone::Notable, &moved(&change))?;
                }
                Ok(())
            }
            watch::Update::Interrupted { endpoint, why } => {
                let text = format!("the watch of ownership left {endpoint}: {why}");
                self.print(Tone::Faint, &text)
            }
        }
    }

    /// Prints a progress line.
    fn state(&self) -> Result<(), Error> {
        let owned: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| {
                let owned = self.ownership.of_replica(replica.name).len();
                format!("{} {owned}", replica.name)
            })
            .collect();
        let delivered = self.tally.delivered;
        let produced = self.world.produced();
        let produced = produced.map_or_else(String::new, |n| format!("produced {n:>6}  "));
        let text = format!(
            "{produced}delivered {delivered:>6}  |  shards: {}  |  {}",
            owned.join("  "),
            self.tally.sample
        );
        // One line of a terminal, and of a log.
        let text: String = text.chars().take(140).collect();
        self.print(Tone::Plain, &text)
    }

    fn print(&self, tone: Tone, text: &str) -> Result<(), Error> {
        self.printer.print(tone, text)
    }
}

fn moved(change: &ShardChange) -> String {
    let nobody = |name: &str| if name.is_empty() { "none" } else { name }.to_owned();
    let shard = change.shard.clone().unwrap_or_default();
    let (old, new) = (nobody(&change.old_owner), nobody(&shard.owner));
    let reason = word(shard.reason().as_str_name(), "MOVE_REASON_");
    let (name, epoch) = (&shard.name, shard.epoch);
    format!("{name}: {old} -> {new}, epoch {epoch}, {reason}")
}

fn since(moment: Instant) -> f64 {
    milliseconds(moment.elapsed())
}

fn milliseconds(duration: Duration) -> f64 {
    // Tenths are enough.
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
