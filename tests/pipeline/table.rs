//! A client that keeps a table by the rules of `src/docs/clients.md`, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use quorumwatch::{
    domain::{event::Change, id::StreamId},
    pipeline::output::StreamChangeType,
};

use crate::{
    oracle::wanted_streams,
    subscriber::{Seen, Subscriber},
    world::World,
};

type Key = (String, String);

/// What is kept of one stream.
#[derive(Default)]
struct Kept {
    /// By namespace and name: UID and version.
    objects: BTreeMap<Key, (String, u64)>,
    /// What the snapshot under way has shown.
    shown: BTreeSet<Key>,
}

/// Tables by stream.
#[derive(Default)]
struct Tables(BTreeMap<StreamId, Kept>);

impl Tables {
    fn take(&mut self, stream: StreamId, seen: &Seen) {
        if let Seen::Stream(change) = seen
            && change.kind == StreamChangeType::Removed
        {
            self.0.remove(&stream);
            return;
        }
        let kept = self.0.entry(stream).or_default();
        match seen {
            Seen::Stream(change) if change.snapshot_follows => kept.shown.clear(),
            Seen::Gap(gap) if !gap.repaired => kept.shown.clear(),
            Seen::Restarted | Seen::FilterChanged => kept.shown.clear(),
            Seen::Event(event) => {
                let key = (event.namespace.clone(), event.name.clone());
                if event.unmatched || event.change == Change::Deleted {
                    kept.objects.remove(&key);
                    return;
                }
                if event.change == Change::Snapshot {
                    kept.shown.insert(key.clone());
                }
                kept.objects.insert(key, (event.uid.clone(), event.rv));
            }
            Seen::Synced(_) => {
                let shown = std::mem::take(&mut kept.shown);
                kept.objects.retain(|key, _| shown.contains(key));
            }
            Seen::Gap(_) | Seen::Stream(_) | Seen::Progress { .. } => {}
        }
    }
}

/// Whether the table is what exists.
pub(crate) fn judge(world: &World, subscriber: &Subscriber) -> Result<(), String> {
    let mut tables = Tables::default();
    for record in &subscriber.records {
        if let Some(stream) = record.stream {
            tables.take(stream, &record.seen);
        }
    }
    let wanted = wanted_streams(world, subscriber.want);
    let mut unknown = tables.0.iter().filter(|(id, _)| !wanted.contains(id));
    if let Some((stream, kept)) = unknown.find(|(_, kept)| !kept.objects.is_empty()) {
        return Err(format!(
            "{stream} is gone, and the table has {:?}",
            kept.objects
        ));
    }
    for stream in wanted {
        let of = &world.streams[&stream];
        let etcd = world.etcd(&of.cluster);
        let objects = etcd.list(&of.selection, etcd.revision()).into_iter();
        let objects: BTreeMap<Key, _> = objects
            .filter(|object| subscriber.want.wants_object(object))
            .map(|object| {
                let key = (object.namespace.clone(), object.name.clone());
                (key, (object.uid.clone(), object.rv))
            })
            .collect();
        let kept = &tables.0.entry(stream).or_default().objects;
        if objects != *kept {
            return Err(format!(
                "{stream}: the table has {kept:?}, there is {objects:?}"
            ));
        }
    }
    Ok(())
}
