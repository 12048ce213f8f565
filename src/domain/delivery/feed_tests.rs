use super::{Arc, Ended, FeedError, FeedSession, HistoryItem, Input, Look, Output, Reader};
use crate::domain::{
    delivery::{
        fixtures::{EPOCH, broken, event, item, owner, place, position, repaired, texts},
        item::{Item, Part},
    },
    event::Change,
};

/// A session, with what it has given so far.
struct Feed {
    session: FeedSession,
    given: Vec<Item>,
}

impl Feed {
    fn new(reader: Reader, at: &str) -> Self {
        let mut feed = Self {
            session: FeedSession::new(EPOCH, reader, place(at)),
            given: Vec::new(),
        };
        assert_eq!(feed.step(Input::Start), [format!("locate {at}")]);
        feed
    }

    fn subscriber(at: &str) -> Self {
        Self::new(Reader::Subscriber, at)
    }

    /// What it wants done, but for what it gives.
    fn step(&mut self, input: Input) -> Vec<String> {
        let mut wanted = Vec::new();
        for output in self.session.step(input) {
            wanted.push(match output {
                Output::Give(items) => {
                    self.given.extend(items);
                    continue;
                }
                Output::EndLook => continue,
                Output::Locate(place) => format!("locate {place}"),
                Output::FollowLog(next) => format!("follow {next}"),
                Output::Replay(here) => format!("replay {here}"),
                Output::Look(Look::Watch(_)) => panic!("only replays watch"),
                Output::Look(Look::List(None)) => "list".into(),
                Output::Look(Look::List(Some(rv))) => format!("list {rv}"),
                Output::Look(Look::NetChanges { from, to }) => format!("changes {from}>{to}"),
                Output::Fail(error) => format!("fail: {error}"),
            });
        }
        wanted
    }

    fn located(&mut self, next: Option<u64>) -> Vec<String> {
        self.step(Input::Located(Box::new(owner(next))))
    }

    fn history(&mut self, item: HistoryItem) -> Vec<String> {
        self.step(Input::History(item))
    }

    fn ended(&mut self, at: &str, last: HistoryItem) -> Vec<String> {
        let (at, last) = (position(at), Some(last));
        self.step(Input::ReplayEnded(Arc::new(Ended { at, last })))
    }

    fn changes(&mut self, names: &[&str], last: bool) -> Vec<String> {
        let events = names.iter().map(|name| event(Change::Deleted, 9, name));
        self.history(HistoryItem::Repaired {
            to: 0.into(),
            events: events.collect(),
            last,
        })
    }

    fn take_given(&mut self) -> Vec<String> {
        texts(&std::mem::take(&mut self.given))
    }
}

#[test]
fn what_the_log_has_is_given_from_where_the_reader_stands() {
    let mut feed = Feed::subscriber("3/31/0");
    assert_eq!(feed.located(Some(4)), ["follow 4"]);
    let live = ["3/31/0", "3/31/1", "3/35"].map(|at| item(Part::Live, at));
    assert!(feed.step(Input::Items(live.into())).is_empty());
    assert_eq!(feed.take_given(), ["event 3/31/1", "event 3/35"]);
    assert_eq!(feed.step(Input::FellBehind), ["locate 3/35"]);
}

#[test]
fn a_replay_goes_on_until_it_meets_the_log() {
    let mut feed = Feed::subscriber("3/21/0");
    assert_eq!(feed.located(None), ["replay 3/21/0"]);
    let live = ["3/21/0", "3/21/1", "3/25"].map(|at| item(Part::Live, at));
    assert!(feed.step(Input::Items(live.into())).is_empty());
    assert_eq!(feed.take_given(), ["event 3/21/1", "event 3/25"]);
    assert_eq!(
        feed.step(Input::Items(vec![Item::At(position("3/30"))])),
        ["locate 3/30"],
        "it has reached the floor"
    );
    assert!(feed.located(None).is_empty(), "the floor has risen");
    let more = vec![item(Part::Live, "3/33")];
    assert_eq!(feed.step(Input::Items(more)), ["locate 3/33"]);
    assert_eq!(feed.located(Some(9)), ["follow 9"]);
    assert_eq!(feed.take_given(), ["at 3/30", "event 3/33"]);
}

#[test]
fn a_reader_that_the_others_have_left_behind_goes_on_in_another_replay() {
    let mut feed = Feed::subscriber("3/21");
    feed.located(None);
    feed.step(Input::Items(vec![item(Part::Live, "3/25")]));
    assert_eq!(feed.step(Input::FellBehind), ["replay 3/25"]);
}

#[test]
fn what_is_gone_for_the_reader_furthest_behind_is_not_gone_for_the_others() {
    for last in [
        HistoryItem::Expired,
        HistoryItem::WatchLost { to: 28.into() },
    ] {
        let mut feed = Feed::subscriber("3/25/0");
        feed.located(None);
        assert_eq!(feed.ended("3/23", last.clone()), ["replay 3/25/0"]);
        assert!(feed.take_given().is_empty());
        // A replay of its own begins before its version.
        assert_ne!(feed.ended("3/24", last), ["replay 3/25/0"]);
    }
}

#[test]
fn a_watch_that_is_lost_is_repaired_from_where_the_reader_stands() {
    let mut feed = Feed::subscriber("3/25");
    feed.located(None);
    let lost = HistoryItem::WatchLost { to: 28.into() };
    assert_eq!(feed.ended("3/25", lost), ["changes 25>28"]);
    feed.changes(&["a", "b"], false);
    assert_eq!(feed.changes(&["c"], true), ["locate 3/28"]);
    let given = [
        "repaired 3/25>3/28",
        "change 3/28/0",
        "change 3/28/1",
        "change 3/28/2",
        "at 3/28",
    ];
    assert_eq!(feed.take_given(), given);
}

#[test]
fn a_repair_that_was_interrupted_goes_on() {
    let mut feed = Feed::subscriber("repair 3/25>3/28+2");
    assert_eq!(feed.located(None), ["changes 25>28"]);
    feed.changes(&["a"], false);
    feed.changes(&["b", "c"], true);
    assert_eq!(feed.take_given(), ["change 3/28/2", "at 3/28"]);
}

#[test]
fn a_version_whose_watch_is_lost_is_closed_before_the_repair() {
    let mut feed = Feed::subscriber("3/25/0");
    assert_eq!(feed.located(None), ["replay 3/25/0"]);
    let lost = HistoryItem::WatchLost { to: 28.into() };
    assert_eq!(feed.ended("3/24", lost.clone()), ["changes 24>25"]);
    feed.changes(&["had", "rest"], false);
    assert_eq!(feed.changes(&[], true), ["locate 3/25"]);
    assert_eq!(feed.take_given(), ["event 3/25/1", "at 3/25"]);
    assert_eq!(feed.located(None), ["replay 3/25"]);
    assert_eq!(feed.ended("3/25", lost), ["changes 25>28"]);
}

#[test]
fn history_that_is_gone_is_a_gap_and_a_snapshot() {
    for at in ["3/25", "repair 3/25>3/28+1", "2/12/0"] {
        let mut feed = Feed::subscriber(at);
        let gone = if feed.located(None) == [format!("replay {at}")] {
            feed.ended(at, HistoryItem::Expired)
        } else {
            feed.history(HistoryItem::Expired)
        };
        assert_eq!(gone, ["locate snapshot"]);
        assert_eq!(feed.located(None), ["list"]);
        feed.history(HistoryItem::Listing(40.into()));
        feed.history(HistoryItem::Snapshot(vec![event(Change::Snapshot, 4, "a")]));
        assert_eq!(
            feed.history(HistoryItem::Synced(40.into())),
            ["locate 3/40"]
        );
        let from = place(at).position().unwrap();
        let given = [
            format!("broken {from}>3/30"),
            "list 3/40".into(),
            "object 3/4".into(),
            "synced 3/40".into(),
        ];
        assert_eq!(feed.take_given(), given);
    }
}

#[test]
fn a_snapshot_that_was_interrupted_goes_on_in_the_same_list() {
    let mut feed = Feed::subscriber("snapshot 3/40+2");
    assert_eq!(feed.located(None), ["list 40"]);
    feed.history(HistoryItem::Listing(40.into()));
    let objects = |names: &[&str]| {
        let events = names.iter().map(|name| event(Change::Snapshot, 4, name));
        HistoryItem::Snapshot(events.collect())
    };
    feed.history(objects(&["had"]));
    feed.history(objects(&["had too", "new"]));
    feed.history(HistoryItem::Synced(40.into()));
    assert_eq!(feed.take_given(), ["object 3/4", "synced 3/40"]);
}

#[test]
fn a_snapshot_whose_list_is_gone_begins_again() {
    let mut feed = Feed::subscriber("snapshot 3/40+2");
    feed.located(None);
    assert_eq!(feed.history(HistoryItem::Expired), ["list"]);
    feed.history(HistoryItem::Listing(50.into()));
    feed.history(HistoryItem::Snapshot(vec![event(Change::Snapshot, 4, "a")]));
    assert_eq!(feed.take_given(), ["list 3/50", "object 3/4"]);
}

#[test]
fn a_snapshot_whose_list_is_the_newest_once_more_goes_on_in_it() {
    let mut feed = Feed::subscriber("snapshot 3/40+1");
    feed.located(None);
    assert_eq!(feed.history(HistoryItem::Expired), ["list"]);
    feed.history(HistoryItem::Listing(40.into()));
    let objects = ["had", "new"].map(|name| event(Change::Snapshot, 4, name));
    feed.history(HistoryItem::Snapshot(objects.into()));
    feed.history(HistoryItem::Synced(40.into()));
    assert_eq!(feed.take_given(), ["object 3/4", "synced 3/40"]);
}

#[test]
fn a_snapshot_of_a_history_that_has_ended_begins_again() {
    let mut feed = Feed::subscriber("snapshot 1/40+2");
    assert_eq!(feed.located(None), ["list"]);
}

#[test]
fn the_log_leads_no_reader_where_it_does_not_go() {
    let mut feed = Feed::subscriber("2/12");
    feed.located(Some(1));
    let items = vec![item(Part::Live, "2/13"), repaired("2/10", "3/20")];
    assert_eq!(feed.step(Input::Items(items)), ["locate 2/13"]);
    assert_eq!(feed.located(None), ["changes 13>20"]);
    assert_eq!(
        feed.take_given(),
        ["event 2/13", "repaired 2/13>3/20"],
        "counted from where it stands"
    );
}

#[test]
fn a_gap_in_the_log_leads_to_a_snapshot() {
    let mut feed = Feed::subscriber("3/31");
    feed.located(Some(1));
    let items = vec![broken(Some("3/31"), Some("4/9")), item(Part::Live, "4/10")];
    assert_eq!(feed.step(Input::Items(items)), ["locate snapshot"]);
    assert_eq!(feed.take_given(), ["broken 3/31>4/9"]);
}

#[test]
fn a_log_passes_over_what_it_cannot_have() {
    let mut feed = Feed::new(Reader::Log, "3/25");
    assert_eq!(feed.located(None), ["replay 3/25"]);
    assert_eq!(feed.ended("3/25", HistoryItem::Expired), ["locate 3/25"]);
    assert_eq!(feed.located(None), ["locate 3/30"]);
    assert_eq!(feed.take_given(), ["hole 3/30"]);
    let mut feed = Feed::new(Reader::Log, "2/10");
    feed.located(Some(3));
    let items = vec![repaired("2/9", "3/20"), item(Part::Repair, "3/20/0")];
    assert!(feed.step(Input::Items(items)).is_empty());
    assert_eq!(feed.take_given(), ["repaired 2/9>3/20", "change 3/20/0"]);
}

#[test]
fn a_log_that_fell_behind_inside_net_changes_goes_on_after_them() {
    let mut feed = Feed::new(Reader::Log, "repair 2/10>3/30+2");
    assert_eq!(feed.located(None), ["locate 3/30"]);
    assert_eq!(feed.take_given(), ["hole 3/30"]);
    assert_eq!(feed.located(Some(4)), ["follow 4"]);
}

#[test]
fn a_log_that_has_nothing_to_pass_over_does_not_look_for_ever() {
    let mut feed = Feed::new(Reader::Log, "2/10");
    feed.located(None);
    let ahead = FeedError::Ahead(place("3/30"));
    assert_eq!(
        feed.step(Input::Located(Box::new(owner(None)))),
        ["replay 3/30"]
    );
    feed.ended("3/30", HistoryItem::Expired);
    assert_eq!(feed.located(None), [format!("fail: {ahead}")]);
}

#[test]
fn a_reader_that_knows_more_than_the_lists_enters_the_era_there() {
    let mut feed = Feed::subscriber("2/25");
    assert_eq!(feed.located(None), ["locate 3/25"]);
    assert_eq!(feed.take_given(), ["at 3/25"]);
}

#[test]
fn a_replay_ends_with_its_era() {
    let mut feed = Feed::subscriber("3/25");
    feed.located(None);
    assert_eq!(feed.step(Input::EraBegan), ["locate 3/25"]);
}

#[test]
fn what_fails_ends_the_feed_with_the_reason() {
    let mut feed = Feed::subscriber("4/1");
    let ahead = FeedError::Ahead(place("4/1"));
    assert_eq!(feed.located(None), [format!("fail: {ahead}")]);
    let mut feed = Feed::subscriber("3/25");
    feed.located(None);
    let failed = feed.ended("3/25", HistoryItem::Failed("no route".into()));
    assert_eq!(failed, ["fail: reading the history failed: no route"]);
    assert!(feed.step(Input::HistoryEnded).is_empty(), "it has ended");
}
