// Package fake has replicas that follow the script of a test, and helpers that build frames.
package fake

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "quorumwatch.dev/client/quorumwatch/v1"
)

// Script is what a replica sends in one subscription, and how it ends it.
type Script func(ctx context.Context, send func(*v1.SubscribeResponse) error) error

// Plays sends frames, then ends with err, which may be nil.
func Plays(err error, frames ...*v1.SubscribeResponse) Script {
	return func(_ context.Context, send func(*v1.SubscribeResponse) error) error {
		for _, frame := range frames {
			if err := send(frame); err != nil {
				return err
			}
		}
		return err
	}
}

// PlaysSlowly sends frames with a pause before each, then nothing.
func PlaysSlowly(pause time.Duration, frames ...*v1.SubscribeResponse) Script {
	return func(ctx context.Context, send func(*v1.SubscribeResponse) error) error {
		for _, frame := range frames {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			if err := send(frame); err != nil {
				return err
			}
		}
		return PlaysThenHangs()(ctx, send)
	}
}

// PlaysThenHangs sends frames, then nothing.
func PlaysThenHangs(frames ...*v1.SubscribeResponse) Script {
	return func(ctx context.Context, send func(*v1.SubscribeResponse) error) error {
		if err := Plays(nil, frames...)(ctx, send); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// Replica runs the next script for each subscription, and repeats the last one.
type Replica struct {
	v1.UnimplementedEventServiceServer
	Endpoint string

	mutex    sync.Mutex
	scripts  []Script
	requests []*v1.SubscribeRequest
}

// Serve starts a replica for the duration of the test.
func Serve(t *testing.T, scripts ...Script) *Replica {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	replica := &Replica{scripts: scripts, Endpoint: listener.Addr().String()}
	server := grpc.NewServer()
	v1.RegisterEventServiceServer(server, replica)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return replica
}

// Subscribe runs the next script.
func (r *Replica) Subscribe(
	request *v1.SubscribeRequest,
	stream grpc.ServerStreamingServer[v1.SubscribeResponse],
) error {
	r.mutex.Lock()
	script := r.scripts[0]
	if len(r.scripts) > 1 {
		r.scripts = r.scripts[1:]
	}
	r.requests = append(r.requests, request)
	r.mutex.Unlock()
	return script(stream.Context(), stream.Send)
}

// Requests returns the requests of all subscriptions.
func (r *Replica) Requests() []*v1.SubscribeRequest {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return slices.Clone(r.requests)
}

// Resumed returns the cursor of each subscription.
func (r *Replica) Resumed() [][]string {
	var resumed [][]string
	for _, request := range r.Requests() {
		resumed = append(resumed, request.GetResume().GetCursors())
	}
	return resumed
}

// Status is an error with this code, and with this reason unless it is empty.
func Status(code codes.Code, reason string, more ...protoadapt.MessageV1) error {
	if reason != "" {
		more = append(more, &errdetails.ErrorInfo{Domain: "quorumwatch.dev", Reason: reason})
	}
	with, err := status.New(code, "a sentence").WithDetails(more...)
	if err != nil {
		return err
	}
	return with.Err()
}

// Position is a position in era 1, with ordinal 0.
func Position(version int) *v1.Position {
	ordinal := uint32(0)
	return &v1.Position{Era: 1, ResourceVersion: fmt.Sprint(version), Ordinal: &ordinal}
}

// Event is a change of one object: version is its resource version and that of its position.
func Event(change, stream, name string, version int, delta string) *v1.SubscribeResponse {
	return &v1.SubscribeResponse{
		CursorDelta: delta,
		Frame: &v1.SubscribeResponse_Event{Event: &v1.Event{
			Id:         fmt.Sprintf("%s-%d", stream, version),
			Stream:     stream,
			Cluster:    "one",
			Resource:   "v1/events",
			ChangeType: v1.ChangeType(v1.ChangeType_value["CHANGE_TYPE_"+change]),
			Position:   Position(version),
			Object: &v1.ObjectMeta{
				Namespace: "ns", Name: name, Uid: "uid-" + name, ResourceVersion: fmt.Sprint(version),
			},
			ObjectJson: fmt.Sprintf(`{"rv": %d}`, version),
		}},
	}
}

// Progress has a whole cursor.
func Progress(cursor string, upToDate bool) *v1.SubscribeResponse {
	progress := &v1.Progress{UpToDate: upToDate}
	return &v1.SubscribeResponse{
		Cursor: cursor, Frame: &v1.SubscribeResponse_Progress{Progress: progress},
	}
}

// Heartbeat is an empty heartbeat.
func Heartbeat() *v1.SubscribeResponse {
	heartbeat := &v1.SubscribeResponse_Heartbeat{Heartbeat: &v1.Heartbeat{}}
	return &v1.SubscribeResponse{Frame: heartbeat}
}

// StreamChange is a stream change without a cursor.
func StreamChange(kind, stream string, snapshotFollows bool) *v1.SubscribeResponse {
	change := &v1.StreamChange{
		Stream:          stream,
		Type:            v1.StreamChangeType(v1.StreamChangeType_value["STREAM_CHANGE_TYPE_"+kind]),
		SnapshotFollows: snapshotFollows,
		Cluster:         "one",
	}
	return &v1.SubscribeResponse{Frame: &v1.SubscribeResponse_StreamChange{StreamChange: change}}
}

// Gap is a gap after version 5.
func Gap(reason, stream string, repaired bool) *v1.SubscribeResponse {
	gap := &v1.Gap{
		Stream:   stream,
		Cluster:  "one",
		Resource: "v1/events",
		From:     &v1.Position{Era: 1, ResourceVersion: "5"},
		Reason:   v1.GapReason(v1.GapReason_value["GAP_REASON_"+reason]),
		Repaired: repaired,
		Message:  "a sentence",
	}
	return &v1.SubscribeResponse{Frame: &v1.SubscribeResponse_Gap{Gap: gap}}
}

// Synced is the end of a snapshot.
func Synced(stream string, version int) *v1.SubscribeResponse {
	synced := &v1.Synced{Stream: stream, Cluster: "one", Position: Position(version)}
	return &v1.SubscribeResponse{Frame: &v1.SubscribeResponse_Synced{Synced: synced}}
}

// Closing has a whole cursor.
func Closing(reason, action, cursor string, delay time.Duration) *v1.SubscribeResponse {
	closing := &v1.Closing{
		Reason:     v1.ClosingReason(v1.ClosingReason_value["CLOSING_REASON_"+reason]),
		Action:     v1.ClosingAction(v1.ClosingAction_value["CLOSING_ACTION_"+action]),
		RetryDelay: durationpb.New(delay),
		Message:    "a sentence",
	}
	return &v1.SubscribeResponse{
		Cursor: cursor, Frame: &v1.SubscribeResponse_Closing{Closing: closing},
	}
}

// Complete is the end of a subscription that has reached Options.Until.
func Complete() *v1.SubscribeResponse {
	return Closing("COMPLETE", "STOP", "end", 0)
}
