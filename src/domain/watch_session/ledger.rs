//! What must exist, reckoned from a list and the events after it: [`Ledger`]. It keeps no object:
//! a count and a sum of hashes distinguish two sets, and it keeps the version of what was delivered
//! since the list.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, DefaultHasher, Hash as _, Hasher},
};

use super::witness::Witness;
use crate::domain::{
    event::{Change, ObjectKey},
    position::ResourceVersion,
};

/// Objects whose version is kept: about a megabyte. Where more were delivered since the last list,
/// a modification of one of the others that was left out is not noticed; objects that are missing,
/// or still there, are.
const TOUCHED_MAX: usize = 32_768;
/// Events that may come while a list is taken. A busier stream is verified another time.
const LATER_MAX: usize = 8_192;

/// A set of objects: how many, and the sum of the hashes of their UIDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Objects {
    count: u64,
    sum: u64,
}

impl Objects {
    fn add(&mut self, uid: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(uid);
    }

    fn remove(&mut self, uid: u64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(uid);
    }
}

/// What events have made of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Net {
    events: u64,
    objects: Objects,
}

impl Net {
    fn take(&mut self, change: Change, uid: u64) {
        self.events += 1;
        match change {
            Change::Added => self.objects.add(uid),
            Change::Deleted => self.objects.remove(uid),
            Change::Modified | Change::Snapshot => {}
        }
    }

    /// What the set is after them.
    fn on(self, before: Objects) -> Objects {
        Objects {
            count: before.count.wrapping_add(self.objects.count),
            sum: before.sum.wrapping_add(self.objects.sum),
        }
    }
}

/// A map by hashed UID: what is a hash already is not hashed again.
type ByUid<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// The hash of a number that is one.
#[derive(Clone, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// What a consistent list of metadata shows, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    at: ResourceVersion,
    objects: Objects,
    /// The sum of the hashes of UID and version of each object.
    states: u64,
    /// The newest of the objects.
    newest: Option<Witness>,
    above: Option<ResourceVersion>,
    /// The hashed UIDs and the versions of the objects that are newer than `above`.
    newer: Vec<(u64, ResourceVersion)>,
}

impl Listing {
    /// An empty list, of which the versions above this one are to be kept.
    pub fn new(above: Option<ResourceVersion>) -> Self {
        Self {
            at: ResourceVersion::ZERO,
            objects: Objects::default(),
            states: 0,
            newest: None,
            above,
            newer: Vec::new(),
        }
    }

    /// Takes in one object.
    pub fn add(&mut self, namespace: &str, name: &str, uid: &str, rv: &ResourceVersion) {
        let hashed = hash(uid, None);
        self.objects.add(hashed);
        self.states = self.states.wrapping_add(hash(uid, Some(rv)));
        if self.newest.as_ref().is_none_or(|newest| *rv > newest.rv) {
            self.newest = Some(Witness {
                key: ObjectKey::new(namespace, name, uid),
                rv: rv.clone(),
            });
        }
        if self.above.as_ref().is_some_and(|above| rv > above) {
            self.newer.push((hashed, rv.clone()));
        }
    }

    /// The whole list was taken, at this version.
    #[must_use]
    pub fn taken_at(self, at: ResourceVersion) -> Self {
        Self { at, ..self }
    }

    /// Whether it shows the same objects at the same versions.
    pub fn shows_the_same_as(&self, other: &Self) -> bool {
        (self.objects, self.states) == (other.objects, other.states)
    }

    /// The version that the list was taken at.
    pub(super) fn at(&self) -> &ResourceVersion {
        &self.at
    }

    /// The newest of the objects.
    pub(super) fn newest(&self) -> Option<&Witness> {
        self.newest.as_ref()
    }
}

/// A UID as it is kept.
pub(super) fn hashed(uid: &str) -> u64 {
    hash(uid, None)
}

/// SipHash with fixed keys: it is compared within one session only.
fn hash(uid: &str, rv: Option<&ResourceVersion>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(uid.as_bytes());
    if let Some(rv) = rv {
        rv.hash(&mut hasher);
    }
    hasher.finish()
}

/// What the list shows that the reckoning begins with.
#[derive(Clone, Debug)]
struct Base {
    objects: Objects,
    states: u64,
    newest: ResourceVersion,
}

impl Base {
    fn of(listing: &Listing) -> Self {
        Self {
            objects: listing.objects,
            states: listing.states,
            newest: listing
                .newest
                .as_ref()
                .map_or(ResourceVersion::ZERO, |newest| newest.rv.clone()),
        }
    }
}

/// What was delivered last of an object: its version in eight bytes, or that it was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touched(u64);

impl Touched {
    /// No object has version zero.
    const DELETED: Self = Self(0);

    /// A version that is too long for a number is kept as its hash.
    fn at(rv: &ResourceVersion) -> Self {
        Self(rv.as_u64().unwrap_or_else(|| hash("", Some(rv))))
    }

    fn by(change: Change, rv: &ResourceVersion) -> Self {
        match change {
            Change::Deleted => Self::DELETED,
            Change::Added | Change::Modified | Change::Snapshot => Self::at(rv),
        }
    }
}

/// An event that arrived while a list was taken: its version shows whether it is before or after
/// the list.
#[derive(Clone, Debug)]
struct Later {
    rv: ResourceVersion,
    change: Change,
    uid: u64,
}

/// How a list compares with what was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// There is no list before it to begin with.
    NoBase,
    Agrees,
    Differs(Difference),
}

/// What was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// How many changes at least.
    pub(super) missing: u64,
    /// The lowest version of a listed object that was not delivered.
    pub(super) lowest: Option<ResourceVersion>,
    /// Whether no event at all was delivered since the base.
    pub(super) is_quiet: bool,
}

/// What one stream has delivered since some version.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    /// Where the reckoning begins: everything up to here was delivered, or is in the list there.
    from: ResourceVersion,
    /// What existed there, once it was listed.
    base: Option<Base>,
    /// Events after it, those in `later` apart.
    since: Net,
    /// Deletions at the newest version, which may not be all of it.
    open: Option<(ResourceVersion, Net)>,
    /// What was delivered last of each object, by its hashed UID.
    touched: ByUid<Touched>,
    /// Whether there are more of them than are kept.
    is_partial: bool,
    /// Events since a list is being taken.
    later: Option<Vec<Later>>,
    /// Whether there were too many of them.
    is_overrun: bool,
}

impl Ledger {
    /// Nothing was delivered after this version.
    pub(super) fn new(from: ResourceVersion) -> Self {
        Self {
            from,
            base: None,
            since: Net::default(),
            open: None,
            touched: ByUid::default(),
            is_partial: false,
            later: None,
            is_overrun: false,
        }
    }

    /// The reckoning begins at this version, after which nothing but deletions at one version was
    /// delivered.
    pub(super) fn restart(&mut self, from: ResourceVersion) {
        let open = self.open.take().filter(|(rv, _)| *rv > from);
        *self = Self {
            since: open.as_ref().map_or_else(Net::default, |(_, net)| *net),
            open,
            ..Self::new(from)
        };
    }

    /// An event was delivered, of the object with this hashed UID.
    pub(super) fn deliver(&mut self, rv: &ResourceVersion, change: Change, uid: u64) {
        if change == Change::Deleted {
            let (_, net) = match &mut self.open {
                Some(open) if open.0 == *rv => open,
                open => open.insert((rv.clone(), Net::default())),
            };
            net.take(change, uid);
        } else {
            self.open = None;
        }
        // What the list shows already does not count again.
        if *rv <= self.from {
            return;
        }
        match &mut self.later {
            Some(later) if later.len() < LATER_MAX => {
                let rv = rv.clone();
                later.push(Later { rv, change, uid });
                return;
            }
            Some(_) => {
                self.is_overrun = true;
                self.fold();
            }
            None => {}
        }
        self.take(rv, change, uid);
    }

    fn take(&mut self, rv: &ResourceVersion, change: Change, uid: u64) {
        self.since.take(change, uid);
        let touched = Touched::by(change, rv);
        let has_room = self.touched.len() < TOUCHED_MAX;
        match self.touched.entry(uid) {
            Entry::Occupied(mut known) => *known.get_mut() = touched,
            Entry::Vacant(free) if has_room => {
                free.insert(touched);
            }
            Entry::Vacant(_) => self.is_partial = true,
        }
    }

    /// A list of the present is about to be taken.
    pub(super) fn begin(&mut self) {
        self.fold();
        self.is_overrun = false;
        self.later = Some(Vec::new());
    }

    /// The exact list at the beginning has come.
    pub(super) fn set_base(&mut self, listing: &Listing) {
        if listing.at == self.from {
            self.base = Some(Base::of(listing));
        }
    }

    /// The list that was begun is given up.
    pub(super) fn fold(&mut self) {
        for event in self.later.take().into_iter().flatten() {
            self.take(&event.rv, event.change, event.uid);
        }
    }

    /// Where the reckoning begins.
    pub(super) fn from(&self) -> &ResourceVersion {
        &self.from
    }

    /// The version above which a later list's objects must have been delivered; `None` where it is
    /// not known what existed at the beginning.
    pub(super) fn newest(&self) -> Option<ResourceVersion> {
        self.base.as_ref().map(|base| base.newest.clone())
    }

    /// Whether too much came while the list was taken.
    pub(super) fn is_overrun(&self) -> bool {
        self.is_overrun
    }

    /// Compares a list with what was delivered up to its version.
    ///
    /// There must be as many objects, of the same UIDs. What was delivered must be there as it was
    /// delivered, and nothing else may be newer than the newest of the base. Where nothing was
    /// delivered, everything must be as it was: history may have been rewound.
    pub(super) fn compare(&self, listing: &Listing) -> Comparison {
        let Some(base) = &self.base else {
            return Comparison::NoBase;
        };
        let mut net = self.since;
        let mut later = ByUid::default();
        for event in self.later.iter().flatten() {
            if event.rv <= listing.at {
                net.take(event.change, event.uid);
                later.insert(event.uid, Touched::by(event.change, &event.rv));
            }
        }
        let delivered = |uid: &u64| {
            let known = later.get(uid).or_else(|| self.touched.get(uid));
            known.copied()
        };
        let mut missing = 0;
        let mut found = 0;
        let mut lowest: Option<&ResourceVersion> = None;
        for (uid, rv) in &listing.newer {
            match delivered(uid) {
                Some(touched) if touched == Touched::at(rv) => found += 1,
                None if self.is_partial => {}
                _ => {
                    missing += 1;
                    lowest = lowest.into_iter().chain([rv]).min();
                }
            }
        }
        let earlier = self
            .touched
            .iter()
            .filter(|(uid, _)| !later.contains_key(uid));
        let there = earlier.map(|(_, touched)| touched).chain(later.values());
        let is_there = there
            .filter(|touched| **touched != Touched::DELETED)
            .count();
        let expected = net.on(base.objects);
        let is_quiet = net.events == 0;
        let is_same = expected == listing.objects
            && missing == 0
            && found == is_there
            && (!is_quiet || base.states == listing.states);
        if is_same {
            return Comparison::Agrees;
        }
        let count = expected.count.abs_diff(listing.objects.count);
        Comparison::Differs(Difference {
            missing: missing.max(count).max(1),
            lowest: lowest.cloned(),
            is_quiet,
        })
    }

    /// The reckoning begins with this list from now on.
    pub(super) fn rebase(&mut self, listing: &Listing) {
        let later = self.later.take();
        self.since = Net::default();
        self.touched.clear();
        self.is_partial = false;
        self.from = listing.at.clone();
        self.base = Some(Base::of(listing));
        for event in later.into_iter().flatten() {
            if event.rv > listing.at {
                self.take(&event.rv, event.change, event.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Comparison, Difference, LATER_MAX, Ledger, Listing, TOUCHED_MAX, hashed};

    fn listing(above: Option<u64>, objects: &[(&str, u64)], at: u64) -> Listing {
        let mut listing = Listing::new(above.map(Into::into));
        for (uid, rv) in objects {
            listing.add("", uid, uid, &(*rv).into());
        }
        listing.taken_at(at.into())
    }

    /// A ledger that begins with `a` and `b` at 10.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(5.into());
        ledger.rebase(&listing(None, &[("a", 3), ("b", 7)], 10));
        ledger
    }

    fn differs(ledger: &Ledger, objects: &[(&str, u64)], at: u64) -> Option<Difference> {
        match ledger.compare(&listing(Some(7), objects, at)) {
            Comparison::Differs(difference) => Some(difference),
            _ => None,
        }
    }

    #[test]
    fn what_was_delivered_agrees_with_the_list() {
        let mut ledger = ledger();
        assert_eq!(differs(&ledger, &[("a", 3), ("b", 7)], 10), None);
        ledger.deliver(&11.into(), Change::Modified, hashed("a"));
        ledger.deliver(&12.into(), Change::Added, hashed("c"));
        ledger.deliver(&13.into(), Change::Deleted, hashed("b"));
        assert_eq!(differs(&ledger, &[("a", 11), ("c", 12)], 13), None);
    }

    #[test]
    fn each_kind_of_change_that_is_missing_is_noticed() {
        let mut ledger = ledger();
        ledger.deliver(&11.into(), Change::Modified, hashed("a"));
        let state = |objects: &[(&str, u64)]| differs(&ledger, objects, 20);
        assert_eq!(state(&[("a", 11), ("b", 7)]), None);
        let added = state(&[("a", 11), ("b", 7), ("c", 12), ("d", 13)]).unwrap();
        assert_eq!((added.missing, added.lowest), (2, Some(12.into())));
        let modified = state(&[("a", 11), ("b", 15)]).unwrap();
        assert_eq!((modified.missing, modified.lowest), (1, Some(15.into())));
        let deleted = state(&[("a", 11)]).unwrap();
        assert_eq!((deleted.missing, deleted.lowest), (1, None));
        let made_again = state(&[("a", 11), ("other b", 12)]).unwrap();
        assert_eq!(made_again.missing, 1);
        assert!(!made_again.is_quiet);
    }

    #[test]
    fn an_object_that_went_back_is_noticed_where_nothing_was_delivered() {
        let ledger = ledger();
        let rewound = differs(&ledger, &[("a", 3), ("b", 6)], 20).unwrap();
        assert!(rewound.is_quiet);
        // Nothing above the newest of the base was ever delivered, whatever its version is.
        assert!(differs(&ledger, &[("a", 3), ("b", 9)], 20).is_some());
    }

    #[test]
    fn events_that_come_while_the_list_is_taken_count_by_their_version() {
        let mut ledger = ledger();
        ledger.begin();
        ledger.deliver(&11.into(), Change::Added, hashed("c"));
        ledger.deliver(&12.into(), Change::Added, hashed("d"));
        assert_eq!(differs(&ledger, &[("a", 3), ("b", 7), ("c", 11)], 11), None);
        ledger.rebase(&listing(None, &[("a", 3), ("b", 7), ("c", 11)], 11));
        let now = [("a", 3), ("b", 7), ("c", 11), ("d", 12)];
        assert_eq!(
            ledger.compare(&listing(Some(11), &now, 12)),
            Comparison::Agrees
        );
    }

    #[test]
    fn open_deletions_are_after_the_exact_list_before_them() {
        let mut ledger = Ledger::new(5.into());
        ledger.deliver(&9.into(), Change::Deleted, hashed("c"));
        ledger.deliver(&12.into(), Change::Deleted, hashed("a"));
        ledger.restart(11.into());
        ledger.begin();
        ledger.set_base(&listing(None, &[("a", 3), ("b", 7)], 11));
        ledger.deliver(&12.into(), Change::Deleted, hashed("b"));
        assert_eq!(differs(&ledger, &[], 12), None);
    }

    #[test]
    fn an_object_that_is_not_as_it_was_delivered_is_noticed() {
        let mut ledger = ledger();
        ledger.deliver(&11.into(), Change::Modified, hashed("a"));
        ledger.deliver(&12.into(), Change::Modified, hashed("b"));
        assert_eq!(differs(&ledger, &[("a", 11), ("b", 12)], 20), None);
        // Taken back by a rewind that was overtaken.
        assert!(differs(&ledger, &[("a", 3), ("b", 12)], 20).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ledger = ledger();
        let names: Vec<_> = (0..=TOUCHED_MAX).map(|number| number.to_string()).collect();
        let mut objects: Vec<_> = (11..).zip(&names).map(|(rv, name)| (&**name, rv)).collect();
        for (name, rv) in &objects {
            ledger.deliver(&(*rv).into(), Change::Added, hashed(name));
        }
        objects.extend([("a", 3), ("b", 7)]);
        let end = 11 + TOUCHED_MAX as u64;
        assert_eq!(differs(&ledger, &objects, end), None);
        // The last one is not kept, so its version is not checked.
        objects[TOUCHED_MAX].1 = end + 1;
        assert_eq!(differs(&ledger, &objects, end + 1), None);
        objects[0].1 = end + 1;
        assert!(differs(&ledger, &objects, end + 1).is_some());
        objects[0].1 = 11;
        objects.remove(TOUCHED_MAX);
        assert!(differs(&ledger, &objects, end).is_some());

        ledger.begin();
        for rv in 0..=LATER_MAX as u64 {
            ledger.deliver(&(end + 1 + rv).into(), Change::Modified, hashed("a"));
        }
        assert!(ledger.is_overrun());
    }
}
