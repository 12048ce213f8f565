package quorumwatch

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"
)

// How much is buffered between a call and its consumer; when the buffer is full, the replica waits
// (flow control). An object may have 8 MiB.
const (
	bufferFramesMax = 1024
	bufferBytesMax  = 16 << 20
)

// buffer is a queue with two limits, for one producer and one consumer.
type buffer struct {
	mutex  sync.Mutex
	frames []*Frame
	bytes  int
	err    error // returned after the last frame; nil while more can come
	// Each holds a token when the consumer or the producer should check again.
	changed chan struct{}
	hasRoom chan struct{}
}

func newBuffer() *buffer {
	return &buffer{changed: make(chan struct{}, 1), hasRoom: make(chan struct{}, 1)}
}

// put waits for room and adds a frame. An empty buffer takes a frame of any size.
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

// end marks the buffer as complete: err is returned after the frames that it still holds.
func (b *buffer) end(err error) {
	b.mutex.Lock()
	b.err = err
	b.mutex.Unlock()
	wake(b.changed)
}

// take waits for at least one frame and returns all frames, or the error given to end.
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
