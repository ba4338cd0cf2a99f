package graphtest

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Request is one call of a client.
type Request struct {
	Operation    Operation
	Method, Path string
	// Query is as it was sent.
	Query string
	// Header has no Authorization.
	Header http.Header
	// Status is what was answered; 0 when the connection was cut.
	Status int
	At     time.Time
}

// Acknowledgement is one answer of a notification endpoint, or the lack of one.
type Acknowledgement struct {
	SubscriptionID string
	// Lifecycle tells a lifecycle notification from one with items.
	Lifecycle bool
	// Handshake tells the validation of an endpoint.
	Handshake bool
	Items     int
	// Attempt counts from 1.
	Attempt int
	// Status is 0 when there was no answer; Err says why.
	Status  int
	Err     error
	Latency time.Duration
	At      time.Time
}

// Delivered tells whether Graph would not try again.
func (a Acknowledgement) Delivered() bool { return a.Status >= 200 && a.Status < 300 }

// Stats are counts since the emulator was made.
type Stats struct {
	// Requests by operation.
	Requests     map[Operation]int
	TokensIssued int
	// Subscriptions is how many live now.
	Subscriptions int
	// Published counts the interactions given to Publish, Offered the items made of them for subscriptions.
	Published, Offered int
	// Acknowledged and Lost are items; Offered - Acknowledged - Lost are on their way.
	Acknowledged, Lost int
	// Uncovered are interactions that no subscription was told of when they happened: only the history has them.
	Uncovered int
	// Duplicates are items sent once more after they were acknowledged.
	Duplicates int
	// Attempts are notifications posted, Refused those without 2xx.
	Attempts, Refused int
	// Paused counts how often a notification was put off because the authorization of its subscription had ended.
	Paused int
	// Slow are answers that took more than 3 s.
	Slow int
	// MaxLatency is the longest answer.
	MaxLatency time.Duration
	// The same counts of lifecycle notifications.
	LifecycleOffered, LifecycleAcknowledged, LifecycleLost int
	// HistoryPeak is the most requests to the history within any one second, HistoryThrottled how many got 429 from HistoryLimit.
	HistoryPeak, HistoryThrottled int
	// Handshakes are validation requests, HandshakesFailed those that were not answered as they must be.
	Handshakes, HandshakesFailed int
}

// recorder keeps what happened, and wakes those who wait for it.
type recorder struct {
	limit int

	mu          sync.Mutex // guards what follows
	changed     chan struct{}
	stats       Stats
	requests    []Request
	acks        []Acknowledgement
	lost        []string
	historyLoad historyLoad
	violations  []string
}

func newRecorder(limit int) *recorder {
	return &recorder{
		limit: limit, changed: make(chan struct{}),
		stats:       Stats{Requests: map[Operation]int{}},
		historyLoad: historyLoad{users: map[string]int{}},
	}
}

func (r *recorder) update(f func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.stats)
	r.notifyLocked()
}

func (r *recorder) notifyLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) addRequest(op Operation, req *http.Request, status int, at time.Time) {
	header := req.Header.Clone()
	header.Del("Authorization")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Requests[op]++
	r.requests = bounded(r.limit, r.requests, Request{
		Operation: op, Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: header, Status: status, At: at,
	})
	r.notifyLocked()
}

func (r *recorder) addAcknowledgement(a Acknowledgement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acks = bounded(r.limit, r.acks, a)
	s := &r.stats
	s.MaxLatency = max(s.MaxLatency, a.Latency)
	if a.Latency > 3*time.Second {
		s.Slow++
	}
	if a.Handshake {
		s.Handshakes++
		if a.Err != nil {
			s.HandshakesFailed++
		}
	} else {
		s.Attempts++
		if !a.Delivered() {
			s.Refused++
		}
	}
	r.notifyLocked()
}

func (r *recorder) addLost(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Lost += len(ids)
	r.lost = bounded(r.limit, r.lost, ids...)
	r.notifyLocked()
}

func (r *recorder) addUncovered(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Uncovered += len(ids)
	r.lost = bounded(r.limit, r.lost, ids...)
	r.notifyLocked()
}

func (r *recorder) addViolation(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = bounded(r.limit, r.violations, text)
	r.notifyLocked()
}

func bounded[T any](limit int, list []T, more ...T) []T {
	list = append(list, more...)
	if excess := len(list) - limit; excess > 0 {
		return list[excess:] // append moves what is left once the room behind it is used up
	}
	return list
}

func (r *recorder) snapshot() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snapshotLocked()
}

func (r *recorder) snapshotLocked() Stats {
	s := r.stats
	s.Requests = maps.Clone(s.Requests)
	return s
}

func (r *recorder) wait(ctx context.Context, done func(Stats) bool) error {
	for {
		r.mu.Lock()
		stats, changed := r.snapshotLocked(), r.changed
		r.mu.Unlock()
		if done(stats) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
