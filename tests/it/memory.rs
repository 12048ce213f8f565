//! One replica under clients that ask for as much as they may and read nothing, and clusters with
//! long lists of large objects: it stays within its memory, and serves everybody else.
//!
//! The full form, for some minutes on a machine of its own:
//! `cargo test --test it -- --ignored --nocapture memory`.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    fs,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use quorumwatch::{
    domain::cluster::Resource,
    proto::v1::{
        ChangeType, ClosingReason, Filter, FromSnapshot, SubscribeRequest, SubscribeResponse,
        Until, event_service_client::EventServiceClient, subscribe_request::From,
        subscribe_response::Frame,
    },
    sim::Manifest,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::harness::{Options, PATIENCE, World, WorldOptions, holds};

/// `memory.total`.
const TOTAL_BYTES: usize = 192 << 20;

/// Subscriptions that share a connection.
const STREAMS_PER_CONNECTION: usize = 50;

/// How much is thrown at the replica.
struct Attack {
    clusters: usize,
    objects: usize,
    object_bytes: usize,
    /// Hostile clients, each with an address of its own.
    addresses: u8,
    /// Subscriptions that each of them asks for.
    subscriptions: usize,
    span: Duration,
}

/// What became of hostile subscriptions.
#[derive(Default)]
struct Outcomes {
    accepted: usize,
    /// By the limit that each names.
    refused: BTreeMap<String, usize>,
    /// Connections that the replica closed.
    closed: usize,
}

async fn world(attack: &Attack) -> World {
    // The rings of a stream are small here: they are not divided yet among all streams.
    let config = format!(
        "memory.total = {TOTAL_BYTES}\nmemory.subscriptions = 16777216\n[limits]\n\
         slow_subscriber_ms = 3000\nunread_ms = 1000\n\
         ring_bytes = 1048576\n"
    );
    let world = World::start_empty(WorldOptions {
        clusters: attack.clusters,
        replicas: 1,
        group: Options { config },
    })
    .await;
    let padding = "x".repeat(attack.object_bytes);
    for name in world.fleet.cluster_names() {
        let cluster = world.cluster(&name);
        for n in 0..attack.objects {
            let manifest = Manifest::new("default", format!("large-{n}"))
                .member("message", &padding.as_str().into());
            cluster.create(&Resource::events(), &manifest).unwrap();
        }
        world.monitor(&name).await;
    }
    world.group.owned(attack.clusters).await;
    world
}

/// What the kernel says of the replica's memory: resident now, and at most so far.
fn memory(world: &World) -> [usize; 2] {
    let pid = world.group.replicas[0].pid().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<usize>().unwrap() * 1024
    })
}

/// A filter as large as it may be, which matches everything here.
fn largest_filter() -> Filter {
    let names = (0..4_600).map(|n| format!("name-{n:05}"));
    Filter {
        names: names.collect(),
        ..Filter::default()
    }
}

/// The requests of a hostile client, in turn.
fn request(n: usize) -> SubscribeRequest {
    let snapshot = Some(From::Snapshot(FromSnapshot {}));
    match n % 10 {
        0 => SubscribeRequest {
            filters: vec![largest_filter()],
            ..SubscribeRequest::default()
        },
        1..6 => SubscribeRequest {
            from: snapshot,
            ..SubscribeRequest::default()
        },
        _ => SubscribeRequest::default(),
    }
}

async fn connect(world: &World, address: IpAddr) -> Channel {
    let port = world.group.replicas[0].client_port;
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let endpoint = endpoint
        .local_address(Some(address))
        // As much as a client may let a server send without reading it.
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size((1 << 31) - 1);
    endpoint.connect().await.unwrap()
}

/// Subscribes and never reads. What was opened stays open as long as it is kept.
async fn attack(
    world: &World,
    attack: &Attack,
    outcomes: &Mutex<Outcomes>,
) -> Vec<Streaming<SubscribeResponse>> {
    let mut open = Vec::new();
    for client in 0..attack.addresses {
        let address = IpAddr::from([127, 0, 0, 2 + client]);
        let mut channel = connect(world, address).await;
        for n in 0..attack.subscriptions {
            if n % STREAMS_PER_CONNECTION == 0 {
                channel = connect(world, address).await;
            }
            let mut service = EventServiceClient::new(channel.clone());
            match service.subscribe(request(n)).await {
                Ok(stream) => {
                    outcomes.lock().unwrap().accepted += 1;
                    open.push(stream.into_inner());
                }
                // What was asked for before on this connection has ended, and is not read.
                Err(status) if status.source().is_some() => {
                    outcomes.lock().unwrap().closed += 1;
                    channel = connect(world, address).await;
                }
                Err(status) => {
                    let mut outcomes = outcomes.lock().unwrap();
                    *outcomes.refused.entry(limit(&status)).or_default() += 1;
                }
            }
        }
    }
    open
}

/// The limit that a refusal names, in every part that has to.
fn limit(status: &Status) -> String {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has a reason");
    assert_eq!(info.reason, "REPLICA_FULL");
    let limit = info.metadata["limit"].clone();
    assert!(status.message().contains(&limit), "{status:?}");
    assert_eq!(
        details.quota_failure().unwrap().violations[0].subject,
        limit
    );
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    limit
}

/// Reads a snapshot of everything, as a client with a copy does; returns the large objects.
async fn snapshot(world: &World) -> usize {
    let request = SubscribeRequest {
        from: Some(From::Snapshot(FromSnapshot {})),
        until: Until::UpToDate.into(),
        ..SubscribeRequest::default()
    };
    let client = world.group.replicas[0].client();
    let mut frames = client.subscribe(request).await.unwrap();
    let mut objects: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(response) = frames.message().await.unwrap() {
        match response.frame {
            Some(Frame::Event(event)) if event.change_type() == ChangeType::Snapshot => {
                let name = event.object.unwrap_or_default().name;
                if name.starts_with("large-") {
                    objects.entry(event.stream).or_default().insert(name);
                }
            }
            Some(Frame::Gap(gap)) => drop(objects.remove(&gap.stream)),
            Some(Frame::Closing(closing)) => {
                assert_eq!(closing.reason(), ClosingReason::Complete, "{closing:?}");
            }
            _ => {}
        }
    }
    objects.values().map(BTreeSet::len).sum()
}

async fn stays_within_its_memory(how: Attack) {
    let mut world = world(&how).await;
    let healthy = world.subscriber(0).await;
    world.begin(100.0);
    world.flows(&healthy, 50).await;
    let [before, _] = memory(&world);
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let started = Instant::now();
    let (mut rounds, mut snapshots) = (0, 0);
    let mut open: Vec<Streaming<SubscribeResponse>> = Vec::new();
    while rounds == 0 || started.elapsed() < how.span {
        // Those that were disconnected as too slow are gone; others come in their place.
        drop(std::mem::take(&mut open));
        let (opened, objects) = tokio::join!(attack(&world, &how, &outcomes), snapshot(&world));
        open = opened;
        assert_eq!(objects, how.clusters * how.objects, "a snapshot is whole");
        snapshots += 1;
        world.flows(&healthy, 50).await;
        assert_eq!(snapshot(&world).await, how.clusters * how.objects);
        rounds += 1;
    }
    let [after, most] = memory(&world);
    world.expect_exactly_once(&healthy).await;
    let outcomes = outcomes.lock().unwrap();
    let mib = |bytes: usize| bytes >> 20;
    eprintln!(
        "{rounds} rounds in {:?}: {} accepted, refused {:?}, {} connections closed; {snapshots} snapshots beside them; \
         {} MiB before, {} MiB after, {} MiB at most",
        started.elapsed(),
        outcomes.accepted,
        outcomes.refused,
        outcomes.closed,
        mib(before),
        mib(after),
        mib(most),
    );
    assert!(!outcomes.refused.is_empty(), "nothing was refused");
    assert!(outcomes.accepted > 0, "everything was refused");
    assert!(most <= TOTAL_BYTES, "{} MiB", mib(most));
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_stays_within_its_memory_under_hostile_clients() {
    stays_within_its_memory(Attack {
        clusters: 2,
        objects: 300,
        object_bytes: 40_000,
        addresses: 2,
        subscriptions: 500,
        span: Duration::ZERO,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes some minutes"]
async fn a_replica_stays_within_its_memory_for_long() {
    stays_within_its_memory(Attack {
        clusters: 6,
        objects: 400,
        object_bytes: 50_000,
        addresses: 6,
        subscriptions: 500,
        span: Duration::from_secs(120),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_too_many_is_refused_and_no_other() {
    let world = World::start_with(WorldOptions {
        clusters: 1,
        replicas: 1,
        group: Options {
            config: "[limits]\nclient_subscriptions = 3\nclient_connections = 2\n".into(),
        },
    })
    .await;
    let [own, other] = [12, 13].map(|last| IpAddr::from([127, 0, 0, last]));
    let subscribe = async |channel: &Channel| {
        let mut service = EventServiceClient::new(channel.clone());
        service.subscribe(SubscribeRequest::default()).await
    };
    let channel = connect(&world, own).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(subscribe(&channel).await.unwrap());
    }
    let refused = subscribe(&channel).await.unwrap_err();
    assert_eq!(limit(&refused), "limits.client_subscriptions");
    assert!(subscribe(&connect(&world, other).await).await.is_ok());
    // What ends makes room.
    open.pop();
    let admitted = async || subscribe(&channel).await.is_ok();
    holds("there is room again", PATIENCE, admitted).await;
    // A connection that is one too many is closed.
    let second = connect(&world, own).await;
    let port = world.group.replicas[0].client_port;
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let third = endpoint.local_address(Some(own)).connect().await;
    let is_closed = match third {
        Err(_) => true,
        Ok(third) => subscribe(&third).await.is_err(),
    };
    assert!(is_closed);
    drop((channel, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_never_read_is_closed_with_its_connection() {
    let how = Attack {
        clusters: 1,
        objects: 100,
        object_bytes: 40_000,
        addresses: 1,
        subscriptions: 1,
        span: Duration::ZERO,
    };
    let world = world(&how).await;
    let channel = connect(&world, IpAddr::from([127, 0, 0, 2])).await;
    let mut service = EventServiceClient::new(channel.clone());
    let unread = service.subscribe(request(1)).await.unwrap().into_inner();
    let reading = {
        let mut service = EventServiceClient::new(channel);
        let beside = service.subscribe(SubscribeRequest::default()).await;
        let mut beside = beside.unwrap().into_inner();
        AbortOnDropHandle::new(tokio::spawn(async move {
            while let Ok(Some(_)) = beside.message().await {}
        }))
    };
    let is_closed = async || reading.is_finished();
    holds("the connection is closed", PATIENCE, is_closed).await;
    drop(unread);
}
