package backfill

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/graph"
)

const (
	// maxUserAttempts is how often reading a user may fail in a row before the others go first, and how soon it is tried again.
	maxUserAttempts = 5
	maxUserBackoff  = 30 * time.Second
	// maxFailedUsers bounds the users that are left for later. Beyond it the reading itself goes on until they are read.
	maxFailedUsers = 1000
	// forbiddenThreshold users in a row without one that may be read mean that a permission is missing, and so many where
	// others could be read before.
	forbiddenThreshold             = 20
	forbiddenThresholdAfterSuccess = 10 * forbiddenThreshold
)

// task is a user to read.
type task struct {
	user user
	// failures is how often that failed in this reading.
	failures int
	due      time.Time
	// probe says that it was read before, and only whether it still can be is asked.
	probe bool
}

// queue hands the users of a reading to its workers.
type queue struct {
	mu      sync.Mutex // guards what follows
	fresh   []user
	retries tasks
	active  int
	total   int
	done    int
	// failed are the users left for later.
	failed []user
	// forbidden are users in a row that may not be read, of whom it is not known yet whether that is their own affair.
	forbidden []task
	// forbiddenLimit is how many of those mean that nobody may be read, 0 for never; pauses is how often that was the case since
	// somebody could be read.
	forbiddenLimit, pauses int
	// probeUser is a user who could be read in this reading, nil for none.
	probeUser *user
	changed   chan struct{} // closed and replaced at each change
}

func newQueue(fresh []user, total, forbiddenLimit int) *queue {
	return &queue{
		fresh: fresh, total: total, done: total - len(fresh), forbiddenLimit: min(forbiddenLimit, total), changed: make(chan struct{}),
	}
}

// next waits for a user to read. It is false when none is left, or the context has ended.
func (q *queue) next(ctx context.Context) (task, bool) {
	for ctx.Err() == nil {
		t, found, wait, changed := q.take(time.Now())
		if found || changed == nil {
			return t, found
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
	return task{}, false
}

// take returns a user, else what to wait for; nil where there is nothing to wait for.
func (q *queue) take(now time.Time) (t task, found bool, wait time.Duration, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.retries) > 0 && !q.retries[0].due.After(now):
		t, _ = heap.Pop(&q.retries).(task)
	case len(q.fresh) > 0:
		t = task{user: q.fresh[0]}
		q.fresh = q.fresh[1:]
	case len(q.retries) > 0:
		return task{}, false, q.retries[0].due.Sub(now), q.changed
	case q.active > 0:
		return task{}, false, time.Hour, q.changed
	default:
		return task{}, false, 0, nil
	}
	q.active++
	return t, true, 0, nil
}

// complete takes a user back. Where its refusal is the last of so many that nobody may be read, it calls pause before any
// of them can be handed out again; after the pause others go first, since it may have been their own affair all the same.
func (q *queue) complete(t task, v outcome, pause func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active--
	if t.probe {
		q.probeDone(v, pause)
		q.change()
		return
	}
	switch v {
	case ok:
		q.done++
		q.failForbidden()
		q.pauses, q.probeUser = 0, &t.user
		if q.forbiddenLimit > 0 {
			q.forbiddenLimit = forbiddenThresholdAfterSuccess
		}
	case unlicensed:
		q.done++
	case forbidden:
		q.forbidden = append(q.forbidden, t)
		switch q.forbiddenLimit {
		case 0:
			q.failForbidden()
		case len(q.forbidden):
			if q.probeUser != nil && q.pauses > 0 {
				// It was so after the last pause too: is it these users, or is a permission gone?
				heap.Push(&q.retries, task{user: *q.probeUser, due: time.Now(), probe: true})
				break
			}
			q.pauseAll(pause)
		}
	default:
		t.failures++
		q.postpone(t)
	}
	if len(q.fresh)+len(q.retries)+q.active == 0 {
		q.failForbidden()
	}
	q.change()
}

// change is called with mu held, as are all below.
func (q *queue) change() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// probeDone takes in whether the witness can still be read.
func (q *queue) probeDone(v outcome, pause func()) {
	if v == ok {
		q.forbiddenLimit = 0
		q.failForbidden()
		return
	}
	q.pauseAll(pause)
}

// pauseAll gives everybody a rest, and others a try after it.
func (q *queue) pauseAll(pause func()) {
	q.pauses++
	pause()
	for _, r := range q.forbidden {
		q.fresh = append(q.fresh, r.user)
	}
	q.forbidden = nil
}

// failForbidden leaves the users that may not be read for later, since others may be.
func (q *queue) failForbidden() {
	for _, t := range q.forbidden {
		t.failures = max(t.failures, maxUserAttempts)
		q.postpone(t)
	}
	q.forbidden = nil
}

// postpone puts off a user that failed.
func (q *queue) postpone(t task) {
	if t.failures >= maxUserAttempts && len(q.failed) < maxFailedUsers {
		q.failed = append(q.failed, t.user)
		return
	}
	wait := backoff(t.failures, maxUserBackoff)
	if t.failures >= maxUserAttempts {
		wait = minFailedUserWait
	}
	t.due = time.Now().Add(wait)
	heap.Push(&q.retries, t)
}

// release returns a user that was not tried to the end, since the reading is interrupted.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active--
}

// state returns how many users are done, left for later, and there in all.
func (q *queue) state() (done, failed, total int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.done, len(q.failed), q.total
}

// tasks is a heap by the time at which they are due.
type tasks []task

func (t tasks) Len() int           { return len(t) }
func (t tasks) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t tasks) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

func (t *tasks) Push(x any) {
	if one, ok := x.(task); ok {
		*t = append(*t, one)
	}
}

func (t *tasks) Pop() any {
	last := len(*t) - 1
	one := (*t)[last]
	*t = (*t)[:last]
	return one
}

// outcome is what an answer means for the user asked for, and for all others.
type outcome int

const (
	ok outcome = iota
	// unlicensed: this user has no history to read.
	unlicensed
	// forbidden: this user may not be read; where none may, a permission is missing.
	forbidden
	// denied: nobody can be read until somebody mends something.
	denied
	// throttled: Graph asks the application to stay away for a while.
	throttled
	// broken: it failed, and may well succeed another time.
	broken
)

// classify reads an error of Graph.
func classify(err error) outcome {
	if err == nil {
		return ok
	}
	status := 0
	if e, ok := errors.AsType[*graph.Error](err); ok {
		status = e.Status
	}
	_, token := errors.AsType[*graph.TokenError](err)
	_, credential := errors.AsType[*graph.CredentialError](err)
	switch {
	case status == http.StatusTooManyRequests || graph.RetryAfter(err) > 0:
		return throttled
	case token || credential || status == http.StatusUnauthorized || graph.Unsupported(err):
		return denied
	case graph.Unlicensed(err):
		return unlicensed
	case graph.Forbidden(err):
		return forbidden
	default:
		return broken
	}
}

// backoff returns how long to wait after so many failures in a row: doubling from 1 s to longest, with equal jitter.
func backoff(failures int, longest time.Duration) time.Duration {
	bound := doubling(failures, time.Second, longest)
	return bound/2 + rand.N(bound/2+1) //nolint:gosec // G404: jitter needs no secrecy.
}

// doubling is backoff without jitter, for what is seldom anyway.
func doubling(failures int, first, longest time.Duration) time.Duration {
	shift := max(failures-1, 0)
	if shift > 20 || first<<shift > longest {
		return longest
	}
	return first << shift
}

// Failure is what Settings.Status gets: why no history can be read, and what to do about it. It names no user.
type Failure struct {
	// Err is the cause. Unlike Error, its own text may name a user.
	Err error

	text string
}

func (f *Failure) Error() string { return "read the history: " + f.text + ". " + graph.Hint(f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// newFailure describes an error without the user whose history was asked for, whom Graph and the transport like to name.
func newFailure(err error, asked string) *Failure {
	text := describe(err)
	if asked != "" {
		text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(asked)).ReplaceAllLiteralString(text, "…")
	}
	return &Failure{Err: err, text: text}
}

// describe says what Graph answered in its own short words; anything else by its text, without URLs and GUIDs, which name users.
func describe(err error) string {
	if e, ok := errors.AsType[*graph.Error](err); ok {
		text := fmt.Sprintf("Graph answered %d %s", e.Status, e.Code)
		if e.RequestID != "" {
			text += " (request-id " + e.RequestID + ")"
		}
		return text
	}
	words := strings.Fields(guidPattern().ReplaceAllLiteralString(err.Error(), "…"))
	for i, word := range words {
		if strings.Contains(word, "://") {
			words[i] = "…"
		}
	}
	return strings.Join(words, " ")
}

func guidPattern() *regexp.Regexp {
	return regexp.MustCompile(`(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
}

// optionalString is a field of a log line, and none where it has no value.
func optionalString(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}

// failureKey tells distinct failures apart, without what differs at each try.
func failureKey(v outcome, err error) string {
	if v == throttled { // whichever status says so
		return "throttled"
	}
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return fmt.Sprintf("%d %d %s", v, e.Status, e.Code)
	}
	return fmt.Sprintf("%d %s %s", v, graph.Code(err), graph.Hint(err))
}
