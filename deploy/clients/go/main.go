// Command follow follows quorumwatch and appends what it hears to a file, each event exactly once.
//
// It outlives the replica that serves it, and a `kill -9` of itself. How, and what exactly is
// promised: ../README.md. The protocol of cursors: src/docs/clients.md.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	quorumwatchv1 "quorumwatch.example/follow/generated/quorumwatch/v1"
)

//go:generate ./generate.sh

const (
	// What is in memory is on disk at most this much later.
	commitEvery = time.Second
	// A replica tells Progress at least every five seconds; one that misses two is left.
	silenceMax = 12 * time.Second
	// A replica that takes longer for its first frame, the connection included, is passed over.
	firstFrameWithin = 5 * time.Second
	// The pause after every replica was tried in vain: short at first, because a takeover is short,
	// and never long, because the API servers forget.
	pauseMin, pauseMax = 50 * time.Millisecond, 2 * time.Second
	// Frames that wait to be written. Beyond that nothing is read, and the replica holds back.
	framesMax = 256
	// An object may have 8 MiB; the default is 4 MiB.
	messageBytesMax = 32 << 20
)

// journal is lines, and the cursor after the last of them.
//
// The state file says how much of the output counts, and where to resume after that; it is replaced
// in one step. What a crash left beyond that is cut off at the next start and told again by the
// service. With a database, put the cursor and the rows in one transaction instead.
type journal struct {
	output    *os.File
	lines     bytes.Buffer // not in the output yet
	statePath string
	written   int64    // the output's length
	cursor    []string // of the last Progress, then of the frames after it
	isSaved   bool
}

type state struct {
	Cursor      string `json:"cursor"`
	OutputBytes int64  `json:"output_bytes"`
}

func openJournal(outputPath, statePath string) (*journal, error) {
	output, err := os.OpenFile(outputPath, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	// Two processes with one cursor would write everything twice.
	if err := syscall.Flock(int(output.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s is in use by another process: %w", outputPath, err)
	}
	length, err := output.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	var saved state
	text, err := os.ReadFile(statePath)
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &saved); err != nil {
			return nil, fmt.Errorf("read %s: %w", statePath, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	case length > 0:
		return nil, fmt.Errorf("%s has content but %s does not exist; move one of them", outputPath, statePath)
	}
	if length < saved.OutputBytes {
		return nil, fmt.Errorf("%s is shorter than %s says: something was cut off", outputPath, statePath)
	}
	if err := output.Truncate(saved.OutputBytes); err != nil {
		return nil, err
	}
	if _, err := output.Seek(saved.OutputBytes, io.SeekStart); err != nil {
		return nil, err
	}
	j := &journal{output: output, statePath: statePath, written: saved.OutputBytes}
	if saved.Cursor != "" {
		j.cursor = []string{saved.Cursor}
	}
	return j, j.commit()
}

// write takes the fields of a line, and the object that ends it.
func (j *journal) write(fields any, object []byte) error {
	head, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if object != nil {
		// The object as the API server sent it. A line break in JSON can only be white space.
		j.lines.Write(head[:len(head)-1])
		j.lines.WriteString(`,"object":`)
		j.lines.Write(bytes.ReplaceAll(object, []byte("\n"), []byte(" ")))
		j.lines.WriteString("}\n")
	} else {
		j.lines.Write(append(head, '\n'))
	}
	return nil
}

// keep makes the cursor that of everything told so far.
func (j *journal) keep(response *quorumwatchv1.SubscribeResponse) {
	if response.GetProgress() != nil {
		j.cursor = []string{response.Cursor}
	} else if response.Cursor != "" {
		j.cursor = append(j.cursor, response.Cursor)
	}
	j.isSaved = false
}

// commit puts first the lines on disk, then the state that counts them.
func (j *journal) commit() error {
	if j.isSaved {
		return nil
	}
	written, err := j.lines.WriteTo(j.output)
	j.written += written
	if err != nil {
		return err
	}
	if err := j.output.Sync(); err != nil {
		return err
	}
	text, err := json.Marshal(state{Cursor: strings.Join(j.cursor, ","), OutputBytes: j.written})
	if err != nil {
		return err
	}
	if err := replaceFile(j.statePath, text); err != nil {
		return err
	}
	j.isSaved = true
	return nil
}

// replaceFile leaves the old content or the new one, whatever happens.
func replaceFile(path string, text []byte) error {
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// take writes what a frame says and keeps its cursor: a commit sees both, or neither.
func (j *journal) take(response *quorumwatchv1.SubscribeResponse) error {
	var err error
	switch frame := response.Frame.(type) {
	case *quorumwatchv1.SubscribeResponse_Event:
		err = j.onEvent(frame.Event)
	case *quorumwatchv1.SubscribeResponse_Gap:
		err = j.onGap(frame.Gap)
	case *quorumwatchv1.SubscribeResponse_Synced:
		err = j.onSynced(frame.Synced)
	}
	j.keep(response)
	return err
}

// onEvent: a change, or (SNAPSHOT) an object as a snapshot found it.
func (j *journal) onEvent(event *quorumwatchv1.Event) error {
	return j.write(struct {
		Kind     string `json:"kind"`
		Type     string `json:"type"`
		Cluster  string `json:"cluster"`
		Resource string `json:"resource"`
		Position string `json:"position"`
		ID       string `json:"id"`
	}{
		"event", strings.TrimPrefix(event.Type.String(), "EVENT_TYPE_"),
		event.Cluster, event.Resource, event.Position, event.Id,
	}, event.ObjectJson)
}

// onGap: something is missing here, and no replica can tell it any more.
//
// Whoever keeps a table of objects: Repaired means that the changes which follow, deletions
// included, bring it up to date. Otherwise a snapshot follows: note which objects it names until
// Synced, then drop the others. SNAPSHOT_RESTARTED: begin that note anew.
func (j *journal) onGap(gap *quorumwatchv1.Gap) error {
	reason := strings.TrimPrefix(gap.Reason.String(), "GAP_REASON_")
	log.Printf("gap in %s %s: %s (%s)", gap.Cluster, gap.Resource, gap.Message, reason)
	return j.write(struct {
		Kind     string `json:"kind"`
		Cluster  string `json:"cluster"`
		Resource string `json:"resource"`
		From     string `json:"from"`
		To       string `json:"to"`
		Reason   string `json:"reason"`
		Repaired bool   `json:"repaired"`
	}{"gap", gap.Cluster, gap.Resource, gap.From, gap.To, reason, gap.Repaired}, nil)
}

// onSynced: a snapshot is complete; what was had before and not seen again in it is gone.
func (j *journal) onSynced(synced *quorumwatchv1.Synced) error {
	return j.write(struct {
		Kind     string `json:"kind"`
		Cluster  string `json:"cluster"`
		Resource string `json:"resource"`
		Position string `json:"position"`
	}{"synced", synced.Cluster, synced.Resource, synced.Position}, nil)
}

type follower struct {
	endpoints []string
	filter    *quorumwatchv1.Filter
	snapshot  bool
	journal   *journal
	failed    int // attempts in a row that brought no frame
}

// errSilent: a replica told nothing for too long.
var errSilent = errors.New("it is silent")

// fatalError cannot be helped by another replica.
type fatalError struct{ error }

// run follows at one replica after the other, until it is told to stop.
func (f *follower) run(ctx context.Context) error {
	for turn := 0; ; turn++ {
		endpoint := f.endpoints[turn%len(f.endpoints)]
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.pause()):
		}
		err := f.follow(ctx, endpoint)
		var fatal fatalError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &fatal):
			return err
		case isFinal(status.Code(err)):
			return fmt.Errorf("%s refuses the request: %w", endpoint, err)
		case status.Code(err) == codes.ResourceExhausted:
			// Nothing is lost: all that was not taken follows again. It must be taken faster, or
			// less asked for.
			err = fmt.Errorf("this program is too slow: %s", status.Convert(err).Message())
		}
		f.failed++
		log.Printf("left %s: %v", endpoint, err)
		if err := f.journal.commit(); err != nil {
			return err
		}
	}
}

// follow takes what one replica tells until it is gone. It never returns nil.
func (f *follower) follow(ctx context.Context, endpoint string) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	connection, err := grpc.NewClient(
		endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)
	if err != nil {
		return fatalError{err}
	}
	defer connection.Close()
	frames := make(chan *quorumwatchv1.SubscribeResponse, framesMax)
	request := f.request()
	var ended error // read after frames is closed
	go func() {
		ended = receive(ctx, connection, request, frames)
		close(frames)
	}()
	commit := time.NewTicker(commitEvery)
	defer commit.Stop()
	silence := time.NewTimer(firstFrameWithin)
	defer silence.Stop()
	for first := true; ; first = false {
		select {
		case response, ok := <-frames:
			if !ok {
				return ended
			}
			if first {
				log.Printf("following at %s", endpoint)
			}
			silence.Reset(silenceMax)
			f.failed = 0
			if err := f.journal.take(response); err != nil {
				return fatalError{err}
			}
		case <-commit.C:
			if err := f.journal.commit(); err != nil {
				return fatalError{err}
			}
		case <-silence.C:
			return errSilent
		}
	}
}

func receive(
	ctx context.Context,
	connection *grpc.ClientConn,
	request *quorumwatchv1.SubscribeRequest,
	frames chan<- *quorumwatchv1.SubscribeResponse,
) error {
	stream, err := quorumwatchv1.NewEventServiceClient(connection).Subscribe(ctx, request)
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case frames <- response:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follower) request() *quorumwatchv1.SubscribeRequest {
	request := &quorumwatchv1.SubscribeRequest{
		Filter: f.filter,
		Cursor: strings.Join(f.journal.cursor, ","),
	}
	if request.Cursor == "" && f.snapshot {
		request.Start = quorumwatchv1.Start_START_SNAPSHOT
	}
	return request
}

// pause: none while there are replicas left to try; then it doubles round by round.
func (f *follower) pause() time.Duration {
	rounds := f.failed / len(f.endpoints)
	if rounds == 0 {
		return 0
	}
	pause := min(pauseMin<<min(rounds-1, 10), pauseMax)
	return pause/2 + rand.N(pause/2)
}

// isFinal: the request itself is at fault, and no replica will take it. Anything else is worth
// another try.
func isFinal(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange,
		codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.DataLoss:
		return true
	}
	return false
}

func run() error {
	endpoints := flag.String("endpoints", "127.0.0.1:7400", "replicas, as host:port,host:port")
	output := flag.String("output", "events.jsonl", "appended to")
	statePath := flag.String("state", "state.json", "where to resume")
	snapshot := flag.Bool("snapshot", false, "begin with what exists now")
	filter := &quorumwatchv1.Filter{}
	flag.Func("cluster", "only this one; may be repeated", func(name string) error {
		filter.Clusters = append(filter.Clusters, name)
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	journal, err := openJournal(*output, *statePath)
	if err != nil {
		return err
	}
	f := &follower{
		endpoints: strings.Split(*endpoints, ","),
		filter:    filter,
		snapshot:  *snapshot,
		journal:   journal,
	}
	if err := errors.Join(f.run(ctx), journal.commit()); err != nil {
		return err
	}
	log.Print("stopped; the next start goes on from here")
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
