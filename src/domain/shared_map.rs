//! An ordered map that is cheap to copy: [`SharedMap`].
//!
//! The state is published at each batch of the log while readers hold earlier ones, so it is copied
//! all the time and differs little from copy to copy. Copies of this map share all that is the same
//! in them: changing one of 20,000 entries copies that entry, the pointers of one chunk, and one
//! pointer for each chunk.

use std::{
    fmt,
    iter::{FlatMap, Map},
    mem,
    ops::Index,
    slice,
    sync::Arc,
};

/// Most entries of a chunk. A change copies a chunk's pointers and the pointers to all chunks: for
/// 20,000 entries the two are about as many.
const CHUNK_MAX: usize = 128;

/// A chunk that has fewer than this joins its neighbour where that leaves room for more.
const CHUNK_MIN: usize = CHUNK_MAX / 4;

type Chunk<K, V> = Vec<(K, Arc<V>)>;

/// An ordered map. A copy shares with the original whatever neither has changed since.
///
/// It is one level of sorted chunks, none of them empty. What [`Self::get_mut`] gives out is copied
/// first where another copy of the map has it too.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    chunks: Arc<Vec<Arc<Chunk<K, V>>>>,
    len: usize,
}

impl<K, V> SharedMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let entries: fn(_) -> _ = |chunk: &Arc<Chunk<K, V>>| &**chunk;
        let borrowed: fn(_) -> _ = |(key, value): &(K, Arc<V>)| (key, &**value);
        self.chunks.iter().flat_map(entries).map(borrowed)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let (chunk, place) = self.find(key).ok()?;
        Some(&*self.chunks.get(chunk)?.get(place)?.1)
    }

    /// The value of a key, to be changed. It is this map's own from now on, even where nothing is
    /// changed in it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (chunk, place) = self.find(key).ok()?;
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(chunk)?;
        let (_, value) = Arc::make_mut(chunk).get_mut(place)?;
        Some(Arc::make_mut(value))
    }

    /// Whether there is such a key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Sets the value of a key, and returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let value = Arc::new(value);
        let found = self.find(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let (at, place) = match found {
            Ok((at, place)) => {
                let (_, old) = &mut Arc::make_mut(&mut chunks[at])[place];
                return Some(Arc::unwrap_or_clone(mem::replace(old, value)));
            }
            Err(place) => place,
        };
        self.len += 1;
        if chunks.is_empty() {
            chunks.push(Arc::default());
        }
        let is_last = at + 1 == chunks.len();
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.insert(place, (key, value));
        if chunk.len() > CHUNK_MAX {
            // Ids only grow: what is added at the end leaves a full chunk behind, not half of one.
            let appended = is_last && place == CHUNK_MAX;
            let rest = chunk.split_off(if appended { CHUNK_MAX } else { CHUNK_MAX / 2 });
            chunks.insert(at + 1, Arc::new(rest));
        }
        None
    }

    /// Removes a key, and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (at, place) = self.find(key).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let (_, value) = Arc::make_mut(&mut chunks[at]).remove(place);
        self.len -= 1;
        join(chunks, at);
        Some(Arc::unwrap_or_clone(value))
    }

    /// Removes what a condition does not hold for.
    pub fn retain(&mut self, mut keeps: impl FnMut(&K, &V) -> bool) {
        let leaving: Vec<K> = self
            .iter()
            .filter(|(key, value)| !keeps(key, value))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &leaving {
            self.remove(key);
        }
    }

    /// The chunk and the place in it of a key, or where it belongs.
    fn find(&self, key: &K) -> Result<(usize, usize), (usize, usize)> {
        let after = self.chunks.partition_point(|chunk| {
            let first = chunk.first();
            first.is_some_and(|(first, _)| first <= key)
        });
        let at = after.saturating_sub(1);
        let Some(chunk) = self.chunks.get(at) else {
            return Err((0, 0));
        };
        match chunk.binary_search_by(|(other, _)| other.cmp(key)) {
            Ok(place) => Ok((at, place)),
            Err(place) => Err((at, place)),
        }
    }
}

/// Drops a chunk that is empty, and joins one that is small with the next or the previous one.
fn join<K: Clone, V>(chunks: &mut Vec<Arc<Chunk<K, V>>>, at: usize) {
    let size = |at: usize| chunks.get(at).map(|chunk| chunk.len());
    if size(at) == Some(0) {
        chunks.remove(at);
        return;
    }
    if size(at) >= Some(CHUNK_MIN) {
        return;
    }
    let fits = |first: usize| {
        let both = size(first).zip(size(first + 1));
        both.is_some_and(|(left, right)| left + right <= CHUNK_MAX - CHUNK_MIN)
    };
    let pair = [Some(at), at.checked_sub(1)].into_iter().flatten();
    if let Some(first) = pair.into_iter().find(|first| fits(*first)) {
        let right = Arc::unwrap_or_clone(chunks.remove(first + 1));
        Arc::make_mut(&mut chunks[first]).extend(right);
    }
}

/// The entries of a [`SharedMap`], in the order of their keys.
pub type Iter<'a, K, V> = Map<
    FlatMap<
        slice::Iter<'a, Arc<Chunk<K, V>>>,
        &'a Chunk<K, V>,
        fn(&'a Arc<Chunk<K, V>>) -> &'a Chunk<K, V>,
    >,
    fn(&'a (K, Arc<V>)) -> (&'a K, &'a V),
>;

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            chunks: Arc::default(),
            len: 0,
        }
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Clone, V: Clone, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord + Clone, V: Clone> Index<&K> for SharedMap<K, V> {
    type Output = V;

    /// Panics where there is no such key, as other maps do.
    fn index(&self, key: &K) -> &V {
        match self.find(key) {
            Ok((chunk, place)) => &self.chunks[chunk][place].1,
            Err(_) => panic!("no such key"),
        }
    }
}

/// Two maps are equal where their entries are, however they are cut into chunks.
impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks) || (self.len == other.len && self.iter().eq(other))
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{
        collection::vec,
        prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    };

    use super::{Arc, CHUNK_MAX, CHUNK_MIN, SharedMap};

    /// Five chunks of keys, so that chunks are cut, emptied and joined.
    const KEYS: u16 = 640;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8),
        Change(u16, u8),
        Remove(u16),
        /// Removes all keys from one on, up to so many.
        RemoveRange(u16, u16),
        Append(u16),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let key = 0..KEYS;
        prop_oneof![
            4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Change(key, value)),
            2 => key.clone().prop_map(Step::Remove),
            1 => (key, 0..KEYS / 2).prop_map(|(from, count)| Step::RemoveRange(from, count)),
            1 => (1..KEYS / 2).prop_map(Step::Append),
        ]
    }

    fn take(step: &Step, map: &mut SharedMap<u16, u8>, model: &mut BTreeMap<u16, u8>) {
        match *step {
            Step::Insert(key, value) => {
                assert_eq!(map.insert(key, value), model.insert(key, value));
            }
            Step::Change(key, value) => {
                let places = (map.get_mut(&key), model.get_mut(&key));
                assert_eq!(places.0, places.1);
                if let (Some(own), Some(expected)) = places {
                    (*own, *expected) = (value, value);
                }
            }
            Step::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
            Step::RemoveRange(from, count) => {
                let leaves = |key: u16| (from..from.saturating_add(count)).contains(&key);
                map.retain(|key, _| !leaves(*key));
                model.retain(|key, _| !leaves(*key));
            }
            Step::Append(count) => {
                let last = model.keys().last().copied().unwrap_or(0);
                for key in (last + 1)..last.saturating_add(count).min(KEYS * 4) {
                    assert_eq!(map.insert(key, 0), model.insert(key, 0));
                }
            }
        }
    }

    fn sizes<K, V>(map: &SharedMap<K, V>) -> Vec<usize> {
        map.chunks.iter().map(|chunk| chunk.len()).collect()
    }

    proptest! {
        #[test]
        fn it_is_the_map_that_it_stands_for_and_earlier_copies_stay(
            steps in vec(any_step(), 1..40),
        ) {
            let mut map = SharedMap::default();
            let mut model = BTreeMap::new();
            let mut kept = Vec::new();
            for step in &steps {
                kept.push((map.clone(), model.clone()));
                take(step, &mut map, &mut model);
                prop_assert!(map.iter().eq(&model), "after {:?}", step);
                prop_assert!(map.keys().rev().eq(model.keys().rev()));
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.is_empty(), model.is_empty());
                let sizes = sizes(&map);
                prop_assert!(sizes.iter().all(|size| (1..=CHUNK_MAX).contains(size)), "{sizes:?}");
            }
            for (copy, then) in kept {
                prop_assert!(copy.iter().eq(&then));
                prop_assert_eq!(copy == map, then == model);
            }
            for key in 0..KEYS * 4 {
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.contains_key(&key), model.contains_key(&key));
            }
            let in_other_chunks: SharedMap<_, _> = model.into_iter().rev().collect();
            prop_assert_eq!(map, in_other_chunks);
        }
    }

    #[test]
    fn a_change_copies_one_entry_and_leaves_all_other_chunks_shared() {
        let before: SharedMap<u16, String> = (0..KEYS).map(|key| (key, key.to_string())).collect();
        let mut after = before.clone();
        assert!(Arc::ptr_eq(&before.chunks, &after.chunks));
        after.get_mut(&7).unwrap().push('!');
        assert_eq!((before[&7].as_str(), after[&7].as_str()), ("7", "7!"));
        let pairs = || before.chunks.iter().zip(after.chunks.iter());
        assert_eq!(pairs().filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        let entries = pairs().flat_map(|(a, b)| a.iter().zip(b.iter()));
        let copied = entries.filter(|((_, a), (_, b))| !Arc::ptr_eq(a, b));
        assert_eq!(copied.map(|((key, _), _)| *key).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_change_of_what_is_not_there_copies_nothing() {
        let before: SharedMap<u16, u8> = (0..KEYS).map(|key| (key, 0)).collect();
        let mut after = before.clone();
        assert_eq!(after.get_mut(&KEYS), None);
        assert_eq!(after.remove(&KEYS), None);
        after.retain(|_, _| true);
        assert!(Arc::ptr_eq(&before.chunks, &after.chunks));
    }

    #[test]
    fn what_grows_at_the_end_fills_its_chunks_and_what_shrinks_joins_them() {
        let mut map: SharedMap<u16, u8> = (0..KEYS).map(|key| (key, 0)).collect();
        assert_eq!(sizes(&map), [CHUNK_MAX; 5]);
        map.retain(|key, _| usize::from(*key) % CHUNK_MAX < CHUNK_MIN / 2);
        assert!(map.chunks.len() < 5, "{:?}", sizes(&map));
    }
}
