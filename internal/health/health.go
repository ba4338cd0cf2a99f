// Package health says when the failures of a part of the receiver are logged.
package health

import (
	"sync"
	"time"
)

// RepeatInterval is the time between two log lines of a failure that lasts. Most log views reach back a few hours, and a
// failure that was logged once, days ago, is not seen there.
const RepeatInterval = time.Hour

// Reminder tells when a failure is to be logged: when it begins, and again each hour while it lasts. The zero value is
// ready and has no failure. It is safe for concurrent use.
type Reminder struct {
	mu sync.Mutex
	// loggedAt is when the failure was logged last; zero while there is none.
	loggedAt time.Time
}

// Failed notes a failure, and reports whether it is to be logged now.
func (r *Reminder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loggedAt.IsZero() && time.Since(r.loggedAt) < RepeatInterval {
		return false
	}
	r.loggedAt = time.Now()
	return true
}

// Recovered notes that the failure is over, and reports whether there was one.
func (r *Reminder) Recovered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := !r.loggedAt.IsZero()
	r.loggedAt = time.Time{}
	return failed
}
