//! The state and the history of one simulated cluster. Pure: time is an argument, chance is
//! seeded.

mod lease;
mod record;
mod table;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};

pub(super) use self::table::{Entry, Page};
use self::{lease::Leases, record::Record, table::Table};
use super::{
    error::Error,
    kind::Served,
    ledger::Ledger,
    manifest::Manifest,
    object::{Identity, Object, key_of},
    selector::Selection,
};
use crate::domain::{cluster::Resource, event::Change};

/// Most bytes of history per cluster; beyond it the oldest is compacted early. Five minutes of 150
/// changes per second of 1 KiB each fit.
const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The revision of an empty cluster, as that of an empty etcd.
const FIRST_REVISION: u64 = 1;

/// The two clocks of one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    /// Since the fleet began: what lifetimes are counted by.
    pub(super) elapsed: Duration,
    /// Since the Unix epoch, in microseconds: what people read.
    pub(super) unix_us: u64,
}

/// How a store is made.
#[derive(Clone, Debug)]
pub(super) struct StoreOptions {
    pub(super) cluster: String,
    pub(super) seed: u64,
    pub(super) resources: Vec<Resource>,
    pub(super) event_ttl: Option<Duration>,
    pub(super) history: Duration,
}

/// Why a resource version cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// etcd has compacted it.
    Compacted,
    /// The watch cache began after it, at this revision.
    BeforeWatchCache(u64),
}

/// One cluster.
#[derive(Debug)]
pub(super) struct Store {
    tables: Vec<Table>,
    revision: u64,
    /// What happened up to and including this revision is no longer available.
    compacted: u64,
    /// The watch cache's window holds what happened after this revision.
    cache_start: u64,
    log_bytes: usize,
    history: Duration,
    uid: Arc<str>,
    rng: SmallRng,
    record: Record,
}

impl Store {
    pub(super) fn new(options: StoreOptions) -> Self {
        let mut rng = SmallRng::seed_from_u64(options.seed);
        let tables = options
            .resources
            .into_iter()
            .map(|resource| Table::new(Served::new(resource), options.event_ttl));
        Self {
            tables: tables.collect(),
            revision: FIRST_REVISION,
            compacted: 0,
            cache_start: FIRST_REVISION,
            log_bytes: 0,
            history: options.history,
            uid: new_uid(&mut rng),
            rng,
            record: Record::new(options.cluster),
        }
    }

    pub(super) fn uid(&self) -> &Arc<str> {
        &self.uid
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn served(&self) -> impl Iterator<Item = &Served> {
        self.tables.iter().map(|table| &table.served)
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.record.ledger()
    }

    /// Where a resource is, for the calls below.
    pub(super) fn table_of(&self, resource: &Resource) -> Result<usize, Error> {
        self.served()
            .position(|served| *served.resource == *resource)
            .ok_or_else(|| Error::NotServed(resource.clone()))
    }

    pub(super) fn create(
        &mut self,
        table: usize,
        manifest: &Manifest,
        now: Now,
    ) -> Result<u64, Error> {
        let served = &self.tables[table].served;
        let key: Arc<str> = key_of(&manifest.namespace, &manifest.name).into();
        let resource = || Resource::clone(&served.resource);
        if served.namespaced == manifest.namespace.is_empty() {
            return Err(Error::Scope {
                resource: resource(),
                key: key.to_string(),
            });
        }
        if self.tables[table].objects.contains_key(&key) {
            return Err(Error::Exists {
                resource: resource(),
                key: key.to_string(),
            });
        }
        let identity = Identity {
            key,
            namespace: manifest.namespace.as_str().into(),
            name: manifest.name.as_str().into(),
            uid: new_uid(&mut self.rng),
            created: rfc3339_seconds(now.unix_us).into(),
        };
        Ok(self.write(table, Change::Added, identity, manifest, now))
    }

    pub(super) fn update(
        &mut self,
        table: usize,
        manifest: &Manifest,
        now: Now,
    ) -> Result<u64, Error> {
        let key = key_of(&manifest.namespace, &manifest.name);
        let Some(old) = self.tables[table].objects.get(key.as_str()) else {
            return Err(self.not_found(table, key));
        };
        let identity = old.identity.clone();
        Ok(self.write(table, Change::Modified, identity, manifest, now))
    }

    /// Deletes objects at one revision.
    pub(super) fn delete(
        &mut self,
        table: usize,
        mut keys: Vec<Arc<str>>,
        now: Now,
    ) -> Result<u64, Error> {
        keys.sort_unstable();
        keys.dedup();
        let missing = |key: &&Arc<str>| !self.tables[table].objects.contains_key(*key);
        if let Some(key) = keys.iter().find(missing) {
            return Err(self.not_found(table, key.to_string()));
        }
        if !keys.is_empty() {
            self.revision += 1;
        }
        for (ordinal, key) in (0..).zip(&keys) {
            if let Some(before) = self.tables[table].objects.remove(key) {
                let object = Arc::new(before.at_rv(self.revision));
                self.log(table, Change::Deleted, ordinal, object, Some(before), now);
            }
            if let Some(leases) = &mut self.tables[table].leases {
                leases.detach(key);
            }
        }
        self.limit_history();
        Ok(self.revision)
    }

    fn not_found(&self, table: usize, key: String) -> Error {
        Error::NotFound {
            resource: Resource::clone(&self.tables[table].served.resource),
            key,
        }
    }

    fn write(
        &mut self,
        table: usize,
        change: Change,
        identity: Identity,
        manifest: &Manifest,
        now: Now,
    ) -> u64 {
        self.revision += 1;
        let place = &mut self.tables[table];
        let key = Arc::clone(&identity.key);
        let object = Arc::new(Object::new(
            &place.served,
            identity,
            self.revision,
            manifest,
        ));
        if let Some(leases) = &mut place.leases {
            leases.attach(&key, now.elapsed);
        }
        let before = place.objects.insert(key, Arc::clone(&object));
        self.log(table, change, 0, object, before, now);
        self.limit_history();
        self.revision
    }

    fn log(
        &mut self,
        table: usize,
        change: Change,
        ordinal: u32,
        object: Arc<Object>,
        before: Option<Arc<Object>>,
        now: Now,
    ) {
        let table = &mut self.tables[table];
        let resource = &table.served.resource;
        self.record
            .push(resource, change, ordinal, &object, now.unix_us);
        let entry = Entry {
            rv: self.revision,
            change,
            object,
            before,
            at: now.elapsed,
        };
        self.log_bytes += entry.cost_bytes();
        table.log.push_back(Arc::new(entry));
    }

    /// Ends what has lived its time: leases, and history that is old.
    pub(super) fn tick(&mut self, now: Now) {
        for table in 0..self.tables.len() {
            while let Some(keys) = self.tables[table]
                .leases
                .as_mut()
                .and_then(|leases| leases.expire_one(now.elapsed))
            {
                // The objects of a lease exist: a deletion takes them off it.
                let _ = self.delete(table, keys, now);
            }
        }
        let Some(oldest) = now.elapsed.checked_sub(self.history) else {
            return;
        };
        let old = self.tables.iter().filter_map(|table| {
            let end = table.log.partition_point(|entry| entry.at < oldest);
            table.log.get(end.checked_sub(1)?).map(|entry| entry.rv)
        });
        if let Some(rv) = old.max() {
            self.compact_to(rv);
        }
    }

    /// Forgets what happened up to and including the current revision.
    pub(super) fn compact(&mut self) {
        self.compact_to(self.revision);
    }

    fn compact_to(&mut self, rv: u64) {
        self.compacted = self.compacted.max(rv);
        for table in &mut self.tables {
            while let Some(entry) = table.log.front()
                && entry.rv <= rv
            {
                self.log_bytes -= entry.cost_bytes();
                table.log.pop_front();
            }
        }
    }

    fn limit_history(&mut self) {
        while self.log_bytes > HISTORY_BYTES_MAX {
            let fronts = self.tables.iter().filter_map(|table| table.log.front());
            let Some(rv) = fronts.map(|entry| entry.rv).min() else {
                return;
            };
            self.compact_to(rv);
        }
    }

    /// Resets the watch cache's window.
    pub(super) fn reset_watch_cache(&mut self) {
        self.cache_start = self.revision;
    }

    /// Goes back to a revision of the history.
    pub(super) fn rewind(&mut self, rv: u64, now: Now) -> Result<(), Error> {
        if rv < self.compacted || rv > self.revision {
            return Err(Error::OutsideHistory {
                asked: rv.into(),
                oldest: self.compacted.into(),
                newest: self.revision.into(),
            });
        }
        for table in &mut self.tables {
            self.log_bytes -= table.rewind(rv);
            if let Some(leases) = &mut table.leases {
                // A restored etcd counts every lease from its restore.
                *leases = leases.emptied();
                for key in table.objects.keys() {
                    leases.attach(key, now.elapsed);
                }
            }
        }
        self.revision = rv;
        self.cache_start = rv;
        self.record.begin(Some(rv));
        Ok(())
    }

    /// Goes back to a revision of the history, and numbers what comes from much later on.
    pub(super) fn restore_ahead(&mut self, rv: u64, ahead: u64, now: Now) -> Result<(), Error> {
        self.rewind(rv, now)?;
        self.revision += ahead;
        self.cache_start = self.revision;
        self.compact();
        Ok(())
    }

    /// Becomes another, empty cluster.
    pub(super) fn replace(&mut self) {
        for table in &mut self.tables {
            table.objects.clear();
            table.log.clear();
            table.leases = table.leases.as_ref().map(Leases::emptied);
        }
        self.log_bytes = 0;
        self.revision = FIRST_REVISION;
        self.compacted = 0;
        self.cache_start = FIRST_REVISION;
        self.uid = new_uid(&mut self.rng);
        self.record.begin(None);
    }

    /// Whether a watch can begin after `rv`.
    pub(super) fn check_watchable(&self, table: usize, rv: u64) -> Result<(), Gone> {
        if self.tables[table].served.is_cached() && rv < self.cache_start {
            Err(Gone::BeforeWatchCache(self.cache_start))
        } else {
            self.check_listable(rv)
        }
    }

    /// Whether the state at `rv` is still available.
    pub(super) fn check_listable(&self, rv: u64) -> Result<(), Gone> {
        if rv < self.compacted {
            Err(Gone::Compacted)
        } else {
            Ok(())
        }
    }

    /// The next changes after `rv`, and the revision up to which these are all.
    pub(super) fn changes_after(
        &self,
        table: usize,
        rv: u64,
        max: usize,
    ) -> Result<(Vec<Arc<Entry>>, u64), Gone> {
        self.check_watchable(table, rv)?;
        let changes = self.tables[table].changes_after(rv, max);
        let reached = match changes.last() {
            Some(last) if changes.len() >= max => last.rv,
            // After a rewind the watch stands ahead of the revision, and stays there.
            _ => self.revision.max(rv),
        };
        Ok((changes, reached))
    }

    /// The last `count` changes up to and including `rv`.
    pub(super) fn changes_before(&self, table: usize, rv: u64, count: usize) -> Vec<Arc<Entry>> {
        self.tables[table].changes_before(rv, count)
    }

    /// One page of the objects as they were at `rv`, from key `start` on.
    pub(super) fn page(
        &self,
        table: usize,
        rv: u64,
        start: &str,
        selection: &Selection,
        limit: usize,
    ) -> Page {
        self.tables[table].page(rv, start, selection, limit)
    }

    /// One object as it is.
    pub(super) fn get(&self, table: usize, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = key_of(namespace, name);
        self.tables[table].objects.get(key.as_str()).cloned()
    }
}

fn new_uid(rng: &mut SmallRng) -> Arc<str> {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
        .into()
}

/// As the API server prints times: to the second.
pub(super) fn rfc3339_seconds(unix_us: u64) -> String {
    i64::try_from(unix_us)
        .ok()
        .and_then(chrono::DateTime::from_timestamp_micros)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
