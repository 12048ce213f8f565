use super::{Item, Publication};
use crate::domain::{
    delivery::fixtures::{EPOCH, era, event, position, texts},
    event::Change,
    stream::ResumePoint,
};

fn published(publication: &mut Publication, events: &[(u64, Change)]) -> Vec<String> {
    let events = events.iter().map(|(rv, change)| event(*change, *rv, "o"));
    let numbered = publication.events(events.collect());
    assert_eq!(numbered.late, 0);
    texts(&numbered.items)
}

fn checkpoint(publication: &Publication) -> Option<String> {
    publication
        .checkpoint()
        .map(|position| position.to_string())
}

/// Goes on in era 1, at version 5.
fn resumed() -> Publication {
    let mut publication = Publication::new(EPOCH);
    let items = publication.resume(era(1, None, 3), &ResumePoint::At(position("1/5")));
    assert_eq!(texts(&items), ["hole 1/5"]);
    publication
}

#[test]
fn what_may_be_checkpointed_is_never_inside_a_version() {
    let mut publication = resumed();
    assert_eq!(checkpoint(&publication).as_deref(), Some("1/5"));
    let items = published(&mut publication, &[(6, Change::Added)]);
    assert_eq!(items, ["event 1/6"]);
    assert_eq!(checkpoint(&publication).as_deref(), Some("1/6"));
    let deletions = [(9, Change::Deleted), (9, Change::Deleted)];
    let items = published(&mut publication, &deletions);
    assert_eq!(items, ["event 1/9/0", "event 1/9/1"]);
    assert_eq!(checkpoint(&publication).as_deref(), Some("1/8"));
    let items = publication.close(&9.into());
    assert_eq!(texts(&items), ["at 1/9"]);
    assert_eq!(checkpoint(&publication).as_deref(), Some("1/9"));
}

#[test]
fn an_event_whose_version_is_closed_is_late() {
    let mut publication = resumed();
    published(&mut publication, &[(6, Change::Added)]);
    let numbered = publication.events(vec![event(Change::Deleted, 6, "o")]);
    assert_eq!((numbered.items.len(), numbered.late), (0, 1));
    assert_eq!(
        Publication::new(EPOCH)
            .events(vec![event(Change::Added, 6, "o")])
            .late,
        1
    );
}

#[test]
fn the_first_era_begins_the_stream() {
    let mut publication = Publication::new(EPOCH);
    assert_eq!(publication.checkpoint(), None);
    let items = publication.begin_era(era(1, None, 7));
    assert_eq!(texts(&items), ["hole 1/7"]);
    assert_eq!(checkpoint(&publication).as_deref(), Some("1/7"));
}

#[test]
fn an_era_without_repair_goes_on_at_its_list() {
    let mut publication = resumed();
    let items = publication.begin_era(era(2, None, 20));
    assert_eq!(texts(&items), ["broken ?>2/20"]);
    assert_eq!(checkpoint(&publication).as_deref(), Some("2/20"));
    let items = published(&mut publication, &[(21, Change::Added)]);
    assert_eq!(items, ["event 2/21"]);
}

#[test]
fn a_repair_may_not_be_checkpointed_before_its_end() {
    let mut publication = resumed();
    let items = publication.begin_era(era(2, Some("1/5"), 20));
    assert_eq!(texts(&items), ["repaired 1/5>2/20"]);
    assert_eq!(publication.checkpoint(), None);
    let mut items = publication.net_changes(vec![event(Change::Deleted, 4, "a")]);
    items.extend(publication.net_changes(vec![event(Change::Added, 18, "b")]));
    assert_eq!(texts(&items), ["change 2/20/0", "change 2/20/1"]);
    assert_eq!(publication.checkpoint(), None);
    assert_eq!(texts(&publication.close(&20.into())), ["at 2/20"]);
    assert_eq!(checkpoint(&publication).as_deref(), Some("2/20"));
    assert!(
        publication
            .net_changes(vec![event(Change::Added, 9, "c")])
            .is_empty(),
        "there is no repair any more"
    );
}

#[test]
fn the_next_owner_counts_a_repair_as_the_one_before_it_did() {
    let start = era(2, Some("1/5"), 20);
    let point = ResumePoint::Repair {
        era: start.era,
        from: 5.into(),
        to: 20.into(),
    };
    let mut first = resumed();
    let mut one: Vec<Item> = first.begin_era(start.clone());
    let mut second = Publication::new(EPOCH);
    let mut two = second.resume(start, &point);
    for publication in [(&mut first, &mut one), (&mut second, &mut two)] {
        let (publication, items) = publication;
        items.extend(publication.net_changes(vec![event(Change::Deleted, 4, "a")]));
        items.extend(publication.close(&20.into()));
    }
    assert_eq!(
        texts(&one),
        ["repaired 1/5>2/20", "change 2/20/0", "at 2/20"]
    );
    assert_eq!(texts(&two)[0], "hole 1/5");
    assert_eq!(two[1..], one);
}
