package quorumwatch

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The pause after every replica was tried once: short at first, because a takeover is short, and
// never long, because API servers keep only minutes of history.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 2 * time.Second
)

// attempt is which replica to try next, and after what pause.
type attempt struct {
	endpoint string
	wait     time.Duration
	// Whether other replicas have not been tried yet: this attempt gets less time.
	isHurried bool
}

// course selects the replica to try next, and when. It neither waits nor reads a clock.
type course struct {
	endpoints           []string
	notBefore           []time.Time
	everywhereNotBefore time.Time
	turn                int
	failed              int
	jitter              func() float64 // in [0, 1)
}

func newCourse(endpoints []string, jitter func() float64) (*course, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("a subscription needs at least one endpoint, as host:port")
	}
	for _, endpoint := range endpoints {
		host, port, err := net.SplitHostPort(endpoint)
		if _, noNumber := strconv.ParseUint(port, 10, 16); err != nil || noNumber != nil ||
			host == "" || strings.Contains(host, "/") {
			return nil, fmt.Errorf("%q is no endpoint; write host:port, as \"127.0.0.1:7400\"", endpoint)
		}
	}
	return &course{
		endpoints: slices.Clone(endpoints),
		notBefore: make([]time.Time, len(endpoints)),
		jitter:    jitter,
	}, nil
}

// next returns the next attempt.
func (c *course) next(now time.Time) attempt {
	start := now.Add(c.pause())
	if c.everywhereNotBefore.After(start) {
		start = c.everywhereNotBefore
	}
	count := len(c.endpoints)
	soonest := c.turn
	for step := range count {
		index := (c.turn + step) % count
		if !c.notBefore[index].After(start) {
			soonest = index
			break
		}
		if c.notBefore[index].Before(c.notBefore[soonest]) {
			soonest = index
		}
	}
	c.turn = soonest
	if c.notBefore[soonest].After(start) {
		start = c.notBefore[soonest]
	}
	return attempt{c.endpoints[soonest], start.Sub(now), c.failed < count}
}

// holds resets the count of failures: the current attempt has lasted long enough.
func (c *course) holds() {
	c.failed = 0
}

// goElsewhere moves to the next replica; this one is not tried again before the delay has passed.
func (c *course) goElsewhere(now time.Time, delay time.Duration) {
	c.failed++
	c.notBefore[c.turn] = now.Add(delay)
	c.turn = (c.turn + 1) % len(c.endpoints)
}

// repeat waits for the delay, then tries this replica again: it has the data in memory.
func (c *course) repeat(now time.Time, delay time.Duration) {
	c.failed++
	c.everywhereNotBefore = now.Add(delay)
}

func (c *course) pause() time.Duration {
	rounds := c.failed / len(c.endpoints)
	if rounds == 0 {
		return 0
	}
	pause := min(pauseMin<<min(rounds-1, 10), pauseMax)
	return time.Duration(float64(pause) * (0.5 + 0.5*c.jitter()))
}
