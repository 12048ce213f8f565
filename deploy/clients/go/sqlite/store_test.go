package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	quorumwatch "quorumwatch.dev/client"
	"quorumwatch.dev/client/internal/fake"
)

type frames = []*quorumwatch.Frame

func open(t *testing.T, path string) *Store {
	t.Helper()
	store, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func (s *Store) mustSave(t *testing.T, received ...*quorumwatch.Frame) {
	t.Helper()
	if err := s.Save(t.Context(), received); err != nil {
		t.Fatal(err)
	}
}

func (s *Store) mustKeep(t *testing.T, wanted ...string) {
	t.Helper()
	if kept, err := s.Kept(t.Context()); err != nil || !slices.Equal(kept, wanted) {
		t.Fatalf("got %q and %v, wanted %q", kept, err, wanted)
	}
}

// mustHave compares the rows of a query that makes one text of each.
func (s *Store) mustHave(t *testing.T, query string, wanted ...string) {
	t.Helper()
	rows, err := s.DB().QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		got = append(got, text)
	}
	if !slices.Equal(got, wanted) {
		t.Fatalf("got %q, wanted %q", got, wanted)
	}
}

func TestEventsAndCursorAreThereAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events with a space?.db")
	store := open(t, path)
	store.mustKeep(t)
	store.mustSave(t, fake.Progress("w1", false), fake.Event("ADDED", "1", "x", 1, "d1"))
	store.mustSave(t, fake.Event("DELETED", "1", "x", 2, "d2"))
	store.Close()

	store = open(t, path)
	store.mustKeep(t, "w1", "d1", "d2")
	store.mustHave(t,
		"SELECT format('%s %s %d/%s/%d %s', change_type, name, era, resource_version, ordinal, object)"+
			" FROM events ORDER BY seq",
		`ADDED x 1/1/0 {"rv": 1}`, `DELETED x 1/2/0 {"rv": 2}`)
	store.mustSave(t, fake.Event("ADDED", "1", "y", 3, "d3"), fake.Progress("w2", false))
	store.mustKeep(t, "w2")
}

func TestWhatIsSentAgainIsThereOnce(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "events.db"))
	received := frames{
		fake.Gap("HISTORY_EXPIRED", "1", false),
		fake.Event("SNAPSHOT", "1", "x", 1, ""),
		fake.Event("SNAPSHOT", "1", "y", 2, ""),
		fake.Gap("SNAPSHOT_RESTARTED", "1", false),
		fake.Event("SNAPSHOT", "1", "x", 1, ""),
		fake.Event("SNAPSHOT", "1", "y", 3, ""),
	}
	store.mustSave(t, received...)
	store.mustSave(t, append(received, fake.Synced("1", 4), fake.Event("ADDED", "1", "y", 3, ""))...)
	store.mustHave(t, "SELECT change_type || ' ' || name || object_version FROM events ORDER BY seq",
		"SNAPSHOT x1", "SNAPSHOT y3", "ADDED y3")
	store.mustHave(t,
		"SELECT format('%s %s %d %d %s', reason, from_position, after_event, synced_event, synced_position) FROM gaps",
		"HISTORY_EXPIRED 1/5 0 8 1/4/0")
}

func TestASnapshotAtTheBeginningStartsAgainToo(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "events.db"))
	beginning := frames{
		fake.StreamChange("ADDED", "1", true), fake.Event("SNAPSHOT", "1", "x", 1, ""),
	}
	store.mustSave(t, append(beginning, fake.Event("SNAPSHOT", "1", "y", 2, ""))...)
	store.mustSave(t, append(beginning, fake.Synced("1", 4))...)
	store.mustSave(t,
		fake.Gap("HISTORY_EXPIRED", "1", false), fake.Event("SNAPSHOT", "1", "z", 9, ""),
		fake.Synced("1", 9))
	store.mustHave(t, "SELECT name FROM events ORDER BY seq", "x", "z")
	store.mustHave(t, "SELECT count(*) || '' FROM gaps", "2")
}

func TestASnapshotAfterAGapThatIsResumedIsOfThatGap(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "events.db"))
	store.mustSave(t, fake.Gap("HISTORY_EXPIRED", "1", false), fake.Event("SNAPSHOT", "1", "x", 1, ""))
	store.mustSave(t, fake.StreamChange("ADDED", "1", true), fake.Event("SNAPSHOT", "1", "y", 2, ""),
		fake.Synced("1", 4))
	store.mustHave(t, "SELECT name FROM events ORDER BY seq", "y")
	store.mustHave(t, "SELECT reason FROM gaps", "HISTORY_EXPIRED")
}

func TestATransactionKeepsAllOrNothing(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "events.db"))
	store.mustSave(t, fake.Progress("w1", false))
	wrong := errors.New("wrong")
	for _, end := range []error{wrong, nil} {
		err := store.Transaction(t.Context(), frames{fake.Progress("w2", false)}, func(tx *sql.Tx) error {
			_, err := tx.Exec("CREATE TABLE mine (x)")
			return errors.Join(err, end)
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
		store.mustHave(t, "SELECT part FROM cursor", map[error]string{wrong: "w1", nil: "w2"}[end])
	}
}

func TestTwoProgramsDoNotWriteEverythingTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.db")
	one, other := open(t, path), open(t, path)
	one.mustSave(t, fake.Progress("w1", false))
	err := other.Save(t.Context(), frames{fake.Event("ADDED", "1", "x", 1, "d1")})
	if !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	one.mustHave(t, fmt.Sprintf("SELECT name FROM %s", "events"))
}
