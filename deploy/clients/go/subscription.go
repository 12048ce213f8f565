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

// Start is where a subscription begins that has nothing kept.
type Start int

const (
	// Now begins with what happens from now on.
	Now Start = iota
	// Snapshot begins with what exists; then come its changes.
	Snapshot
)

// Options say what is asked for, of whom, and where to begin.
type Options struct {
	// Endpoints are replicas of one group, as host:port; any of them, in any order.
	Endpoints []string
	// Filters: what matches one of them is sent; everything without.
	Filters []*quorumwatchv1.Filter
	// View: the whole object, unless it says otherwise.
	View quorumwatchv1.View
	// Start is where to begin, unless something was kept.
	Start Start
	// Kept is Cursor.Parts, or Store.Kept.
	Kept []string
	// Until: without end, unless it says otherwise.
	Until quorumwatchv1.Until
	// ClientName is for the logs and statistics of replicas.
	ClientName string
	// Silence: a replica that sends nothing for longer is left; 1.5 s unless it says otherwise. A
	// heartbeat comes every half a second.
	Silence time.Duration
	// Dial adds to how replicas are reached: plaintext, unless it says otherwise.
	Dial []grpc.DialOption
	// Logger learns of replicas that serve and fail; slog.Default() where it is nil.
	Logger *slog.Logger

	times *times
}

type times struct {
	// A replica sends a Heartbeat after half a second without any other frame; one that misses
	// three is left.
	silence time.Duration
	// While there are others to try, the connection and the first frame take no longer.
	firstFrame time.Duration
	// Nor this, where there are none.
	onlyFrame time.Duration
	// How exact these are.
	tick time.Duration
	// A call that lives so long is no failed attempt: the longest pause between two of those.
	settled time.Duration
}

var usualTimes = times{
	silence:    1500 * time.Millisecond,
	firstFrame: 5 * time.Second,
	onlyFrame:  12 * time.Second,
	tick:       100 * time.Millisecond,
	settled:    pauseMax,
}

// Subscription is one stream of frames that resumes by itself, at one replica after the other. Its
// methods are for one goroutine, but for Endpoint and Close.
type Subscription struct {
	options  Options
	course   *course
	received Cursor // of the frames in the buffer, too
	cursor   Cursor
	buffer   *buffer
	waiting  []*Frame
	endpoint atomic.Pointer[string]
	leave    context.CancelFunc
	done     chan struct{}
}

// Subscribe begins. It ends with ctx, or with Close.
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

// Close leaves, and waits until everything has ended.
func (s *Subscription) Close() {
	s.leave()
	<-s.done
}

// Cursor is the one after the last frame that was handed out: save its parts with what came of it.
func (s *Subscription) Cursor() Cursor {
	return NewCursor(s.cursor.parts)
}

// Endpoint is the replica that serves; empty between two.
func (s *Subscription) Endpoint() string {
	if endpoint := s.endpoint.Load(); endpoint != nil {
		return *endpoint
	}
	return ""
}

// Next is the next frame. Its error is io.EOF after Options.Until, that of the context, a *Failure
// where no replica can help, or a *ClosedError.
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

// Batch is all frames that have arrived, at least one. One transaction for each batch is fast under
// load, and prompt without it. Its errors are those of Next.
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

// Batches is one Batch after the other. It ends without an error after Options.Until, else with one.
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

// try follows one replica until it is gone. An error is the end of the subscription.
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

// follow takes what one replica sends. It returns the Closing where that was the last.
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

// obey does as the server says. An error is the end of the subscription.
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
