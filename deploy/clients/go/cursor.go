package quorumwatch

import (
	"slices"

	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// Frame is what a subscription brings. Its Frame field says what it is; nil is a frame of a later
// version, of which only the cursor matters.
type Frame = quorumwatchv1.SubscribeResponse

// Cursor is what is kept of a subscription's cursor: the last whole, then the deltas after it, in
// order. Opaque: never build, shorten, reorder or merge the parts. The zero value is empty.
type Cursor struct {
	parts []string
}

// NewCursor continues with what was kept.
func NewCursor(kept []string) Cursor {
	return Cursor{parts: slices.Clone(kept)}
}

// Parts is what to save, and to give to a later subscription as Options.Kept.
func (c *Cursor) Parts() []string {
	return slices.Clone(c.parts)
}

// Keep makes it the cursor after this frame.
func (c *Cursor) Keep(frame *Frame) {
	switch {
	case frame.GetCursor() != "":
		c.parts = []string{frame.GetCursor()}
	case frame.GetCursorDelta() != "":
		c.parts = append(c.parts, frame.GetCursorDelta())
	}
}
