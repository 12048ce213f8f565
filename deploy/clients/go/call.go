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

// messageBytesMax is above the largest object, 8 MiB; the default of gRPC is 4 MiB.
const messageBytesMax = 32 << 20

var (
	errSilent = errors.New("it sent nothing for too long")
	errLost   = errors.New("it ended the subscription without a reason")
)

// watchdog cancels a call that receives nothing in time. It counts ticks instead of reading a
// clock: a pause of this process does not count.
type watchdog struct {
	tick   time.Duration
	cancel func()
	limit  chan int // how many ticks may pass from now on; 0: unlimited
	done   chan struct{}
}

func newWatchdog(tick time.Duration, cancel func()) *watchdog {
	w := &watchdog{tick: tick, cancel: cancel, limit: make(chan int), done: make(chan struct{})}
	go w.run()
	return w
}

// expect starts the timeout: something must be received within this time.
func (w *watchdog) expect(within time.Duration) {
	w.set(int(within/w.tick) + 1)
}

// rest stops the timeout, while the frame is processed and the replica waits for us.
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
				w.cancel()
			}
			left = max(left-1, 0)
		}
	}
}

// receive passes the frames of one replica to hand until the call ends. It returns the error of
// gRPC, errSilent, errLost, or the error of hand.
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
	// A connection for this call only, so that gRPC's own back-off does not apply.
	connection, err := grpc.NewClient(endpoint, append(dialOptions(), dial...)...)
	if err != nil {
		// The dial options are invalid: trying another replica does not help.
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
			// It only resets the timeout.
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
