package quorumwatch

import (
	"iter"

	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// Key is an object's place in a table.
type Key struct {
	Stream, Namespace, Name string
}

// RowChange is one row that a frame has changed.
type RowChange struct {
	Key Key
	// Event is what is stored now; what was stored last where it was dropped.
	Event *quorumwatchv1.Event
	// Dropped: the row is gone.
	Dropped bool
}

// Table is a copy of what exists: objects by stream, namespace and name, each as the last event
// that brought it. The zero value is empty.
//
// Feed it every frame of a subscription that began with a snapshot and whose filters name no change
// types. A program that starts again begins with an empty table and nothing kept.
type Table struct {
	streams    map[string]*tableStream
	isUpToDate bool
}

type tableStream struct {
	change *quorumwatchv1.StreamChange
	rows   map[Key]*quorumwatchv1.Event
	// The keys that the snapshot under way has named; nil where none is under way.
	seen map[Key]struct{}
}

// Apply does what a frame says, and returns the rows that it has changed.
func (t *Table) Apply(frame *Frame) []RowChange {
	switch frame := frame.GetFrame().(type) {
	case *quorumwatchv1.SubscribeResponse_Event:
		return t.event(frame.Event)
	case *quorumwatchv1.SubscribeResponse_StreamChange:
		return t.streamChange(frame.StreamChange)
	case *quorumwatchv1.SubscribeResponse_Gap:
		t.gap(frame.Gap)
	case *quorumwatchv1.SubscribeResponse_Synced:
		return t.synced(frame.Synced)
	case *quorumwatchv1.SubscribeResponse_Progress:
		t.isUpToDate = frame.Progress.GetUpToDate()
	case *quorumwatchv1.SubscribeResponse_Closing:
		t.isUpToDate = false
	}
	return nil
}

// IsComplete: no snapshot is under way; what exists is there, as of some moment.
func (t *Table) IsComplete() bool {
	for _, stream := range t.streams {
		if stream.seen != nil {
			return false
		}
	}
	return true
}

// IsUpToDate: it is complete, and the last progress said that nothing is catching up.
func (t *Table) IsUpToDate() bool {
	return t.isUpToDate && t.IsComplete()
}

// Streams are those of the subscription, each as it was last described.
func (t *Table) Streams() iter.Seq[*quorumwatchv1.StreamChange] {
	return func(yield func(*quorumwatchv1.StreamChange) bool) {
		for _, stream := range t.streams {
			if !yield(stream.change) {
				return
			}
		}
	}
}

// Get is one object, nil where there is none; an empty namespace for one that has none.
func (t *Table) Get(stream, namespace, name string) *quorumwatchv1.Event {
	if known := t.streams[stream]; known != nil {
		return known.rows[Key{stream, namespace, name}]
	}
	return nil
}

// Len is how many objects there are.
func (t *Table) Len() int {
	count := 0
	for _, stream := range t.streams {
		count += len(stream.rows)
	}
	return count
}

// All is every object.
func (t *Table) All() iter.Seq2[Key, *quorumwatchv1.Event] {
	return func(yield func(Key, *quorumwatchv1.Event) bool) {
		for _, stream := range t.streams {
			for key, event := range stream.rows {
				if !yield(key, event) {
					return
				}
			}
		}
	}
}

func (t *Table) stream(name string) *tableStream {
	stream := t.streams[name]
	if stream == nil {
		if t.streams == nil {
			t.streams = map[string]*tableStream{}
		}
		stream = &tableStream{
			change: &quorumwatchv1.StreamChange{Stream: name},
			rows:   map[Key]*quorumwatchv1.Event{},
		}
		t.streams[name] = stream
	}
	return stream
}

func (t *Table) event(event *quorumwatchv1.Event) []RowChange {
	stream := t.stream(event.GetStream())
	object := event.GetObject()
	key := Key{event.GetStream(), object.GetNamespace(), object.GetName()}
	switch event.GetChangeType() {
	case quorumwatchv1.ChangeType_CHANGE_TYPE_SNAPSHOT:
		if stream.seen != nil {
			stream.seen[key] = struct{}{}
		}
	case quorumwatchv1.ChangeType_CHANGE_TYPE_ADDED, quorumwatchv1.ChangeType_CHANGE_TYPE_MODIFIED:
	case quorumwatchv1.ChangeType_CHANGE_TYPE_DELETED, quorumwatchv1.ChangeType_CHANGE_TYPE_UNMATCHED:
		return stream.drop(nil, key)
	default:
		return nil
	}
	stream.rows[key] = event
	return []RowChange{{Key: key, Event: event}}
}

func (t *Table) streamChange(change *quorumwatchv1.StreamChange) []RowChange {
	name := change.GetStream()
	if change.GetType() == quorumwatchv1.StreamChangeType_STREAM_CHANGE_TYPE_REMOVED {
		var changes []RowChange
		if gone := t.streams[name]; gone != nil {
			for key := range gone.rows {
				changes = gone.drop(changes, key)
			}
		}
		delete(t.streams, name)
		return changes
	}
	stream := t.stream(name)
	stream.change = change
	if change.GetSnapshotFollows() {
		stream.seen = map[Key]struct{}{}
	}
	return nil
}

func (t *Table) gap(gap *quorumwatchv1.Gap) {
	// A repaired gap asks for nothing: what follows are ordinary events.
	restarts := gap.GetReason() == quorumwatchv1.GapReason_GAP_REASON_SNAPSHOT_RESTARTED
	if !gap.GetRepaired() || restarts {
		t.stream(gap.GetStream()).seen = map[Key]struct{}{}
	}
}

func (t *Table) synced(synced *quorumwatchv1.Synced) []RowChange {
	stream := t.stream(synced.GetStream())
	if stream.seen == nil {
		return nil
	}
	var changes []RowChange
	for key := range stream.rows {
		if _, isSeen := stream.seen[key]; !isSeen {
			changes = stream.drop(changes, key)
		}
	}
	stream.seen = nil
	return changes
}

func (s *tableStream) drop(changes []RowChange, key Key) []RowChange {
	event, isThere := s.rows[key]
	if !isThere {
		return changes
	}
	delete(s.rows, key)
	return append(changes, RowChange{Key: key, Event: event, Dropped: true})
}
