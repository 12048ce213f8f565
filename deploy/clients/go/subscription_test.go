package quorumwatch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"quorumwatch.dev/client/internal/fake"
	quorumwatchv1 "quorumwatch.dev/client/quorumwatch/v1"
)

var quick = times{
	silence:    300 * time.Millisecond,
	onlyFrame:  300 * time.Millisecond,
	firstFrame: 200 * time.Millisecond,
	tick:       20 * time.Millisecond,
	settled:    2 * time.Second,
}

var unavailable = fake.Status(codes.Unavailable, "")

func subscribe(t *testing.T, options Options, replicas ...*fake.Replica) *Subscription {
	t.Helper()
	for _, replica := range replicas {
		options.Endpoints = append(options.Endpoints, replica.Endpoint)
	}
	options.Logger = slog.New(slog.DiscardHandler)
	subscription, err := Subscribe(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(subscription.Close)
	return subscription
}

// names returns the object names of all events, in order, and the error at the end.
func names(t *testing.T, subscription *Subscription) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var received []string
	for {
		frame, err := subscription.Next(ctx)
		if err != nil {
			return received, err
		}
		if event := frame.GetEvent(); event != nil {
			received = append(received, event.GetObject().GetName())
		}
	}
}

func mustComplete(t *testing.T, subscription *Subscription, wanted ...string) {
	t.Helper()
	received, err := names(t, subscription)
	if !errors.Is(err, io.EOF) || !slices.Equal(received, wanted) {
		t.Fatalf("got %q and %v, wanted %q", received, err, wanted)
	}
}

func mustResume(t *testing.T, replica *fake.Replica, wanted ...string) {
	t.Helper()
	var got []string
	for _, parts := range replica.Resumed() {
		got = append(got, strings.Join(parts, ","))
	}
	if !slices.Equal(got, wanted) {
		t.Fatalf("resumed with %q, wanted %q", got, wanted)
	}
}

func TestTheRequestSaysWhatWasAskedFor(t *testing.T) {
	replica := fake.Serve(t, fake.Plays(nil, fake.Complete()))
	mustComplete(t, subscribe(t, Options{
		Filters:    []*quorumwatchv1.Filter{{Clusters: []string{"one"}}},
		View:       quorumwatchv1.View_VIEW_NONE,
		Start:      Snapshot,
		ClientName: "test",
	}, replica))
	request := replica.Requests()[0]
	if request.GetSnapshot() == nil || request.GetView() != quorumwatchv1.View_VIEW_NONE ||
		request.GetFilters()[0].GetClusters()[0] != "one" || request.GetClientName() != "test" {
		t.Fatal(request)
	}
}

func TestALostConnectionIsResumedElsewhereWithWholeAndDeltasInOrder(t *testing.T) {
	first := fake.Serve(t, fake.Plays(unavailable,
		fake.StreamChange("ADDED", "1", false),
		fake.Progress("w1", false),
		fake.Event("ADDED", "1", "x", 1, "d1"),
		fake.Event("ADDED", "1", "y", 2, "d2"),
	))
	second := fake.Serve(t, fake.Plays(nil,
		fake.Progress("w2", false), fake.Event("ADDED", "1", "z", 3, "d3"), fake.Complete(),
	))
	subscription := subscribe(t, Options{}, first, second)
	mustComplete(t, subscription, "x", "y", "z")
	mustResume(t, second, "w1,d1,d2")
	if first.Requests()[0].GetNow() == nil {
		t.Error("the first time began elsewhere")
	}
	cursor := subscription.Cursor()
	if !slices.Equal(cursor.Parts(), []string{"end"}) {
		t.Error(cursor)
	}
}

func TestWithNothingKeptItBeginsAsTheFirstTime(t *testing.T) {
	first := fake.Serve(t, fake.Plays(unavailable, fake.StreamChange("ADDED", "1", true)))
	second := fake.Serve(t, fake.Plays(nil, fake.Complete()))
	mustComplete(t, subscribe(t, Options{Start: Snapshot}, first, second))
	if second.Requests()[0].GetSnapshot() == nil {
		t.Error(second.Requests()[0])
	}
}

func TestWhatWasKeptIsResumedAtOnce(t *testing.T) {
	replica := fake.Serve(t, fake.Plays(nil, fake.Complete()))
	mustComplete(t, subscribe(t, Options{Start: Snapshot, Kept: []string{"w", "d"}}, replica))
	mustResume(t, replica, "w,d")
}

func TestClosingSaysWhereToGoOnAndWhen(t *testing.T) {
	stopping := fake.Closing("REPLICA_STOPPING", "RESUME_ELSEWHERE", "w1", 0)
	first := fake.Serve(t, fake.Plays(unavailable, stopping))
	slow := fake.Closing("SUBSCRIBER_TOO_SLOW", "RESUME", "w3", 300*time.Millisecond)
	second := fake.Serve(t,
		fake.Plays(nil, fake.Progress("w2", false), slow), fake.Plays(nil, fake.Complete()),
	)
	started := time.Now()
	mustComplete(t, subscribe(t, Options{}, first, second))
	if took := time.Since(started); took < 300*time.Millisecond {
		t.Errorf("it waited for %v only", took)
	}
	mustResume(t, first, "")
	mustResume(t, second, "w1", "w3")
}

func TestAClosingThatStopsWithoutBeingCompleteIsAnError(t *testing.T) {
	replica := fake.Serve(t, fake.Plays(nil, fake.Closing("UNSPECIFIED", "STOP", "w1", 0)))
	_, err := names(t, subscribe(t, Options{}, replica))
	var closed *ClosedError
	if !errors.As(err, &closed) || closed.Error() != "a sentence" {
		t.Fatal(err)
	}
}

func TestASilentReplicaIsLeftBeforeAndAfterItsFirstFrame(t *testing.T) {
	deaf := fake.Serve(t, fake.PlaysThenHangs())
	mute := fake.Serve(t, fake.PlaysThenHangs(
		fake.Progress("w1", false), fake.Event("ADDED", "1", "x", 1, "d1"),
	))
	last := fake.Serve(t, fake.Plays(nil, fake.Complete()))
	mustComplete(t, subscribe(t, Options{times: &quick}, deaf, mute, last), "x")
	mustResume(t, last, "w1,d1")
}

func TestHeartbeatsKeepAReplicaAndAreNotHandedOut(t *testing.T) {
	first := fake.Serve(t, fake.PlaysSlowly(
		quick.silence/3, fake.Progress("w1", false),
		fake.Heartbeat(), fake.Heartbeat(), fake.Heartbeat(), fake.Heartbeat(), fake.Heartbeat(),
		fake.Event("ADDED", "1", "x", 1, "d1"),
	))
	last := fake.Serve(t, fake.Plays(nil, fake.Complete()))
	usual := quick
	usual.silence = time.Hour
	options := Options{times: &usual, Silence: quick.silence}
	subscription := subscribe(t, options, first, last)
	for taken := 0; ; taken++ {
		frame, err := subscription.Next(t.Context())
		if errors.Is(err, io.EOF) && taken == 3 {
			break
		}
		if err != nil || frame.GetHeartbeat() != nil {
			t.Fatal(taken, frame, err)
		}
	}
	mustResume(t, last, "w1,d1")
}

func TestASubscriberThatTakesItsTimeIsNotHeldAgainstTheReplica(t *testing.T) {
	frames := []*Frame{}
	for version := range 3 * bufferFramesMax {
		frames = append(frames, fake.Event("ADDED", "1", "x", version, ""))
	}
	replica := fake.Serve(t, fake.Plays(nil, append(frames, fake.Complete())...))
	subscription := subscribe(t, Options{times: &quick}, replica)
	taken := 0
	for frames, err := range subscription.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if taken == 0 {
			time.Sleep(2 * quick.silence)
		}
		taken += len(frames)
	}
	if wanted := 3*bufferFramesMax + 1; taken != wanted || len(replica.Requests()) != 1 {
		t.Fatalf("%d frames of %d in %d calls", taken, wanted, len(replica.Requests()))
	}
}

func TestAReplicaThatIsNotThereIsPassedOver(t *testing.T) {
	last := fake.Serve(t, fake.Plays(nil, fake.Complete()))
	mustComplete(t, subscribe(t, Options{Endpoints: []string{"127.0.0.1:1"}}, last))
}

func TestOtherReplicasMayHelp(t *testing.T) {
	for _, err := range []error{
		fake.Status(codes.Unavailable, "NO_QUORUM"),
		fake.Status(codes.Unavailable, "CURSOR_TOO_NEW"),
		fake.Status(codes.ResourceExhausted, ""),
		fake.Status(codes.Internal, ""),
		// The reason counts, not the code.
		fake.Status(codes.InvalidArgument, "REPLICA_BEHIND"),
	} {
		first, second := fake.Serve(t, fake.Plays(err)), fake.Serve(t, fake.Plays(nil, fake.Complete()))
		mustComplete(t, subscribe(t, Options{}, first, second))
		mustResume(t, first, "")
		mustResume(t, second, "")
	}
}

func TestARequestAtFaultIsNotRepeated(t *testing.T) {
	violation := &errdetails.BadRequest_FieldViolation{Field: "view", Description: "is not known"}
	details := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}}
	for _, refusal := range []struct {
		code     codes.Code
		reason   string
		isCursor bool
	}{
		{codes.InvalidArgument, "INVALID_REQUEST", false},
		{codes.InvalidArgument, "CURSOR_FOREIGN", true},
		{codes.ResourceExhausted, "LIMIT_REACHED", false},
		{codes.Unimplemented, "", false},
		{codes.InvalidArgument, "A_LATER_ONE", false},
	} {
		first := fake.Serve(t, fake.Plays(fake.Status(refusal.code, refusal.reason, details)))
		second := fake.Serve(t, fake.Plays(nil, fake.Complete()))
		_, err := names(t, subscribe(t, Options{}, first, second))
		var failure *Failure
		if !errors.As(err, &failure) || failure.Reason != refusal.reason ||
			failure.Reaction != Fix || failure.IsCursor() != refusal.isCursor ||
			!strings.Contains(err.Error(), "view: is not known") {
			t.Errorf("%+v: %v", refusal, err)
		}
		mustResume(t, second)
	}
}

func TestAReplicaIsAskedAgainOnlyAfterTheDelayThatItAsksFor(t *testing.T) {
	retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(300 * time.Millisecond)}
	busy := fake.Plays(fake.Status(codes.Unavailable, "REPLICA_BEHIND", retry))
	started := time.Now()
	mustComplete(t, subscribe(t, Options{}, fake.Serve(t, busy, fake.Plays(nil, fake.Complete()))))
	if took := time.Since(started); took < 300*time.Millisecond {
		t.Errorf("it waited for %v only", took)
	}
}

func TestFramesOfLaterVersionsAreHandedOutAndTheirCursorIsKept(t *testing.T) {
	replica := fake.Serve(t,
		fake.Plays(unavailable, fake.Progress("w1", false), &Frame{CursorDelta: "d1"}),
		fake.Plays(nil, fake.Complete()),
	)
	mustComplete(t, subscribe(t, Options{}, replica))
	mustResume(t, replica, "", "w1,d1")
}

func TestWhatWasReceivedButNotHandedOutIsNotInThePublicCursor(t *testing.T) {
	subscription := subscribe(t, Options{}, fake.Serve(t, fake.PlaysThenHangs(
		fake.Progress("w1", false), fake.Event("ADDED", "1", "x", 1, "d1"),
	)))
	for _, wanted := range [][]string{{"w1"}, {"w1", "d1"}} {
		if _, err := subscription.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if cursor := subscription.Cursor(); !slices.Equal(cursor.Parts(), wanted) {
			t.Fatalf("got %q, wanted %q", cursor.Parts(), wanted)
		}
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	replica := fake.Serve(t, fake.PlaysThenHangs())
	ctx, cancel := context.WithCancel(t.Context())
	logger := slog.New(slog.DiscardHandler)
	subscription, err := Subscribe(ctx, Options{Endpoints: []string{replica.Endpoint}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := subscription.Next(t.Context()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	subscription.Close()
}
