// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Request is one call by a client.
type Request struct {
	Operation    Operation
	Method, Path string
	// Query is the raw query string.
	Query string
	// Header is without Authorization.
	Header http.Header
	// Status is that of the answer; 0 if the connection was closed without one.
	Status int
	At     time.Time
}

// Acknowledgement is the result of one request to a notification endpoint.
type Acknowledgement struct {
	SubscriptionID string
	// Lifecycle is true for a lifecycle notification.
	Lifecycle bool
	// Handshake is true for the validation of an endpoint.
	Handshake bool
	Items     int
	// Attempt counts from 1.
	Attempt int
	// Status is 0 if there was no answer; Err is then the reason.
	Status  int
	Err     error
	Latency time.Duration
	At      time.Time
}

// Delivered reports whether the endpoint answered 2xx, after which Graph does not retry.
func (a Acknowledgement) Delivered() bool { return a.Status >= 200 && a.Status < 300 }

// Stats are counts since New.
type Stats struct {
	// Requests counts the calls of each operation.
	Requests     map[Operation]int
	TokensIssued int
	// Subscriptions is the current number of subscriptions.
	Subscriptions int
	// Published counts the interactions passed to Publish, Offered the items created from them for subscriptions.
	Published, Offered int
	// Acknowledged and Lost count items; Offered - Acknowledged - Lost are pending.
	Acknowledged, Lost int
	// Uncovered counts interactions that no subscription covered when they were published: only the history has them.
	Uncovered int
	// Duplicates counts items sent again after they were acknowledged.
	Duplicates int
	// Attempts counts notifications posted, Refused those that were not answered with 2xx.
	Attempts, Refused int
	// Paused counts the attempts that were postponed because the authorization of the subscription had ended.
	Paused int
	// Slow counts answers that took more than 3 s.
	Slow int
	// MaxLatency is the longest time to an answer.
	MaxLatency time.Duration
	// The same counts for lifecycle notifications.
	LifecycleOffered, LifecycleAcknowledged, LifecycleLost int
	// HistoryPeak is the highest number of history requests within one second, HistoryThrottled counts those that got 429 because of
	// HistoryLimit.
	HistoryPeak, HistoryThrottled int
	// DirectoryPeak and DirectoryThrottled are the same for requests to the directory and DirectoryLimit.
	DirectoryPeak, DirectoryThrottled int
	// Handshakes counts validation requests, HandshakesFailed those without a valid answer.
	Handshakes, HandshakesFailed int
}

// recorder keeps the counts and lists that tests read, and wakes the waiters when they change.
type recorder struct {
	limit int

	mu         sync.Mutex // guards what follows
	changed    chan struct{}
	stats      Stats
	requests   []Request
	acks       []Acknowledgement
	lost       []string
	violations []string
	// historyLoad and directoryLoad count the requests to the history and to the directory.
	historyLoad, directoryLoad userLoad
}

func newRecorder(limit int) *recorder {
	return &recorder{
		limit: limit, changed: make(chan struct{}),
		stats:       Stats{Requests: map[Operation]int{}},
		historyLoad: userLoad{users: map[string]int{}}, directoryLoad: userLoad{users: map[string]int{}},
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
		return list[excess:] // append reallocates the rest once the capacity is used up
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
