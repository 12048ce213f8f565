package quorumwatch

import (
	"testing"
	"time"
)

var start = time.Now()

// newTestCourse has no jitter: every pause has its full length.
func newTestCourse(t *testing.T, endpoints ...string) *course {
	t.Helper()
	way, err := newCourse(endpoints, func() float64 { return 1 })
	if err != nil {
		t.Fatal(err)
	}
	return way
}

func (c *course) mustAsk(t *testing.T, now time.Time, endpoint string, wait time.Duration) {
	t.Helper()
	if got := c.next(now); got.endpoint != endpoint || got.wait != wait {
		t.Fatalf("got %+v, wanted %s after %v", got, endpoint, wait)
	}
}

func TestEveryReplicaIsTriedOnceWithoutAPauseAndThenWithGrowingOnes(t *testing.T) {
	way := newTestCourse(t, "a:1", "b:1", "c:1")
	for _, milliseconds := range []int{0, 50, 100, 200, 400, 800, 1600, 2000, 2000} {
		for _, endpoint := range []string{"a:1", "b:1", "c:1"} {
			way.mustAsk(t, start, endpoint, time.Duration(milliseconds)*time.Millisecond)
			if got := way.next(start).isHurried; got != (milliseconds == 0) {
				t.Fatalf("hurried at %d ms: %v", milliseconds, got)
			}
			way.goElsewhere(start, 0)
		}
	}
	way.holds()
	way.goElsewhere(start, 0)
	way.mustAsk(t, start, "b:1", 0)
}

func TestAReplicaThatAsksForTimeGetsItWhileTheOthersAreAsked(t *testing.T) {
	way := newTestCourse(t, "a:1", "b:1", "c:1")
	way.mustAsk(t, start, "a:1", 0)
	way.goElsewhere(start, 5*time.Second)
	for _, endpoint := range []string{"b:1", "c:1"} {
		way.mustAsk(t, start, endpoint, 0)
		way.goElsewhere(start, 0)
	}
	way.mustAsk(t, start, "b:1", 50*time.Millisecond)
	way.goElsewhere(start, 0)
	later := start.Add(6 * time.Second)
	way.mustAsk(t, later, "c:1", 50*time.Millisecond)
	way.goElsewhere(later, 0)
	way.mustAsk(t, later, "a:1", 50*time.Millisecond)
}

func TestOneReplicaAloneIsWaitedFor(t *testing.T) {
	way := newTestCourse(t, "a:1")
	way.mustAsk(t, start, "a:1", 0)
	way.goElsewhere(start, 5*time.Second)
	way.mustAsk(t, start, "a:1", 5*time.Second)
}

func TestARepetitionStaysWhereItIsAndWaitsForTheDelayThatItIsGiven(t *testing.T) {
	way := newTestCourse(t, "a:1", "b:1")
	way.mustAsk(t, start, "a:1", 0)
	way.repeat(start, 1500*time.Millisecond)
	way.mustAsk(t, start, "a:1", 1500*time.Millisecond)
}

func TestWhatIsNoEndpointIsRefused(t *testing.T) {
	for _, endpoint := range []string{"", "a", ":1", "http://a:1", "a:b", "a:1/x"} {
		if _, err := newCourse([]string{endpoint}, nil); err == nil {
			t.Errorf("%q is taken", endpoint)
		}
	}
	if _, err := newCourse(nil, nil); err == nil {
		t.Error("none is taken")
	}
}
