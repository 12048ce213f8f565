//! A shard follows reachability: it moves to a replica that can reach its cluster, and stays where
//! none can.

use std::{fs, io, net::SocketAddr, time::Duration};

use quorumwatch::{
    domain::position::ResourceVersion,
    proto::v1::{Cluster, ClusterCondition, ClusterSource, Shard, cluster_source::Source},
    sim::{Fleet, FleetOptions, Manifest, SimCluster},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{EVENTS, Group, Options, PATIENCE, Recorder, holds};

const NAME: &str = "routed";

/// Between two changes of the busy cluster.
const BETWEEN: Duration = Duration::from_millis(10);

/// One replica's route to the API server.
struct Route {
    address: SocketAddr,
    is_dropped: watch::Sender<bool>,
    _serving: AbortOnDropHandle<()>,
}

impl Route {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_dropped = watch::Sender::new(false);
        let dropped = is_dropped.subscribe();
        let serving = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, server, dropped.clone()));
            }
        });
        Self {
            address,
            is_dropped,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// From now on packets are silently dropped.
    fn drop_everything(&self) {
        self.is_dropped.send_replace(true);
    }

    fn restore(&self) {
        self.is_dropped.send_replace(false);
    }
}

/// One connection.
async fn pass(near: TcpStream, server: SocketAddr, dropped: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(server).await else {
        return;
    };
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    // Both sides are closed with the first one.
    let _ = tokio::select! {
        ended = copy(near_reads, far_writes, dropped.clone()) => ended,
        ended = copy(far_reads, near_writes, dropped) => ended,
    };
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut dropped: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        let passes = dropped.wait_for(|dropped| !dropped).await.is_ok();
        if read == 0 || !passes {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Three replicas with a route each to one cluster that changes all the time.
struct Routed {
    group: Group,
    routes: Vec<Route>,
    cluster: SimCluster,
    _writing: AbortOnDropHandle<()>,
    fleet: Fleet,
}

impl Routed {
    async fn start() -> Self {
        let options = FleetOptions {
            clusters: vec![NAME.to_owned()],
            ..FleetOptions::default()
        };
        let fleet = Fleet::start(options).await.unwrap();
        let cluster = fleet.cluster(NAME).unwrap();
        let mut group = Group::prepare(3, &Options::default()).await;
        let mut routes = Vec::new();
        for index in 0..3 {
            let route = Route::to(fleet.address()).await;
            let kubeconfig = fleet.kubeconfig(NAME);
            let (server, near) = (fleet.address().to_string(), route.address.to_string());
            let kubeconfig = kubeconfig.replace(&server, &near);
            let config = format!(
                "[sources.{NAME}]\ncontext = '{NAME}'\nkubeconfig = '''\n{kubeconfig}'''\n"
            );
            fs::write(group.replicas[index].folder.join("config.toml"), config).unwrap();
            group.launch(index);
            routes.push(route);
        }
        group.whole().await;
        let registered = Cluster {
            name: NAME.to_owned(),
            source: Some(ClusterSource {
                source: Some(Source::Configured(NAME.to_owned())),
            }),
            ..Cluster::default()
        };
        group.client().create(registered).await.unwrap();
        let writing = tokio::spawn(keep_busy(cluster.clone()));
        let this = Self {
            group,
            routes,
            cluster,
            _writing: AbortOnDropHandle::new(writing),
            fleet,
        };
        this.told(ClusterCondition::Connected, "").await;
        this
    }

    async fn shard(&self) -> Shard {
        let client = self.group.client();
        client.shard(&format!("{NAME}/0")).await.unwrap()
    }

    async fn told(&self, condition: ClusterCondition, reason: &str) {
        let client = self.group.client();
        let what = format!("{condition:?} is reported: {reason}");
        holds(&what, PATIENCE, async || {
            let cluster = client.cluster(NAME).await.unwrap();
            let health = cluster.health.unwrap();
            health.condition() == condition && health.reason.ends_with(reason)
        })
        .await;
    }

    /// Waits until what was written by now, and so much more, has come.
    async fn flows(&self, recorder: &Recorder, more: u64) {
        let now: u64 = self.cluster.current_rv().to_string().parse().unwrap();
        let wanted = ResourceVersion::from(now + more);
        let came = |record: &_| has_reached(record, &wanted);
        let took = recorder.sees("changes come", PATIENCE, came).await;
        eprintln!("{more} changes came within {took:?}");
    }
}

fn has_reached(record: &crate::harness::Record, wanted: &ResourceVersion) -> bool {
    record.has_reached(NAME, wanted)
}

async fn keep_busy(cluster: SimCluster) {
    let events = EVENTS.parse().unwrap();
    for number in 0_u64.. {
        let event = Manifest::new("default", format!("event-{number}"));
        let event = event.member("data", &json!({"number": number}));
        cluster.create(&events, &event).unwrap();
        tokio::time::sleep(BETWEEN).await; // poll: the pace of the writer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_moves_to_a_replica_that_can_reach_its_cluster_and_stays_where_none_can() {
    let routed = Routed::start().await;
    let before = routed.shard().await;
    let owner = routed.group.index_of(&before.owner);
    let recorder = Recorder::all_from_now(routed.group.endpoints_from((owner + 1) % 3));
    recorder.covers(1).await;
    routed.flows(&recorder, 300).await;
    // The owner's route alone is gone.
    routed.routes[owner].drop_everything();
    let moved = holds("the shard moves", PATIENCE, async || {
        routed.shard().await.owner != before.owner
    });
    eprintln!("moved after {:?}", moved.await);
    // The new owner has to see for a while that the cluster is busy.
    routed.flows(&recorder, 400).await;
    routed.told(ClusterCondition::Connected, "").await;
    let after = routed.shard().await;
    assert_eq!(after.epoch, before.epoch + 1);
    // Now no replica can: it stays, and that is reported.
    for route in &routed.routes {
        route.drop_everything();
    }
    let reason = "no other replica can watch it either";
    routed.told(ClusterCondition::Unreachable, reason).await;
    assert_eq!(routed.shard().await.epoch, after.epoch);
    for route in &routed.routes {
        route.restore();
    }
    routed.told(ClusterCondition::Connected, "").await;
    routed.flows(&recorder, 100).await;
    assert_eq!(routed.shard().await.epoch, after.epoch);
    let record = recorder.leave();
    assert_eq!(record.gaps, []);
    routed.fleet.stop().await;
}
