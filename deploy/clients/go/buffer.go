package quorumwatch

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"
)

// What may wait between a call and who takes it; beyond it the replica is made to wait. An
// object may have 8 MiB.
const (
	bufferFramesMax = 1024
	bufferBytesMax  = 16 << 20
)

// buffer is a queue with two limits, for one goroutine that puts.
type buffer struct {
	mutex  sync.Mutex
	frames []*Frame
	bytes  int
	err    error // what comes after the frames; nil: there is more to come
	// Each holds a token where there may be something to do for the other side.
	changed chan struct{}
	hasRoom chan struct{}
}

func newBuffer() *buffer {
	return &buffer{changed: make(chan struct{}, 1), hasRoom: make(chan struct{}, 1)}
}

// put adds a frame once there is room. One alone may be of any size.
func (b *buffer) put(ctx context.Context, frame *Frame) error {
	size := proto.Size(frame)
	for !b.tryPut(frame, size) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.hasRoom:
		}
	}
	wake(b.changed)
	return nil
}

func (b *buffer) tryPut(frame *Frame, size int) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	isFull := len(b.frames) >= bufferFramesMax || b.bytes+size > bufferBytesMax
	if isFull && len(b.frames) > 0 {
		return false
	}
	b.frames = append(b.frames, frame)
	b.bytes += size
	return true
}

// end: nothing but this error comes after what is there.
func (b *buffer) end(err error) {
	b.mutex.Lock()
	b.err = err
	b.mutex.Unlock()
	wake(b.changed)
}

// take is all that is there, at least one frame, or the error that it ended with.
func (b *buffer) take(ctx context.Context) ([]*Frame, error) {
	for {
		frames, err := b.tryTake()
		if len(frames) > 0 {
			wake(b.hasRoom)
			return frames, nil
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-b.changed:
		}
	}
}

func (b *buffer) tryTake() ([]*Frame, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	frames := b.frames
	b.frames, b.bytes = nil, 0
	return frames, b.err
}

func wake(side chan struct{}) {
	select {
	case side <- struct{}{}:
	default:
	}
}
