//! A host with a subscriber: the client that ships, which records what it receives.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard},
};

use quorumwatch::client::{Begin, Endpoints, Options, Subscription, chain};
use tokio::sync::watch;
use turmoil::Sim;

use super::{Scope, reach};
use crate::{judges::Record, network::Fabric, report};

/// What a subscriber asks for, and how it reads.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) begin: Begin,
    pub(crate) scope: Scope,
    /// Most bytes that may be under way to it; few, so that one that does not read is noticed soon.
    pub(crate) window: Option<u32>,
    /// Whether it reads all the time, from rings that hold all that it may be behind.
    pub(crate) keeps_up: bool,
}

/// A host with a subscriber.
pub(crate) struct Subscriber {
    pub(crate) name: String,
    pub(crate) wish: Wish,
    record: Arc<Mutex<Record>>,
    /// Whether it reads nothing for a while.
    is_paused: watch::Sender<bool>,
}

impl Subscriber {
    /// Adds it to a simulation. Each of its processes asks the replicas in this order, each from
    /// another one on.
    pub(crate) fn register(
        sim: &mut Sim<'static>,
        fabric: &Fabric,
        number: usize,
        wish: Wish,
        replicas: &[String],
    ) -> Self {
        let name = format!("subscriber-{number}");
        let record = Arc::new(Mutex::new(Record::new(&name, &wish)));
        let network = fabric.of(&name);
        let is_paused = watch::Sender::new(false);
        let (order, processes) = (replicas.to_vec(), Cell::new(number));
        let (received, asked, pauses) = (Arc::clone(&record), wish.clone(), is_paused.clone());
        sim.host(name.as_str(), move || {
            let mut order = order.clone();
            let first = processes.get() % order.len();
            order.rotate_left(first);
            processes.set(processes.get() + 1);
            let endpoints = reach::endpoints(&order, &network, asked.window);
            let reads = pauses.subscribe();
            follow(endpoints, asked.clone(), Arc::clone(&received), reads)
        });
        Self {
            name,
            wish,
            record,
            is_paused,
        }
    }

    /// What it has received so far.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// Whether it reads nothing for a while.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.is_paused.send_replace(is_paused);
    }
}

/// One process: it goes on where the one before it ended.
async fn follow(
    endpoints: Endpoints,
    wish: Wish,
    record: Arc<Mutex<Record>>,
    mut pauses: watch::Receiver<bool>,
) -> turmoil::Result {
    let begin = match record.lock().unwrap().cursor() {
        Some(cursor) => Begin::After(cursor),
        None => wish.begin,
    };
    let options = Options {
        filters: wish.scope.filters(),
        begin,
        ..Options::default()
    };
    let mut subscription = Subscription::new(endpoints, options);
    let ended = loop {
        // Its sender lives as long as the host.
        let _ = pauses.wait_for(|is_paused| !is_paused).await;
        match subscription.next().await {
            Ok(Some(update)) => record.lock().unwrap().take(update),
            Ok(None) => break "the server has ended it".to_owned(),
            Err(error) => break chain(&error),
        }
    };
    report::violated(format!("a subscription has ended: {ended}"));
    std::future::pending().await
}
