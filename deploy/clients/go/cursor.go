package quorumwatch

import (
	"slices"

	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// Frame is one message of a subscription. Its Frame field holds the content; it is nil in a frame
// of a later version, of which only the cursor matters.
type Frame = quorumwatchv1.SubscribeResponse

// Cursor holds the position of a subscription: the last whole cursor, and the deltas after it, in
// order. The parts are opaque: never build, shorten, reorder or merge them. The zero value is empty.
type Cursor struct {
	parts []string
}

// NewCursor returns the cursor with these saved parts.
func NewCursor(kept []string) Cursor {
	return Cursor{parts: slices.Clone(kept)}
}

// Parts returns what to save, and to pass to a later subscription as Options.Kept.
func (c *Cursor) Parts() []string {
	return slices.Clone(c.parts)
}

// Keep advances the cursor to this frame.
func (c *Cursor) Keep(frame *Frame) {
	switch {
	case frame.GetCursor() != "":
		c.parts = []string{frame.GetCursor()}
	case frame.GetCursorDelta() != "":
		c.parts = append(c.parts, frame.GetCursorDelta())
	}
}
