//! A host with a subscriber: the client that ships, which records what it receives.

use std::sync::{Arc, Mutex, MutexGuard};

use http::Uri;
use hyper_util::rt::TokioIo;
use quorumwatch::{
    client::{Begin, Endpoint, Endpoints, Options, Subscription, chain},
    net::Network as _,
};
use turmoil::Sim;

use super::{Replica, at};
use crate::{
    judges::Record,
    network::{Fabric, HostNetwork},
    report,
};

/// A host with a subscriber.
pub(crate) struct Subscriber {
    pub(crate) name: String,
    pub(crate) begin: Begin,
    record: Arc<Mutex<Record>>,
}

impl Subscriber {
    /// Adds it to a simulation. It asks the replicas in this order.
    pub(crate) fn register(
        sim: &mut Sim<'static>,
        fabric: &Fabric,
        number: usize,
        begin: Begin,
        replicas: &[String],
    ) -> Self {
        let name = format!("subscriber-{number}");
        let record = Arc::new(Mutex::new(Record::new(&name)));
        let network = fabric.of(&name);
        let endpoints = replicas.iter().map(|replica| {
            let network = network.clone();
            reach(&Replica::client_address(replica), network)
        });
        let endpoints: Vec<Endpoint> = endpoints.collect();
        let (received, first) = (Arc::clone(&record), begin.clone());
        sim.host(name.as_str(), move || {
            let endpoints = Endpoints::new(endpoints[0].clone(), endpoints[1..].iter().cloned());
            follow(endpoints, first.clone(), Arc::clone(&received))
        });
        Self {
            name,
            begin,
            record,
        }
    }

    /// What it has received so far.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }
}

/// Reaches a replica over the simulated network.
fn reach(endpoint: &Endpoint, network: HostNetwork) -> Endpoint {
    endpoint.connected_by(move |setup| {
        let network = network.clone();
        let dial = tower::service_fn(move |replica: Uri| {
            let host = replica.host().unwrap_or_default();
            let connecting = network.connect(&at(host, replica.port_u16().unwrap_or_default()));
            async move { connecting.await.map(TokioIo::new) }
        });
        Box::pin(async move { setup.connect_with_connector(dial).await })
    })
}

/// One process: it goes on where the one before it ended.
async fn follow(endpoints: Endpoints, begin: Begin, record: Arc<Mutex<Record>>) -> turmoil::Result {
    let begin = match record.lock().unwrap().cursor() {
        Some(cursor) => Begin::After(cursor),
        None => begin,
    };
    let options = Options {
        begin,
        ..Options::default()
    };
    let mut subscription = Subscription::new(endpoints, options);
    let ended = loop {
        match subscription.next().await {
            Ok(Some(update)) => record.lock().unwrap().take(update),
            Ok(None) => break "the server has ended it".to_owned(),
            Err(error) => break chain(&error),
        }
    };
    report::violated(format!("a subscription has ended: {ended}"));
    std::future::pending().await
}
