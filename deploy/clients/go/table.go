package quorumwatch

import (
	"iter"

	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// Key is an object's place in a table.
type Key struct {
	Stream, Namespace, Name string
}

// RowChange is a change of one row by a frame.
type RowChange struct {
	Key Key
	// Event is the stored event; for a dropped row, the last one.
	Event *quorumwatchv1.Event
	// Dropped reports whether the row was removed.
	Dropped bool
}

// Table is a copy of the objects that exist, by stream, namespace and name, each as its last event.
// The zero value is empty.
//
// Apply every frame of a subscription that began with a snapshot and whose filters do not select
// change types. After a restart, begin with an empty table and without a saved cursor.
type Table struct {
	streams    map[string]*tableStream
	isUpToDate bool
}

type tableStream struct {
	change *quorumwatchv1.StreamChange
	rows   map[Key]*quorumwatchv1.Event
	// The keys in the current snapshot so far; nil if no snapshot is in progress.
	seen map[Key]struct{}
}

// Apply applies a frame, and returns the rows that it changed.
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

// IsComplete reports whether no snapshot is in progress: the table is consistent, but may be old.
func (t *Table) IsComplete() bool {
	for _, stream := range t.streams {
		if stream.seen != nil {
			return false
		}
	}
	return true
}

// IsUpToDate reports whether the table is complete, and no stream was catching up at the last
// progress.
func (t *Table) IsUpToDate() bool {
	return t.isUpToDate && t.IsComplete()
}

// Streams iterates over the streams of the subscription, each as its last StreamChange.
func (t *Table) Streams() iter.Seq[*quorumwatchv1.StreamChange] {
	return func(yield func(*quorumwatchv1.StreamChange) bool) {
		for _, stream := range t.streams {
			if !yield(stream.change) {
				return
			}
		}
	}
}

// Get returns one object, or nil; the namespace of a cluster-scoped object is empty.
func (t *Table) Get(stream, namespace, name string) *quorumwatchv1.Event {
	if known := t.streams[stream]; known != nil {
		return known.rows[Key{stream, namespace, name}]
	}
	return nil
}

// Len returns the number of objects.
func (t *Table) Len() int {
	count := 0
	for _, stream := range t.streams {
		count += len(stream.rows)
	}
	return count
}

// All iterates over all objects.
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
	// After a repaired gap there is no snapshot: ordinary events follow.
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
