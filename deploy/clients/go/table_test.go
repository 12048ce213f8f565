package quorumwatch

import (
	"fmt"
	"slices"
	"testing"

	"quorumwatch.dev/client/internal/fake"
)

func tableOf(frames ...*Frame) *Table {
	table := &Table{}
	for _, frame := range frames {
		table.Apply(frame)
	}
	return table
}

func (t *Table) mustHave(test *testing.T, wanted ...string) {
	test.Helper()
	got := []string{}
	for key, event := range t.All() {
		version := event.GetPosition().GetResourceVersion()
		got = append(got, fmt.Sprintf("%s/%s@%s", key.Stream, key.Name, version))
	}
	slices.Sort(got)
	if !slices.Equal(got, wanted) || t.Len() != len(wanted) {
		test.Fatalf("got %q, wanted %q", got, wanted)
	}
}

func snapshot(more ...*Frame) []*Frame {
	return append([]*Frame{
		fake.StreamChange("ADDED", "1", true),
		fake.Event("SNAPSHOT", "1", "x", 1, ""),
		fake.Event("SNAPSHOT", "1", "y", 2, ""),
	}, more...)
}

func TestASnapshotFillsItAndChangesKeepIt(t *testing.T) {
	table := tableOf(snapshot()...)
	if table.IsComplete() {
		t.Error("complete inside a snapshot")
	}
	table.Apply(fake.Synced("1", 3))
	if !table.IsComplete() || table.IsUpToDate() {
		t.Error("not complete after it, or up to date without a progress")
	}
	table.Apply(fake.Progress("w", true))
	if !table.IsUpToDate() {
		t.Error("not up to date")
	}
	table.Apply(fake.Event("ADDED", "1", "z", 4, ""))
	table.Apply(fake.Event("MODIFIED", "1", "x", 5, ""))
	table.Apply(fake.Event("DELETED", "1", "y", 6, ""))
	table.mustHave(t, "1/x@5", "1/z@4")
	table.Apply(fake.Event("UNMATCHED", "1", "x", 7, ""))
	table.Apply(fake.Event("UNMATCHED", "1", "never-had", 8, ""))
	table.mustHave(t, "1/z@4")
	if found := table.Get("1", "ns", "z"); found.GetObject().GetUid() != "uid-z" {
		t.Error(found)
	}
	if table.Get("1", "", "z") != nil || table.Get("2", "ns", "z") != nil {
		t.Error("found what is not there")
	}
}

func TestAnUnrepairedGapReplacesWhatIsThere(t *testing.T) {
	table := tableOf(snapshot(
		fake.Synced("1", 3), fake.Gap("HISTORY_EXPIRED", "1", false), fake.Event("SNAPSHOT", "1", "y", 9, ""),
	)...)
	table.mustHave(t, "1/x@1", "1/y@9")
	dropped := table.Apply(fake.Synced("1", 10))
	if len(dropped) != 1 || !dropped[0].Dropped || dropped[0].Key.Name != "x" {
		t.Error(dropped)
	}
	table.mustHave(t, "1/y@9")
}

func TestASnapshotThatStartsAgainForgetsWhatItNamed(t *testing.T) {
	tableOf(snapshot(
		fake.Gap("SNAPSHOT_RESTARTED", "1", false), fake.Event("SNAPSHOT", "1", "y", 2, ""),
		fake.Synced("1", 3),
	)...).mustHave(t, "1/y@2")
}

func TestARepairedGapAsksForNothing(t *testing.T) {
	table := tableOf(snapshot(
		fake.Synced("1", 3), fake.Gap("HISTORY_EXPIRED", "1", true), fake.Event("DELETED", "1", "x", 7, ""),
	)...)
	table.mustHave(t, "1/y@2")
	if !table.IsComplete() {
		t.Error("not complete")
	}
}

func TestStreamsAreApart(t *testing.T) {
	table := tableOf(snapshot(
		fake.StreamChange("ADDED", "2", true), fake.Event("SNAPSHOT", "2", "x", 1, ""),
		fake.Synced("1", 3),
	)...)
	table.mustHave(t, "1/x@1", "1/y@2", "2/x@1")
	if dropped := table.Apply(fake.StreamChange("REMOVED", "1", false)); len(dropped) != 2 {
		t.Error(dropped)
	}
	table.mustHave(t, "2/x@1")
	for stream := range table.Streams() {
		if stream.GetStream() != "2" {
			t.Error(stream)
		}
	}
	tableOf(snapshot(
		fake.Synced("1", 3), fake.StreamChange("ADDED", "1", true), fake.Synced("1", 9),
	)...).mustHave(t)
	tableOf(snapshot(
		fake.Synced("1", 3), fake.StreamChange("ADDED", "1", false), fake.StreamChange("PAUSED", "1", false),
	)...).mustHave(t, "1/x@1", "1/y@2")
}
