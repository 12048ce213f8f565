//! The replicas' agreement, without Raft: one state, and each replica's view of it, which may be
//! behind. Proposals get lost, come late, come twice, and their outcome may stay unknown.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use quorumwatch::{
    agent::agreement::Agreement,
    domain::{
        command::{Command, Move, Outcome},
        id::{Era, Revision, StreamId, UnixMillis},
        position::Position,
        state::State,
        stream::EraStart,
    },
    raft::{ProposeError, Proposed},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::sync::watch;

use crate::api::dice;

/// What goes wrong with proposals and with news, each so many times of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    /// Nothing is proposed.
    pub(crate) refuse: u32,
    /// It is committed seconds later.
    pub(crate) delay: u32,
    /// The outcome is unknown: it is committed at once, later or never.
    pub(crate) unknown: u32,
    /// It is committed twice.
    pub(crate) twice: u32,
    /// A replica hears of a change seconds later.
    pub(crate) lag: u32,
}

/// A cheap clone.
#[derive(Clone)]
pub(crate) struct Group {
    agreed: Arc<Mutex<Agreed>>,
    /// The newest revision, and the newest that changed more than checkpoints.
    newest: Arc<watch::Sender<(Revision, Revision)>>,
}

struct Agreed {
    state: Arc<State>,
    /// How each era began.
    eras: BTreeMap<Era, EraStart>,
    /// Where each stream began.
    firsts: BTreeMap<StreamId, Position>,
    trouble: Trouble,
    rng: SmallRng,
    faults: BTreeMap<&'static str, u64>,
}

impl Group {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            agreed: Arc::new(Mutex::new(Agreed {
                state: Arc::default(),
                eras: BTreeMap::new(),
                firsts: BTreeMap::new(),
                trouble: Trouble::default(),
                rng: SmallRng::seed_from_u64(seed),
                faults: BTreeMap::new(),
            })),
            newest: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Agreed> {
        self.agreed.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Arc<State> {
        self.lock().state.clone()
    }

    pub(crate) fn eras(&self) -> BTreeMap<Era, EraStart> {
        self.lock().eras.clone()
    }

    pub(crate) fn firsts(&self) -> BTreeMap<StreamId, Position> {
        self.lock().firsts.clone()
    }

    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.lock().faults.clone()
    }

    pub(crate) fn set_trouble(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    pub(crate) fn apply(&self, command: &Command) -> Proposed {
        let mut agreed = self.lock();
        let mut next = State::clone(&agreed.state);
        let revision = Revision(next.revision.0 + 1);
        let applied = next.apply(revision, command);
        next.check_invariants().unwrap();
        if let (Command::BeginEra(begin), Outcome::Era(era)) = (command, &applied.outcome) {
            let start = next.streams[&begin.stream].era.clone().unwrap();
            let first = agreed.firsts.entry(begin.stream);
            first.or_insert_with(|| start.start());
            agreed.eras.insert(*era, start);
        }
        agreed.state = Arc::new(next);
        drop(agreed);
        self.newest.send_modify(|(newest, topology)| {
            *newest = revision;
            if applied.changes_topology {
                *topology = revision;
            }
        });
        Proposed {
            outcome: applied.outcome,
            revision,
        }
    }

    pub(crate) fn assign(&self, step: Move) {
        self.apply(&Command::Assign {
            moves: vec![step],
            at: UnixMillis(0),
        });
    }

    pub(crate) fn count(&self, fault: &'static str) {
        *self.lock().faults.entry(fault).or_default() += 1;
    }

    fn roll(&self, permille: impl Fn(&Trouble) -> u32, fault: &'static str) -> bool {
        let mut agreed = self.lock();
        let permille = permille(&agreed.trouble);
        let comes = dice(&mut agreed.rng, permille);
        drop(agreed);
        if comes {
            self.count(fault);
        }
        comes
    }

    fn within(&self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.lock().rng.random_range(range))
    }

    async fn propose(self, command: Command) -> Result<Proposed, ProposeError> {
        tokio::time::sleep(self.within(1..15)).await;
        if self.roll(|trouble| trouble.refuse, "proposal refused") {
            return Err(ProposeError::NotLeader { leader: None });
        }
        if self.roll(|trouble| trouble.unknown, "outcome unknown") {
            if self.lock().rng.random_ratio(2, 3) {
                self.apply_later(command);
            }
            tokio::time::sleep(self.within(1..3_000)).await;
            return Err(ProposeError::Unknown("the leader is gone".into()));
        }
        if self.roll(|trouble| trouble.twice, "proposal twice") {
            self.apply_later(command.clone());
        }
        if self.roll(|trouble| trouble.delay, "proposal delayed") {
            tokio::time::sleep(self.within(100..4_000)).await;
        }
        Ok(self.apply(&command))
    }

    fn apply_later(&self, command: Command) {
        let this = self.clone();
        let after = self.within(0..6_000);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            this.apply(&command);
        });
    }
}

/// What one replica knows of the group.
pub(crate) struct View {
    group: Group,
    state: watch::Sender<Arc<State>>,
    topology: watch::Sender<Arc<State>>,
    /// While it is partitioned it receives nothing, and its proposals fail.
    cut_off: watch::Sender<bool>,
}

impl View {
    pub(crate) fn new(group: &Group) -> Arc<Self> {
        let this = Arc::new(Self {
            group: group.clone(),
            state: watch::Sender::new(group.now()),
            topology: watch::Sender::new(group.now()),
            cut_off: watch::Sender::default(),
        });
        tokio::spawn(this.clone().follow());
        this
    }

    pub(crate) fn cut_off(&self, cut_off: bool) {
        self.cut_off.send_replace(cut_off);
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        *self.cut_off.borrow()
    }

    pub(crate) fn watch_state(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    pub(crate) fn watch_topology(&self) -> watch::Receiver<Arc<State>> {
        self.topology.subscribe()
    }

    async fn follow(self: Arc<Self>) {
        let mut newest = self.group.newest.subscribe();
        let mut cut_off = self.cut_off.subscribe();
        let mut told = Revision::default();
        loop {
            let _ = cut_off.wait_for(|cut_off| !cut_off).await;
            newest.borrow_and_update();
            let state = self.group.now();
            let topology = newest.borrow().1;
            self.state.send_replace(state.clone());
            if topology > told && state.revision >= topology {
                told = topology;
                self.topology.send_replace(state);
            }
            newest.changed().await.unwrap();
            let lags = self.group.roll(|trouble| trouble.lag, "late news");
            let delay = if lags { 200..8_000 } else { 1..5 };
            tokio::time::sleep(self.group.within(delay)).await;
        }
    }

    /// Waits until it knows a revision.
    pub(crate) async fn applied(&self, revision: Revision) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| state.revision >= revision).await;
    }
}

/// A replica's part in the group.
pub(crate) struct Part(pub(crate) Arc<View>);

impl Agreement for Part {
    fn state(&self) -> Arc<State> {
        self.0.state.borrow().clone()
    }

    fn watch_topology(&self) -> watch::Receiver<Arc<State>> {
        self.0.watch_topology()
    }

    fn submit(&self, command: Command) -> BoxFuture<'static, Result<Proposed, ProposeError>> {
        if self.0.is_cut_off() {
            let after = self.0.group.within(500..3_000);
            return async move {
                tokio::time::sleep(after).await;
                Err(ProposeError::NotLeader { leader: None })
            }
            .boxed();
        }
        self.0.group.clone().propose(command).boxed()
    }

    fn wait_applied(&self, revision: Revision, timeout: Duration) -> BoxFuture<'static, bool> {
        let view = self.0.clone();
        async move {
            tokio::time::timeout(timeout, view.applied(revision))
                .await
                .is_ok()
        }
        .boxed()
    }
}
