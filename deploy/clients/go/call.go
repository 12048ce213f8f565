package quorumwatch

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// messageBytesMax: an object may have 8 MiB; the library's default is 4 MiB.
const messageBytesMax = 32 << 20

var (
	errSilent = errors.New("it is silent")
	errLost   = errors.New("it ended the subscription without a word")
)

// watchdog cancels a call that brings nothing. It counts ticks and not the time, so that a pause
// of this process is not held against the replica.
type watchdog struct {
	tick  time.Duration
	bark  func()
	limit chan int // how many ticks may pass from here on; 0: any number
	done  chan struct{}
}

func newWatchdog(tick time.Duration, bark func()) *watchdog {
	w := &watchdog{tick: tick, bark: bark, limit: make(chan int), done: make(chan struct{})}
	go w.run()
	return w
}

// expect: something must come within this time.
func (w *watchdog) expect(within time.Duration) {
	w.set(int(within/w.tick) + 1)
}

// rest: nothing is expected, as we are the ones who make the other side wait.
func (w *watchdog) rest() {
	w.set(0)
}

func (w *watchdog) set(ticks int) {
	select {
	case w.limit <- ticks:
	case <-w.done:
	}
}

func (w *watchdog) stop() {
	close(w.limit)
	<-w.done
}

func (w *watchdog) run() {
	defer close(w.done)
	ticker := time.NewTicker(w.tick)
	defer ticker.Stop()
	left := 0
	for {
		select {
		case ticks, isOpen := <-w.limit:
			if !isOpen {
				return
			}
			left = ticks
		case <-ticker.C:
			if left == 1 {
				w.bark()
			}
			left = max(left-1, 0)
		}
	}
}

// receive hands on what one replica sends, until the call ends: by the error of gRPC, errSilent,
// errLost, or that of hand.
func receive(
	ctx context.Context,
	endpoint string,
	request *quorumwatchv1.SubscribeRequest,
	dial []grpc.DialOption,
	times *times,
	firstWithin time.Duration,
	hand func(*Frame) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A connection of its own, so that the library's back-off plays no part.
	connection, err := grpc.NewClient(endpoint, append(dialOptions(), dial...)...)
	if err != nil {
		// The options cannot be used: no replica can help.
		return status.Error(codes.InvalidArgument, err.Error())
	}
	defer connection.Close()
	stream, err := quorumwatchv1.NewEventServiceClient(connection).Subscribe(ctx, request)
	if err != nil {
		return err
	}
	silence := newWatchdog(times.tick, func() { cancel(errSilent) })
	defer silence.stop()
	within := firstWithin
	for {
		silence.expect(within)
		frame, err := stream.Recv()
		silence.rest()
		switch {
		case context.Cause(ctx) == errSilent:
			return errSilent
		case errors.Is(err, io.EOF):
			return errLost
		case err != nil:
			return err
		}
		within = times.silence
		if frame.GetHeartbeat() != nil {
			// It has been heard, and that is all that it is for.
			continue
		}
		if err := hand(frame); err != nil {
			return err
		}
	}
}

func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
	}
}
