package receiver

import (
	"sync"
	"time"
)

// repeatAfter is how often at most the same thing is logged: outsiders and outages decide how often it happens.
const repeatAfter = time.Minute

// occasionalLog keeps log lines rare. Its keys come from small fixed sets.
type occasionalLog struct {
	mu sync.Mutex // guards what follows
	// logged is when each key was last due, and since how often it happened after that.
	logged map[string]time.Time
	since  map[string]int
}

func newOccasionalLog() *occasionalLog {
	return &occasionalLog{logged: map[string]time.Time{}, since: map[string]int{}}
}

// due counts an occurrence. If it is time for a line it returns how many there were since the last one.
func (r *occasionalLog) due(key string, now time.Time) (int, bool) { return r.dueAfter(key, 1, now) }

// dueAfter counts so many occurrences at once.
func (r *occasionalLog) dueAfter(key string, occurrences int, now time.Time) (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since[key] += occurrences
	if last, ok := r.logged[key]; ok && now.Sub(last) < repeatAfter {
		return 0, false
	}
	count := r.since[key]
	r.logged[key], r.since[key] = now, 0
	return count, true
}
