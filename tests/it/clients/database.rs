//! What a consumer has saved.

use std::{collections::BTreeMap, path::Path, time::Duration};

use quorumwatch::proto::v1::{
    ChangeType, Event, Gap, GapReason, ObjectMeta, Position, StreamChange, StreamChangeType,
    SubscribeResponse, Synced, subscribe_response::Frame,
};
use rusqlite::{Connection, OpenFlags, Row};

use crate::harness::Record;

/// For how long a look waits for a consumer that is about to write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const EVENTS: &str = "
SELECT seq, stream, era, resource_version, ordinal, id, cluster, resource, change_type,
       namespace, name, uid, object_version, object
FROM events ORDER BY seq";

const GAPS: &str = "
SELECT stream, cluster, resource, reason, repaired, from_position, to_position, message,
       after_event, synced_event, synced_position
FROM gaps ORDER BY seq";

/// A consumer's database, for a look while the consumer writes.
pub(super) struct Database(Connection);

impl Database {
    pub(super) fn open(path: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).unwrap();
        db.busy_timeout(BUSY_TIMEOUT).unwrap();
        Self(db)
    }

    /// Whether it says where to resume.
    pub(super) fn has_cursor(&self) -> bool {
        // At the very beginning the table is not there either.
        let count = self.count("SELECT count(*) FROM cursor");
        count.is_ok_and(|parts| parts > 0)
    }

    /// How many events there are.
    pub(super) fn events(&self) -> u64 {
        self.count("SELECT count(*) FROM events").unwrap()
    }

    fn count(&self, sql: &str) -> rusqlite::Result<u64> {
        self.0
            .query_row(sql, [], |row| row.get(0))
            .map(i64::cast_unsigned)
    }

    /// What the consumer received, in order.
    pub(super) fn record(&self) -> Record {
        let mut record = Record::default();
        for frame in self.frames() {
            let frame = Some(frame);
            record.take(SubscribeResponse {
                frame,
                ..SubscribeResponse::default()
            });
        }
        record
    }

    fn frames(&self) -> Vec<Frame> {
        // Both as of the same moment.
        let moment = self.0.unchecked_transaction().unwrap();
        let mut gaps = moment.prepare(GAPS).unwrap();
        let gaps: Vec<_> = gaps
            .query_map([], saved_gap)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut streams = BTreeMap::new();
        let mut received = notices(&gaps, 0);
        let mut events = moment.prepare(EVENTS).unwrap();
        for saved in events.query_map([], saved_event).unwrap() {
            let (seq, event) = saved.unwrap();
            streams.insert(
                event.stream.clone(),
                (event.cluster.clone(), event.resource.clone()),
            );
            received.push(Frame::Event(event));
            received.extend(notices(&gaps, seq));
        }
        for SavedGap { gap, .. } in &gaps {
            streams.insert(
                gap.stream.clone(),
                (gap.cluster.clone(), gap.resource.clone()),
            );
        }
        let added = streams.into_iter().map(|(stream, (cluster, resource))| {
            Frame::StreamChange(StreamChange {
                stream,
                cluster,
                resource,
                r#type: StreamChangeType::Added.into(),
                ..StreamChange::default()
            })
        });
        added.chain(received).collect()
    }
}

/// A gap, between which events it came, and where its snapshot ended.
struct SavedGap {
    gap: Gap,
    after_event: i64,
    synced_event: Option<i64>,
    synced_position: Option<Position>,
}

/// What came after an event and before the next, besides events.
fn notices(gaps: &[SavedGap], after: i64) -> Vec<Frame> {
    let mut notices = Vec::new();
    for saved in gaps {
        let SavedGap { gap, .. } = saved;
        if saved.after_event == after {
            notices.push(Frame::Gap(gap.clone()));
        }
        if saved.synced_event == Some(after) {
            notices.push(Frame::Synced(Synced {
                stream: gap.stream.clone(),
                cluster: gap.cluster.clone(),
                resource: gap.resource.clone(),
                position: saved.synced_position.clone(),
            }));
        }
    }
    notices
}

fn saved_event(row: &Row<'_>) -> rusqlite::Result<(i64, Event)> {
    let era: i64 = row.get("era")?;
    let change_type = format!("CHANGE_TYPE_{}", row.get::<_, String>("change_type")?);
    let change_type = ChangeType::from_str_name(&change_type).expect("a change of the protocol");
    let event = Event {
        id: row.get("id")?,
        stream: row.get("stream")?,
        cluster: row.get("cluster")?,
        resource: row.get("resource")?,
        change_type: change_type.into(),
        position: Some(Position {
            era: era.cast_unsigned(),
            resource_version: row.get("resource_version")?,
            ordinal: row.get("ordinal")?,
        }),
        object: Some(ObjectMeta {
            namespace: row.get("namespace")?,
            name: row.get("name")?,
            uid: row.get("uid")?,
            resource_version: row.get("object_version")?,
        }),
        object_json: row.get("object")?,
        ..Event::default()
    };
    Ok((row.get("seq")?, event))
}

fn saved_gap(row: &Row<'_>) -> rusqlite::Result<SavedGap> {
    let reason = format!("GAP_REASON_{}", row.get::<_, String>("reason")?);
    let reason = GapReason::from_str_name(&reason).expect("a reason of the protocol");
    let synced: Option<String> = row.get("synced_position")?;
    let from: String = row.get("from_position")?;
    let to: String = row.get("to_position")?;
    Ok(SavedGap {
        gap: Gap {
            stream: row.get("stream")?,
            cluster: row.get("cluster")?,
            resource: row.get("resource")?,
            from: position(&from),
            to: position(&to),
            reason: reason.into(),
            repaired: row.get("repaired")?,
            message: row.get("message")?,
        },
        after_event: row.get("after_event")?,
        synced_event: row.get("synced_event")?,
        synced_position: synced.as_deref().and_then(position),
    })
}

/// "era/resource version/ordinal", or without the last; nothing where it is empty.
fn position(text: &str) -> Option<Position> {
    let mut parts = text.split('/');
    let era = parts.next().filter(|era| !era.is_empty())?;
    Some(Position {
        era: era.parse().expect("an era"),
        resource_version: parts.next().expect("a resource version").to_owned(),
        ordinal: parts
            .next()
            .map(|ordinal| ordinal.parse().expect("an ordinal")),
    })
}
