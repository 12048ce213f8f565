package quorumwatch

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

// Start is where a subscription without a saved cursor begins.
type Start int

const (
	// Now begins with the changes from now on.
	Now Start = iota
	// Snapshot begins with the objects that exist, followed by their changes.
	Snapshot
)

// Options configure a subscription.
type Options struct {
	// Endpoints are replicas of one group, as host:port; any of them, in any order.
	Endpoints []string
	// Filters select what is sent: what matches any of them; everything if there are none.
	Filters []*quorumwatchv1.Filter
	// View is how much of each object is sent; the whole object by default.
	View quorumwatchv1.View
	// Start is where to begin if Kept is empty.
	Start Start
	// Kept is the saved cursor: Cursor.Parts, or Store.Kept.
	Kept []string
	// Until is when the subscription ends; never by default.
	Until quorumwatchv1.Until
	// ClientName identifies the client in the logs and statistics of replicas.
	ClientName string
	// Silence is how long a replica may send nothing before the next one is tried; 1.5 s by default.
	// A replica sends a heartbeat every half a second.
	Silence time.Duration
	// Dial has further options for connections; they are plaintext by default.
	Dial []grpc.DialOption
	// Logger logs which replica serves, and disconnections; slog.Default() if it is nil.
	Logger *slog.Logger

	times *times
}

type times struct {
	// A replica sends a Heartbeat after half a second without any other frame; after three missed
	// ones, the next replica is tried.
	silence time.Duration
	// The timeout for the connection and the first frame, while there are other replicas to try.
	firstFrame time.Duration
	// The same, if there are none.
	onlyFrame time.Duration
	// The resolution of these timeouts.
	tick time.Duration
	// A call that lasts this long, the longest pause between two attempts, has not failed.
	settled time.Duration
}

var usualTimes = times{
	silence:    1500 * time.Millisecond,
	firstFrame: 5 * time.Second,
	onlyFrame:  12 * time.Second,
	tick:       100 * time.Millisecond,
	settled:    pauseMax,
}

// Subscription is one stream of frames that resumes automatically at the next replica. Its methods
// are not safe for concurrent use, except Endpoint and Close.
type Subscription struct {
	options  Options
	course   *course
	received Cursor // after the last frame put into the buffer
	cursor   Cursor
	buffer   *buffer
	waiting  []*Frame
	endpoint atomic.Pointer[string]
	leave    context.CancelFunc
	done     chan struct{}
}

// Subscribe starts a subscription. It ends when ctx is done, or with Close.
func Subscribe(ctx context.Context, options Options) (*Subscription, error) {
	course, err := newCourse(options.Endpoints, rand.Float64)
	if err != nil {
		return nil, err
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	if options.times == nil {
		options.times = &usualTimes
	}
	if options.Silence > 0 {
		times := *options.times
		times.silence = options.Silence
		options.times = &times
	}
	ctx, leave := context.WithCancel(ctx)
	s := &Subscription{
		options:  options,
		course:   course,
		received: NewCursor(options.Kept),
		cursor:   NewCursor(options.Kept),
		buffer:   newBuffer(),
		leave:    leave,
		done:     make(chan struct{}),
	}
	go s.run(ctx)
	return s, nil
}

// Close ends the subscription, and waits for its goroutine.
func (s *Subscription) Close() {
	s.leave()
	<-s.done
}

// Cursor returns the cursor after the last returned frame: save its parts with your results.
func (s *Subscription) Cursor() Cursor {
	return NewCursor(s.cursor.parts)
}

// Endpoint returns the replica that serves the subscription; empty while it is disconnected.
func (s *Subscription) Endpoint() string {
	if endpoint := s.endpoint.Load(); endpoint != nil {
		return *endpoint
	}
	return ""
}

// Next returns the next frame. Its error is io.EOF after Options.Until, the error of the context, a
// *Failure that no replica can resolve, or a *ClosedError.
func (s *Subscription) Next(ctx context.Context) (*Frame, error) {
	if len(s.waiting) == 0 {
		frames, err := s.buffer.take(ctx)
		if err != nil {
			return nil, err
		}
		s.waiting = frames
	}
	frame := s.waiting[0]
	s.waiting = s.waiting[1:]
	s.cursor.Keep(frame)
	return frame, nil
}

// Batch returns all frames that have arrived, at least one. One transaction for each batch gives a
// high throughput under load, and a low latency otherwise. Its errors are those of Next.
func (s *Subscription) Batch(ctx context.Context) ([]*Frame, error) {
	frames := s.waiting
	s.waiting = nil
	if len(frames) == 0 {
		var err error
		if frames, err = s.buffer.take(ctx); err != nil {
			return nil, err
		}
	}
	for _, frame := range frames {
		s.cursor.Keep(frame)
	}
	return frames, nil
}

// Batches iterates over batches. It ends after Options.Until, or yields an error and ends.
func (s *Subscription) Batches(ctx context.Context) iter.Seq2[[]*Frame, error] {
	return func(yield func([]*Frame, error) bool) {
		for {
			frames, err := s.Batch(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(frames, err) || err != nil {
				return
			}
		}
	}
}

func (s *Subscription) run(ctx context.Context) {
	defer close(s.done)
	defer s.leave()
	for {
		if err := s.try(ctx, s.course.next(time.Now())); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			s.buffer.end(err)
			return
		}
	}
}

// try receives from one replica until it fails. An error ends the subscription.
func (s *Subscription) try(ctx context.Context, attempt attempt) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(attempt.wait):
	}
	closing, err := s.follow(ctx, attempt)
	s.endpoint.Store(nil)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if closing != nil {
		return s.obey(closing, attempt.endpoint)
	}
	if errors.Is(err, errSilent) || errors.Is(err, errLost) {
		s.course.goElsewhere(time.Now(), 0)
		s.options.Logger.Warn("left "+attempt.endpoint, "why", err)
		return nil
	}
	failure := FailureOf(err)
	switch failure.Reaction {
	case Elsewhere:
		s.course.goElsewhere(time.Now(), failure.RetryDelay)
	case Repeat:
		s.course.repeat(time.Now(), failure.RetryDelay)
	default:
		failure.Endpoint = attempt.endpoint
		return failure
	}
	s.options.Logger.Warn("left "+attempt.endpoint, "why", failure)
	return nil
}

// follow receives from one replica. It returns the Closing if that was the last frame.
func (s *Subscription) follow(ctx context.Context, attempt attempt) (*quorumwatchv1.Closing, error) {
	started := time.Now()
	within := s.options.times.onlyFrame
	if attempt.isHurried {
		within = s.options.times.firstFrame
	}
	var closing *quorumwatchv1.Closing
	take := func(frame *Frame) error {
		if s.endpoint.Load() == nil {
			s.endpoint.Store(&attempt.endpoint)
			s.options.Logger.Info("following at " + attempt.endpoint)
		}
		if time.Since(started) >= s.options.times.settled {
			s.course.holds()
		}
		s.received.Keep(frame)
		if err := s.buffer.put(ctx, frame); err != nil {
			return err
		}
		if closing = frame.GetClosing(); closing != nil {
			return io.EOF
		}
		return nil
	}
	request := s.request()
	err := receive(ctx, attempt.endpoint, request, s.options.Dial, s.options.times, within, take)
	return closing, err
}

func (s *Subscription) request() *quorumwatchv1.SubscribeRequest {
	request := &quorumwatchv1.SubscribeRequest{
		Filters:    s.options.Filters,
		View:       s.options.View,
		Until:      s.options.Until,
		ClientName: s.options.ClientName,
	}
	switch parts := s.received.Parts(); {
	case len(parts) > 0:
		cursor := &quorumwatchv1.FromCursor{Cursors: parts}
		request.From = &quorumwatchv1.SubscribeRequest_Resume{Resume: cursor}
	case s.options.Start == Snapshot:
		request.From = &quorumwatchv1.SubscribeRequest_Snapshot{Snapshot: &quorumwatchv1.FromSnapshot{}}
	default:
		request.From = &quorumwatchv1.SubscribeRequest_Now{Now: &quorumwatchv1.FromNow{}}
	}
	return request
}

// obey carries out the action of a Closing. An error ends the subscription.
func (s *Subscription) obey(closing *quorumwatchv1.Closing, endpoint string) error {
	delay := min(closing.GetRetryDelay().AsDuration(), delayMax)
	switch closing.GetAction() {
	case quorumwatchv1.ClosingAction_CLOSING_ACTION_STOP:
		if closing.GetReason() == quorumwatchv1.ClosingReason_CLOSING_REASON_COMPLETE {
			return io.EOF
		}
		return &ClosedError{Closing: proto.CloneOf(closing)}
	case quorumwatchv1.ClosingAction_CLOSING_ACTION_RESUME:
		s.course.repeat(time.Now(), delay)
	default:
		s.course.goElsewhere(time.Now(), delay)
	}
	s.options.Logger.Warn("left "+endpoint, "why", closing.GetMessage())
	return nil
}
