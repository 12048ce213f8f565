//! Saves events and the cursor in one SQLite database: each event exactly once.

use std::path::Path;

use quorumwatch::{
    client::Cursor,
    proto::v1::{
        Event, Gap, GapReason, Position, StreamChange, SubscribeResponse, subscribe_response::Frame,
    },
};
use rusqlite::{Connection, Result, Statement, Transaction, TransactionBehavior, params};

/// What is sent again after an interrupted snapshot or repair can have another position: the
/// object's own version deduplicates it.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    era INTEGER NOT NULL,
    resource_version TEXT NOT NULL,
    ordinal INTEGER,
    id TEXT NOT NULL,
    cluster TEXT NOT NULL,
    resource TEXT NOT NULL,
    change_type TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    object_version TEXT NOT NULL,
    object TEXT NOT NULL,
    UNIQUE (stream, era, uid, object_version, change_type)
);
CREATE TABLE IF NOT EXISTS gaps (
    seq INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    cluster TEXT NOT NULL,
    resource TEXT NOT NULL,
    reason TEXT NOT NULL,
    repaired INTEGER NOT NULL,
    from_position TEXT NOT NULL,
    to_position TEXT NOT NULL,
    message TEXT NOT NULL,
    after_event INTEGER NOT NULL,
    synced_event INTEGER,
    synced_position TEXT,
    UNIQUE (stream, reason, from_position)
);
CREATE TABLE IF NOT EXISTS cursor (seq INTEGER PRIMARY KEY, part TEXT NOT NULL);
";

const INSERT_EVENT: &str = "
INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const INSERT_GAP: &str = "
INSERT OR IGNORE INTO gaps VALUES
    (NULL, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(seq), 0) FROM events), NULL, NULL)";

/// A snapshot that is sent again after a resume has no row of its own: the first is still open.
const INSERT_BEGINNING: &str = "
INSERT OR IGNORE INTO gaps
SELECT NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
    (SELECT coalesce(max(seq), 0) FROM events), NULL, NULL
WHERE NOT EXISTS (
    SELECT 1 FROM gaps WHERE stream = ?1 AND NOT repaired AND synced_event IS NULL)";

/// A snapshot that begins while another is in progress invalidates what that one has sent.
const DROP_VOID: &str = "
DELETE FROM events WHERE stream = ?1 AND change_type = 'SNAPSHOT' AND seq > (
    SELECT max(after_event) FROM gaps
    WHERE stream = ?1 AND NOT repaired AND synced_event IS NULL)";

const CLOSE_GAPS: &str = "
UPDATE gaps
SET synced_event = (SELECT coalesce(max(seq), 0) FROM events), synced_position = ?
WHERE stream = ? AND NOT repaired AND synced_event IS NULL";

/// A database that holds events, gaps, and the cursor after them.
pub(crate) struct Store {
    db: Connection,
    /// The number of the cursor's last part, to detect another process that saves its cursor here.
    last: i64,
}

impl Store {
    /// Opens a database, and creates it if it does not exist.
    pub(crate) fn open(path: impl AsRef<Path>) -> Result<Self> {
        let db = Connection::open(path)?;
        // A power loss can lose whole transactions, with their cursor: their frames are sent again.
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        db.execute_batch(SCHEMA)?;
        let last = last_part(&db)?;
        Ok(Self { db, last })
    }

    /// The saved cursor, to resume from.
    pub(crate) fn kept(&self) -> Result<Vec<String>> {
        let mut parts = self.db.prepare("SELECT part FROM cursor ORDER BY seq")?;
        parts.query_map([], |row| row.get(0))?.collect()
    }

    /// Saves frames and the cursor after them in one transaction.
    pub(crate) fn save(&mut self, frames: &[SubscribeResponse]) -> Result<()> {
        let last = self.last;
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.db.transaction_with_behavior(behavior)?;
        if last_part(&transaction)? != last {
            let text = "another process saves its cursor in this database";
            return Err(rusqlite::Error::ToSqlConversionFailure(text.into()));
        }
        save_frames(&transaction, frames)?;
        let last = save_cursor(&transaction, last, frames)?;
        transaction.commit()?;
        self.last = last;
        Ok(())
    }
}

fn last_part(db: &Connection) -> Result<i64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM cursor";
    db.query_row(sql, [], |row| row.get(0))
}

fn save_frames(db: &Transaction<'_>, frames: &[SubscribeResponse]) -> Result<()> {
    let mut insert = db.prepare(INSERT_EVENT)?;
    for response in frames {
        match &response.frame {
            Some(Frame::Event(event)) => insert_event(&mut insert, event)?,
            Some(Frame::StreamChange(change)) => insert_beginning(db, change)?,
            Some(Frame::Gap(gap)) => insert_gap(db, gap)?,
            Some(Frame::Synced(synced)) => {
                let at = synced.position.as_ref().map(position_text);
                db.execute(CLOSE_GAPS, params![at, synced.stream])?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn save_cursor(db: &Transaction<'_>, mut last: i64, frames: &[SubscribeResponse]) -> Result<i64> {
    let mut cursor = Cursor::default();
    frames.iter().for_each(|response| cursor.take(response));
    if frames.iter().any(|response| !response.cursor.is_empty()) {
        db.execute("DELETE FROM cursor", [])?;
    }
    for part in cursor.parts() {
        last += 1;
        db.execute("INSERT INTO cursor VALUES (?, ?)", params![last, part])?;
    }
    Ok(last)
}

fn insert_event(insert: &mut Statement<'_>, event: &Event) -> Result<()> {
    let at = event.position.clone().unwrap_or_default();
    let object = event.object.clone().unwrap_or_default();
    let name = event.change_type().as_str_name();
    insert.execute(params![
        event.stream,
        at.era.cast_signed(),
        at.resource_version,
        at.ordinal,
        event.id,
        event.cluster,
        event.resource,
        name.trim_start_matches("CHANGE_TYPE_"),
        object.namespace,
        object.name,
        object.uid,
        object.resource_version,
        event.object_json,
    ])?;
    Ok(())
}

fn insert_beginning(db: &Transaction<'_>, change: &StreamChange) -> Result<()> {
    if !change.snapshot_follows {
        return Ok(());
    }
    db.execute(DROP_VOID, [&change.stream])?;
    let name = change.reason().as_str_name();
    let row = params![
        change.stream,
        change.cluster,
        change.resource,
        name.trim_start_matches("STREAM_CHANGE_REASON_"),
        false,
        "",
        "",
        change.message,
    ];
    db.execute(INSERT_BEGINNING, row)?;
    Ok(())
}

fn insert_gap(db: &Transaction<'_>, gap: &Gap) -> Result<()> {
    if !gap.repaired {
        db.execute(DROP_VOID, [&gap.stream])?;
    }
    if gap.reason() == GapReason::SnapshotRestarted {
        return Ok(());
    }
    let text = |position: &Option<Position>| position.as_ref().map(position_text);
    let name = gap.reason().as_str_name();
    let row = params![
        gap.stream,
        gap.cluster,
        gap.resource,
        name.trim_start_matches("GAP_REASON_"),
        gap.repaired,
        text(&gap.from).unwrap_or_default(),
        text(&gap.to).unwrap_or_default(),
        gap.message,
    ];
    db.execute(INSERT_GAP, row)?;
    Ok(())
}

/// A position as "era/resource version/ordinal".
fn position_text(position: &Position) -> String {
    let text = format!("{}/{}", position.era, position.resource_version);
    match position.ordinal {
        Some(ordinal) => format!("{text}/{ordinal}"),
        None => text,
    }
}
