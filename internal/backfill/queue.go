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
	// maxUserAttempts is how often a user may fail in a row before the others go first.
	maxUserAttempts = 5
	maxUserBackoff  = 30 * time.Second
	// maxFailedUsers limits the users that are left for a later pass. Beyond it the current pass retries them until
	// they are read.
	maxFailedUsers = 1000
	// forbiddenThreshold is how many forbidden users in a row mean a missing permission, forbiddenThresholdAfterSuccess
	// how many where others could be read before.
	forbiddenThreshold             = 20
	forbiddenThresholdAfterSuccess = 10 * forbiddenThreshold
)

// task is a user to read.
type task struct {
	user user
	// failures counts the failed attempts in this pass.
	failures int
	due      time.Time
	// probe marks a user that was read before: the request only checks whether it still can be read.
	probe bool
}

// queue distributes the users of a pass to its workers.
type queue struct {
	mu      sync.Mutex // guards what follows
	fresh   []user
	retries tasks
	active  int
	total   int
	done    int
	// failed are the users left for a later pass.
	failed []user
	// forbidden are the users in a row that are forbidden, as long as the cause may be a missing permission.
	forbidden []task
	// forbiddenLimit is how many of those mean a missing permission, 0 for never; pauses counts how often that happened
	// since a user could be read.
	forbiddenLimit, pauses int
	// probeUser is a user who could be read in this pass, nil if there is none.
	probeUser *user
	changed   chan struct{} // closed and replaced at each change
}

func newQueue(fresh []user, total, forbiddenLimit int) *queue {
	return &queue{
		fresh: fresh, total: total, done: total - len(fresh), forbiddenLimit: min(forbiddenLimit, total), changed: make(chan struct{}),
	}
}

// next waits for a user to read. It returns false if none is left, or the context has ended.
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

// take returns a user, or else what to wait for; changed is nil if there is nothing to wait for.
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

// complete records the outcome of a user. If it is the last of so many forbidden users that a permission must be
// missing, it calls pause before any of them can be read again; after the pause others go first, since the cause may be
// the users after all.
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
				// The last pause did not help: check whether the users are the cause or a missing permission.
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

// change wakes those who wait. It and all methods below until release are called with mu held.
func (q *queue) change() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// probeDone records whether the probe user can still be read.
func (q *queue) probeDone(v outcome, pause func()) {
	if v == ok {
		q.forbiddenLimit = 0
		q.failForbidden()
		return
	}
	q.pauseAll(pause)
}

// pauseAll pauses all requests, and puts other users first.
func (q *queue) pauseAll(pause func()) {
	q.pauses++
	pause()
	for _, r := range q.forbidden {
		q.fresh = append(q.fresh, r.user)
	}
	q.forbidden = nil
}

// failForbidden leaves the forbidden users for later, since others can be read.
func (q *queue) failForbidden() {
	for _, t := range q.forbidden {
		t.failures = max(t.failures, maxUserAttempts)
		q.postpone(t)
	}
	q.forbidden = nil
}

// postpone schedules another attempt for a user that failed.
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

// release ends a user whose read was interrupted.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active--
}

// state returns how many users are done, have failed, and exist in total.
func (q *queue) state() (done, failed, total int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.done, len(q.failed), q.total
}

// tasks is a heap ordered by due time.
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

// outcome is what a response means for the user, and for all others.
type outcome int

const (
	ok outcome = iota
	// unlicensed: this user has no history.
	unlicensed
	// forbidden: this user may not be read; if no user may, a permission is missing.
	forbidden
	// denied: no user can be read until the configuration is corrected.
	denied
	// throttled: Graph asks the application to wait.
	throttled
	// broken: the request failed, and may succeed later.
	broken
)

// classify returns the outcome for an error of Graph.
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

// backoff returns the wait after a number of failures in a row: doubling from 1 s to longest, with equal jitter.
func backoff(failures int, longest time.Duration) time.Duration {
	bound := doubling(failures, time.Second, longest)
	return bound/2 + rand.N(bound/2+1) //nolint:gosec // G404: jitter needs no secrecy.
}

// doubling is backoff without jitter, for long waits.
func doubling(failures int, first, longest time.Duration) time.Duration {
	shift := max(failures-1, 0)
	if shift > 20 || first<<shift > longest {
		return longest
	}
	return first << shift
}

// Failure explains why no history can be read, and what to do about it. It names no user.
type Failure struct {
	// Err is the cause. Unlike Error, its text may name a user.
	Err error

	text string
}

func (f *Failure) Error() string { return "read the history: " + f.text + ". " + graph.Hint(f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// newFailure describes an error without the user that was requested, whom Graph and the transport may name.
func newFailure(err error, requests string) *Failure {
	text := describe(err)
	if requests != "" {
		text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(requests)).ReplaceAllLiteralString(text, "…")
	}
	return &Failure{Err: err, text: text}
}

// describe returns the status and code of Graph; of any other error the text, without URLs and GUIDs, which may name
// users.
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

// optionalString is a log field that is left out if it is empty.
func optionalString(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}

// failureKey identifies a failure, without what differs at each attempt.
func failureKey(v outcome, err error) string {
	if v == throttled { // with whatever status
		return "throttled"
	}
	if e, ok := errors.AsType[*graph.Error](err); ok {
		return fmt.Sprintf("%d %d %s", v, e.Status, e.Code)
	}
	return fmt.Sprintf("%d %s %s", v, graph.Code(err), graph.Hint(err))
}
