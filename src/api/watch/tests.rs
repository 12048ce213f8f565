//! A watch of members by their names, without a network.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    Change, ChangeLog, From, ITEMS_MAX, Reads, Revision, State, Timestamp, Update, Watch, Watched,
    Watches,
};
use crate::domain::{
    fixtures::register,
    id::{GroupId, Incarnation, ReplicaId, UnixMillis},
    lifecycle::{Lifecycle, Milestone, Registration},
};

/// Members whose names begin with a letter.
struct Named(char);

#[derive(Clone, Debug)]
struct Renamed(u64, &'static str);

type Message = (String, u64, Update<String, String>);

impl Change for Renamed {
    fn revision(&self) -> Revision {
        Revision(self.0)
    }

    fn bytes(&self) -> usize {
        1
    }
}

impl Watched for Named {
    type Key = ReplicaId;
    type Item = String;
    type Kept = Renamed;
    type Change = String;
    type Response = Message;

    fn keys(&self, state: &State) -> Vec<ReplicaId> {
        let members = state.members.values();
        let named = members.filter(|member| member.name.starts_with(self.0));
        named.map(|member| member.id).collect()
    }

    fn item(&self, state: &State, key: &ReplicaId) -> Option<String> {
        Some(state.members.get(key)?.name.clone())
    }

    fn change(&self, _: &State, change: &Renamed) -> Option<String> {
        change.1.starts_with(self.0).then(|| change.1.to_owned())
    }

    fn response(token: String, revision: u64, update: Update<String, String>) -> Message {
        (token, revision, update)
    }
}

/// What a replica has applied.
struct Replica {
    state: watch::Sender<Arc<State>>,
    applied: watch::Sender<Revision>,
    log: Arc<ChangeLog<Renamed>>,
}

impl Replica {
    /// At revision 10, with members of these names.
    fn new(group: u8, names: &[String]) -> Self {
        let mut state = State {
            group: Some(GroupId([group; 16])),
            ..State::default()
        };
        for (id, name) in names.iter().enumerate() {
            state.apply(Revision(10), &register(ReplicaId(id as u64), name));
        }
        state.revision = Revision(10);
        Self {
            state: watch::Sender::new(Arc::new(state)),
            applied: watch::Sender::new(Revision(10)),
            log: Arc::new(ChangeLog::new(Revision(10))),
        }
    }

    fn of(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        Self::new(1, &names)
    }

    fn apply(&self, revision: u64, changes: &[Renamed]) {
        self.state
            .send_modify(|state| Arc::make_mut(state).revision = Revision(revision));
        self.log.push(changes.iter().cloned());
        self.applied.send_replace(Revision(revision));
    }

    async fn try_watch(&self, letter: char, token: &str, least: u64) -> Result<Watching, Status> {
        let reads = Reads {
            state: self.state.subscribe(),
            applied: self.applied.subscribe(),
        };
        let request = letter.to_string();
        let from = From {
            resume_token: token,
            min_revision: least,
            method: "WatchMembers",
            request: request.as_bytes(),
            timeout: Duration::from_secs(2),
        };
        Watch::open(Named(letter), reads, Arc::clone(&self.log), from).await
    }

    async fn watch(&self, letter: char, token: &str) -> Watching {
        self.try_watch(letter, token, 0).await.unwrap()
    }
}

type Watching = Watch<Named>;

/// Everything that is new.
fn rest(watch: &mut Watching) -> Vec<Message> {
    std::iter::from_fn(|| watch.next()).collect()
}

/// The same without tokens and revisions.
fn updates(watch: &mut Watching) -> Vec<Update<String, String>> {
    rest(watch)
        .into_iter()
        .map(|(_, _, update)| update)
        .collect()
}

fn page(names: &[&str]) -> Update<String, String> {
    Update::Snapshot(names.iter().map(|name| (*name).to_owned()).collect())
}

fn change(name: &str) -> Update<String, String> {
    Update::Change(name.to_owned())
}

#[tokio::test]
async fn a_watch_begins_with_a_snapshot_and_goes_on_with_changes() {
    let replica = Replica::of(&["a1", "b1", "a2"]);
    let mut watch = replica.watch('a', "").await;
    let messages = rest(&mut watch);
    let (tokens, updates): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .map(|(token, revision, update)| ((!token.is_empty(), revision), update))
        .unzip();
    assert_eq!(updates, [page(&["a1", "a2"]), Update::SnapshotEnd]);
    assert_eq!(tokens, [(false, 10), (true, 10)]);
    replica.apply(12, &[Renamed(12, "a3"), Renamed(12, "b3")]);
    let (token, revision, update) = watch.next().unwrap();
    assert_eq!(
        (token.is_empty(), revision, update),
        (false, 12, change("a3"))
    );
    assert_eq!(watch.next(), None);
}

#[tokio::test]
async fn an_empty_snapshot_ends_all_the_same() {
    let mut watch = Replica::of(&[]).watch('a', "").await;
    assert_eq!(updates(&mut watch), [Update::SnapshotEnd]);
}

#[tokio::test]
async fn messages_of_a_snapshot_are_small() {
    let names: Vec<_> = (0..=2 * ITEMS_MAX).map(|n| format!("a{n}")).collect();
    let mut watch = Replica::new(1, &names).watch('a', "").await;
    let sizes = updates(&mut watch).into_iter().filter_map(|update| {
        let Update::Snapshot(items) = update else {
            return None;
        };
        Some(items.len())
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [ITEMS_MAX, ITEMS_MAX, 1]);
    let names: Vec<_> = (0..3)
        .map(|n| format!("a{n}{}", "x".repeat(600_000)))
        .collect();
    let mut watch = Replica::new(1, &names).watch('a', "").await;
    assert_eq!(updates(&mut watch).len(), 4);
}

#[tokio::test]
async fn a_watch_resumes_between_changes_of_one_revision() {
    let replica = Replica::of(&[]);
    let mut watch = replica.watch('a', "").await;
    rest(&mut watch);
    let changes = ["a1", "b1", "a2", "a3"].map(|name| Renamed(12, name));
    replica.apply(12, &changes);
    replica.apply(13, &[Renamed(13, "a4")]);
    let messages = rest(&mut watch);
    let all = ["a1", "a2", "a3", "a4"];
    assert_eq!(messages.len(), all.len());
    for (at, (token, _, update)) in messages.into_iter().enumerate() {
        assert_eq!(update, change(all[at]));
        let mut resumed = replica.watch('a', &token).await;
        let expected: Vec<_> = all[at + 1..].iter().map(|name| change(name)).collect();
        assert_eq!(updates(&mut resumed), expected, "after {}", all[at]);
    }
}

#[tokio::test]
async fn what_is_no_longer_remembered_is_replaced_by_a_snapshot() {
    let replica = Replica::of(&["a1"]);
    let mut watch = replica.watch('a', "").await;
    let (token, ..) = rest(&mut watch).pop().unwrap();
    let snapshot = [page(&["a1"]), Update::SnapshotEnd];
    let none: [Update<String, String>; 0] = [];
    assert_eq!(updates(&mut replica.watch('a', &token).await), none);
    // Another request, and another group.
    assert_eq!(
        updates(&mut replica.watch('b', &token).await),
        [Update::SnapshotEnd]
    );
    let other = Replica::new(2, &["a1".to_owned()]);
    assert_eq!(updates(&mut other.watch('a', &token).await), snapshot);
    // This replica has installed a snapshot of the state.
    replica.apply(20, &[]);
    replica.log.reset(Revision(20));
    assert_eq!(updates(&mut replica.watch('a', &token).await), snapshot);
    assert_eq!(updates(&mut watch), snapshot, "one that lags behind");
}

#[tokio::test]
async fn a_damaged_token_is_refused() {
    let replica = Replica::of(&["a1"]);
    let mut watch = replica.watch('a', "").await;
    let (token, ..) = rest(&mut watch).pop().unwrap();
    for damaged in ["x", &token[1..], &token.to_uppercase()] {
        let status = replica.try_watch('a', damaged, 0).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        let request = status.get_details_bad_request().unwrap();
        assert_eq!(request.field_violations[0].field, "resume_token");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_waits_or_says_so() {
    let ahead = Replica::of(&["a1"]);
    ahead.apply(12, &[Renamed(12, "a2")]);
    let mut watch = ahead.watch('a', "").await;
    let (token, ..) = rest(&mut watch).pop().unwrap();
    let behind = Replica::of(&["a1"]);
    let reason = |status: Status| status.get_details_error_info().unwrap().reason;
    let refused = behind.try_watch('a', &token, 0).await.err().unwrap();
    assert_eq!(reason(refused), "REPLICA_BEHIND");
    let refused = behind.try_watch('a', "", 12).await.err().unwrap();
    assert_eq!(reason(refused), "REPLICA_BEHIND");
    let catches_up = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        behind.apply(12, &[Renamed(12, "a2")]);
    };
    let (watch, ()) = tokio::join!(behind.watch('a', &token), catches_up);
    assert_eq!({ watch }.next(), None, "nothing is new after the token");
}

#[tokio::test]
async fn a_heartbeat_moves_past_what_brought_nothing_new() {
    let replica = Replica::of(&["a1"]);
    let mut watch = replica.watch('a', "").await;
    rest(&mut watch);
    replica.apply(15, &[Renamed(14, "b1")]);
    replica.apply(16, &[]);
    assert_eq!(watch.next(), None);
    let (token, revision, update) = watch.heartbeat(Timestamp::default());
    assert_eq!(update, Update::Heartbeat(Timestamp::default()));
    assert_eq!(revision, 16);
    replica.log.reset(Revision(16));
    replica.apply(17, &[Renamed(17, "a2")]);
    let mut resumed = replica.watch('a', &token).await;
    assert_eq!(updates(&mut resumed), [change("a2")]);
}

#[tokio::test]
async fn a_heartbeat_passes_nothing_that_is_still_to_be_sent() {
    let replica = Replica::of(&["a1"]);
    let mut watch = replica.watch('a', "").await;
    rest(&mut watch);
    replica.apply(15, &[Renamed(15, "a2")]);
    let (token, ..) = watch.heartbeat(Timestamp::default());
    let mut resumed = replica.watch('a', &token).await;
    assert_eq!(updates(&mut resumed), [change("a2")]);
    assert_eq!(updates(&mut watch), [change("a2")]);
}

#[tokio::test]
async fn a_group_that_is_not_formed_cannot_be_watched() {
    let replica = Replica::of(&[]);
    replica
        .state
        .send_modify(|state| Arc::make_mut(state).group = None);
    let refused = replica.try_watch('a', "", 0).await.err().unwrap();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "GROUP_NOT_FORMED");
}

/// Serves watches that end with the contact, or when it is cancelled.
fn watches() -> (watch::Sender<Lifecycle>, CancellationToken, Watches) {
    let registration = Registration {
        incarnation: Incarnation(1),
        at: UnixMillis(0),
    };
    let (lifecycle, receiver) = watch::channel(Lifecycle::InContact(registration));
    let stop = CancellationToken::new();
    let slow_after = Duration::from_secs(10);
    let watches = Watches::new(receiver, stop.clone(), slow_after);
    (lifecycle, stop, watches)
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_nothing_to_say_says_that_it_lives() {
    let replica = Replica::of(&["a1"]);
    let (_lifecycle, _stop, watches) = watches();
    let begun = tokio::time::Instant::now();
    let mut served = watches.serve(replica.watch('a', "").await);
    let mut next = async || served.next().await.unwrap().unwrap().2;
    assert_eq!(next().await, page(&["a1"]));
    assert_eq!(next().await, Update::SnapshotEnd);
    assert!(matches!(next().await, Update::Heartbeat(_)));
    assert_eq!(begun.elapsed().as_secs(), 1);
    replica.apply(12, &[Renamed(12, "b1")]);
    assert!(matches!(next().await, Update::Heartbeat(_)), "no news here");
    assert_eq!(begun.elapsed().as_secs(), 2);
    replica.apply(13, &[Renamed(13, "a2")]);
    assert_eq!(next().await, change("a2"));
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_the_reason() {
    let reason_of_end = async |ends: fn(&watch::Sender<Lifecycle>, &CancellationToken)| {
        let replica = Replica::of(&["a1"]);
        let (lifecycle, stop, watches) = watches();
        assert!(watches.check(&replica.watch('a', "").await.reads).is_ok());
        let served = watches.serve(replica.watch('a', "").await);
        ends(&lifecycle, &stop);
        let messages: Vec<_> = served.collect().await;
        let end = messages.into_iter().next_back().unwrap().unwrap_err();
        let refused = watches.check(&replica.watch('a', "").await.reads);
        assert_eq!(refused.unwrap_err().message(), end.message());
        end.get_details_error_info().unwrap().reason
    };
    let cut_off = reason_of_end(|lifecycle, _| {
        lifecycle.send_modify(|now| *now = now.after(Milestone::ContactLost));
    });
    assert_eq!(cut_off.await, "NO_QUORUM");
    let stopping = reason_of_end(|_, stop| stop.cancel());
    assert_eq!(stopping.await, "REPLICA_STOPPING");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_takes_nothing_is_disconnected() {
    let replica = Replica::of(&["a1"]);
    let (_lifecycle, _stop, watches) = watches();
    let served = watches.serve(replica.watch('a', "").await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let messages: Vec<_> = served.collect().await;
    let end = messages.into_iter().next_back().unwrap().unwrap_err();
    assert_eq!(end.code(), Code::ResourceExhausted);
}
