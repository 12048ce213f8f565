// Package sqlite saves events and the cursor in one SQLite database: each event exactly once, even if
// the consumer or replicas are killed.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	_ "modernc.org/sqlite" // The driver, without cgo.

	quorumwatch "quorumwatch.dev/client"
	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// A power loss can lose whole transactions, with their cursor: their frames are sent again.
const options = "?_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=busy_timeout(5000)" +
	"&_txlock=immediate"

// What is sent again after an interrupted snapshot or repair can have another position: the object's
// own version deduplicates it.
const schema = `
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
`

const (
	lastEvent   = "(SELECT coalesce(max(seq), 0) FROM events)"
	insertEvent = "INSERT OR IGNORE INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	insertGap   = "INSERT OR IGNORE INTO gaps VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, " + lastEvent + ", NULL, NULL)"
	// A snapshot that is sent again after a resume has no row of its own: the first is still open.
	insertBeginning = "INSERT OR IGNORE INTO gaps SELECT NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, " + lastEvent + ", NULL, NULL" +
		" WHERE NOT EXISTS (SELECT 1 FROM gaps WHERE stream = ?1 AND NOT repaired AND synced_event IS NULL)"
	// A snapshot that begins while another is in progress invalidates what that one has sent.
	dropVoid = "DELETE FROM events WHERE stream = ?1 AND change_type = 'SNAPSHOT' AND seq > (" +
		"SELECT max(after_event) FROM gaps" +
		" WHERE stream = ?1 AND NOT repaired AND synced_event IS NULL)"
	closeGaps = "UPDATE gaps SET synced_event = " + lastEvent + ", synced_position = ?" +
		" WHERE stream = ? AND NOT repaired AND synced_event IS NULL"
)

// ErrInUse means that another process saves its cursor in this database.
var ErrInUse = errors.New("another process saves its cursor in this database")

// Store is a database that holds events, gaps, and the cursor after them.
//
// Save writes events and gaps to the tables of this package. For tables of your own use Transaction,
// which saves only the cursor, in the transaction in which you write.
type Store struct {
	db   *sql.DB
	last int64
}

// Open opens a database, and creates it if it does not exist.
func Open(path string) (*Store, error) {
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(path)+options)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	store := &Store{db: db}
	if _, err = db.Exec(schema); err == nil {
		store.last, err = lastPart(context.Background(), db)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use %s: %w", path, err), db.Close())
	}
	return store, nil
}

// Close closes the database.
func (s *Store) Close() error {
	return s.db.Close()
}

// DB returns the underlying database.
func (s *Store) DB() *sql.DB {
	return s.db
}

// Kept returns the saved cursor, to resume from.
func (s *Store) Kept(ctx context.Context) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT part FROM cursor ORDER BY seq")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var kept []string
	for rows.Next() {
		var part string
		if err := rows.Scan(&part); err != nil {
			return nil, err
		}
		kept = append(kept, part)
	}
	return kept, rows.Err()
}

// Save saves frames and the cursor after them in one transaction.
func (s *Store) Save(ctx context.Context, frames []*quorumwatch.Frame) error {
	return s.Transaction(ctx, frames, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, insertEvent)
		if err != nil {
			return err
		}
		for _, frame := range frames {
			switch frame := frame.GetFrame().(type) {
			case *quorumwatchv1.SubscribeResponse_Event:
				_, err = insert.ExecContext(ctx, eventRow(frame.Event)...)
			case *quorumwatchv1.SubscribeResponse_StreamChange:
				err = saveBeginning(ctx, tx, frame.StreamChange)
			case *quorumwatchv1.SubscribeResponse_Gap:
				err = saveGap(ctx, tx, frame.Gap)
			case *quorumwatchv1.SubscribeResponse_Synced:
				at := PositionText(frame.Synced.GetPosition())
				_, err = tx.ExecContext(ctx, closeGaps, at, frame.Synced.GetStream())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Transaction calls do within a transaction, and saves the cursor after frames in it.
func (s *Store) Transaction(
	ctx context.Context,
	frames []*quorumwatch.Frame,
	do func(*sql.Tx) error,
) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	last, err := lastPart(ctx, tx)
	if err != nil {
		return err
	}
	if last != s.last {
		return ErrInUse
	}
	if err := do(tx); err != nil {
		return err
	}
	if last, err = s.saveCursor(ctx, tx, frames); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.last = last
	return nil
}

func (s *Store) saveCursor(ctx context.Context, tx *sql.Tx, frames []*quorumwatch.Frame) (int64, error) {
	var cursor quorumwatch.Cursor
	for _, frame := range frames {
		cursor.Keep(frame)
	}
	hasWhole := func(frame *quorumwatch.Frame) bool { return frame.GetCursor() != "" }
	if slices.ContainsFunc(frames, hasWhole) {
		if _, err := tx.ExecContext(ctx, "DELETE FROM cursor"); err != nil {
			return 0, err
		}
	}
	last := s.last
	for _, part := range cursor.Parts() {
		last++
		if _, err := tx.ExecContext(ctx, "INSERT INTO cursor VALUES (?, ?)", last, part); err != nil {
			return 0, err
		}
	}
	return last, nil
}

func saveBeginning(ctx context.Context, tx *sql.Tx, change *quorumwatchv1.StreamChange) error {
	if !change.GetSnapshotFollows() {
		return nil
	}
	if _, err := tx.ExecContext(ctx, dropVoid, change.GetStream()); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, insertBeginning,
		change.GetStream(), change.GetCluster(), change.GetResource(),
		strings.TrimPrefix(change.GetReason().String(), "STREAM_CHANGE_REASON_"), false,
		"", "", change.GetMessage(),
	)
	return err
}

func saveGap(ctx context.Context, tx *sql.Tx, gap *quorumwatchv1.Gap) error {
	if !gap.GetRepaired() {
		if _, err := tx.ExecContext(ctx, dropVoid, gap.GetStream()); err != nil {
			return err
		}
	}
	if gap.GetReason() == quorumwatchv1.GapReason_GAP_REASON_SNAPSHOT_RESTARTED {
		return nil
	}
	_, err := tx.ExecContext(ctx, insertGap, gapRow(gap)...)
	return err
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func lastPart(ctx context.Context, db queryer) (last int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM cursor").Scan(&last)
	return last, err
}

// PositionText formats a position as "era/resource version/ordinal".
func PositionText(position *quorumwatchv1.Position) string {
	if position == nil {
		return ""
	}
	text := fmt.Sprintf("%d/%s", position.GetEra(), position.GetResourceVersion())
	if position.Ordinal != nil {
		text += fmt.Sprintf("/%d", position.GetOrdinal())
	}
	return text
}

func eventRow(event *quorumwatchv1.Event) []any {
	at, object := event.GetPosition(), event.GetObject()
	var ordinal any
	if at != nil && at.Ordinal != nil {
		ordinal = at.GetOrdinal()
	}
	return []any{
		event.GetStream(), int64(at.GetEra()), at.GetResourceVersion(), ordinal,
		event.GetId(), event.GetCluster(), event.GetResource(),
		strings.TrimPrefix(event.GetChangeType().String(), "CHANGE_TYPE_"),
		object.GetNamespace(), object.GetName(), object.GetUid(), object.GetResourceVersion(),
		event.GetObjectJson(),
	}
}

func gapRow(gap *quorumwatchv1.Gap) []any {
	return []any{
		gap.GetStream(), gap.GetCluster(), gap.GetResource(),
		strings.TrimPrefix(gap.GetReason().String(), "GAP_REASON_"), gap.GetRepaired(),
		PositionText(gap.GetFrom()), PositionText(gap.GetTo()), gap.GetMessage(),
	}
}
